"""Alembic revisions of the index and of plugins' tables: forwards only, on SQLite and PostgreSQL, all or nothing.

Every plugin with tables is a branch of its own: a folder of revisions whose first one has the plugin's name as branch
label, and a table ``alembic_version_<plugin>`` that says how far it is. So a plugin can be switched off, and on again,
without the others noticing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.engine import URL

from dicomhub.errors import ConfigurationError
from dicomhub.index.database import described, parse_url, sqlite_file

FOLDER = Path(__file__).parent

MIGRATION_TIMEOUT_S = 3600.0
"""Seconds one statement of a migration may take, and another process waits for it."""

_PLUGIN_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def migrate(database_url: str, plugins: Mapping[str, Path] | None = None) -> None:
    """Bring the tables to the newest revision; create them in a new database.

    Blocks; any number of processes may do it at once, one does the work. A failure changes nothing.

    Parameters
    ----------
    plugins
        Folder of revisions by plugin name.

    Raises
    ------
    ConfigurationError
        When the database is newer than this program, or a plugin's name or folder cannot be used.
    Unavailable
        When the database does not answer.
    """
    url = parse_url(database_url)
    branches = {"": FOLDER / "versions"} | {_checked(name): path for name, path in (plugins or {}).items()}
    with described():
        if url.get_backend_name() == "sqlite":
            _migrate_sqlite(Path(sqlite_file(url)), branches)
        else:
            asyncio.run(_migrate_postgresql(url, branches))


def _checked(name: str) -> str:
    if not _PLUGIN_NAME.fullmatch(name):
        raise ConfigurationError(f"plugins: {name!r} cannot name tables; use lower-case letters, digits, underscores")
    return name


def _migrate_sqlite(path: Path, branches: Mapping[str, Path]) -> None:
    from dicomhub.index.sqlite import Turn, writing_engine

    path.parent.mkdir(parents=True, exist_ok=True)
    engine = writing_engine(str(path))
    try:
        with Turn(str(path)) as turn, turn.taken(), engine.begin() as conn:
            upgrade(conn, branches)
    finally:
        engine.dispose()


async def _migrate_postgresql(url: URL, branches: Mapping[str, Path]) -> None:
    from dicomhub.index.postgresql import WRITE_LOCK, create_engine

    engine = create_engine(url, 1, MIGRATION_TIMEOUT_S)
    try:
        async with engine.begin() as conn:
            await conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
            await conn.run_sync(upgrade, branches)
    finally:
        await engine.dispose()


def upgrade(conn: Connection, branches: Mapping[str, Path]) -> None:
    """Run what is missing of every branch (empty name: our own) in the open transaction of ``conn``."""
    for name, folder in branches.items():
        table = f"alembic_version_{name}" if name else "alembic_version"
        config = AlembicConfig()
        config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", str(folder).replace("%", "%%"))
        config.attributes.update(connection=conn, version_table=table)
        script = ScriptDirectory.from_config(config)
        heads = MigrationContext.configure(conn, opts={"version_table": table}).get_current_heads()
        _refuse_newer(name, heads, {revision.revision for revision in script.walk_revisions()})
        if set(heads) != set(script.get_heads()):
            command.upgrade(config, "heads")


def _refuse_newer(name: str, heads: tuple[str, ...], known: set[str]) -> None:
    unknown = sorted(set(heads) - known)
    if unknown:
        whose = f"of plugin {name} " if name else ""
        raise ConfigurationError(
            f"the database {whose}is at revision {', '.join(unknown)}, which this program does not know: "
            "a newer version has used it. Run that version, or restore a backup made before"
        )
