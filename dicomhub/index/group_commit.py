"""Group commit: what is waiting shares one transaction, each function in a savepoint of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

BATCH_MAX = 64
"""Functions in one transaction."""
BATCH_MAX_S = 0.1
"""Seconds after which a transaction takes no further function; what is left goes into the next one."""

WriteFunction = Callable[[Connection], Any]


@dataclass(slots=True)
class Waiting:
    """A function that waits for its transaction, and who waits for it."""

    function: WriteFunction
    future: asyncio.Future[Any]


@dataclass(slots=True)
class Finished:
    """What became of it; true only once the transaction is committed."""

    waiting: Waiting
    value: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        """Tell the caller; call in its event loop."""
        future = self.waiting.future
        if future.done():
            return  # the caller gave up waiting
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.value)


def run_batch(conn: Connection, batch: Sequence[Waiting]) -> tuple[list[Finished], Sequence[Waiting]]:
    """Run functions in the open transaction of ``conn``.

    A function that raises is undone alone. Nobody may be told before the caller of this has committed.

    Returns
    -------
    What finished, and what is left because the transaction has become long.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        When the transaction as a whole is lost (connection gone, disk full); nothing of the batch has happened.
    """
    if len(batch) == 1:
        return [_run(conn, batch[0])], ()
    finished: list[Finished] = []
    began = time.monotonic()
    for number, waiting in enumerate(batch):
        if number and time.monotonic() - began > BATCH_MAX_S:
            return finished, batch[number:]
        conn.exec_driver_sql("SAVEPOINT one")
        done = _run(conn, waiting)
        if done.error is not None:
            _undo(conn, done.error)
        conn.exec_driver_sql("RELEASE SAVEPOINT one")
        finished.append(done)
    return finished, ()


def _run(conn: Connection, waiting: Waiting) -> Finished:
    if waiting.future.done():
        return Finished(waiting)  # the caller gave up waiting
    try:
        return Finished(waiting, waiting.function(conn))
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return Finished(waiting, error=error)
    except Exception as error:
        return Finished(waiting, error=error)


def _undo(conn: Connection, cause: BaseException) -> None:
    """Undo one function; raise when its error ended the whole transaction (SQLite does that when the disk is full)."""
    try:
        conn.exec_driver_sql("ROLLBACK TO SAVEPOINT one")
    except DBAPIError:
        raise cause from None


def must_roll_back(finished: Sequence[Finished]) -> bool:
    """Whether the transaction holds nothing but what a single function left when it failed."""
    return len(finished) == 1 and finished[0].error is not None
