"""Remove blobs that nothing refers to: leftovers of interrupted, refused and repeated uploads.

In two steps, each after a grace time: to the trash, and out of it. Why no interleaving with an upload can lose a blob
is told in ``dicomhub/store/README.md``; it rests on the order of the steps in `sweep`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from dicomhub.archive import Archive
from dicomhub.errors import DicomHubError
from dicomhub.index.sweep import claim, wanted
from dicomhub.store import BlobInfo

log = structlog.get_logger(__name__)

PAGE = 500
"""Blobs that one question to the index is about."""
LOOK_S = 600.0
"""Seconds after which a process looks whether it is time for a sweep, at most."""


@dataclass
class Swept:
    """What a sweep did."""

    trashed: int = 0
    restored: int = 0
    purged: int = 0
    bytes_purged: int = 0


async def sweep(archive: Archive, now: float | None = None) -> Swept:
    """Sweep once.

    1. What is in the trash and has a reference goes back: an upload has brought it again.
    2. What has been in the trash for the grace time, and has no reference, is removed for ever.
    3. What lies in the store for the grace time, and has no reference, goes to the trash.

    Parameters
    ----------
    now
        Seconds since the epoch by the store's clock; the present when None.
    """
    before = (time.time() if now is None else now) - archive.config.sweep_grace_s
    swept = Swept()
    async for page in _pages(archive.store.list_trash()):
        await _empty_trash(archive, page, before, swept)
    async for page in _pages(archive.store.list()):
        old = [info for info in page if info.modified_at < before]
        needed = await _wanted(archive, old)
        for info in old:
            if info.digest not in needed:
                await archive.store.delete(info.digest)
                swept.trashed += 1
    return swept


async def _empty_trash(archive: Archive, page: list[BlobInfo], before: float, swept: Swept) -> None:
    needed = await _wanted(archive, page)
    for info in page:
        if info.digest in needed:
            await archive.store.restore(info.digest)
            swept.restored += 1
        elif info.modified_at < before:
            await archive.store.purge(info.digest)
            swept.purged += 1
            swept.bytes_purged += info.size


async def _wanted(archive: Archive, infos: list[BlobInfo]) -> set[bytes]:
    return await archive.database.read(wanted, [info.digest for info in infos]) if infos else set()


async def _pages(listing: AsyncIterator[BlobInfo]) -> AsyncIterator[list[BlobInfo]]:
    page: list[BlobInfo] = []
    async for info in listing:
        page.append(info)
        if len(page) == PAGE:
            yield page
            page = []
    yield page


async def sweep_forever(archive: Archive) -> None:
    """Sweep once in a grace time, one process of the whole cluster at a time, until cancelled."""
    interval_s = archive.config.sweep_grace_s
    while True:
        await asyncio.sleep(max(1.0, min(LOOK_S, interval_s / 4)))
        try:
            if await archive.database.write(claim, time.time(), interval_s):
                swept = await sweep(archive)
                log.info("swept", **vars(swept))
        except DicomHubError as error:
            log.warning("sweep failed, tried again later", error=error.message)
        except Exception:
            log.exception("sweep failed, tried again later")
