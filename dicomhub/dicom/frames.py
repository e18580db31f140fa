"""Where each frame is in a pixel data segment (PS3.5 8.1.1, A.4; PS3.3 C.7.6.3.1.8)."""

from __future__ import annotations

import re
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from dicomhub.dicom.fragments import BEGINS, ENDS, FragmentScanner
from dicomhub.dicom.part10 import PixelData, Split
from dicomhub.errors import Corrupt, NotFound

_MAGIC: Final = b"DHF1"
_HEAD: Final = struct.Struct("<4sIQQII")
_VIDEO: Final = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10[0-8](\.1)?")
FLOAT_BITS: Final = {"7FE00008": 32, "7FE00009": 64}
"""Bits of a sample of Float and Double Float Pixel Data, by tag."""


def _offsets() -> array[int]:
    return array("Q")


def _counts() -> array[int]:
    return array("I")


@dataclass(frozen=True, slots=True)
class FrameTable:
    """The frames of one instance. 12 bytes each when encapsulated (16 in several fragments), none when native.

    Ranges are in bytes of the pixel data segment, the last one exclusive.
    """

    count: int
    """Number of frames that can be read."""
    frame_bits: int = 0
    """Bits of one native frame; frames of 1-bit pixels need not begin on a byte. 0: encapsulated."""
    segment_size: int = 0
    """Bytes of the segment, where that bounds the last native frame."""
    starts: array[int] = field(default_factory=_offsets)
    """First byte of each fragment, after its item header."""
    sizes: array[int] = field(default_factory=_counts)
    """Bytes of each fragment."""
    first_fragments: array[int] = field(default_factory=_counts)
    """Index of the first fragment of each frame, then the number of fragments; empty when each frame has one."""

    @property
    def is_encapsulated(self) -> bool:
        """Whether frames are codestreams in fragments."""
        return self.frame_bits == 0

    def fragments(self, frame_number: int) -> tuple[tuple[int, int], ...]:
        """Byte ranges that make up a frame, in order; ``frame_number`` counts from 1.

        A native frame is one range of the bytes that hold it: see `bit_range` for where it begins in the first.

        Raises
        ------
        NotFound
            When there is no such frame.
        """
        if self.frame_bits:
            start, stop = self.bit_range(frame_number)
            return ((start // 8, min((stop + 7) // 8, self.segment_size)),)
        frame_index = self._index(frame_number)
        if not self.first_fragments:
            return (self._range(frame_index),)
        first, last = self.first_fragments[frame_index], self.first_fragments[frame_index + 1]
        return tuple(self._range(index) for index in range(first, last) if self.sizes[index])

    def bit_range(self, frame_number: int) -> tuple[int, int]:
        """First and last bit (exclusive) of a native frame; bit 0 is the lowest of the first byte (PS3.5 8.1.1).

        Raises
        ------
        NotFound
            When there is no such native frame.
        """
        frame_index = self._index(frame_number)
        if not self.frame_bits:
            raise NotFound("encapsulated frames have no bit ranges")
        return frame_index * self.frame_bits, (frame_index + 1) * self.frame_bits

    def encode(self) -> bytes:
        """Binary form, little endian: magic ``DHF1``, counts, then the arrays."""
        head = _HEAD.pack(
            _MAGIC, self.count, self.frame_bits, self.segment_size, len(self.starts), len(self.first_fragments)
        )
        return head + b"".join(_little(values) for values in (self.starts, self.sizes, self.first_fragments))

    @classmethod
    def decode(cls, data: bytes) -> FrameTable:
        """Inverse of `encode`.

        Raises
        ------
        Corrupt
            When ``data`` is no frame table.
        """
        if len(data) < _HEAD.size or data[:4] != _MAGIC:
            raise Corrupt("frame table does not begin with DHF1")
        _, count, frame_bits, segment_size, fragments, firsts = _HEAD.unpack_from(data)
        if len(data) != _HEAD.size + 12 * fragments + 4 * firsts or (firsts or fragments) < count * (not frame_bits):
            raise Corrupt(f"frame table of {count} frames and {fragments} fragments has {len(data)} bytes")
        at, arrays = _HEAD.size, []
        for code, length in (("Q", fragments), ("I", fragments), ("I", firsts)):
            values = array(code)
            values.frombytes(data[at : at + length * values.itemsize])
            if sys.byteorder == "big":
                values.byteswap()
            at += length * values.itemsize
            arrays.append(values)
        return cls(count, frame_bits, segment_size, *arrays)

    def _index(self, frame_number: int) -> int:
        if not 1 <= frame_number <= self.count:
            raise NotFound(f"there is no frame {frame_number}; the instance has {self.count}, counted from 1")
        return frame_number - 1

    def _range(self, fragment_index: int) -> tuple[int, int]:
        start = self.starts[fragment_index]
        return start, start + self.sizes[fragment_index]


def _little(values: array[int]) -> bytes:
    if sys.byteorder == "big":
        values = array(values.typecode, values)
        values.byteswap()
    return values.tobytes()


def frame_table(split: Split, attributes: Mapping[str, Any]) -> FrameTable | None:
    """The frames of a split instance (of its ``view``, if deflated).

    Parameters
    ----------
    attributes
        Its DICOM JSON Model object: Rows, Columns, Number of Frames and so on are read.

    Returns
    -------
    FrameTable or None
        None without pixel data, and where nothing says which bytes are a frame.
    """
    pixel_data = split.pixel_data
    if pixel_data is None:
        return None
    number_of_frames = max(1, _number(attributes, "00280008", 1))
    if pixel_data.fragments is None:
        return _native(pixel_data, split.segments[pixel_data.segment].size, attributes, number_of_frames)
    if _is_video(split.transfer_syntax_uid):
        number_of_frames = 1
    return _encapsulated(pixel_data, pixel_data.fragments, number_of_frames, _is_video(split.transfer_syntax_uid))


def _number(attributes: Mapping[str, Any], tag: str, default: int = 0) -> int:
    values = attributes.get(tag, {}).get("Value")
    return values[0] if values and isinstance(values[0], int) else default


def _is_video(transfer_syntax_uid: str) -> bool:
    """MPEG-2, MPEG-4 and HEVC (PS3.5 8.2.5 to 8.2.13): the frames are one stream, which is given as one frame."""
    return _VIDEO.fullmatch(transfer_syntax_uid) is not None


def _native(
    pixel_data: PixelData, segment_size: int, attributes: Mapping[str, Any], number_of_frames: int
) -> FrameTable | None:
    bits = _frame_bits(pixel_data.tag, attributes)
    if bits <= 0:
        return None
    complete = segment_size * 8 // bits
    if complete == 0 and number_of_frames == 1:
        complete = 1  # cut short by its writer; what there is of it
    count = min(number_of_frames, complete)
    return FrameTable(count, bits, segment_size) if count else None


def _frame_bits(tag: str, attributes: Mapping[str, Any]) -> int:
    """Bits of a native frame (PS3.3 C.7.6.3); 0 when the attributes do not say."""
    rows, columns = _number(attributes, "00280010"), _number(attributes, "00280011")
    photometric = (attributes.get("00280004", {}).get("Value") or [""])[0]
    bits = FLOAT_BITS.get(tag) or _number(attributes, "00280100")
    return samples_of_frame(rows, columns, _number(attributes, "00280002", 1), photometric) * bits


def samples_of_frame(rows: int, columns: int, samples_per_pixel: int, photometric_interpretation: str) -> int:
    """Sample values stored for one native frame; in 4:2:2 formats two pixels share their chrominance samples."""
    if photometric_interpretation in ("YBR_FULL_422", "YBR_PARTIAL_422") and samples_per_pixel == 3:
        samples_per_pixel = 2
    return rows * columns * samples_per_pixel


def _encapsulated(
    pixel_data: PixelData, scanned: FragmentScanner, number_of_frames: int, is_stream: bool
) -> FrameTable | None:
    if not scanned.starts:
        return None
    if not is_stream and (table := _by_extended_offsets(pixel_data, scanned)):
        return table
    firsts = [0] if is_stream else _first_fragments(scanned, number_of_frames)
    if not firsts:
        return None
    starts, sizes = scanned.starts, scanned.sizes
    if len(firsts) == len(starts):
        return FrameTable(len(starts), starts=starts, sizes=sizes)
    first_fragments = array("I", [*firsts, len(starts)])
    return FrameTable(len(firsts), starts=starts, sizes=sizes, first_fragments=first_fragments)


def _by_extended_offsets(pixel_data: PixelData, scanned: FragmentScanner) -> FrameTable | None:
    """Extended Offset Table: each frame is one fragment, of which its padding is known (PS3.3 C.7.6.3.1.8)."""
    offsets = _unpack("Q", pixel_data.extended_offset_table)
    lengths = _unpack("Q", pixel_data.extended_lengths)
    firsts = _at_offsets(scanned, offsets)
    if not firsts or len(firsts) != len(scanned.starts):
        return None
    sizes = scanned.sizes
    if len(lengths) == len(sizes):
        sizes = array("I", map(min, sizes, lengths))
    return FrameTable(len(firsts), starts=scanned.starts, sizes=sizes)


def _unpack(code: str, data: bytes | bytearray) -> tuple[int, ...]:
    count = len(data) // struct.calcsize("<" + code)
    return struct.unpack_from(f"<{count}{code}", data)


def _at_offsets(scanned: FragmentScanner, offsets: tuple[int, ...]) -> list[int]:
    """Indices of the fragments whose items are at these offsets; empty when one of them is not, or they do not rise."""
    if not offsets or offsets[0] != 0:
        return []
    base = scanned.starts[0]
    firsts = [bisect_left(scanned.starts, base + offset) for offset in offsets]
    rises = all(before < after for before, after in pairwise(firsts))
    if not rises or firsts[-1] >= len(scanned.starts):
        return []
    are_exact = all(scanned.starts[first] == base + offset for first, offset in zip(firsts, offsets, strict=True))
    return firsts if are_exact else []


def _first_fragments(scanned: FragmentScanner, number_of_frames: int) -> list[int]:
    """Index of the first fragment of each frame; empty when nothing tells."""
    if number_of_frames == 1:  # whatever a table says: some writers list the fragments of a single frame
        return [0]
    by_table = _at_offsets(scanned, _unpack("I", scanned.offset_table))
    every = list(range(len(scanned.starts)))
    if by_table:
        return every if len(every) == number_of_frames else by_table
    for candidate in _guesses(scanned):
        if len(candidate) == number_of_frames:
            return candidate
    if scanned.marks[0] & BEGINS:
        return [index for index in every if index == 0 or scanned.marks[index] & BEGINS]
    return every if len(every) < number_of_frames else []


def _guesses(scanned: FragmentScanner) -> Iterator[list[int]]:
    """First fragments of frames without an offset table: believed if they are as many as there are frames."""
    marks, sizes = scanned.marks, scanned.sizes
    every = range(len(marks))
    yield list(every)
    yield [index for index in every if sizes[index]]
    yield [index for index in every if index == 0 or (marks[index] & BEGINS and marks[index - 1] & ENDS)]
    yield [index for index in every if index == 0 or marks[index] & BEGINS]
    yield [index for index in every if index == 0 or marks[index - 1] & ENDS]
