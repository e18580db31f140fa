"""The bytes of a stored instance: which blob, which range, inline or in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import lru_cache

import zstandard

from dicomhub.archive import Archive
from dicomhub.dicom.part10 import Recipe, decode_recipe
from dicomhub.errors import Corrupt
from dicomhub.index import locate
from dicomhub.index.records import BlobRow
from dicomhub.store import INLINE_MAX

REMEMBERED = 1024
"""Bytes of an encoded recipe up to which it is remembered: that of an image with 20 segments."""


def recipe_of(encoded: bytes) -> Recipe:
    """The decoded recipe; recipes are immutable, so the small ones are remembered."""
    return _remembered(encoded) if len(encoded) <= REMEMBERED else decode_recipe(encoded)


_remembered = lru_cache(maxsize=1024)(decode_recipe)


async def read_blob(archive: Archive, digest: bytes, size: int | None = None) -> bytes:
    """All bytes of a blob that is known to be small (a header, a frame table).

    Raises
    ------
    Corrupt
        When it is nowhere, or not as long as it was.
    """
    row = await archive.database.read_now(locate.blob, digest)
    if row is not None and row.data is not None:
        return unpack(row)
    size = size if size is not None else (row.size if row is not None else None)
    if size is None:
        raise Corrupt(f"blob {digest.hex()} is not in the index; run 'dicomhub verify'")
    return await archive.store.read_range(digest, 0, size)


async def read_range(archive: Archive, digest: bytes, size: int, start: int, stop: int) -> bytes:
    """Bytes ``start`` to ``stop`` of a blob of ``size`` bytes, in one piece: for a frame."""
    if size <= INLINE_MAX:
        row = await archive.database.read_now(locate.blob, digest)
        if row is not None and row.data is not None:
            return unpack(row)[start:stop]
    return await archive.store.read_range(digest, start, stop)


async def open_range(archive: Archive, digest: bytes, size: int, start: int, stop: int) -> AsyncIterator[bytes]:
    """Bytes ``start`` to ``stop`` of a blob, in bounded pieces."""
    if size <= INLINE_MAX:
        yield await read_range(archive, digest, size, start, stop)
        return
    async for chunk in archive.store.open_range(digest, start, stop):
        yield chunk


def unpack(row: BlobRow) -> bytes:
    """The bytes of a blob that is kept inline.

    Raises
    ------
    Corrupt
        When they cannot be decompressed.
    """
    assert row.data is not None
    if row.encoding == "raw":
        return row.data
    try:
        return zstandard.decompress(row.data, max_output_size=row.size)
    except zstandard.ZstdError as error:
        raise Corrupt(f"blob {row.digest.hex()} cannot be decompressed: {error}") from error
