"""A stored data set as a Part 10 file in Explicit VR Little Endian (PS3.5 A.2), as a plan of pieces.

Only the header is held: bulk values are named by their segment and streamed by the caller, so a plan is as large as the
header whatever the size of the instance, and the length of the file is known before its first byte is sent. Sequences
and items get undefined lengths (PS3.5 7.5.2), so nothing has to be measured twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dicomhub.dicom.elements import UNDEFINED, explicit_head, fitting_vr
from dicomhub.dicom.file_meta import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    make_file_meta,
    prologue_of,
    with_transfer_syntax,
)
from dicomhub.dicom.recipe import Segment
from dicomhub.dicom.structure import Container
from dicomhub.dicom.transcode import PixelDescription, swap, swap_width
from dicomhub.dicom.walk import BEGIN_ITEM, BULK, END, SEQUENCE, VALUE, Event, skip, walk

PIXEL_DATA = "7FE00010"
_OFFSET_TABLES = ("7FE00001", "7FE00002")
_ICON_IMAGE_SEQUENCE = "00880200"
_TRAILING_PADDING = "FFFCFFFC"
SWAPPED_TOGETHER = (
    dict.fromkeys(("US", "SS", "OW", "AT"), 2)
    | dict.fromkeys(("UL", "SL", "FL", "OF", "OL"), 4)
    | dict.fromkeys(("FD", "OD", "SV", "UV", "OV"), 8)
)
"""Bytes that are swapped as one unit, by VR (PS3.5 7.3)."""

_ITEM = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
_ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


@dataclass(frozen=True, slots=True)
class BulkValue:
    """A segment that goes out unchanged, but for its byte order."""

    segment: int
    """Index among the segments."""
    size: int
    """Bytes."""
    swap: int
    """Bytes of one unit to be swapped; 1: none."""


@dataclass(frozen=True, slots=True)
class DecodedPixels:
    """All frames, decoded, one after the other; a single zero byte after an odd number of bytes."""

    size: int
    """Bytes with padding."""


Piece = bytes | BulkValue | DecodedPixels


@dataclass(frozen=True, slots=True)
class Plan:
    """The file in order."""

    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return sum(len(piece) if isinstance(piece, bytes) else piece.size for piece in self.pieces)


def plan_explicit_little_endian(
    header: bytes,
    segments: Sequence[Segment],
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    pixels: PixelDescription | None,
    decoded_frames: int = 0,
) -> Plan:
    """Plan the file.

    Parameters
    ----------
    header, segments
        Of the parsed form of the instance (a deflated one inflated).
    sop_class_uid, sop_instance_uid
        For the file meta information of a data set that came without.
    pixels
        Description of the pixel data as it will be sent; None for an instance without.
    decoded_frames
        Frames that replace encapsulated pixel data; 0: the pixel data is native and stays. The Extended Offset Table
        and an Icon Image Sequence (its pixels may be encapsulated too) go with the encapsulation.

    Raises
    ------
    NotDicom
        When the header is no data set.
    """
    prologue = prologue_of(header)
    if prologue.dataset_offset:
        meta = with_transfer_syntax(header[: prologue.dataset_offset], EXPLICIT_VR_LITTLE_ENDIAN)
    else:
        meta = make_file_meta(sop_class_uid, sop_instance_uid, EXPLICIT_VR_LITTLE_ENDIAN)
    writer = _Writer(header, segments, pixels, decoded_frames, prologue.little)
    return Plan((meta, *writer.pieces(walk(header, Container.of_data_set(prologue), segments))))


class _Writer:
    """Turns the events of a header into pieces; bytes between bulk values are one piece."""

    def __init__(
        self,
        header: bytes,
        segments: Sequence[Segment],
        pixels: PixelDescription | None,
        decoded_frames: int,
        little: bool,
    ) -> None:
        self._header = header
        self._segments = segments
        self._pixels = pixels
        self._decoded_frames = decoded_frames
        self._little = [little]
        self._ends: list[bytes] = []
        self._out = bytearray()
        self._changes = _changed_attributes(pixels) if pixels and decoded_frames else {}

    def pieces(self, events: Iterator[Event]) -> Iterator[Piece]:
        for kind, tag, vr, start, stop in events:
            if not self._ends:
                self._insert_changes(tag)
            if kind == VALUE:
                self._value(tag, vr, start, stop)
            elif kind == SEQUENCE:
                self._open_sequence(tag, events)
            elif kind == BEGIN_ITEM:
                self._open(_ITEM, _ITEM_END, little=bool(stop))
            elif kind == END:
                self._out += self._ends.pop()
                self._little.pop()
            elif kind == BULK and (piece := self._bulk(tag, vr, start, is_undefined=bool(stop))):
                yield bytes(self._out)
                yield piece
                self._out.clear()
        self._insert_changes("")
        yield bytes(self._out)

    def _open(self, begin: bytes, end: bytes, *, little: bool) -> None:
        self._out += begin
        self._ends.append(end)
        self._little.append(little)

    def _open_sequence(self, tag: str, events: Iterator[Event]) -> None:
        if tag == _ICON_IMAGE_SEQUENCE and self._decoded_frames:
            skip(events)
            return
        self._open(_element_head(tag, "SQ", UNDEFINED), _SEQUENCE_END, little=self._little[-1])

    def _value(self, tag: str, vr: str, start: int, stop: int) -> None:
        is_top = not self._ends
        if tag.endswith("0000") or tag == _TRAILING_PADDING or (is_top and self._is_dropped(tag)):
            return
        value = self._header[start:stop]
        vr = self._resolve(tag, vr, len(value))
        if vr in ("OB", "OW") and self._header[start - 4 : start] == b"\xff\xff\xff\xff":
            self._out += _element_head(tag, "OB", UNDEFINED) + value + _SEQUENCE_END
            return
        if not self._little[-1]:
            value = swap(value, SWAPPED_TOGETHER.get(vr, 1))
        vr = fitting_vr(vr, len(value))
        self._out += _element_head(tag, vr, len(value)) + value

    def _is_dropped(self, tag: str) -> bool:
        return bool(self._decoded_frames) and (tag in _OFFSET_TABLES or tag in _CHANGING)

    def _bulk(self, tag: str, vr: str, index: int, *, is_undefined: bool) -> BulkValue | DecodedPixels | None:
        is_pixel_data = tag == PIXEL_DATA and not self._ends
        if is_pixel_data and self._decoded_frames and self._pixels:
            size = (self._pixels.frame_bits * self._decoded_frames + 7) // 8
            size += size % 2
            self._out += _element_head(tag, "OW" if self._pixels.bits_allocated > 8 else "OB", size)
            return DecodedPixels(size)
        if not self._ends and self._is_dropped(tag):
            return None
        size = self._segments[index].size
        vr = self._resolve(tag, vr, size)
        width = 1 if self._little[-1] else SWAPPED_TOGETHER.get(vr, 1)
        if is_pixel_data and width > 1 and self._pixels:
            width = swap_width(self._pixels)
        vr = fitting_vr(vr, size)
        self._out += _element_head(tag, vr, UNDEFINED if is_undefined else size)
        return BulkValue(index, size, width)

    def _resolve(self, tag: str, vr: str, size: int) -> str:
        """The VR to write for the dictionary's ambiguous ones (PS3.5 A.1, PS3.6)."""
        if " or " not in vr:
            return vr or "UN"
        if vr == "US or SS":
            return "SS" if self._pixels and self._pixels.is_signed else "US"
        return "US" if vr.startswith("US") and size == 2 else "OW"

    def _insert_changes(self, before: str) -> None:
        """Write the changed attributes whose turn has come; all that are left when ``before`` is empty."""
        for tag in [t for t in self._changes if not before or t < before]:
            vr, value = self._changes.pop(tag)
            self._out += _element_head(tag, vr, len(value)) + value


