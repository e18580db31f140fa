"""SQLite: per process one writing thread with group commit and a few reading ones; processes may share the file."""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from dicomhub.index import group_commit
from dicomhub.index.database import CLOSE_TIMEOUT_S, READ_TIMEOUT_S, described, probe
from dicomhub.index.group_commit import Finished, Waiting, WriteQueue, must_roll_back, run_batch

P = ParamSpec("P")
T = TypeVar("T")

READERS = 4
"""Reading threads of one process."""
BUSY_TIMEOUT_S = 30.0
"""Seconds to wait for a lock of the file that our own turn-taking does not know of (a backup, the sqlite3 tool)."""


class SQLiteDatabase:
    """A `dicomhub.index.database.Database` in one file, in WAL mode; a commit is flushed before it is acknowledged."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._writes = WriteQueue(self._waiting)
        self._engine = writing_engine(path)
        self._readers = _Readers(path)
        self._thread = threading.Thread(target=self._write_forever, name="index-writer", daemon=True)

    @classmethod
    async def open(cls, path: str) -> Self:
        """Open the file and start the threads."""
        database = cls(path)
        try:
            await database.read(probe)
        except BaseException:
            await asyncio.to_thread(database._readers.close)
            raise
        database._thread.start()
        await database.write(probe)
        return database

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `dicomhub.index.database.Database.read`."""
        self._writes.check_open()
        return await self._loop.run_in_executor(
            self._readers.threads, self._readers.run, lambda conn: fn(conn, *args, **kwargs)
        )

    async def read_now(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `dicomhub.index.database.Database.read_now`: in the event loop, without a thread.

        A row by its key takes 50 us here and 170 us by way of a thread; more when the loop is busy, because a thread
        that has waited for the file must then wait for the interpreter.
        """
        self._writes.check_open()
        return self._readers.run(lambda conn: fn(conn, *args, **kwargs))

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `dicomhub.index.database.Database.write`."""
        result: T = await self._writes.write(lambda conn: fn(conn, *args, **kwargs))
        return result

    async def close(self) -> None:
        """See `dicomhub.index.database.Database.close`."""
        if self._writes.is_closed:
            return
        self._writes.close()
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)
        await asyncio.to_thread(self._readers.close)

    # ---- the writer thread

    def _write_forever(self) -> None:
        try:
            with Turn(self._path) as turn, self._engine.connect() as conn:
                while (batch := self._writes.batch(self._waiting.get())) is not None:
                    while batch:
                        finished, batch = self._commit(conn, turn, batch)
                        self._tell(finished)
        except Exception as error:
            self._give_up(error)
        finally:
            self._engine.dispose()

    def _give_up(self, error: Exception) -> None:
        """The file cannot be opened: tell everybody who waits, and let nobody wait any more."""
        self._writes.is_closed = True
        with suppress(queue.Empty):
            while (waiting := self._waiting.get(timeout=1.0)) is not None:
                self._tell(group_commit.failed([waiting], error))

    def _commit(
        self, conn: Connection, turn: Turn, batch: Sequence[Waiting]
    ) -> tuple[list[Finished], Sequence[Waiting]]:
        try:
            with turn.taken(), conn.begin() as transaction:
                finished, rest = run_batch(conn, batch)
                if must_roll_back(finished):
                    transaction.rollback()
        except Exception as error:
            return group_commit.failed(batch, error), ()
        group_commit.described(finished)
        return finished, rest

    def _tell(self, finished: list[Finished]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_resolve, finished)


def _resolve(finished: list[Finished]) -> None:
    for one in finished:
        one.resolve()


class Turn:
    """Whose turn it is to write, among the processes that share the file.

    SQLite itself lets waiting processes sleep and try again, so that one which commits all the time starves the others.
    Here a process that waits holds ``next``; one that has just written must queue behind it. Locks end with their
    process, however it ends.
    """

    def __init__(self, path: str) -> None:
        self._next = os.open(f"{path}-next", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._active = os.open(f"{path}-active", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for our turn, hold it, pass it on."""
        fcntl.flock(self._next, fcntl.LOCK_EX)
        fcntl.flock(self._active, fcntl.LOCK_EX)
        fcntl.flock(self._next, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._active, fcntl.LOCK_UN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._next)
        os.close(self._active)


class _Readers:
    """Threads that read, each call on a connection of its own."""

    def __init__(self, path: str) -> None:
        self.threads = ThreadPoolExecutor(READERS, thread_name_prefix="index-reader")
        self._engine = _engine(path, "BEGIN", _reading_pragmas)
        self._free: queue.LifoQueue[Connection] = queue.LifoQueue()
        self._opened: list[Connection] = []

    def run(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` on one consistent state."""
        with described(), self._connection() as conn, conn.begin():
            return fn(conn)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            conn = self._free.get_nowait()
        except queue.Empty:
            conn = self._engine.connect()
            self._opened.append(conn)
        deadline = time.monotonic() + READ_TIMEOUT_S
        _driver(conn).set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
        try:
            yield conn
        finally:
            self._free.put(conn)

    def close(self) -> None:
        """Wait for what runs, then disconnect."""
        self.threads.shutdown(wait=True, cancel_futures=True)
        for conn in self._opened:
            conn.close()
        self._engine.dispose()


def _driver(conn: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, conn.connection.dbapi_connection)


def writing_engine(path: str) -> Engine:
    """An engine whose transactions hold the write lock from their beginning; for the writer and for migrations."""
    return _engine(path, "BEGIN IMMEDIATE", _writing_pragmas)


def _engine(path: str, begin: str, pragmas: Callable[[sqlite3.Connection], None]) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=NullPool,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def connect(driver: sqlite3.Connection, _: Any) -> None:
        driver.isolation_level = None  # transactions begin where we say, not where the driver guesses
        pragmas(driver)

    @event.listens_for(engine, "begin")
    def begin_transaction(conn: Connection) -> None:
        conn.exec_driver_sql(begin)

    return engine


def _writing_pragmas(driver: sqlite3.Connection) -> None:
    driver.execute("PRAGMA journal_mode=WAL")
    driver.execute("PRAGMA synchronous=FULL")  # flush the log in every commit: what we acknowledge survives power loss
    driver.execute("PRAGMA wal_autocheckpoint=4000")  # pages, about 16 MB: fewer, larger write-backs
    driver.execute("PRAGMA journal_size_limit=67108864")  # bytes
    driver.execute("PRAGMA cache_size=-65536")  # KiB
    driver.execute("PRAGMA case_sensitive_like=ON")  # as in PostgreSQL, and so that indexes serve LIKE 'prefix%'


def _reading_pragmas(driver: sqlite3.Connection) -> None:
    driver.execute("PRAGMA query_only=ON")
    driver.execute("PRAGMA cache_size=-32768")  # KiB
    driver.execute("PRAGMA case_sensitive_like=ON")
