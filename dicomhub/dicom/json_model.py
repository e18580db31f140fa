"""A header as DICOM JSON Model (PS3.18 F), straight from its bytes.

Where pydicom's ``to_json_dict`` and the standard differ, this follows the standard:

- Group Length elements (gggg,0000) are left out and attributes ordered by tag (F.2.2);
- an empty value among several is null; an empty component group of a name and an empty sequence have no value (F.2.5);
- NaN and infinities are "NaN", "inf" and "-inf"; IS, DS, SV and UV that a number cannot carry exactly are strings;
- arrays of numbers (OD, OF, OL, OV) have a BulkDataURI whatever their size;
- InlineBinary is little endian even where the data set is big endian;
- padding at the end of values is cut off; a value that is not what its VR says becomes UN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import orjson

from dicomhub.dicom.charset import DEFAULT, CharacterSet, character_set
from dicomhub.dicom.elements import look_up, private_vr
from dicomhub.dicom.file_meta import prologue_of
from dicomhub.dicom.json_values import CONVERTERS, Attribute, in_base64
from dicomhub.dicom.recipe import Segment
from dicomhub.dicom.structure import Container
from dicomhub.dicom.walk import BULK, END, NESTING, SEQUENCE, VALUE, Event, skip, walk
from dicomhub.errors import NotFound

Item = dict[str, Attribute]

_STREAM_FROM: Final = 2 * 1024**2
"""Bytes of header from which on items are converted one at a time, to hold less in memory."""
_INFERRED_BELOW: Final = 0xFFFF
"""UN of fewer bytes may stand for a VR with a 16-bit length; longer values are left alone (PS3.5 6.2.2 note 2)."""
_MAX_HIDDEN_DEPTH: Final = 16
"""Items below which sequences in UN of defined length are no longer looked for."""

_ITEM_OR_END: Final = (b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", b"\xff\xfe\xe0\x00", b"\xff\xfe\xe0\xdd")

_CHARACTER_SET: Final = "00080005"
_PIXEL_REPRESENTATION: Final = "00280103"
_LUT_DESCRIPTOR: Final = "00283002"
_LUT_DESCRIPTORS: Final = ("00281101", "00281102", "00281103", _LUT_DESCRIPTOR)
_ARRAYS: Final = frozenset({"OD", "OF", "OL", "OV"})
"""Arrays of numbers (annotations' points, deformation fields): BulkDataURI of any size, as viewers expect."""
_CONVERTERS: Final = {vr: convert for vr, convert in CONVERTERS.items() if vr != "UL" and vr not in _ARRAYS}
"""The VRs that need no second look, as group lengths do."""


def header_to_dict(
    header: bytes,
    segments: Sequence[Segment],
    transfer_syntax_uid: str,
    *,
    bulkdata_prefix: bytes = b"@bulk",
    max_items: int | None = None,
) -> dict[str, Any]:
    """The data set as DICOM JSON Model object, as `header_to_json` writes it.

    Parameters
    ----------
    max_items
        Sequences of more items come without their value (``{"vr": "SQ"}``). A slide may have a hundred thousand in
        Per-Frame Functional Groups Sequence (5200,9230), of several KB each in memory.
    """
    converter, events, scope = _open(header, segments, transfer_syntax_uid, bulkdata_prefix)
    converter.max_items = max_items
    return converter.item(events, scope)


def header_to_json(
    header: bytes, segments: Sequence[Segment], transfer_syntax_uid: str, *, bulkdata_prefix: bytes = b"@bulk"
) -> bytes:
    """The data set as one JSON object, without file meta information.

    Parameters
    ----------
    header, segments
        Of a `Split`; of the ``view`` of a deflated one.
    transfer_syntax_uid
        Of the header; counts only where the header has no file meta information.
    bulkdata_prefix
        What a BulkDataURI begins with; ``/7FE00010`` or ``/60031010/1/60031011`` (1-based items) follows.

    Raises
    ------
    NotDicom
        When the header has no data set, or sequences nest too deep.
    """
    if len(header) >= _STREAM_FROM:
        return b"".join(iter_json(header, segments, transfer_syntax_uid, bulkdata_prefix=bulkdata_prefix))
    return orjson.dumps(header_to_dict(header, segments, transfer_syntax_uid, bulkdata_prefix=bulkdata_prefix))


def iter_json(
    header: bytes, segments: Sequence[Segment], transfer_syntax_uid: str, *, bulkdata_prefix: bytes = b"@bulk"
) -> Iterator[bytes]:
    """The same bytes in pieces; holds one item of a top-level sequence at a time.

    A header whose attributes are not in order is converted whole.
    """
    converter, events, scope = _open(header, segments, transfer_syntax_uid, bulkdata_prefix)
    _, ahead, _ = _open(header, segments, transfer_syntax_uid, bulkdata_prefix)
    if _is_ordered(ahead):
        yield from converter.pieces(events, scope)
    else:
        yield orjson.dumps(converter.item(events, scope))


def _is_ordered(events: Iterator[Event]) -> bool:
    depth, last = 0, ""
    for kind, tag, *_ in events:
        if depth == 0:
            if tag <= last:
                return False
            last = tag
        depth += NESTING[kind]
    return True


def _open(
    header: bytes, segments: Sequence[Segment], transfer_syntax_uid: str, prefix: bytes
) -> tuple[_Converter, Iterator[Event], _Scope]:
    prologue = prologue_of(header, transfer_syntax_uid)
    box = Container.of_data_set(prologue)
    converter = _Converter(header, box, segments)
    return converter, walk(header, box, segments), _Scope(DEFAULT, prologue.little, prefix.decode("ascii"), None)


class _Scope:
    """What values of one data set or item depend on."""

    __slots__ = ("charset", "depth", "item", "order", "parent", "path")

    def __init__(self, charset: CharacterSet, little: bool, path: str, parent: _Scope | None) -> None:
        self.charset = charset
        self.order = "<" if little else ">"
        self.path = path
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.item: Item = {}


class _Converter:
    """From events to attribute objects. ``is_retrievable``: whether `find_value` finds what is in here."""

    def __init__(
        self, header: bytes, box: Container, segments: Sequence[Segment] = (), *, is_retrievable: bool = True
    ) -> None:
        self.max_items: int | None = None
        self._header = header
        self._segments = segments
        self._is_retrievable = is_retrievable
        self._ahead: int | None = None
        self._box = (box.begin, box.limit, box.implicit, box.little)

    def item(self, events: Iterator[Event], scope: _Scope) -> Item:
        """All attributes of a data set or item, nested ones too."""
        while (event := self._values(events, scope)) is not None:
            tag = event[1]
            scope.item[tag] = self._sequence(events, tag, scope)
        item = scope.item
        _correct_lut_descriptors(item)
        tags = list(item)
        in_order = sorted(tags)
        return item if tags == in_order else {tag: item[tag] for tag in in_order}

    def pieces(self, events: Iterator[Event], scope: _Scope) -> Iterator[bytes]:
        """JSON text of a data set in order."""
        separator = b"{"
        while True:
            known = set(scope.item)
            event = self._values(events, scope)
            _correct_lut_descriptors(scope.item)
            if fresh := {tag: value for tag, value in scope.item.items() if tag not in known}:
                yield separator + orjson.dumps(fresh)[1:-1]
                separator = b","
            scope.item = {tag: value for tag, value in scope.item.items() if _is_referred_to(tag)}
            if event is None:
                break
            yield separator + b'"' + event[1].encode("ascii") + b'":{"vr":"SQ"'
            separator = b","
            opening = b',"Value":['
            for item in self._items(events, event[1], scope):
                yield opening + orjson.dumps(item)
                opening = b","
            yield b"}" if opening != b"," else b"]}"
        yield b"{}" if separator == b"{" else b"}"

    def _values(self, events: Iterator[Event], scope: _Scope) -> Event | None:
        """Take values up to the next sequence, which is returned, or to the end of the item."""
        header, item, charset, order = self._header, scope.item, scope.charset, scope.order
        for event in events:
            kind, tag, vr, start, stop = event
            if kind == VALUE:
                convert = _CONVERTERS.get(vr)
                if convert is None:
                    self._special(tag, vr, header[start:stop], scope)
                elif start == stop:
                    item[tag] = {"vr": vr}
                else:
                    item[tag] = convert(vr, header[start:stop], charset, order)
                    if tag == _CHARACTER_SET:
                        scope.charset = charset = character_set(header[start:stop])
            elif kind == BULK:
                vr = "OB" if stop and vr == "OB or OW" else self._certain(tag, vr, scope)
                item[tag] = {"vr": vr, "BulkDataURI": f"{scope.path}/{tag}"}
            else:
                return event if kind == SEQUENCE else None
        return None

    def _sequence(self, events: Iterator[Event], tag: str, scope: _Scope) -> Attribute:
        if self.max_items is None:
            values = list(self._items(events, tag, scope))
        else:
            values = list(islice(self._items(events, tag, scope), self.max_items + 1))
            if len(values) > self.max_items:
                values.clear()
                skip(events)
        return {"vr": "SQ", "Value": values} if values else {"vr": "SQ"}

    def _items(self, events: Iterator[Event], tag: str, scope: _Scope) -> Iterator[Item]:
        for number, (kind, _, _, _, little) in enumerate(events, 1):
            if kind == END:
                return
            yield self.item(events, _Scope(scope.charset, bool(little), f"{scope.path}/{tag}/{number}", scope))

    def _special(self, tag: str, written: str, raw: bytes, scope: _Scope) -> None:
        """A value whose VR is unknown, ambiguous, or has a meaning of its own for some tags."""
        vr, order = written, scope.order
        if vr == "UN":
            vr = self._inferred(tag, scope) if len(raw) < _INFERRED_BELOW else ""
            order = "<"
        elif not vr:
            vr = self._inferred(tag, scope)
        if " or " in vr:
            vr = self._certain(tag, vr, scope)
        elif vr == "UL" and tag.endswith("0000"):
            return
        if vr in _ARRAYS and raw and self._is_retrievable:
            scope.item[tag] = {"vr": vr, "BulkDataURI": f"{scope.path}/{tag}"}
            return
        scope.item[tag] = self._attribute(tag, vr, raw, scope, order)

    def _attribute(self, tag: str, vr: str, raw: bytes, scope: _Scope, order: str) -> Attribute:
        if not raw:
            return {"vr": vr or "UN"}
        if vr == "SQ":
            return self._hidden_sequence(tag, raw, scope)
        convert = CONVERTERS.get(vr)
        if convert is None:
            return in_base64("UN", raw)
        return convert(vr, raw, scope.charset, order)

    def _inferred(self, tag: str, scope: _Scope) -> str:
        """VR by the dictionaries (PS3.5 6.2.2): the private ones for the creator in this item."""
        vr, creator_tag = look_up(tag)
        if creator_tag not in scope.item:
            return vr
        creator = scope.item[creator_tag].get("Value")
        return private_vr(tag, creator[0]) if creator and isinstance(creator[0], str) else ""

    def _certain(self, tag: str, vr: str, scope: _Scope) -> str:
        """The VR that an ambiguous one of the dictionary means here."""
        if " or " not in vr:
            return vr or "UN"
        if vr == "US or SS":
            return "SS" if self._is_signed(scope) else "US"
        if vr == "US or OW":  # LUT Data (PS3.3 C.11.1.1.1)
            descriptor = scope.item.get(_LUT_DESCRIPTOR, {}).get("Value")
            return "US" if descriptor and descriptor[0] == 1 else "OW"
        return "OW"

    def _is_signed(self, scope: _Scope) -> bool:
        """Pixel Representation of the nearest data set around, be it further on in the file."""
        inner: _Scope | None = scope
        while inner is not None:
            values = inner.item.get(_PIXEL_REPRESENTATION, {}).get("Value")
            if values:
                return bool(values[0] == 1)
            inner = inner.parent
        if self._ahead is None:
            self._ahead = self._pixel_representation_ahead()
        return self._ahead == 1

    def _pixel_representation_ahead(self) -> int:
        begin, limit, implicit, little = self._box
        box = Container(False, False, begin, limit, implicit, little)
        depth = 0
        for kind, tag, _, start, stop in walk(self._header, box, self._segments):
            if depth == 0 and tag >= _PIXEL_REPRESENTATION:
                is_it = kind == VALUE and tag == _PIXEL_REPRESENTATION
                return int.from_bytes(self._header[start:stop], "little" if little else "big") if is_it else 0
            depth += NESTING[kind]
        return 0

    def _hidden_sequence(self, tag: str, raw: bytes, scope: _Scope) -> Attribute:
        """A sequence in a UN value, or a private one that only a dictionary knows."""
        if not raw.startswith(_ITEM_OR_END) or scope.depth >= _MAX_HIDDEN_DEPTH:
            return in_base64("UN", raw)
        box = Container(True, False, 0, len(raw), self._box[2], True)
        return _Converter(raw, box, is_retrievable=False)._sequence(walk(raw, box), tag, scope)


def _correct_lut_descriptors(item: Item) -> None:
    """The first value is unsigned, be it written as SS (PS3.3 C.11.1.1.1)."""
    for tag in _LUT_DESCRIPTORS:
        if tag in item and item[tag]["vr"] == "SS" and "Value" in item[tag]:
            item[tag]["Value"][0] &= 0xFFFF


def _is_referred_to(tag: str) -> bool:
    """Whether later attributes may depend on this one: private creators, Pixel Representation."""
    return tag == _PIXEL_REPRESENTATION or (tag[3] in "13579BDF" and tag[4:6] == "00")


@dataclass(frozen=True, slots=True)
class ValueLocation:
    """Where the bytes of a value are."""

    vr: str
    start: int
    """Range in the header, if it has no segment."""
    stop: int
    segment: int | None
    """Index of the segment."""
    is_little_endian: bool
    """Byte order of the value; BulkData of words is little endian on the wire (PS3.18 8.7.3.5.2)."""


def find_value(header: bytes, segments: Sequence[Segment], transfer_syntax_uid: str, path: str) -> ValueLocation:
    """Find the value that a BulkDataURI names.

    Parameters
    ----------
    path
        Tags and 1-based item numbers, such as ``7FE00010`` or ``60031010/1/60031011``.

    Raises
    ------
    NotFound
        When there is no such value, or it is a sequence.
    """
    _, events, scope = _open(header, segments, transfer_syntax_uid, b"")
    location = _search(events, path.upper().split("/"), scope.order == "<")
    if location is None:
        raise NotFound(f"the instance has no value {path[:200]}")
    return location


def _search(events: Iterator[Event], path: list[str], little: bool) -> ValueLocation | None:
    """The value below one item; the last one where a tag comes twice, as in the JSON."""
    found = None
    for kind, tag, vr, start, stop in events:
        if kind == END:
            break
        if kind == SEQUENCE:
            place = _search_items(events, path, tag)
            found = place if tag == path[0] else found
        elif path == [tag]:
            is_bulk = kind == BULK
            vr = ("OB" if is_bulk and stop else "OW") if " or " in vr else (vr or "UN")
            found = ValueLocation(vr, 0, 0, start, little) if is_bulk else ValueLocation(vr, start, stop, None, little)
    return found


def _search_items(events: Iterator[Event], path: list[str], tag: str) -> ValueLocation | None:
    found = None
    for number, (kind, _, _, _, little) in enumerate(events, 1):
        if kind == END:
            break
        is_wanted = len(path) > 2 and path[:2] == [tag, str(number)]
        place = _search(events, path[2:] if is_wanted else [""], bool(little))
        found = place if is_wanted else found
    return found
