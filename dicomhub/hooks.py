"""The whole plugin interface on one page.

A plugin is a class that derives from `Plugin`, has a ``name`` and overrides what it needs; only what is overridden is
called. It imports `dicomhub.plugin` and nothing else of dicomhub. It is found by the entry point group
``dicomhub.plugins`` or in the configured ``plugin_dir``. Installed plugins run when ``plugins`` names them, those of
the folder always; in the order of ``plugins``.

================  ======================================  ===========================================================
kind              methods                                 when, and what the answer means
================  ======================================  ===========================================================
declaration       `routes`, `commands`, `migrations`      once, at start-up
life              `startup`, `shutdown`                   in configured order, and in reverse
intervention      `authenticate`, `restrict`, `coerce`    awaited before the answer; an error refuses the request
in the commit     `commit`                                inside the transaction of the change; an error refuses only
                                                          its own instance
notification      `notify`                                after the commit, at least once, in order; an error is
                                                          retried and shown by ``/readyz``, never in an answer
================  ======================================  ===========================================================
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from dicomhub.config import Config
from dicomhub.dicom.model import InstanceRef
from dicomhub.errors import ConfigurationError
from dicomhub.events import Actor, Change, Event, Peer, Source

if TYPE_CHECKING:
    import typer
    from aiohttp import web
    from pydicom import Dataset
    from sqlalchemy import Connection

    from dicomhub.archive import Archive
    from dicomhub.dicom.matching import Match

ENTRY_POINT_GROUP = "dicomhub.plugins"
"""Where installed distributions declare their plugins."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a requester shows of itself, through either door."""

    peer: Peer
    scheme: str = ""
    """Lower-case authentication scheme (``bearer``, ``basic``), ``ae`` for an association, empty for none."""
    token: str = ""
    """What follows the scheme; for ``ae`` the calling AE title."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """An instance that is complete and staged, but not yet stored."""

    ref: InstanceRef
    sop_class_uid: str
    transfer_syntax_uid: str
    source: Source
    dataset: Dataset
    """The data set without bulk values (pixel data and other large ones). A copy: changing it has no effect."""


@dataclass(frozen=True, slots=True)
class Coercion:
    """Top-level attributes to change on arrival.

    The core writes what is replaced to Original Attributes Sequence (0400,0561) and tells the sender by status 0xB000
    (PS3.4 B.2.3) and Warning Reason (PS3.18 I.2).
    """

    replace: Dataset
    """Elements to set; a sequence is replaced as a whole. UIDs that name the instance may change too."""
    remove: frozenset[int] = field(default_factory=frozenset)
    """Tags to remove, as ``0xGGGGEEEE``."""
    reason: str = "COERCE"
    """Reason for the Attribute Modification (0400,0565)."""


class Access(StrEnum):
    """What an actor wants to do, for `Plugin.restrict`."""

    SEARCH = "search"
    RETRIEVE = "retrieve"
    DELETE = "delete"


class Plugin:
    """Base of all plugins and the documentation of every hook."""

    name: str = ""
    """Lower case, unique; names the plugin in ``plugins``, in settings, and prefixes its tables."""

    def __init__(self, settings: dict[str, str]) -> None:
        """Receive ``plugin_settings.<name>``; raise `ConfigurationError` naming a setting that is missing or wrong."""
        self.settings = settings

    # ---- declarations: synchronous, once

    def routes(self) -> Iterable[web.RouteDef]:
        """Further aiohttp routes; keep below ``/api/v1/<name>`` or a path of your own."""
        return ()

    def commands(self) -> typer.Typer | None:
        """A command group ``dicomhub <name> ...``."""
        return None

    def migrations(self) -> Path | None:
        """Folder with Alembic revisions of the plugin's own tables; table names and branch label begin with `name`."""
        return None

    # ---- life

    async def startup(self, archive: Archive) -> None:
        """Open what the plugin needs; the archive is ready, no request has been taken yet."""

    async def shutdown(self) -> None:
        """Close it again; called also when a later plugin's start-up fails."""

    # ---- interventions: awaited, an exception refuses the request

    async def authenticate(self, credentials: Credentials) -> Actor | None:
        """Say who this is; None abstains. The first answer wins. Raise `Unauthenticated` to refuse."""
        return None

    async def restrict(self, actor: Actor, access: Access) -> Sequence[Match]:
        """Conditions that are AND-ed into every search and retrieve of ``actor``; or raise `Forbidden`."""
        return ()

    async def coerce(self, incoming: Incoming) -> Coercion | None:
        """Change attributes on arrival; chained in configured order. Raise `Refused` to refuse this instance."""
        return None

    # ---- in the commit: synchronous, in the transaction

    def commit(self, tx: Connection, changes: Sequence[Change]) -> None:
        """Write own rows with the core's: both are stored or neither. May run again after a conflict."""

    # ---- notification: after the commit

    async def notify(self, event: Event) -> None:
        """Learn what happened. Return only when it is dealt with: an exception has the same event told again, later."""


