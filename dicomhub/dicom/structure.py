"""Nesting of an encoded data set (PS3.5 7.5): the one set of rules by which a stream is split and a header is read.

Leniency, so that both read alike: a value never leaves its container; a defined-length container that makes no sense is
left at its end; a missing item delimiter is implied by what follows; elements and items may switch to Implicit VR, and
sequences in UN are little endian whatever surrounds them (PS3.5 6.2.2).
"""

from __future__ import annotations

import struct
from typing import Final, Self

from dicomhub.dicom.elements import (
    DELIMITER,
    IMPLICIT,
    LONG,
    SHORT,
    UNDEFINED,
    describe_explicit,
    describe_implicit,
)
from dicomhub.dicom.file_meta import Prologue
from dicomhub.errors import NotDicom

MAX_DEPTH: Final = 64
"""Sequences nested deeper are refused; real SR trees have about 20 levels."""
ENDLESS: Final = 1 << 62
"""Limit of a data set whose size is not known yet."""

ITEM: Final = 0xFFFEE000
ITEM_DELIMITER: Final = 0xFFFEE00D
SEQUENCE_DELIMITER: Final = 0xFFFEE0DD

U32: Final = (struct.Struct(">I"), struct.Struct("<I"))
"""By ``little``, as the two below."""
EXPLICIT_HEAD: Final = (struct.Struct(">6sH"), struct.Struct("<6sH"))
IMPLICIT_HEAD: Final = (struct.Struct(">4sI"), struct.Struct("<4sI"))
_ITEM_HEAD: Final = (struct.Struct(">HHI"), struct.Struct("<HHI"))


class Container:
    """A data set, a sequence, or an item of one.

    Parameters
    ----------
    begin
        Header offset of its first byte.
    limit
        Offset in the file at which it ends at the latest.
    """

    __slots__ = ("begin", "implicit", "is_sequence", "is_undefined", "limit", "little")

    def __init__(
        self, is_sequence: bool, is_undefined: bool, begin: int, limit: int, implicit: bool, little: bool
    ) -> None:
        self.is_sequence = is_sequence
        self.is_undefined = is_undefined
        self.begin = begin
        self.limit = limit
        self.implicit = implicit
        self.little = little

    @classmethod
    def of_data_set(cls, prologue: Prologue) -> Self:
        """The data set behind a prologue."""
        return cls(False, False, prologue.dataset_offset, ENDLESS, prologue.implicit, prologue.little)


class Structure:
    """Where we are in a header: ``pos`` counts in the header, ``pos + cut`` in the file that it was cut from."""

    __slots__ = ("box", "cut", "header", "pos", "stack")

    def __init__(self, header: bytes | bytearray, box: Container) -> None:
        self.header = header
        self.pos = box.begin
        self.cut = 0
        self.box = box
        self.stack: list[Container] = []

    def leave(self) -> bool:
        """Leave the innermost container if it has ended at its limit; False at the top."""
        box = self.box
        if box.limit - self.pos - self.cut >= 8 or not self.stack:
            return False
        self.pos = max(self.pos, box.limit - self.cut)
        self.box = self.stack.pop()
        return True

    def head(self, available: int) -> tuple[str, str, int, int] | None:
        """Tag, VR, length and offset of the value of the element at ``pos``, of which 8 bytes are there.

        None when ``available``, the end of the header so far, is before the value. A defined length is cut at the end
        of the container. Delimiters have the VR "".
        """
        box, pos, header = self.box, self.pos, self.header
        little = box.little
        if box.implicit:
            key, length = IMPLICIT_HEAD[little].unpack_from(header, pos)
            tag, vr, form = describe_implicit(key, little)
        else:
            key, length = EXPLICIT_HEAD[little].unpack_from(header, pos)
            tag, vr, form = describe_explicit(key, little)
        begin = pos + 8
        if form == IMPLICIT and not box.implicit:
            (length,) = U32[little].unpack_from(header, pos + 4)
            box.implicit = pos == box.begin
        elif form == LONG or (form not in (SHORT, IMPLICIT, DELIMITER) and length == 0):
            begin = pos + 12
            if begin > available:
                return None
            (length,) = U32[little].unpack_from(header, pos + 8)
        if length != UNDEFINED:
            length = max(0, min(length, box.limit - begin - self.cut))
        return tag, vr, length, begin

    def enter(self, vr: str, length: int, begin: int) -> bool:
        """Enter the value if it is a sequence."""
        if vr != "SQ" and not (length == UNDEFINED and vr in ("UN", "")):
            return False
        self._push(True, length, begin)
        return True

    def item(self) -> None:
        """Take the item or delimiter at ``pos``, of which 8 bytes are there, inside a sequence."""
        tag, length = self._item_head()
        if tag == ITEM:
            self._push(False, length, self.pos + 8)
        elif tag == SEQUENCE_DELIMITER:
            self.pos += 8
            if self.box.is_undefined:
                self.box = self.stack.pop()
        elif tag == ITEM_DELIMITER:
            self.pos += 8
        elif self.box.limit == ENDLESS:
            raise NotDicom(f"sequence item expected at byte {self.pos + self.cut}, found tag {tag:08X}")
        else:
            self.pos = self.box.limit - self.cut

    def delimiter(self, tag: str) -> None:
        """Take the delimiter at ``pos`` inside a data set or item."""
        if not self.stack or not self.box.is_undefined:
            self.pos += 8
            return
        self.box = self.stack.pop()
        if tag == "FFFEE00D":
            self.pos += 8

    def _item_head(self) -> tuple[int, int]:
        box = self.box
        group, element, length = _ITEM_HEAD[box.little].unpack_from(self.header, self.pos)
        if group == 0xFEFF:
            box.little = not box.little
            group, element, length = _ITEM_HEAD[box.little].unpack_from(self.header, self.pos)
        return group << 16 | element, length

    def _push(self, is_sequence: bool, length: int, begin: int) -> None:
        if len(self.stack) >= 2 * MAX_DEPTH:
            raise NotDicom(f"sequences nest deeper than {MAX_DEPTH} levels at byte {begin + self.cut}")
        box = self.box
        limit = box.limit if length == UNDEFINED else min(box.limit, begin + self.cut + length)
        self.stack.append(box)
        self.box = Container(is_sequence, length == UNDEFINED, begin, limit, box.implicit, box.little)
        self.pos = begin
