"""Pixels in another form than the stored one: native frames, whole instances in Explicit VR LE, rendered images.

Codecs and numpy run in threads, one frame at a time, so memory is that of a few frames whatever the instance's size.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from dicomhub.archive import Archive, retrieve
from dicomhub.archive.parts import open_range
from dicomhub.archive.retrieve import BulkData, StoredInstance
from dicomhub.dicom.file_meta import EXPLICIT_VR_BIG_ENDIAN
from dicomhub.dicom.grayscale import table_paths
from dicomhub.dicom.levels import Attributes
from dicomhub.dicom.part10 import Segment
from dicomhub.dicom.reencode import (
    PIXEL_DATA,
    SWAPPED_TOGETHER,
    BitJoiner,
    BulkValue,
    DecodedPixels,
    Plan,
    Swapper,
    plan_explicit_little_endian,
)
from dicomhub.dicom.render import Presentation, render_frame
from dicomhub.dicom.transcode import (
    PixelDescription,
    decode_frame,
    decoded_description,
    describe,
    extract_bits,
    swap_width,
)
from dicomhub.errors import NotAcceptable, NotFound


@dataclass(frozen=True, slots=True)
class Explicit:
    """An instance as a Part 10 file in Explicit VR Little Endian."""

    size: int
    """Bytes of the file."""
    chunks: AsyncIterator[bytes]


async def frames(archive: Archive, stored: StoredInstance, numbers: Sequence[int]) -> AsyncIterator[bytes]:
    """Frames as native little endian pixel data, in the order asked for; each begins at the first bit of a byte.

    Raises
    ------
    NotFound
        When there is no such frame.
    NotAcceptable
        When one cannot be decoded.
    """
    described = describe(await retrieve.attributes(archive, stored)) if _is_foreign(stored) else None
    for number in numbers:
        encoded = await _aligned_frame(archive, stored, number)
        yield await _decode(encoded, described, stored) if described else encoded


def _is_foreign(stored: StoredInstance) -> bool:
    """Whether frames are stored in another form than native little endian."""
    return stored.is_encapsulated or stored.view_transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN


async def _aligned_frame(archive: Archive, stored: StoredInstance, frame_number: int) -> bytes:
    """A frame as stored; of 1-bit pixels, which may begin within a byte (PS3.5 8.1.1), moved to the start of one."""
    data = await retrieve.frame(archive, stored, frame_number)
    if stored.is_encapsulated or stored.number_of_frames == 1:
        return data
    table = await retrieve.frame_table(archive, stored)
    if table.frame_bits % 8 == 0:
        return data
    return extract_bits(data, table.bit_range(frame_number)[0] % 8, table.frame_bits)


async def _decode(encoded: bytes, described: PixelDescription, stored: StoredInstance) -> bytes:
    return await asyncio.to_thread(decode_frame, encoded, described, stored.view_transfer_syntax_uid)


async def explicit_little_endian(archive: Archive, stored: StoredInstance) -> Explicit:
    """The instance in Explicit VR Little Endian (PS3.18 8.7.3.3), its pixel data decoded.

    Raises
    ------
    NotAcceptable
        When its attributes do not describe pixels, or, while it is read, a frame cannot be decoded.
    """
    header, segments = await retrieve.header(archive, stored)
    described = await _described(archive, stored) if stored.number_of_frames else None
    sent = decoded_description(described, stored.view_transfer_syntax_uid) if described else None
    plan = await asyncio.to_thread(
        plan_explicit_little_endian,
        header,
        segments,
        sop_class_uid=stored.sop_class_uid,
        sop_instance_uid=stored.ref.instance,
        pixels=sent,
        decoded_frames=stored.number_of_frames if stored.is_encapsulated else 0,
    )
    return Explicit(plan.size, _follow(archive, stored, segments, plan, described))


async def _described(archive: Archive, stored: StoredInstance) -> PixelDescription:
    attributes = await retrieve.attributes(archive, stored)
    declared = int((attributes.get("00280008", {}).get("Value") or [1])[0] or 1)
    if stored.is_encapsulated and declared != stored.number_of_frames:
        raise NotAcceptable(
            f"instance {stored.ref.instance} declares {declared} frames, {stored.number_of_frames} can be told apart: "
            "ask for transfer-syntax=*"
        )
    return describe(attributes)


async def _follow(
    archive: Archive,
    stored: StoredInstance,
    segments: Sequence[Segment],
    plan: Plan,
    described: PixelDescription | None,
) -> AsyncIterator[bytes]:
    for piece in plan.pieces:
        if isinstance(piece, bytes):
            yield piece
        elif isinstance(piece, BulkValue):
            async for chunk in _segment(archive, segments[piece.segment], piece.swap):
                yield chunk
        else:
            assert described is not None
            async for chunk in _pixel_data(archive, stored, described, piece):
                yield chunk


async def _segment(archive: Archive, segment: Segment, width: int) -> AsyncIterator[bytes]:
    swapper = Swapper(width)
    async for chunk in open_range(archive, segment.digest, segment.size, 0, segment.size):
        yield swapper.feed(chunk)
    if rest := swapper.finish():
        yield rest


async def _pixel_data(
    archive: Archive, stored: StoredInstance, described: PixelDescription, piece: DecodedPixels
) -> AsyncIterator[bytes]:
    """All frames, decoded, with the padding byte."""
    joiner = BitJoiner(described.frame_bits) if described.frame_bits % 8 else None
    sent = 0
    for number in range(1, stored.number_of_frames + 1):
        native = await _decode(await retrieve.frame(archive, stored, number), described, stored)
        if joiner is not None:
            native = joiner.feed(native)
        sent += len(native)
        yield native
    rest = joiner.finish() if joiner is not None else b""
    yield rest + bytes(piece.size - sent - len(rest))


async def render(
    archive: Archive, stored: StoredInstance, presentation: Presentation, frame_number: int | None = None
) -> bytes:
    """One frame as an image (PS3.18 10.4.1.1.3).

    Parameters
    ----------
    frame_number
        From 1; None takes the representative frame.

    Raises
    ------
    NotFound
        When there is no such frame, or the instance has no pixel data.
    NotAcceptable
        When it cannot be rendered.
    BadRequest
        When the viewport lies outside the image.
    """
    if not stored.number_of_frames:
        raise NotFound(f"instance {stored.ref.instance} has no pixel data to be rendered")
    attributes = await retrieve.attributes(archive, stored)
    number = frame_number or _representative_frame(attributes, stored.number_of_frames, presentation.is_thumbnail)
    encoded = await _aligned_frame(archive, stored, number)
    tables = {path: await _table(archive, stored, path) for path in table_paths(attributes)}
    return await asyncio.to_thread(
        _render, encoded, attributes, tables, stored.view_transfer_syntax_uid, presentation, number
    )


def _render(
    encoded: bytes,
    attributes: Attributes,
    tables: dict[str, bytes],
    transfer_syntax_uid: str,
    presentation: Presentation,
    frame_number: int,
) -> bytes:
    described = describe(attributes)
    return render_frame(
        decode_frame(encoded, described, transfer_syntax_uid),
        decoded_description(described, transfer_syntax_uid),
        attributes,
        presentation,
        frame_number=frame_number,
        tables=tables,
    )


def _representative_frame(attributes: Attributes, number_of_frames: int, is_thumbnail: bool) -> int:
    """Representative Frame Number (0028,6010); else the first, or for a thumbnail the middle, which shows more."""
    values = attributes.get("00286010", {}).get("Value") or [0]
    if isinstance(values[0], int) and 0 < values[0] <= number_of_frames:
        return values[0]
    return (number_of_frames + 1) // 2 if is_thumbnail else 1


async def _table(archive: Archive, stored: StoredInstance, path: str) -> bytes:
    value = await bulkdata(archive, stored, path)
    return b"".join([chunk async for chunk in value.open_range(0, value.size)])


async def bulkdata(archive: Archive, stored: StoredInstance, path: str) -> BulkData:
    """The value that a BulkDataURI names, in little endian whatever the stored byte order (PS3.18 8.7.3.3.2).

    Raises
    ------
    NotFound
        When the instance has no such value.
    """
    value = await retrieve.bulkdata(archive, stored, path)
    if stored.view_transfer_syntax_uid != EXPLICIT_VR_BIG_ENDIAN:
        return value
    width = SWAPPED_TOGETHER.get(value.vr, 1)
    if path == PIXEL_DATA:
        width = swap_width(describe(await retrieve.attributes(archive, stored)))
    return replace(value, digest=f"{value.digest}-swapped", open_range=partial(_swapped_range, value, width))


async def _swapped_range(value: BulkData, width: int, start: int, stop: int) -> AsyncIterator[bytes]:
    """Bytes ``start`` to ``stop`` of the swapped value, from the whole units around them."""
    first, last = start - start % width, min(value.size, stop + -stop % width)
    swapper, position = Swapper(width), first
    async for chunk in value.open_range(first, last):
        swapped = swapper.feed(chunk)
        wanted = swapped[max(0, start - position) : max(0, stop - position)]
        position += len(swapped)
        if wanted:
            yield wanted
    if rest := swapper.finish()[: max(0, stop - position)]:
        yield rest
