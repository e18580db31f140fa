"""One frozen, typed configuration: options over `DICOMHUB_*` variables over ``dicomhub.toml`` over defaults."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_FILE_VARIABLE = "DICOMHUB_CONFIG"
"""Names another configuration file than ``dicomhub.toml`` in the working directory."""


class Config(BaseSettings):
    """All settings. Each is the variable ``DICOMHUB_<NAME>`` and the key ``<name>`` of ``dicomhub.toml``."""

    model_config = SettingsConfigDict(
        env_prefix="DICOMHUB_", frozen=True, extra="forbid", toml_file="dicomhub.toml", use_attribute_docstrings=True
    )

    data_dir: Path = Path("data")
    """Folder of the embedded database and blobs, and of staged uploads. Created when missing."""
    database_url: str = ""
    """SQLAlchemy URL, ``postgresql://user:password@host/name``; empty: SQLite in ``data_dir/index.sqlite``."""
    storage_url: str = ""
    """``s3://bucket/prefix`` or ``file:///folder``; empty: ``data_dir/blobs``."""
    s3_endpoint_url: str = ""
    """Endpoint of an S3-compatible server; empty: AWS. Credentials come from the usual ``AWS_*`` variables."""
    s3_region: str = "us-east-1"
    """Region that signs the requests."""
    storage_timeout_s: float = 60.0
    """Seconds after which one storage operation without progress is given up."""

    host: str = "127.0.0.1"
    """Address that HTTP and DIMSE listen on."""
    http_port: int = Field(8080, ge=0, le=65535)
    """TCP port of HTTP; 0 takes a free one."""
    public_url: str = ""
    """Root of absolute URLs behind a proxy, such as ``https://pacs.example.org``; empty: from the request."""
    trust_forwarded: bool = False
    """Whether ``Forwarded`` and ``X-Forwarded-*`` of the peer are believed (only behind a proxy that sets them)."""
    cors_origins: tuple[str, ...] = ()
    """Origins that browsers may call from, ``*`` for all; empty: same origin only."""
    workers: int = Field(1, ge=1, le=256)
    """Server processes on this host; they share the ports."""
    allow_insecure: bool = False
    """Start on an address other than loopback although nobody has to log in."""
    max_request_bytes: int = Field(64 * 1024**3, ge=1)
    """Bytes of one HTTP request body; more is answered 413."""
    request_timeout_s: float = 60.0
    """Seconds that a request body or a slow reader may make no progress."""

    dimse_port: int = Field(11112, ge=0, le=65535)
    """TCP port of DIMSE; 0 takes a free one."""
    ae_title: str = Field("DICOMHUB", min_length=1, max_length=16)
    """Our application entity title."""
    dimse_require_called_ae_title: bool = False
    """Reject associations that call another AE title than ``ae_title``."""
    dimse_max_associations: int = Field(200, ge=1)
    """Associations served at once by one process; more are rejected (transient, local limit exceeded)."""
    dimse_max_pdu: int = Field(131072, ge=0)
    """Bytes of the largest P-DATA-TF PDU we receive; 0 is unlimited."""
    dimse_acse_timeout_s: float = 30.0
    """Seconds to wait for association messages (ARTIM)."""
    dimse_idle_timeout_s: float = 300.0
    """Seconds an association may be silent between messages."""
    dimse_network_timeout_s: float = 60.0
    """Seconds the peer may be silent inside a message."""
    dimse_store_timeout_s: float = 300.0
    """Seconds one instance may take from its last byte to its commit."""

    max_header_bytes: int = Field(128 * 1024**2, ge=1024)
    """Bytes of an instance without its bulk values, and of those below 64 KiB together; more is refused."""
    max_inflated_bytes: int = Field(8 * 1024**3, ge=1024)
    """Bytes a deflated data set may inflate to; more is refused."""
    stow_max_instances: int = Field(100_000, ge=1)
    """Parts in one store request."""
    query_max_results: int = Field(5_000, ge=1)
    """Rows in one search response; what is cut is said in a ``Warning`` header."""
    min_free_bytes: int = Field(256 * 1024**2, ge=0)
    """Free bytes of the data folder below which stores are refused with ``A700`` or 503."""
    sweep_grace_s: float = Field(86_400.0, ge=3600)
    """Age from which unreferenced blobs are deleted; longer than any store takes."""

    viewer_dir: Path | None = None
    """Folder with the built viewer; empty: ``ohif_config/lean`` of the checkout or ``/usr/share/dicomhub/viewer``."""
    plugins: tuple[str, ...] = ()
    """Plugins to load, by name, in this order."""
    plugin_dir: Path | None = None
    """Folder with further plugins: each file or package in it defines one `Plugin`."""
    plugin_settings: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Settings by plugin name: ``[plugin_settings.webhook]`` in the file."""

    log_format: Literal["text", "json"] = "text"
    """Form of the log on standard error."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""
    access_log: bool = False
    """Log every HTTP request."""

    @classmethod
    def load(cls, path: str | Path | None = None, **options: Any) -> Self:
        """Read the configuration, from the file ``path`` instead of ``dicomhub.toml`` where given.

        Raises
        ------
        pydantic.ValidationError
            Naming each setting that is wrong.
        """
        if path is None:
            return cls(**options)

        class FromFile(cls):  # type: ignore[valid-type, misc]
            model_config = SettingsConfigDict(toml_file=path)

        values: dict[str, Any] = FromFile(**options).model_dump()
        return cls(**values)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of precedence, highest first."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def sqlite_path(self) -> Path:
        """File of the embedded database."""
        return self.data_dir / "index.sqlite"

    @property
    def effective_database_url(self) -> str:
        """`database_url`, or the embedded database."""
        return self.database_url or f"sqlite:///{self.sqlite_path}"

    @property
    def effective_storage_url(self) -> str:
        """`storage_url`, or the embedded folder."""
        return self.storage_url or f"file://{(self.data_dir / 'blobs').resolve()}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, and nobody else can reach it."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
