"""The database: transactions are plain functions ``fn(conn, ...)``, run to the end, in which nothing can be awaited.

``read`` runs a function on one consistent state. ``write`` runs it in a transaction that no other write shares in time:
writes follow one another, in all processes, on both databases. So a function may read, decide and write without
locks or retries, and the change sequence is gapless and in the order of commits. When ``write`` returns, it is durable.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dicomhub.config import Config
from dicomhub.errors import ConfigurationError, Corrupt, DicomHubError, OutOfResources, Unavailable

P = ParamSpec("P")
T = TypeVar("T")

READ_TIMEOUT_S = 30.0
"""Seconds one read may take."""
WRITE_TIMEOUT_S = 60.0
"""Seconds one write may wait and take."""
CLOSE_TIMEOUT_S = 90.0
"""Seconds the writer gets to finish when closing."""
WRITE_QUEUE_MAX = 1024
"""Writes that may wait in one process; further callers wait for a place."""


class Database(Protocol):
    """What the archive and plugins use of a database."""

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(conn, ...)`` on one consistent state that includes every finished write.

        Raises
        ------
        Unavailable
            When the database does not answer in `READ_TIMEOUT_S` seconds, or is closed.
        """
        ...

    async def read_now(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for a few rows by their key, faster: on SQLite without a thread, on PostgreSQL with one message.

        Each statement of ``fn`` sees a state of its own, and on SQLite the event loop waits.
        """
        ...

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(conn, ...)`` in a transaction; return when it is durable.

        What ``fn`` raises undoes ``fn`` alone and is raised here. ``fn`` may run again when the connection broke before
        the commit, so it must have no effect but on ``conn``.

        Raises
        ------
        Unavailable
            When it is not done in `WRITE_TIMEOUT_S` seconds, the database is closed, or the connection breaks. It may
            have been committed nevertheless if the connection broke in the commit.
        OutOfResources
            When the database has no space left.
        """
        ...

    async def close(self) -> None:
        """Finish the writes that wait, then disconnect. Harmless when repeated."""
        ...


async def open_database(config: Config) -> Database:
    """Open the configured database; its tables exist already (`dicomhub.index.migrations.migrate`).

    Raises
    ------
    ConfigurationError
        When ``database_url`` is no SQLite or PostgreSQL URL.
    Unavailable
        When it does not answer.
    """
    # Here, so that this page needs no driver.
    from dicomhub.index.postgresql import PostgreSQLDatabase
    from dicomhub.index.sqlite import SQLiteDatabase

    url = parse_url(config.effective_database_url)
    if url.get_backend_name() == "sqlite":
        return await SQLiteDatabase.open(sqlite_file(url))
    return await PostgreSQLDatabase.open(url)


def parse_url(database_url: str) -> URL:
    """``database_url`` with the driver that we use.

    Raises
    ------
    ConfigurationError
        When it is no URL of a database we know.
    """
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise ConfigurationError(f"database_url is no URL: {database_url.split('@')[-1]!r}") from error
    match url.get_backend_name():
        case "sqlite":
            sqlite_file(url)
            return url.set(drivername="sqlite")
        case "postgresql" | "postgres":
            return url.set(drivername="postgresql+asyncpg")
    raise ConfigurationError(f"database_url: {url.get_backend_name()} is not supported; use sqlite or postgresql")


def sqlite_file(url: URL) -> str:
    """Path of the database file.

    Raises
    ------
    ConfigurationError
        When there is none: a database in memory keeps nothing.
    """
    if not url.database or ":memory:" in url.database or url.database.startswith("file:"):
        raise ConfigurationError("database_url: sqlite needs a file, sqlite:///folder/index.sqlite")
    return url.database


@contextmanager
def described() -> Iterator[None]:
    """Raise errors of a driver as ours, see `describe`."""
    try:
        yield
    except Exception as error:
        ours = describe(error)
        if ours is error:
            raise
        raise ours from error


def probe(conn: Connection) -> None:
    """See whether the database answers and has our tables."""
    conn.exec_driver_sql("SELECT 1 FROM sequence_counter").first()


def describe(error: BaseException) -> BaseException:
    """The error of ours that an error of a driver amounts to; any other error as it is."""
    if isinstance(error, DBAPIError):
        if isinstance(error.orig, sqlite3.Error):
            return _sqlite_error(error, error.orig)
        return _postgresql_error(error)
    if isinstance(error, (PoolTimeout, OSError)):
        return Unavailable(f"the database does not answer: {error}")
    return error


def _sqlite_error(error: DBAPIError, orig: sqlite3.Error) -> BaseException:
    code = getattr(orig, "sqlite_errorcode", 0) & 0xFF
    known: dict[int, type[DicomHubError]] = {
        sqlite3.SQLITE_FULL: OutOfResources,
        sqlite3.SQLITE_BUSY: Unavailable,
        sqlite3.SQLITE_LOCKED: Unavailable,
        sqlite3.SQLITE_IOERR: Unavailable,
        sqlite3.SQLITE_READONLY: Unavailable,
        sqlite3.SQLITE_CANTOPEN: Unavailable,
        sqlite3.SQLITE_INTERRUPT: Unavailable,
        sqlite3.SQLITE_CORRUPT: Corrupt,
        sqlite3.SQLITE_NOTADB: Corrupt,
    }
    return known[code](f"the database (SQLite) says: {orig}") if code in known else error


def _postgresql_error(error: DBAPIError) -> BaseException:
    """By SQLSTATE class: 53 resources, 08 connection, 57 intervention, 40 rollback, 55P03 lock not available."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state.startswith("53"):
        return OutOfResources(f"the database (PostgreSQL) says: {error.orig}")
    if error.connection_invalidated or state.startswith(("08", "57", "40", "55P03")):
        return Unavailable(f"the database (PostgreSQL) says: {error.orig}")
    return error
