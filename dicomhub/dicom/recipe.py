"""A stored file as header plus bulk segments, and the way back to its bytes.

``header`` is the file minus its segments; a segment belongs at ``header_offset`` *of the header*. A recipe is the fixed
binary form of that: its SHA-256 names the version of an instance.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dicomhub.errors import Corrupt

_MAGIC = b"DHR1"
_HEAD = struct.Struct(">4sI32sQ")
_SEGMENT = struct.Struct(">QQ32s")


@dataclass(frozen=True, slots=True)
class Segment:
    """Value bytes that were cut out of a file."""

    header_offset: int
    """Where in the header the bytes belong, in bytes."""
    size: int
    """Bytes."""
    digest: bytes
    """SHA-256, 32 bytes."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a file is made of."""

    header_digest: bytes
    header_size: int
    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.header_size + sum(segment.size for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of consecutive bytes of a file that lies in one part."""

    file_offset: int
    size: int
    segment: int | None
    """Index of the segment, None for the header."""
    start: int
    """Offset of the run within its part."""


def layout(header_size: int, segments: Sequence[Segment]) -> list[Piece]:
    """The file as consecutive pieces of its parts; empty pieces are left out."""
    pieces: list[Piece] = []
    at = done = 0
    for index, segment in enumerate(segments):
        if segment.header_offset > done:
            pieces.append(Piece(at, segment.header_offset - done, None, done))
            at += segment.header_offset - done
            done = segment.header_offset
        if segment.size:
            pieces.append(Piece(at, segment.size, index, 0))
            at += segment.size
    if header_size > done:
        pieces.append(Piece(at, header_size - done, None, done))
    return pieces


def clip(pieces: Iterable[Piece], start: int, stop: int) -> Iterator[Piece]:
    """The parts of ``pieces`` that cover bytes ``start`` to ``stop`` (exclusive) of the file; for ranged reads."""
    for piece in pieces:
        first = max(start, piece.file_offset)
        last = min(stop, piece.file_offset + piece.size)
        if first < last:
            yield Piece(first, last - first, piece.segment, piece.start + first - piece.file_offset)


def join(
    header: bytes, segments: Sequence[Segment], read_segment: Callable[[Segment], Iterable[bytes]]
) -> Iterator[bytes]:
    """The exact bytes of the file that was split.

    Parameters
    ----------
    read_segment
        Gives the bytes of a segment, in any number of chunks.
    """
    for piece in layout(len(header), segments):
        if piece.segment is None:
            yield header[piece.start : piece.start + piece.size]
        else:
            yield from read_segment(segments[piece.segment])


def encode_recipe(header_digest: bytes, header_size: int, segments: Sequence[Segment]) -> bytes:
    """Binary form, big endian.

    Magic ``DHR1``, u32 count of segments, SHA-256 of the header, u64 size of the header; then per segment u64 header
    offset, u64 size and SHA-256.
    """
    head = _HEAD.pack(_MAGIC, len(segments), header_digest, header_size)
    return head + b"".join(_SEGMENT.pack(s.header_offset, s.size, s.digest) for s in segments)


def decode_recipe(data: bytes) -> Recipe:
    """Inverse of `encode_recipe`.

    Raises
    ------
    Corrupt
        When ``data`` is no recipe.
    """
    if len(data) < _HEAD.size or data[:4] != _MAGIC:
        raise Corrupt("recipe does not begin with DHR1")
    _, count, digest, size = _HEAD.unpack_from(data)
    if len(data) != _HEAD.size + count * _SEGMENT.size:
        raise Corrupt(f"recipe of {count} segments has {len(data)} bytes")
    segments = tuple(Segment(*fields) for fields in _SEGMENT.iter_unpack(data[_HEAD.size :]))
    offsets = [segment.header_offset for segment in segments]
    if offsets != sorted(offsets) or (offsets and offsets[-1] > size):
        raise Corrupt("recipe has segments out of order or beyond its header")
    return Recipe(digest, size, segments)
