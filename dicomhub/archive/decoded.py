"""Pixels in another form than the stored one: native frames, whole instances in Explicit VR LE, rendered images.

Codecs and numpy run in threads, one frame at a time, so memory is that of a few frames whatever the instance's size.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dicomhub.archive import Archive, retrieve
from dicomhub.archive.parts import open_range
from dicomhub.archive.retrieve import BulkData, StoredInstance
from dicomhub.dicom.grayscale import table_paths
from dicomhub.dicom.media_types import EXPLICIT_VR_BIG_ENDIAN
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
from dicomhub.dicom.transcode import PixelDescription, decode_frame, decoded_description, describe, swap_width
from dicomhub.errors import NotFound

Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Explicit:
    """An instance as a Part 10 file in Explicit VR Little Endian."""

    size: int
    """Bytes of the file."""
    chunks: AsyncIterator[bytes]


async def frame(archive: Archive, stored: StoredInstance, description: PixelDescription, frame_number: int) -> bytes:
    """One frame as native little endian pixel data.

    Parameters
    ----------
    description
        Of the instance as stored.

    Raises
    ------
    NotFound
        When there is no such frame.
    NotAcceptable
        When it cannot be decoded.
    """
    encoded = await retrieve.frame(archive, stored, frame_number)
    if not stored.is_encapsulated and stored.view_transfer_syntax_uid != EXPLICIT_VR_BIG_ENDIAN:
        return encoded
    return await asyncio.to_thread(decode_frame, encoded, description, stored.view_transfer_syntax_uid)


async def frames(archive: Archive, stored: StoredInstance, numbers: Sequence[int]) -> AsyncIterator[bytes]:
    """Frames in the order asked for, each as `frame` gives it."""
    description = describe(await retrieve.attributes(archive, stored))
    for number in numbers:
        yield await frame(archive, stored, description, number)


async def explicit_little_endian(archive: Archive, stored: StoredInstance) -> Explicit:
    """The instance in Explicit VR Little Endian (PS3.18 8.7.3.3), its pixel data decoded.

    Raises
    ------
    NotAcceptable
        When its attributes do not describe pixels, or, while it is read, a frame cannot be decoded.
    """
    header, segments = await retrieve.header(archive, stored)
    described = describe(await retrieve.attributes(archive, stored)) if stored.number_of_frames else None
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
        yield chunk if width == 1 else swapper.feed(chunk)
    if rest := swapper.finish():
        yield rest


async def _pixel_data(
    archive: Archive, stored: StoredInstance, described: PixelDescription, piece: DecodedPixels
) -> AsyncIterator[bytes]:
    """All frames, decoded, with the padding byte."""
    joiner = BitJoiner(described.frame_bits) if described.frame_bits % 8 else None
    sent = 0
    for number in range(1, stored.number_of_frames + 1):
        native = await frame(archive, stored, described, number)
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
    encoded = await retrieve.frame(archive, stored, number)
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
