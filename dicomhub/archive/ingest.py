"""The one way in, for C-STORE, STOW-RS, import and plugins.

1. `receiver` takes the bytes as they come: split, hash, stage (any thread, memory independent of size).
2. `store` lets plugins coerce, makes the parts durable, and commits the row, the change and the plugins' own rows in
   one transaction. Only then does the sender hear of success.

A failure anywhere leaves at most unreferenced blobs, which the sweep deletes after a grace time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import Connection

from dicomhub.archive import Archive
from dicomhub.archive.coerce import coerce
from dicomhub.archive.receive import Received, Receiver
from dicomhub.dicom.model import InstanceRef
from dicomhub.errors import MismatchedStudy, Unavailable
from dicomhub.events import Source
from dicomhub.hooks import Hooks
from dicomhub.index.records import InstanceRecord, Outcome
from dicomhub.index.write import commit

SUCCESS = 0x0000
COERCED = 0xB000
"""Coercion of data elements: C-STORE warning (PS3.4 B.2.3) and Warning Reason (PS3.18 I.2)."""
COERCE_TIMEOUT_S = 240.0
"""Seconds that all plugins together have to coerce an instance."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the sender may be told: the instance is durable."""

    ref: InstanceRef
    sop_class_uid: str
    status: int
    """0x0000, or 0xB000 when attributes were changed on arrival."""
    kind: str
    """``created``, ``replaced`` (a new version) or ``duplicate`` (already stored, no new version)."""
    version: int
    sequence: int | None
    """Number of the change; None for a duplicate."""
    size: int
    """Bytes of the Part 10 file."""


def receiver(archive: Archive, *, own_file_meta: bool = True) -> Receiver:
    """A receiver for one instance; see `Receiver`."""
    return Receiver(archive.store, archive.config, own_file_meta=own_file_meta)


def persist(archive: Archive, received: Received) -> None:
    """Make the parts durable at once, in the thread that received them, where the blob store can do that.

    Saves a turn of the event loop; `store` does what is left. Until then nothing refers to the parts.
    """
    if archive.hooks.coerces:
        return  # a plugin may refuse the instance, and parts that nothing will refer to are not worth a flush
    staged = received.staged
    if archive.store.put_now(staged):
        received.put.update(part.digest for part in staged)


async def store(archive: Archive, received: Received, source: Source, *, study: str | None = None) -> Receipt:
    """Make a received instance durable and visible.

    Parameters
    ----------
    study
        Study Instance UID that the target resource names; instances of another study are refused.

    Raises
    ------
    Refused
        By us or by a plugin; nothing of the instance remains visible.
    Unavailable
        When the store or the database do not take it now.
    """
    try:
        if study is not None and received.ref.study != study:
            raise MismatchedStudy(
                f"Study Instance UID (0020,000D) is {received.ref.study}, the target resource names {study}"
            )
        status = SUCCESS
        if archive.hooks.coerces:
            received, changed = await _coerce_in_time(archive, received, source)
            status = COERCED if changed else SUCCESS
        await archive.store.put(received.staged)
        outcome = await archive.database.write(_commit, received.record, source, time.time(), archive.hooks)
    finally:
        received.discard()
    if outcome.change is not None:
        archive.changed.ring()
    sequence = outcome.change.sequence if outcome.change else None
    return Receipt(
        received.ref, received.sop_class_uid, status, outcome.kind, outcome.version_id, sequence, received.record.size
    )


async def _coerce_in_time(archive: Archive, received: Received, source: Source) -> tuple[Received, bool]:
    """See `coerce`. Bounded, because the commit must follow `persist` before the sweep's grace is over."""
    limit = asyncio.timeout(COERCE_TIMEOUT_S)
    try:
        async with limit:
            return await coerce(archive, received, source)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Unavailable(f"the plugins did not coerce the instance in {COERCE_TIMEOUT_S:.0f} s") from error


def _commit(conn: Connection, record: InstanceRecord, source: Source, at: float, hooks: Hooks) -> Outcome:
    outcome = commit(conn, record, source, at)
    if outcome.change is not None:
        hooks.commit(conn, (outcome.change,))
    return outcome


async def store_stream(archive: Archive, chunks: AsyncIterator[bytes], source: Source) -> Receipt:
    """Receive and store one Part 10 stream; for plugins and small tools."""
    incoming = receiver(archive)
    try:
        async for chunk in chunks:
            incoming.feed(chunk)
        received = incoming.finish()
    except BaseException:
        incoming.discard()
        raise
    return await store(archive, received, source)
