"""Items of encapsulated pixel data (PS3.5 A.4), found while the bytes pass."""

from __future__ import annotations

import struct
from array import array
from typing import Final

from dicomhub.dicom.structure import ITEM, SEQUENCE_DELIMITER
from dicomhub.errors import NotDicom, Refused

BEGINS: Final = 1
"""The fragment begins with the first marker of a JPEG (FFD8) or JPEG 2000 (FF4F) codestream."""
ENDS: Final = 2
"""It ends with FFD9, the last marker of both, before at most eight bytes of padding."""

_TAIL: Final = 10
_BYTES_PER_FRAGMENT: Final = 13
_STARTS: Final = (b"\xff\xd8", b"\xff\x4f")


class FragmentScanner:
    """Follows the items of an encapsulated value through any chunks.

    Parameters
    ----------
    little
        Byte order of the item tags.
    max_size
        Bytes of memory that the offset table, and what is noted of the fragments, may take each.

    Attributes
    ----------
    offset_table
        Value of the Basic Offset Table item.
    starts, sizes
        Of each fragment: first byte relative to the start of the value, bytes.
    marks
        Of each fragment: `BEGINS` and `ENDS`.
    is_complete
        Whether the sequence delimiter has passed.
    """

    def __init__(self, little: bool, max_size: int) -> None:
        self._head = struct.Struct("<HHI" if little else ">HHI")
        self._max_offset_table = max_size
        self._max_fragments = max_size // _BYTES_PER_FRAGMENT
        self._partial = b""
        self._offset = 0
        self._left = 0
        self._first = b""
        self._tail = b""
        self._in_offset_table = True
        self._seen_item = False
        self.offset_table = bytearray()
        self.starts = array("Q")
        self.sizes = array("I")
        self.marks = bytearray()
        self.is_complete = False

    def scan(self, view: memoryview, start: int) -> int:
        """Follow ``view[start:]``; where in the view the value ended, or the length of the view.

        Raises
        ------
        NotDicom
            When something else than an item or the sequence delimiter comes.
        """
        pos, end = start, len(view)
        while pos < end and not self.is_complete:
            if not self._left and not self._partial and self._seen_item:
                pos = self._whole_fragments(view, pos, self._offset - start)
                if pos == end:
                    break
            if self._left:
                stop = min(end, pos + self._left)
                self._content(view, pos, stop)
            else:
                stop = min(end, pos + 8 - len(self._partial))
                self._partial += bytes(view[pos:stop])
                if len(self._partial) == 8:
                    self._item(self._offset + stop - start)
            pos = stop
        self._offset += pos - start
        return pos

    def _whole_fragments(self, view: memoryview, pos: int, shift: int) -> int:
        """The hot loop: fragments that are whole in the view. ``shift`` makes offsets in the value from those in it."""
        unpack, end = self._head.unpack_from, len(view)
        while end - pos >= 8:
            group, element, length = unpack(view, pos)
            begin = pos + 8
            stop = begin + length
            if group != 0xFFFE or element != 0xE000 or stop > end:
                break
            self.starts.append(begin + shift)
            self.sizes.append(length)
            self.marks.append(
                _mark(bytes(view[begin : min(stop, begin + 2)]), bytes(view[max(begin, stop - _TAIL) : stop]))
            )
            pos = stop
        self._check_count()
        return pos

    def _check_count(self) -> None:
        if len(self.marks) > self._max_fragments:
            raise Refused(f"encapsulated pixel data has more than {self._max_fragments} fragments", 0xA700)

    def _item(self, value_offset: int) -> None:
        group, element, length = self._head.unpack(self._partial)
        self._partial = b""
        tag = group << 16 | element
        if tag == SEQUENCE_DELIMITER:
            self.is_complete = True
        elif tag != ITEM or length == 0xFFFFFFFF:
            raise NotDicom(f"item expected in encapsulated pixel data, found tag {tag:08X} of length {length}")
        elif not self._seen_item:
            self._seen_item = True
            self._left = length
            self._in_offset_table = length > 0
            if length > self._max_offset_table:
                raise NotDicom(f"Basic Offset Table of {length} bytes is larger than this server takes")
        else:
            self.starts.append(value_offset)
            self.sizes.append(length)
            self.marks.append(0)
            self._left = length
            self._first = self._tail = b""
            self._check_count()

    def _content(self, view: memoryview, pos: int, stop: int) -> None:
        self._left -= stop - pos
        if self._in_offset_table:
            self.offset_table += view[pos:stop]
            self._in_offset_table = self._left > 0
            return
        if len(self._first) < 2:
            self._first += bytes(view[pos : min(stop, pos + 2 - len(self._first))])
        recent = bytes(view[max(pos, stop - _TAIL) : stop])
        self._tail = recent if len(recent) == _TAIL else (self._tail + recent)[-_TAIL:]
        if self._left == 0:
            self.marks[-1] = _mark(self._first, self._tail)


def _mark(first: bytes, tail: bytes) -> int:
    return (BEGINS if first in _STARTS else 0) | (ENDS if b"\xff\xd9" in tail else 0)
