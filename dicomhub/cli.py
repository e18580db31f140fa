"""The ``dicomhub`` command."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from dicomhub import __version__, hooks
from dicomhub.config import CONFIG_FILE_VARIABLE, Config
from dicomhub.errors import ConfigurationError, DicomHubError
from dicomhub.logs import configure_logging

EXIT_FAILED = 1
"""Something was not done, or a check found something."""
EXIT_USAGE = 2
"""Options, variables or the configuration file are wrong."""

app = typer.Typer(
    name="dicomhub",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="DICOMweb and DIMSE server over a content-addressed, versioned store.\n\n"
    "Every setting is a variable `DICOMHUB_<NAME>` and a key of `dicomhub.toml`, the common ones are options too; "
    "options win over variables, variables over the file.",
)

DataDir = Annotated[Path | None, typer.Option(help="Folder of the embedded database and blobs. [default: data]")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file. [default: dicomhub.toml, when there is one]")
]


def load_config(config_file: Path | None = None, **options: Any) -> Config:
    """The configuration, with ``options`` that are not None on top.

    Raises
    ------
    ConfigurationError
        Naming each setting that is wrong.
    """
    path = config_file or os.environ.get(CONFIG_FILE_VARIABLE)
    if path is not None and not Path(path).is_file():
        raise ConfigurationError(f"there is no configuration file {path}")
    try:
        return Config.load(path, **{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigurationError("wrong settings: " + "; ".join(lines)) from error


@app.command()
def serve(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    http_port: Annotated[int | None, typer.Option(help="TCP port of HTTP; 0: a free one. [default: 8080]")] = None,
    dimse_port: Annotated[int | None, typer.Option(help="TCP port of DIMSE; 0: a free one. [default: 11112]")] = None,
    ae_title: Annotated[str | None, typer.Option(help="Our AE title. [default: DICOMHUB]")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the ports. [default: 1]")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json. [default: text]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [default: info]")] = None,
) -> None:
    """Run the server until it is interrupted.

    It listens on this machine only, unless --host says otherwise; then a plugin that authenticates must be loaded, or
    DICOMHUB_ALLOW_INSECURE=true set.
    """
    from dicomhub.commands.serve import serve_forever

    config = load_config(
        config_file,
        data_dir=data_dir,
        host=host,
        http_port=http_port,
        dimse_port=dimse_port,
        ae_title=ae_title,
        workers=workers,
        log_format=log_format,
        log_level=log_level,
    )
    raise typer.Exit(serve_forever(config))


@app.command(name="import")
def import_(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched to the bottom.")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Files that are read at once.")] = 4,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Store DICOM files into the archive, straight from disk; a server may run on the same archive meanwhile.

    Files in folders that are not DICOM are counted and passed over. What is stored already is left as it is, so an
    interrupted import is simply run again.

    Exit status: 0 all stored, 1 some files were refused (each is named), 2 wrong usage.
    """
    from dicomhub.commands.importing import run_import

    config = load_config(config_file, data_dir=data_dir)
    configure_logging(config)
    summary = asyncio.run(run_import(config, paths, jobs=jobs, progress=not quiet and sys.stderr.isatty()))
    typer.echo(summary.text())
    raise typer.Exit(EXIT_FAILED if summary.refused else 0)


@app.command()
def verify(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Look for missing blobs only; do not read their bytes.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Prove that every version in the index can be read back bit for bit.

    Reads all blobs and compares their digests, checks recipes and counts, and lists blobs that nothing refers to
    (harmless leftovers of interrupted uploads; the server deletes them after a grace time).

    Exit status: 0 clean, 1 damage was found (each finding is named).
    """
    from dicomhub.commands.verifying import run_verify

    config = load_config(config_file, data_dir=data_dir)
    configure_logging(config)
    raise typer.Exit(asyncio.run(run_verify(config, quick=quick, as_json=json_output)))


@app.command()
def doctor(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Check this machine and this configuration, and say what to do about each thing that is wrong.

    Exit status: 0 the server will run, 1 it will not.
    """
    from dicomhub.commands.doctor import run_doctor

    raise typer.Exit(asyncio.run(run_doctor(load_config(config_file, data_dir=data_dir))))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"dicomhub {__version__}")


def main() -> None:
    """Entry point: plugins' commands join, our own errors become one line and an exit status."""
    try:
        for plugin in _plugins():
            group = plugin.commands()
            if group is not None:
                app.add_typer(group, name=plugin.name)
        app()
    except ConfigurationError as error:
        typer.echo(f"dicomhub: {error.message}", err=True)
        sys.exit(EXIT_USAGE)
    except DicomHubError as error:
        typer.echo(f"dicomhub: {error.message}", err=True)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


def _plugins() -> tuple[hooks.Plugin, ...]:
    """Configured plugins. --help and doctor work with a broken configuration too, so errors wait for the command."""
    try:
        return hooks.load(load_config()).plugins
    except ConfigurationError:
        return ()


if __name__ == "__main__":
    main()
