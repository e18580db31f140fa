"""The sweep removes what nothing refers to, and nothing else, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import time

import pytest
from pydicom.uid import generate_uid

from dicomhub.archive import ingest, sweep
from dicomhub.archive.sweep import sweep as sweep_once
from dicomhub.archive.verify import verify
from dicomhub.events import Source
from dicomhub.index.sweep import claim

DAY_S = 86_400.0


async def stage(archive, data: bytes):
    staging = archive.store.stage()
    staging.write(data)
    staging.finish()
    return staging.staged


async def listed(listing) -> set[bytes]:
    return {info.digest async for info in listing}


@pytest.fixture
def part10(make_instance):
    """An instance with pixel data in a blob of its own."""
    return make_instance(SOPInstanceUID=generate_uid(), rows=300, columns=300)


def receive(archive, data: bytes):
    receiver = ingest.receiver(archive)
    receiver.feed(data)
    return receiver.finish()


async def test_leftover_goes_to_the_trash_and_then_away(archive):
    left = await stage(archive, b"interrupted" * 10_000)
    await archive.store.put([left])

    assert (await sweep_once(archive)).trashed == 0, "too young"
    assert (await sweep_once(archive, time.time() + DAY_S + 60)).trashed == 1
    assert await listed(archive.store.list_trash()) == {left.digest}
    assert (await sweep_once(archive)).purged == 0, "too short in the trash"
    swept = await sweep_once(archive, time.time() + DAY_S + 60)
    assert (swept.purged, swept.bytes_purged) == (1, 110_000)
    assert await archive.store.stat(left.digest) is None


async def test_stored_instances_are_left_alone(archive, part10):
    await ingest.store(archive, receive(archive, part10), Source())
    before = await listed(archive.store.list())
    assert len(before) == 1
    swept = await sweep_once(archive, time.time() + 10 * DAY_S)
    assert (swept.trashed, swept.purged) == (0, 0)
    assert await listed(archive.store.list()) == before


async def test_upload_of_what_is_being_swept_is_not_lost(archive, part10):
    """Put, then both steps of the sweep, then the commit: the worst order that the grace time allows."""
    received = receive(archive, part10)
    await archive.store.put(received.staged)
    (digest,) = await listed(archive.store.list())
    await sweep_once(archive, time.time() + DAY_S + 60)
    assert await listed(archive.store.list()) == set()

    received.discard()
    receipt = await ingest.store(archive, receive(archive, part10), Source())
    assert receipt.kind == "created"
    await archive.store.delete(digest)  # the sweep had decided before the upload came
    assert (await verify(archive, quick=False)).is_clean, "read from the trash"
    swept = await sweep_once(archive, time.time() + 3 * DAY_S)
    assert (swept.restored, swept.purged, swept.trashed) == (1, 0, 0)
    assert await listed(archive.store.list()) == {digest}
    assert (await verify(archive, quick=False)).is_clean


async def test_sweeps_and_uploads_at_once_lose_nothing(archive, make_instance):
    parts = [make_instance(SOPInstanceUID=generate_uid(), rows=300, columns=300) for _ in range(6)]

    async def upload():
        for data in parts * 2:
            await ingest.store(archive, receive(archive, data), Source())

    sweeping = asyncio.create_task(keep_trashing(archive))
    await upload()
    sweeping.cancel()
    await sweep_once(archive)
    report = await verify(archive, quick=False)
    assert report.is_clean, report.findings


async def keep_trashing(archive):
    """Move everything to the trash, referred to or not, as fast as possible: a sweep that is always wrong."""
    while True:
        async for info in archive.store.list():
            await archive.store.delete(info.digest)
        await asyncio.sleep(0)


async def test_one_process_sweeps_in_an_interval(archive):
    now = time.time()
    assert not await archive.database.write(claim, now, DAY_S), "a new archive needs no sweep"
    claims = await asyncio.gather(*(archive.database.write(claim, now + DAY_S + 1, DAY_S) for _ in range(4)))
    assert sorted(claims) == [False, False, False, True]


async def test_sweeping_goes_on_after_a_failure(archive, monkeypatch):
    calls = asyncio.Queue()

    async def failing(_):
        calls.put_nowait(time.time())
        raise sweep.DicomHubError("no")

    monkeypatch.setattr(sweep, "sweep", failing)
    hasty = archive.config.model_copy(update={"sweep_grace_s": 0.0})
    task = asyncio.create_task(
        sweep.sweep_forever(type(archive)(hasty, archive.store, archive.database, archive.hooks))
    )
    async with asyncio.timeout(20):
        await calls.get()
        await calls.get()
    task.cancel()
