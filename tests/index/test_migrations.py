"""Migrations: from nothing to the schema, once however many start, all or nothing, never backwards."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from dicomhub.config import Config
from dicomhub.errors import ConfigurationError
from dicomhub.index.database import open_database
from dicomhub.index.migrations import migrate
from dicomhub.index.schema import metadata

FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "notes_1"
down_revision = None
branch_labels = ("notes",)
depends_on = None


def upgrade():
    op.create_table("notes_note", sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text))
"""

SECOND = FIRST.replace('"notes_1"', '"notes_2"').replace(
    '= None\nbranch_labels = ("notes",)', '= "notes_1"\nbranch_labels = None'
)
BROKEN = SECOND.replace("notes_note", "notes_more") + '    op.execute("SELECT * FROM there_is_no_such_table")\n'


@pytest.fixture
def empty_url(request, database_url, tmp_path):
    """An empty database: the migrated one of `database_url` shows its kind."""
    if database_url.startswith("sqlite"):
        return f"sqlite:///{tmp_path}/another/empty.sqlite"
    return request.getfixturevalue("postgresql_url_2")


def tables(url: str) -> set[str]:
    async def names() -> set[str]:
        database = await open_database(Config(database_url=url))
        try:
            return await database.read(lambda conn: set(inspect(conn).get_table_names()))
        finally:
            await database.close()

    return asyncio.run(names())


def differences(conn: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), metadata))


async def test_migrated_database_has_the_schema_of_the_code(database):
    assert await database.read(differences) == []


async def test_archive_knows_what_it_is(database):
    row = await database.read(lambda conn: conn.execute(text("SELECT * FROM archive_info")).one())
    assert (len(row.archive_uuid), row.format_version) == (36, 1)


def test_many_may_start_at_once(empty_url):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrate, [empty_url] * 4))
    migrate(empty_url)
    assert {"version", "study", "change"} <= tables(empty_url)


def test_plugin_brings_its_tables_and_may_go_again(database_url, tmp_path):
    folder = tmp_path / "revisions 100%"
    folder.mkdir()
    (folder / "first.py").write_text(FIRST)
    migrate(database_url, {"notes": folder})
    assert {"notes_note", "alembic_version", "alembic_version_notes"} <= tables(database_url)
    migrate(database_url)
    migrate(database_url, {"notes": folder})


def test_failing_migration_changes_nothing(database_url, tmp_path):
    (tmp_path / "first.py").write_text(FIRST)
    (tmp_path / "second.py").write_text(BROKEN)
    before = tables(database_url)
    with pytest.raises(Exception, match="there_is_no_such_table"):
        migrate(database_url, {"notes": tmp_path})
    assert tables(database_url) == before


def test_newer_database_is_refused(database_url, tmp_path):
    (tmp_path / "first.py").write_text(FIRST)
    migrate(database_url, {"notes": tmp_path})
    (tmp_path / "first.py").unlink()  # another name: byte code of the same second and size would be taken for it
    (tmp_path / "older.py").write_text(FIRST.replace("notes_1", "notes_0"))
    with pytest.raises(ConfigurationError, match="notes is at revision notes_1, which this program does not know"):
        migrate(database_url, {"notes": tmp_path})


@pytest.mark.parametrize("name", ["", "Notes", "notes; DROP TABLE study", "x" * 60])
def test_plugin_name_that_cannot_name_tables_is_refused(tmp_path, name):
    with pytest.raises(ConfigurationError, match="plugins"):
        migrate(f"sqlite:///{tmp_path}/index.sqlite", {name: Path(tmp_path)})
