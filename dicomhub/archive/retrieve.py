"""The one way out: instances, their metadata, frames and bulk data, for WADO-RS, C-MOVE, C-GET and plugins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import zstandard

from dicomhub.archive import Archive
from dicomhub.archive.parts import open_range, read_blob, read_range, recipe_of
from dicomhub.dicom.file_meta import EXPLICIT_VR_LITTLE_ENDIAN
from dicomhub.dicom.frames import FrameTable
from dicomhub.dicom.json_model import find_value, header_to_json, iter_json
from dicomhub.dicom.matching import Match, matches
from dicomhub.dicom.media_types import NATIVE
from dicomhub.dicom.model import InstanceRef, Target
from dicomhub.dicom.part10 import Recipe, Segment, clip, layout
from dicomhub.errors import NotFound
from dicomhub.events import Actor
from dicomhub.hooks import Access
from dicomhub.index import locate
from dicomhub.index.records import Located

PAGE = 200
"""Instances that one look into the index brings."""
PIECE = 256 * 1024
"""Bytes of metadata that are made at once."""

BULKDATA_PLACEHOLDER = b'"BulkDataURI":"@bulk'
"""How stored metadata begins a BulkDataURI. In a JSON string the quotes are escaped, so no value can forge it."""


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One version of an instance, ready to be read."""

    located: Located

    @property
    def ref(self) -> InstanceRef:
        """The three UIDs."""
        return self.located.ref

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID (0008,0016)."""
        return self.located.sop_class_uid

    @property
    def transfer_syntax_uid(self) -> str:
        """Transfer syntax the instance was received in."""
        return self.located.transfer_syntax_uid

    @property
    def size(self) -> int:
        """Bytes of the Part 10 file."""
        return self.located.size

    @property
    def digest(self) -> str:
        """Hexadecimal recipe digest: names this version for ever, so it serves as ETag."""
        return self.located.recipe_digest.hex()

    @property
    def number_of_frames(self) -> int:
        """Frames of pixel data; 0 without."""
        return self.located.number_of_frames

    @property
    def stored_at(self) -> float:
        """Seconds since the epoch."""
        return self.located.stored_at

    @property
    def view(self) -> Recipe:
        """Recipe of the parsed form: the received bytes, or the inflated ones of a deflated file."""
        return recipe_of(self.located.view_recipe or self.located.recipe)

    @property
    def view_transfer_syntax_uid(self) -> str:
        """Transfer syntax of the parsed form: explicit VR little endian where the file is deflated."""
        return EXPLICIT_VR_LITTLE_ENDIAN if self.located.view_recipe else self.located.transfer_syntax_uid

    @property
    def is_encapsulated(self) -> bool:
        """Whether pixel data is compressed (PS3.5 A.4)."""
        return self.number_of_frames > 0 and self.view_transfer_syntax_uid not in NATIVE


async def instance(archive: Archive, ref: InstanceRef, actor: Actor, snapshot: int | None = None) -> StoredInstance:
    """One instance at the head, or as of change ``snapshot``.

    Raises
    ------
    NotFound
        When there is none that the actor may see.
    """
    conditions = await archive.hooks.restrict(actor, Access.RETRIEVE)
    located = await archive.database.read_now(locate.instance, ref, snapshot)
    if located is None or (conditions and not await _visible(archive, located, conditions)):
        raise NotFound(f"there is no instance {ref.instance} in series {ref.series} of study {ref.study}")
    return StoredInstance(located)


async def instances(
    archive: Archive, target: Target, actor: Actor, snapshot: int | None = None
) -> AsyncIterator[StoredInstance]:
    """All instances of a study, series or instance, series by series, in pages from the index.

    Raises
    ------
    NotFound
        Before the first one, when there is none that the actor may see.
    """
    conditions = await archive.hooks.restrict(actor, Access.RETRIEVE)
    after, found = None, False
    while True:
        page = await archive.database.read(locate.instances, target, snapshot, after, PAGE)
        for located in page:
            if not conditions or await _visible(archive, located, conditions):
                found = True
                yield StoredInstance(located)
        if len(page) < PAGE:
            break
        after = page[-1].cursor
    if not found:
        raise _nothing(target)


async def _visible(archive: Archive, located: Located, conditions: Sequence[Match]) -> bool:
    return matches(conditions, await attributes(archive, StoredInstance(located)))


async def open_instance(
    archive: Archive, stored: StoredInstance, start: int = 0, stop: int | None = None
) -> AsyncIterator[bytes]:
    """The received Part 10 bytes, bit for bit, or a range of them, in bounded pieces."""
    recipe = recipe_of(stored.located.recipe)
    stop = stored.size if stop is None else min(stop, stored.size)
    header = await read_blob(archive, recipe.header_digest, recipe.header_size)
    for piece in clip(layout(recipe.header_size, recipe.segments), start, stop):
        end = piece.start + piece.size
        if piece.segment is None:
            yield header[piece.start : end]
        else:
            segment = recipe.segments[piece.segment]
            async for chunk in open_range(archive, segment.digest, segment.size, piece.start, end):
                yield chunk


async def header(archive: Archive, stored: StoredInstance) -> tuple[bytes, tuple[Segment, ...]]:
    """Header bytes and segments of the parsed form (inflated where the file is deflated)."""
    recipe = stored.view
    return await read_blob(archive, recipe.header_digest, recipe.header_size), recipe.segments


async def metadata_json(archive: Archive, stored: StoredInstance) -> bytes:
    """DICOM JSON of the instance (PS3.18 F) with `BULKDATA_PLACEHOLDER` in front of each bulk path."""
    packed = await archive.database.read(locate.metadata_of, stored.located.version_id)
    if packed is not None:
        return zstandard.decompress(packed)
    head, segments = await header(archive, stored)
    return header_to_json(head, segments, stored.view_transfer_syntax_uid)


async def attributes(archive: Archive, stored: StoredInstance) -> dict[str, Any]:
    """DICOM JSON of the instance as a dictionary."""
    result: dict[str, Any] = orjson.loads(await metadata_json(archive, stored))
    return result


async def metadata(
    archive: Archive,
    target: Target,
    actor: Actor,
    snapshot: int | None = None,
    *,
    bulkdata_base: Callable[[InstanceRef], bytes],
) -> AsyncIterator[bytes]:
    """One JSON array with the DICOM JSON of every instance of ``target``, in pieces of bounded size.

    Parameters
    ----------
    bulkdata_base
        Gives the URI below which an instance's bulk data is found, such as ``.../instances/{uid}/bulkdata``.

    Raises
    ------
    NotFound
        Before the first piece, when there is none that the actor may see.
    """
    conditions = await archive.hooks.restrict(actor, Access.RETRIEVE)
    after, opening = None, b"["
    while True:
        page = await archive.database.read(locate.metadata, target, snapshot, after, PAGE)
        for row in page:
            base = bulkdata_base(row.ref)
            if row.metadata is not None:
                text = zstandard.decompress(row.metadata)
                if conditions and not matches(conditions, orjson.loads(text)):
                    continue
                yield opening + text.replace(BULKDATA_PLACEHOLDER, b'"BulkDataURI":"' + base)
            else:
                stored = await _version(archive, row.ref, snapshot)
                if conditions and not matches(conditions, await attributes(archive, stored)):
                    continue
                yield opening
                async for piece in _large_metadata(archive, stored, base):
                    yield piece
            opening = b","
        if len(page) < PAGE:
            break
        after = page[-1].cursor
    if opening == b"[":
        raise _nothing(target)
    yield b"]"


async def _large_metadata(archive: Archive, stored: StoredInstance, bulkdata_base: bytes) -> AsyncIterator[bytes]:
    """Metadata that is too large to be kept, made from the header piece by piece."""
    head, segments = await header(archive, stored)
    pieces = iter_json(head, segments, stored.view_transfer_syntax_uid, bulkdata_prefix=bulkdata_base)
    while text := await asyncio.to_thread(_gather, pieces):
        yield text


def _gather(pieces: Iterator[bytes]) -> bytes:
    gathered, size = [], 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= PIECE:
            break
    return b"".join(gathered)


def _nothing(target: Target) -> NotFound:
    return NotFound(f"there is no {target.level.lower()} {target.instance or target.series or target.study}")


async def _version(archive: Archive, ref: InstanceRef, snapshot: int | None) -> StoredInstance:
    located = await archive.database.read(locate.instance, ref, snapshot)
    if located is None:
        raise NotFound(f"instance {ref.instance} was deleted meanwhile")
    return StoredInstance(located)


async def frame_table(archive: Archive, stored: StoredInstance) -> FrameTable:
    """Where the frames are in the pixel data segment.

    Raises
    ------
    NotFound
        When the instance has no pixel data.
    """
    digest = stored.located.frame_table_digest
    if digest is None or stored.located.pixel_segment is None:
        raise NotFound(f"instance {stored.ref.instance} has no pixel data, so it has no frames")
    table = archive.frame_tables.get(digest)
    if table is None:
        encoded = await read_blob(archive, digest)
        table = FrameTable.decode(encoded)
        archive.frame_tables.put(digest, table, 2 * len(encoded) + 1024)
    return table


async def frame(archive: Archive, stored: StoredInstance, frame_number: int) -> bytes:
    """One frame as stored: native bytes, or the codestream with its fragments joined. ``frame_number`` counts from 1.

    Raises
    ------
    NotFound
        When there is no such frame.
    """
    table = await frame_table(archive, stored)
    segment = _pixel_segment(stored)
    ranges = table.fragments(frame_number)
    pieces = [await read_range(archive, segment.digest, segment.size, start, stop) for start, stop in ranges]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def frames(archive: Archive, stored: StoredInstance, numbers: Sequence[int]) -> AsyncIterator[bytes]:
    """Frames in the order asked for, each as `frame` gives it."""
    for number in numbers:
        yield await frame(archive, stored, number)


def _pixel_segment(stored: StoredInstance) -> Segment:
    index = stored.located.pixel_segment
    assert index is not None
    return stored.view.segments[index]


@dataclass(frozen=True, slots=True)
class BulkData:
    """One value, ready to be streamed."""

    vr: str
    is_little_endian: bool
    """Byte order of the value as stored; on the wire words are little endian (PS3.18 8.7.3.5.2)."""
    size: int
    """Bytes of the value as stored."""
    digest: str
    """Hexadecimal name of the bytes, for an ETag."""
    open_range: Callable[[int, int], AsyncIterator[bytes]]
    """Bytes ``start`` to ``stop`` of the value, in bounded pieces."""


async def bulkdata(archive: Archive, stored: StoredInstance, path: str) -> BulkData:
    """The value that a BulkDataURI names, such as ``7FE00010`` or ``60031010/1/60031011`` (1-based items).

    Raises
    ------
    NotFound
        When the instance has no such value.
    """
    head, segments = await header(archive, stored)
    place = find_value(head, segments, stored.view_transfer_syntax_uid, path)
    if place.segment is None:
        value = head[place.start : place.stop]

        async def inline(start: int, stop: int) -> AsyncIterator[bytes]:
            yield value[start:stop]

        return BulkData(place.vr, place.is_little_endian, len(value), f"{stored.digest}-{path}", inline)
    segment = segments[place.segment]

    def ranged(start: int, stop: int) -> AsyncIterator[bytes]:
        return open_range(archive, segment.digest, segment.size, start, stop)

    return BulkData(place.vr, place.is_little_endian, segment.size, segment.digest.hex(), ranged)
