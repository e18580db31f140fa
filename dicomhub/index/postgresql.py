"""PostgreSQL over asyncpg: the same functions by ``run_sync``, the same group commit by a task, reads from a pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dicomhub.errors import Unavailable
from dicomhub.index import group_commit
from dicomhub.index.database import CLOSE_TIMEOUT_S, READ_TIMEOUT_S, WRITE_TIMEOUT_S, described, probe
from dicomhub.index.group_commit import Finished, Waiting, WriteQueue, must_roll_back, run_batch

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
"""Seconds one connection may take to be made."""
READ_CONNECTIONS = 8
"""Reading connections of one process; there is one more, for the writer."""
WRITE_LOCK = 0x6469636F6D687562
"""Key of the advisory lock that makes writes follow one another ("dicomhub"); one per database."""


class PostgreSQLDatabase:
    """A `dicomhub.index.database.Database` on a PostgreSQL server, which any number of processes share."""

    def __init__(self, url: URL) -> None:
        self._waiting: asyncio.Queue[Waiting | None] = asyncio.Queue()
        self._writes = WriteQueue(self._waiting)
        self._writing = create_engine(url, 1, WRITE_TIMEOUT_S)
        reading = create_engine(url, READ_CONNECTIONS, READ_TIMEOUT_S, default_transaction_read_only="on")
        self._reading = reading.execution_options(isolation_level="REPEATABLE READ")
        self._reading_now = reading.execution_options(isolation_level="AUTOCOMMIT")
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: URL) -> Self:
        """Connect and start the writer task."""
        database = cls(url)
        try:
            await database.read(probe)
        except BaseException:
            await database._dispose()
            raise
        database._task = asyncio.create_task(database._write_forever(), name="index-writer")
        return database

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `dicomhub.index.database.Database.read`."""
        return await self._read(self._reading, lambda conn: fn(conn, *args, **kwargs))

    async def read_now(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `dicomhub.index.database.Database.read_now`: it saves the messages around a transaction."""
        return await self._read(self._reading_now, lambda conn: fn(conn, *args, **kwargs))

    async def _read(self, engine: AsyncEngine, call: Callable[[Connection], T]) -> T:
        self._writes.check_open()
        with described():
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    return await _read_once_more(engine, call)
            except TimeoutError as error:
                raise Unavailable(f"the database did not answer in {READ_TIMEOUT_S:.0f} s") from error

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `dicomhub.index.database.Database.write`."""
        result: T = await self._writes.write(lambda conn: fn(conn, *args, **kwargs))
        return result

    async def close(self) -> None:
        """See `dicomhub.index.database.Database.close`."""
        if self._writes.is_closed:
            return
        self._writes.close()
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._task, CLOSE_TIMEOUT_S)
        await self._dispose()

    async def _dispose(self) -> None:
        await self._writing.dispose()
        await self._reading.dispose()

    # ---- the writer task

    async def _write_forever(self) -> None:
        while (batch := self._writes.batch(await self._waiting.get())) is not None:
            while batch:
                finished, batch = await self._commit(batch)
                for one in finished:
                    one.resolve()

    async def _commit(self, batch: Sequence[Waiting]) -> tuple[list[Finished], Sequence[Waiting]]:
        try:
            finished, rest = await self._transaction_once_more(batch)
        except Exception as error:
            return group_commit.failed(batch, error), ()
        group_commit.described(finished)
        return finished, rest

    async def _transaction_once_more(self, batch: Sequence[Waiting]) -> tuple[list[Finished], Sequence[Waiting]]:
        """Run a transaction; when the connection turns out to be dead before the commit, once more on a new one."""
        for last in (False, True):
            async with self._writing.connect() as conn:
                try:
                    finished, rest = await conn.run_sync(_run_in_turn, batch)
                except DBAPIError as error:
                    if last or not error.connection_invalidated:
                        raise
                    continue
                await (conn.rollback() if must_roll_back(finished) else conn.commit())
                return finished, rest
        raise AssertionError("unreachable")


async def _read_once_more(engine: AsyncEngine, call: Callable[[Connection], T]) -> T:
    """Read; a pooled connection that died in the meantime costs a second try."""
    try:
        async with engine.connect() as conn:
            return await conn.run_sync(call)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
    async with engine.connect() as conn:
        return await conn.run_sync(call)


def _run_in_turn(conn: Connection, batch: Sequence[Waiting]) -> tuple[list[Finished], Sequence[Waiting]]:
    """Queue for the right to write (first come, first served), which ends with the transaction; then run the batch."""
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
    return run_batch(conn, batch)


def create_engine(url: URL, connections: int, statement_timeout_s: float, **settings: str) -> AsyncEngine:
    """An engine of at most so many connections, none of whose statements can hang; ``settings`` are the server's."""
    milliseconds = str(int(statement_timeout_s * 1000))
    return create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=READ_TIMEOUT_S,
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "server_settings": {
                "application_name": "dicomhub",
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,  # a hung process must not keep the lock
                "synchronous_commit": "on",  # flush in every commit, whatever the server's default
                "jit": "off",  # our statements are short: compiling takes longer than running
                **settings,
            },
        },
    )