_CHANGING = ("00280004", "00280006")
"""Photometric Interpretation and Planar Configuration: decoding may change them."""


def _changed_attributes(pixels: PixelDescription) -> dict[str, tuple[str, bytes]]:
    photometric = pixels.photometric_interpretation.encode("ascii", "replace")
    changed = {"00280004": ("CS", photometric + b" " * (len(photometric) % 2))}
    if pixels.samples_per_pixel > 1:
        changed["00280006"] = ("US", pixels.planar_configuration.to_bytes(2, "little"))
    return changed


def _element_head(tag: str, vr: str, length: int) -> bytes:
    return explicit_head(int(tag, 16), vr.encode(), length)


class Swapper:
    """`swap` over chunks of any size."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """The units that are complete."""
        data = self._rest + chunk if self._rest else chunk
        whole = len(data) - len(data) % self._width
        self._rest = data[whole:]
        return swap(data[:whole], self._width)

    def finish(self) -> bytes:
        """What was left of an incomplete unit."""
        return self._rest


class BitJoiner:
    """Joins frames of 1-bit pixels, each in bytes of its own, without padding between them (PS3.5 8.1.1)."""

    def __init__(self, frame_bits: int) -> None:
        self._frame_bits = frame_bits
        self._rest = np.zeros(0, np.uint8)

    def feed(self, frame: bytes) -> bytes:
        """The bytes that are complete."""
        bits = np.unpackbits(np.frombuffer(frame, np.uint8), count=self._frame_bits, bitorder="little")
        bits = np.concatenate([self._rest, bits])
        whole = len(bits) - len(bits) % 8
        self._rest = bits[whole:]
        return np.packbits(bits[:whole], bitorder="little").tobytes()

    def finish(self) -> bytes:
        """The last byte, padded with zeros, if there is one."""
        return np.packbits(self._rest, bitorder="little").tobytes()
