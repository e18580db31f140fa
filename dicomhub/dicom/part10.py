"""One pass over a Part 10 stream: header and bulk segments (PS3.10 7, PS3.5 7 and A).

A `Splitter` is fed chunks of any size and keeps no more than the header and one chunk. What is cut out:

- the value of every element of 32 KiB or more, at any level, private ones too; a sequence is descended into instead;
- top-level pixel data of any size; encapsulated ones from the Basic Offset Table item to the sequence delimiter;
- a deflated data set as a whole; what it inflates to is split beside it as ``view``.

Joined again, header and segments give the bytes that were fed, whatever they meant.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from dicomhub.dicom.deflate import Inflater
from dicomhub.dicom.elements import LONG_VRS, SHORT_VRS, UNDEFINED
from dicomhub.dicom.file_meta import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    Prologue,
    make_file_meta,
    read_prologue,
    with_transfer_syntax,
)
from dicomhub.dicom.fragments import FragmentScanner
from dicomhub.dicom.recipe import (
    Piece,
    Recipe,
    Segment,
    clip,
    decode_recipe,
    encode_recipe,
    join,
    layout,
)
from dicomhub.dicom.structure import ENDLESS, U32, Container, Structure
from dicomhub.errors import Refused, Truncated

__all__ = [
    "BulkWriter",
    "Piece",
    "PixelData",
    "Recipe",
    "Segment",
    "Split",
    "Splitter",
    "clip",
    "decode_recipe",
    "encode_recipe",
    "join",
    "layout",
    "make_file_meta",
]

BULK_THRESHOLD: Final = 32 * 1024
"""Bytes from which on a value is kept apart from the header."""
MAX_HEADER: Final = 256 * 1024**2
MAX_INFLATED: Final = 4 * 1024**3

_STEP: Final = 64 * 1024
"""Bytes taken at once while in the header: what is cut from it had to be copied."""
_PIXEL_DATA: Final = ("7FE00008", "7FE00009", "7FE00010")
_EXTENDED: Final = ("7FE00001", "7FE00002")
"""Extended Offset Table and its lengths (PS3.3 C.7.6.3.1.8)."""
_HEADS: Final = (struct.Struct(">H2x2sH"), struct.Struct("<H2x2sH"))


class BulkWriter(Protocol):
    """Where the bytes of one segment go; made by the store."""

    def write(self, data: bytes | memoryview) -> None:
        """Append; ``data`` is only valid during the call."""

    def finish(self) -> tuple[bytes, int]:
        """SHA-256 (32 bytes) and size of what was written."""

    def discard(self) -> None:
        """Delete what was written."""


@dataclass(frozen=True, slots=True)
class PixelData:
    """Top-level pixel data, and what the pass has learnt about its frames."""

    segment: int
    """Index in ``Split.segments``."""
    tag: str
    """7FE00010, 7FE00008 (float) or 7FE00009 (double float)."""
    vr: str
    """As written; in Implicit VR the dictionary's "OB or OW"."""
    fragments: FragmentScanner | None
    """None for native pixel data (PS3.5 8.1.1)."""
    extended_offset_table: bytes = b""
    """Value of (7FE0,0001), little endian u64."""
    extended_lengths: bytes = b""
    """Value of (7FE0,0002)."""

    @property
    def is_encapsulated(self) -> bool:
        """Whether it has undefined length and items (PS3.5 A.4)."""
        return self.fragments is not None


@dataclass(frozen=True, slots=True)
class Split:
    """A file in parts."""

    header: bytes
    dataset_offset: int
    """Where the data set begins in ``header``, after the file meta information."""
    segments: tuple[Segment, ...]
    transfer_syntax_uid: str
    size: int
    """Bytes of the whole file."""
    pixel_data: PixelData | None = None
    view: Split | None = None
    """Of a deflated data set: its inflated form as a Part 10 file in Explicit VR Little Endian."""