class Hooks:
    """The loaded plugins, in order, and one method for each way to call them."""

    def __init__(self, plugins: Sequence[Plugin] = ()) -> None:
        self.plugins = tuple(plugins)
        self._coerce = self._overriding("coerce")
        self._commit = self._overriding("commit")
        self._restrict = self._overriding("restrict")
        self._authenticate = self._overriding("authenticate")
        self.notified = self._overriding("notify")
        """Plugins that want events."""

    def _overriding(self, method: str) -> tuple[Plugin, ...]:
        return tuple(p for p in self.plugins if getattr(type(p), method) is not getattr(Plugin, method))

    @property
    def coerces(self) -> bool:
        """Whether any plugin wants to see arriving data sets."""
        return bool(self._coerce)

    @property
    def authenticates(self) -> bool:
        """Whether anybody has to say who they are."""
        return bool(self._authenticate)

    async def startup(self, archive: Archive) -> None:
        """Start all plugins in order; when one fails, those already started are shut down."""
        started: list[Plugin] = []
        try:
            for plugin in self.plugins:
                await plugin.startup(archive)
                started.append(plugin)
        except BaseException:
            for plugin in reversed(started):
                await plugin.shutdown()
            raise

    async def shutdown(self) -> None:
        """Shut all plugins down in reverse order."""
        for plugin in reversed(self.plugins):
            await plugin.shutdown()

    async def authenticate(self, credentials: Credentials) -> Actor | None:
        """The first plugin's answer, or None when all abstain."""
        for plugin in self._authenticate:
            actor = await plugin.authenticate(credentials)
            if actor is not None:
                return actor
        return None

    async def restrict(self, actor: Actor, access: Access) -> tuple[Match, ...]:
        """All plugins' conditions, to be AND-ed."""
        conditions: list[Match] = []
        for plugin in self._restrict:
            conditions.extend(await plugin.restrict(actor, access))
        return tuple(conditions)

    def coercers(self) -> tuple[Plugin, ...]:
        """Plugins to ask about an arriving instance, in order; each sees the outcome of those before it."""
        return self._coerce

    def commit(self, tx: Connection, changes: Sequence[Change]) -> None:
        """Let every plugin write its rows in the transaction of ``changes``.

        In a savepoint: an error of the database that a plugin catches ends the transaction all the same, and a commit
        of what has ended reports no error. Giving up the savepoint does.
        """
        for plugin in self._commit:
            with tx.begin_nested():
                plugin.commit(tx, changes)


def load(config: Config) -> Hooks:
    """Load the configured plugins.

    Raises
    ------
    ConfigurationError
        When a name is unknown, given twice, or a plugin cannot be imported; the message lists what there is.
    """
    in_folder = _from_folder(config.plugin_dir)
    wanted = [*config.plugins, *(name for name in in_folder if name not in config.plugins)]
    if len(set(wanted)) != len(wanted):
        raise ConfigurationError(f"plugins: a name is given twice in {wanted}")
    installed = {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINT_GROUP)}
    plugins = []
    for name in wanted:
        if name in in_folder:
            plugin = in_folder[name]
        elif name in installed:
            plugin = _loaded(installed[name])
        else:
            raise ConfigurationError(f"plugins: there is no {name!r}; installed are {sorted(installed) or 'none'}")
        plugins.append(plugin(dict(config.plugin_settings.get(name, {}))))
    return Hooks(plugins)


def _loaded(entry_point: EntryPoint) -> type[Plugin]:
    try:
        plugin: type[Plugin] = entry_point.load()
    except ImportError as error:
        raise ConfigurationError(f"plugins: {entry_point.name} cannot be imported: {error}") from error
    return plugin


def _from_folder(folder: Path | None) -> dict[str, type[Plugin]]:
    """Every `Plugin` class defined by a module or package of the configured folder."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise ConfigurationError(f"plugin_dir: {folder} is no folder")
    found: dict[str, type[Plugin]] = {}
    for path in sorted(folder.iterdir()):
        source = path / "__init__.py" if path.is_dir() else path
        if source.suffix == ".py" and source.is_file():
            for value in vars(_import_file(f"dicomhub_plugin_dir_{path.stem}", source)).values():
                if isinstance(value, type) and issubclass(value, Plugin) and value is not Plugin and value.name:
                    found[value.name] = value
    return found


def _import_file(name: str, path: Path) -> object:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"plugin_dir: {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigurationError(f"plugin_dir: {path} fails on import: {error}") from error
    return module
