"""The elements of a header in order, as events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dicomhub.dicom.elements import DELIMITER, LONG, SHORT, UNDEFINED, describe_explicit, describe_implicit
from dicomhub.dicom.recipe import Segment
from dicomhub.dicom.structure import EXPLICIT_HEAD, IMPLICIT_HEAD, ITEM, U32, Container, Structure

VALUE: Final = 0
"""``(VALUE, tag, vr, start, stop)``: the value is ``header[start:stop]``."""
BULK: Final = 1
"""``(BULK, tag, vr, index of the segment, 1 if of undefined length else 0)``."""
SEQUENCE: Final = 2
"""``(SEQUENCE, tag, "SQ", start, 0)``; items follow, then `END`."""
BEGIN_ITEM: Final = 3
"""``(BEGIN_ITEM, "", "", start, 1 if little endian else 0)``; elements follow, then `END`."""
END: Final = 4

NESTING: Final = (0, 0, 1, 1, -1)
"""By event: levels that it goes down."""

Event = tuple[int, str, str, int, int]
_END: Event = (END, "", "", 0, 0)


def walk(header: bytes, box: Container, segments: Sequence[Segment] = ()) -> Iterator[Event]:
    """What is in ``box``, nested elements between the events of their item.

    Tags are eight hexadecimal digits. VRs are those written; in Implicit VR the dictionary's, which may be "" or
    ambiguous. Content never raises, but for nesting.

    Raises
    ------
    NotDicom
        When sequences nest deeper than `MAX_DEPTH`.
    """
    return _Walk(header, box, segments).events()


def skip(events: Iterator[Event]) -> None:
    """Pass by the rest of the sequence or item whose beginning was the last event."""
    depth = 1
    for kind, *_ in events:
        depth += NESTING[kind]
        if not depth:
            return


class _Walk:
    __slots__ = ("header", "index", "segments", "structure")

    def __init__(self, header: bytes, box: Container, segments: Sequence[Segment]) -> None:
        self.header = header
        self.segments = segments
        self.index = 0
        self.structure = Structure(header, box)

    def events(self) -> Iterator[Event]:
        structure = self.structure
        end = len(self.header)
        while True:
            if structure.leave():
                yield _END
                continue
            if end - structure.pos < 8 or structure.box.limit - structure.pos - structure.cut < 8:
                yield from [_END] * len(structure.stack)
                return
            if not structure.box.is_sequence:
                yield from self._implicit_values() if structure.box.implicit else self._explicit_values()
            event = self._next()
            if event is not None:
                yield event

    def _segment_at(self) -> int:
        return self.segments[self.index].header_offset if self.index < len(self.segments) else -1

    def _explicit_values(self) -> Iterator[Event]:
        """Plain values up to the first element that is none."""
        structure, header = self.structure, self.header
        little = structure.box.little
        unpack, unpack_long = EXPLICIT_HEAD[little].unpack_from, U32[little].unpack_from
        limit = min(len(header), structure.box.limit - structure.cut)
        pos, segment_at = structure.pos, self._segment_at()
        while limit - pos >= 8:
            key, length = unpack(header, pos)
            tag, vr, form = describe_explicit(key, little)
            if form == SHORT:
                begin = pos + 8
            elif form == LONG and vr != "SQ" and limit - pos >= 12:
                begin = pos + 12
                length = unpack_long(header, pos + 8)[0]
            else:
                break
            stop = begin + length
            if stop > limit or begin == segment_at:
                break
            yield VALUE, tag, vr, begin, stop
            pos = stop
        structure.pos = pos

    def _implicit_values(self) -> Iterator[Event]:
        structure, header = self.structure, self.header
        little = structure.box.little
        unpack = IMPLICIT_HEAD[little].unpack_from
        limit = min(len(header), structure.box.limit - structure.cut)
        pos, segment_at = structure.pos, self._segment_at()
        while limit - pos >= 8:
            key, length = unpack(header, pos)
            tag, vr, form = describe_implicit(key, little)
            begin = pos + 8
            stop = begin + length
            if form == DELIMITER or vr == "SQ" or stop > limit or begin == segment_at:
                break
            yield VALUE, tag, vr, begin, stop
            pos = stop
        structure.pos = pos

    def _next(self) -> Event | None:
        """One step of any kind; None when it has nothing to report."""
        structure = self.structure
        end = len(self.header)
        if end - structure.pos < 8 or structure.box.limit - structure.pos - structure.cut < 8:
            return None
        depth = len(structure.stack)
        if structure.box.is_sequence:
            structure.item()
        else:
            head = structure.head(end)
            if head is None:
                structure.pos = end
                return None
            tag, vr, length, begin = head
            if tag.startswith("FFFE"):
                structure.delimiter(tag)
            else:
                return self._element(tag, vr, length, begin)
        if len(structure.stack) > depth:
            return BEGIN_ITEM, "", "", structure.pos, int(structure.box.little)
        return _END if len(structure.stack) < depth else None

    def _element(self, tag: str, vr: str, length: int, begin: int) -> Event:
        structure = self.structure
        if begin == self._segment_at() and length in (UNDEFINED, self.segments[self.index].size):
            structure.pos = begin
            structure.cut += self.segments[self.index].size
            self.index += 1
            return BULK, tag, vr, self.index - 1, int(length == UNDEFINED)
        if structure.enter(vr, length, begin):
            return SEQUENCE, tag, "SQ", begin, 0
        if length == UNDEFINED:
            stop, structure.pos = self._encapsulated(begin)
        else:
            stop = structure.pos = min(begin + length, len(self.header))
        return VALUE, tag, vr, begin, stop

    def _encapsulated(self, begin: int) -> tuple[int, int]:
        """Where an encapsulated value (PS3.5 A.4) ends, without and with its sequence delimiter."""
        limit = min(len(self.header), self.structure.box.limit - self.structure.cut)
        unpack = U32[self.structure.box.little].unpack_from
        pos = begin
        item = ITEM.to_bytes(4, "big")
        if self.structure.box.little:
            item = b"\xfe\xff\x00\xe0"
        while limit - pos >= 8 and self.header.startswith(item, pos):
            pos += 8 + unpack(self.header, pos + 4)[0]
        return min(pos, limit), min(pos + 8, limit)
