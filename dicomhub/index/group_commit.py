"""Group commit: what is waiting shares one transaction, each function in a savepoint of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dicomhub.errors import Unavailable
from dicomhub.index.database import WRITE_QUEUE_MAX, WRITE_TIMEOUT_S, describe

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


class Places(Protocol):
    """What `queue.SimpleQueue` and `asyncio.Queue` have in common; None in it means the end."""

    def put_nowait(self, item: Waiting | None, /) -> None:
        """Append without waiting."""

    def get_nowait(self) -> Waiting | None:
        """Take the first."""

    def empty(self) -> bool:
        """Whether there is none."""


class WriteQueue:
    """The way of writes to their transaction: bounded in length and in time, closed for good.

    Parameters
    ----------
    places
        Where a single consumer waits for them.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._free = asyncio.Semaphore(WRITE_QUEUE_MAX)
        self.is_closed = False

    async def write(self, function: WriteFunction) -> Any:
        """See `dicomhub.index.database.Database.write`."""
        self.check_open()
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._free:
                self.check_open()
                waiting = Waiting(function, asyncio.get_running_loop().create_future())
                self._places.put_nowait(waiting)
                return await waiting.future
        except TimeoutError as error:
            raise Unavailable(f"the database did not take a change in {WRITE_TIMEOUT_S:.0f} s") from error

    def batch(self, first: Waiting | None) -> Sequence[Waiting] | None:
        """``first`` and what else waits now; None at the end. For the consumer, which waited for ``first``."""
        if first is None:
            return None
        batch = [first]
        while len(batch) < BATCH_MAX and not self._places.empty():
            following = self._places.get_nowait()
            if following is None:
                self._places.put_nowait(None)  # seen again after this batch
                break
            batch.append(following)
        return batch

    def check_open(self) -> None:
        """Raise `Unavailable` once the database is closed."""
        if self.is_closed:
            raise Unavailable("the database is closed")

    def close(self) -> None:
        """Take no more, and tell the consumer that the end comes after what waits already."""
        self.is_closed = True
        self._places.put_nowait(None)


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


def described(finished: Sequence[Finished]) -> None:
    """Put errors of ours in the place of a driver's."""
    for one in finished:
        one.error = describe(one.error) if one.error is not None else None


def failed(batch: Sequence[Waiting], error: Exception) -> list[Finished]:
    """What becomes of a batch whose transaction is lost."""
    return [Finished(waiting, error=describe(error)) for waiting in batch]


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