class Splitter:
    """Push parser for one Part 10 file or bare data set.

    Parameters
    ----------
    new_bulk
        Makes the writer of the next segment.
    bulk_threshold
        Bytes from which on a value becomes a segment.
    max_header
        Bytes of header that are held in memory at most.
    max_inflated
        Bytes that a deflated data set may inflate to.
    """

    def __init__(
        self,
        new_bulk: Callable[[], BulkWriter],
        *,
        bulk_threshold: int = BULK_THRESHOLD,
        max_header: int = MAX_HEADER,
        max_inflated: int = MAX_INFLATED,
    ) -> None:
        self._new_bulk = new_bulk
        self._threshold = bulk_threshold
        self._max_header = max_header
        self._max_inflated = max_inflated
        self._size = 0
        self._take = self._take_header

        self._header = bytearray()
        self._need = 132
        self._fresh = 0
        self._surplus = 0
        self._again = b""
        self._prologue: Prologue | None = None
        self._structure = Structure(self._header, Container(False, False, 0, ENDLESS, False, True))

        self._writers: list[BulkWriter] = []
        self._segments: list[Segment] = []
        self._value_offset = 0
        self._left = 0
        self._is_streaming = False
        self._scanner: FragmentScanner | None = None
        self._tee: bytearray | None = None
        self._extended: dict[str, bytearray] = {}
        self._pixel_data: tuple[int, str, str, FragmentScanner | None] | None = None

        self._inflater: Inflater | None = None
        self._inner: Splitter | None = None

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises
        ------
        NotDicom, Refused
            As soon as that is certain; what was written is discarded.
        """
        self._size += len(chunk)
        try:
            self._take_all(memoryview(chunk))
        except BaseException:
            self.discard()
            raise

    def finish(self) -> Split:
        """The parts, when all bytes have been fed.

        Raises
        ------
        NotDicom
            When the bytes are no data set.
        Truncated
            When they end inside an element.
        """
        try:
            return self._finish()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Delete what was written; nothing can be fed after."""
        for writer in self._writers:
            writer.discard()
        self._writers.clear()
        if self._inner is not None:
            self._inner.discard()
        self._take = self._take_nothing

    def _take_all(self, view: memoryview) -> None:
        pos = 0
        while pos < len(view):
            pos = self._take(view, pos)
            self._take_again()

    def _take_again(self) -> None:
        if self._again:
            again, self._again = self._again, b""
            self._take_all(memoryview(again))

    # Each ``_take`` method consumes the view from ``pos`` on as far as its state goes; the next continues there.

    def _take_nothing(self, view: memoryview, pos: int) -> int:
        return len(view)

    def _take_header(self, view: memoryview, pos: int) -> int:
        stop = min(len(view), pos + _STEP)
        self._header += view[pos:stop]
        self._fresh, self._surplus = stop - pos, 0
        if len(self._header) >= self._need:
            self._advance(complete=False)
        if len(self._header) > self._max_header:
            raise Refused(f"the header (all but bulk values) has more than {self._max_header} bytes", 0xA700)
        return stop - self._surplus

    def _take_value(self, view: memoryview, pos: int) -> int:
        stop = min(len(view), pos + self._left)
        self._writers[-1].write(view[pos:stop])
        if self._tee is not None:
            self._tee += view[pos:stop]
        self._left -= stop - pos
        if self._left == 0:
            self._end_value()
        return stop

    def _take_fragments(self, view: memoryview, pos: int) -> int:
        assert self._scanner is not None
        stop = self._scanner.scan(view, pos)
        if self._is_streaming:
            self._writers[-1].write(view[pos:stop])
        else:
            self._hold(view[pos:stop])
        if self._scanner.is_complete:
            self._end_value()
        return stop

    def _take_deflated(self, view: memoryview, pos: int) -> int:
        assert self._inflater is not None
        assert self._inner is not None
        rest = view[pos:]
        self._writers[-1].write(rest)
        for piece in self._inflater.inflate(rest):
            self._inner.feed(piece)
        return len(view)

    def _advance(self, *, complete: bool) -> None:
        """Read on in the header as far as it goes."""
        if self._prologue is None:
            prologue = read_prologue(self._header, complete=complete)
            if isinstance(prologue, int):
                self._need = prologue
                return
            self._begin_data_set(prologue)
        if self._take == self._take_header:
            self._parse()

    def _begin_data_set(self, prologue: Prologue) -> None:
        self._prologue = prologue
        if prologue.is_deflated:
            self._begin_deflated(prologue)
            return
        structure = self._structure
        structure.pos = structure.box.begin = prologue.dataset_offset
        structure.box.implicit = prologue.implicit
        structure.box.little = prologue.little

    def _begin_deflated(self, prologue: Prologue) -> None:
        self._inflater = Inflater(self._max_inflated)
        self._inner = Splitter(self._new_bulk, bulk_threshold=self._threshold, max_header=self._max_header)
        self._inner.feed(
            with_transfer_syntax(bytes(self._header[: prologue.dataset_offset]), EXPLICIT_VR_LITTLE_ENDIAN)
        )
        self._open_writer(prologue.dataset_offset)
        self._take = self._take_deflated

    def _parse(self) -> None:
        """Take elements until bytes are missing or a bulk value begins."""
        structure = self._structure
        while self._take == self._take_header:
            if not structure.box.is_sequence:
                self._skip_small_values()
            if structure.leave():
                continue
            if len(self._header) - structure.pos < 8:
                self._need = structure.pos + 8
                return
            if structure.box.is_sequence:
                structure.item()
            elif not self._element():
                return

    def _skip_small_values(self) -> None:
        """The hot loop: pass by everything that stays in the header for certain."""
        structure, header, threshold = self._structure, self._header, self._threshold
        box, pos = structure.box, structure.pos
        limit = min(len(header), box.limit - structure.cut)
        unpack, unpack_long = _HEADS[box.little].unpack_from, U32[box.little].unpack_from
        while limit - pos >= 12:
            group, vr, length = unpack(header, pos)
            begin = pos + 8
            if box.implicit:
                (length,) = unpack_long(header, pos + 4)
            elif vr in LONG_VRS:
                begin = pos + 12
                (length,) = unpack_long(header, pos + 8)
            elif vr not in SHORT_VRS:
                break
            if length >= threshold or group >= 0x7FE0:
                break
            pos = begin + length
        structure.pos = min(pos, box.limit - structure.cut)

    def _element(self) -> bool:
        """Take the element at the position; False when more of it is needed."""
        structure = self._structure
        head = structure.head(len(self._header))
        if head is None:
            self._need = structure.pos + 12
            return False
        tag, vr, length, begin = head
        is_top = not structure.stack
        if tag.startswith("FFFE"):
            structure.delimiter(tag)
        elif is_top and tag in _PIXEL_DATA and length and self._pixel_data is None:
            self._begin_value(length, begin, is_pixel_data=True)
            self._pixel_data = len(self._segments), tag, vr, self._scanner
        elif length >= self._threshold:
            if not structure.enter(vr, length, begin):
                self._begin_value(length, begin)
                if is_top and tag in _EXTENDED and length <= self._max_header:
                    self._tee = self._extended[tag] = bytearray()
        elif is_top and tag in _EXTENDED and begin + length > len(self._header):
            self._need = begin + length
            return False
        else:
            if is_top and tag in _EXTENDED:
                self._extended[tag] = self._header[begin : begin + length]
            structure.pos = begin + length
        return True

    def _begin_value(self, length: int, begin: int, *, is_pixel_data: bool = False) -> None:
        self._tee = self._scanner = None
        if length == UNDEFINED:
            self._scanner = FragmentScanner(self._structure.box.little, self._max_header)
            self._take = self._take_fragments
        else:
            self._left = length
            self._take = self._take_value
        if length != UNDEFINED or is_pixel_data:
            self._open_writer(begin)
        else:
            self._is_streaming = False
            self._value_offset = begin
            self._cut_surplus(begin)

    def _open_writer(self, begin: int) -> None:
        self._writers.append(self._new_bulk())
        self._is_streaming = True
        self._value_offset = begin
        self._cut_surplus(begin)

    def _cut_surplus(self, begin: int) -> None:
        """Give the bytes of the value back: to the view that they came with, or to be taken again if not all did."""
        surplus = len(self._header) - begin
        if surplus <= self._fresh:
            self._surplus = surplus
        else:
            self._again = bytes(self._header[begin:])
        del self._header[begin:]

    def _hold(self, piece: memoryview) -> None:
        """Keep an encapsulated value, whose length nobody knows, in the header until it has reached the threshold."""
        self._header += piece
        if len(self._header) - self._value_offset >= self._threshold:
            held = bytes(self._header[self._value_offset :])
            del self._header[self._value_offset :]
            self._open_writer(self._value_offset)
            self._writers[-1].write(held)

    def _end_value(self) -> None:
        structure = self._structure
        if self._is_streaming:
            digest, size = self._writers[-1].finish()
            self._segments.append(Segment(self._value_offset, size, digest))
            structure.cut += size
        structure.pos = len(self._header)
        self._need = structure.pos + 8
        self._take = self._take_header

    def _finish(self) -> Split:
        if self._prologue is None:
            self._finish_short()
        view = self._finish_deflated() if self._inner is not None else None
        if self._take != self._take_header:
            raise Truncated(f"the bytes end at {self._size}, inside a value that begins at {self._begin_of_value()}")
        if view is None:
            self._parse()
            self._check_end()
        assert self._prologue is not None
        return Split(
            header=bytes(self._header),
            dataset_offset=self._prologue.dataset_offset,
            segments=tuple(self._segments),
            transfer_syntax_uid=self._prologue.transfer_syntax_uid,
            size=self._size,
            pixel_data=self._describe_pixel_data(),
            view=view,
        )

    def _finish_short(self) -> None:
        """Read what was too short to say anything about before its end."""
        self._fresh = 0
        self._advance(complete=True)
        self._take_again()

    def _finish_deflated(self) -> Split:
        assert self._inner is not None
        assert self._inflater is not None
        if not self._inflater.is_complete:
            raise Truncated(f"the bytes end at {self._size}, inside the deflated data set")
        self._end_value()
        return self._inner.finish()

    def _check_end(self) -> None:
        structure = self._structure
        rest = self._header[structure.pos :]
        if structure.pos > len(self._header) or any(rest):
            raise Truncated(f"the bytes end at {self._size}, inside an element")
        if structure.stack:
            raise Truncated(f"the bytes end at {self._size}, inside a sequence")

    def _begin_of_value(self) -> int:
        return self._value_offset + self._structure.cut

    def _describe_pixel_data(self) -> PixelData | None:
        if self._pixel_data is None:
            return None
        offsets, lengths = (bytes(self._extended.get(tag, b"")) for tag in _EXTENDED)
        segment, tag, vr, scanner = self._pixel_data
        return PixelData(segment, tag, vr, scanner, offsets, lengths)
