"""What every blob store must do. A driver's test module imports these tests and gives a fixture ``store``."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time

import pytest

from dicomhub.errors import Corrupt
from dicomhub.store import INLINE_MAX, BlobStore, Staged

SIZES = [0, 1, INLINE_MAX, INLINE_MAX + 1, 1024 * 1024 + 1, 3 * 1024 * 1024]
LARGE = 17 * 1024 * 1024 + 3
"""Bytes of a blob that S3 takes in parts."""


def stage(store: BlobStore, data: bytes, portion: int = 100_000) -> Staged:
    staging = store.stage()
    for start in range(0, len(data), portion):
        staging.write(memoryview(data)[start : start + portion])
    staging.finish()
    return staging.staged


async def put(store: BlobStore, data: bytes) -> bytes:
    staged = stage(store, data)
    await store.put([staged])
    return staged.digest


async def infos(listing) -> dict[bytes, tuple[int, float]]:
    return {info.digest: (info.size, info.modified_at) async for info in listing}


@pytest.mark.parametrize("size", SIZES)
async def test_put_then_read_is_identity(store, size):
    data = os.urandom(size)
    digest = await put(store, data)
    assert digest == hashlib.sha256(data).digest()
    assert await store.stat(digest) == size
    assert await store.read_range(digest, 0, size) == data
    assert b"".join([piece async for piece in store.open_range(digest, 0, size)]) == data


async def test_large_blob_is_put_and_read_in_bounded_pieces(store):
    data = os.urandom(LARGE)
    digest = await put(store, data)
    pieces = [piece async for piece in store.open_range(digest, 0, LARGE)]
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 1024 * 1024


async def test_any_range_is_that_range(store):
    data = os.urandom(2 * 1024 * 1024)
    digest = await put(store, data)
    for start, stop in [(0, 1), (5, 5), (1, 1024 * 1024 + 7), (len(data) - 1, len(data)), (0, len(data))]:
        assert await store.read_range(digest, start, stop) == data[start:stop]
        assert b"".join([piece async for piece in store.open_range(digest, start, stop)]) == data[start:stop]


async def test_several_blobs_are_put_at_once(store):
    staged = [stage(store, os.urandom(size)) for size in (10, 200_000, 10, 300_000)]
    staged.append(stage(store, b"twice in one instance"))
    staged.append(stage(store, b"twice in one instance"))
    await store.put(staged)
    assert [await store.stat(one.digest) for one in staged] == [one.size for one in staged]
    await store.put([])


async def test_missing_blob_is_corrupt_not_empty(store):
    digest = hashlib.sha256(b"never put").digest()
    assert await store.stat(digest) is None
    with pytest.raises(Corrupt, match=digest.hex()):
        await store.read_range(digest, 0, 10)
    with pytest.raises(Corrupt):
        await anext(store.open_range(digest, 0, 10))


async def test_range_beyond_the_end_is_corrupt(store):
    digest = await put(store, b"0123456789")
    for start, stop in [(5, 11), (20, 30)]:
        with pytest.raises(Corrupt):
            await store.read_range(digest, start, stop)
        with pytest.raises(Corrupt):
            [piece async for piece in store.open_range(digest, start, stop)]


async def test_put_again_renews_the_time(store):
    digest = await put(store, b"x" * 100_000)
    before = (await infos(store.list()))[digest][1]
    await asyncio.sleep(1.1)  # S3 counts whole seconds
    await put(store, b"x" * 100_000)
    after = (await infos(store.list()))[digest][1]
    assert after >= before + 1
    assert abs(after - time.time()) < 60


async def test_list_names_every_blob_once(store):
    digests = {await put(store, str(number).encode() * 40_000): number for number in range(20)}
    listed = [info async for info in store.list()]
    assert sorted(info.digest for info in listed) == sorted(digests)
    assert {info.size for info in listed if digests[info.digest] < 10} == {40_000}


async def test_deleted_blob_is_still_read_from_the_trash(store):
    digest = await put(store, b"unwanted" * 20_000)
    await store.delete(digest)
    assert await infos(store.list()) == {}
    assert list(await infos(store.list_trash())) == [digest]
    assert await store.read_range(digest, 0, 8) == b"unwanted"
    assert await store.stat(digest) == 160_000
    await store.delete(digest)
    await store.delete(hashlib.sha256(b"never put").digest())
    assert list(await infos(store.list_trash())) == [digest]


async def test_purged_blob_is_gone(store):
    digest = await put(store, b"unwanted" * 20_000)
    await store.delete(digest)
    await store.purge(digest)
    await store.purge(digest)
    assert await store.stat(digest) is None
    assert await infos(store.list_trash()) == {}


async def test_restored_blob_is_back(store):
    digest = await put(store, b"wanted" * 20_000)
    await store.delete(digest)
    await store.restore(digest)
    await store.restore(digest)
    assert list(await infos(store.list())) == [digest]
    assert await infos(store.list_trash()) == {}


async def test_purge_spares_what_was_put_again_after_the_delete(store):
    digest = await put(store, b"wanted again" * 20_000)
    await store.delete(digest)
    await put(store, b"wanted again" * 20_000)
    await store.purge(digest)
    assert await store.read_range(digest, 0, 6) == b"wanted"


async def test_no_interleaving_of_sweep_and_put_loses_a_blob(store):
    data = b"contested" * 20_000
    digest = await put(store, data)

    async def sweep():
        for _ in range(10):
            await store.delete(digest)

    async def bring():
        for _ in range(5):
            await put(store, data)
            assert await store.read_range(digest, 0, len(data)) == data

    await asyncio.gather(sweep(), bring())
    assert await store.stat(digest) == len(data), "in the trash or outside, but never nowhere"
    await store.restore(digest)
    assert digest in await infos(store.list())


async def test_discard_leaves_nothing_and_is_harmless_after_put(store):
    before = set(store._area.folder.iterdir())
    for portions in (1, 3):
        staging = store.stage()
        for _ in range(portions):
            staging.write(b"x" * 40_000)
        staging.discard()
        staging.discard()
    staging = store.stage()
    staging.write(b"y" * 100_000)
    staging.finish()
    await store.put([staging.staged])
    staging.discard()
    assert await store.stat(staging.staged.digest) == 100_000
    assert set(store._area.folder.iterdir()) == before


async def test_many_puts_and_reads_at_once(store):
    async def one(number: int) -> None:
        data = bytes([number]) * 150_000
        digest = await put(store, data)
        assert await store.read_range(digest, 1000, 2000) == data[:1000]

    await asyncio.gather(*(one(number) for number in range(40)))


async def test_staged_bytes_are_hashed_whatever_the_portions(store):
    data = os.urandom(3 * 1024 * 1024 + 5)
    for portion in (1024 * 1024 + 1, 65_536, 7919):
        staged = stage(store, data, portion)
        assert staged.digest == hashlib.sha256(data).digest()
        assert (staged.size, staged.data) == (len(data), None)
        await store.put([staged])
        assert await store.read_range(staged.digest, 0, len(data)) == data
