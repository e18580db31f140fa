"""Replace or remove top-level elements of a split instance without touching its segments."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicomhub.dicom.file_meta import Prologue, prologue_of, with_uids
from dicomhub.dicom.json_model import find_value
from dicomhub.dicom.part10 import Segment, Split
from dicomhub.dicom.structure import Container
from dicomhub.dicom.walk import BULK, NESTING, SEQUENCE, VALUE, walk
from dicomhub.errors import NotFound, Refused

_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_SOP_CLASS_UID, _SOP_INSTANCE_UID = 0x00080016, 0x00080018


@dataclass(frozen=True, slots=True)
class Span:
    """One top-level element in a header: its bytes from ``start`` to ``stop``, and the segments that belong into it."""

    tag: int
    start: int
    stop: int
    first_segment: int
    last_segment: int
    """One past the last."""


def rewrite(split: Split, values: Dataset, remove: Collection[int] = ()) -> Split:
    """The instance with the elements of ``values`` set and the tags of ``remove`` gone.

    Works in the instance's own encoding. A deflated instance comes back inflated, in Explicit VR Little Endian. The
    segments of a replaced element are left out; the others keep their bytes.

    Raises
    ------
    Refused
        When a text cannot be written in the instance's Specific Character Set (0008,0005).
    """
    split = split.view or split
    prologue = prologue_of(split.header)
    spans = list(top_level(split, prologue))
    encodings = _character_set(split, values)
    _check_text(values, encodings)
    kept = [span for span in spans if span.tag not in remove and span.tag not in values]
    pieces: list[Span | int] = [*kept, *(int(element.tag) for element in values)]
    pieces.sort(key=lambda piece: piece if isinstance(piece, int) else piece.tag)
    header = bytearray(_file_meta(split, values))
    dataset_offset = len(header)
    origin: list[int] = []
    segments: list[Segment] = []
    for piece in pieces:
        if isinstance(piece, int):
            header += _encode(values, piece, prologue, encodings)
            continue
        for index in range(piece.first_segment, piece.last_segment):
            offset = len(header) + split.segments[index].header_offset - piece.start
            segments.append(replace(split.segments[index], header_offset=offset))
            origin.append(index)
        header += split.header[piece.start : piece.stop]
    pixel_data = split.pixel_data
    if pixel_data is not None:
        kept_pixels = pixel_data.segment in origin
        pixel_data = replace(pixel_data, segment=origin.index(pixel_data.segment)) if kept_pixels else None
    size = len(header) + sum(segment.size for segment in segments)
    return Split(bytes(header), dataset_offset, tuple(segments), split.transfer_syntax_uid, size, pixel_data)


def top_level(split: Split, prologue: Prologue) -> Iterator[Span]:
    """The top-level elements of a split instance, in the order of the file."""
    header = split.header
    depth, found, index = 0, [], 0
    for kind, tag, _, begin, _ in walk(header, Container.of_data_set(prologue), split.segments):
        if kind == BULK:
            index = begin + 1
        if depth == 0 and kind in (VALUE, BULK, SEQUENCE):
            value_at = split.segments[begin].header_offset if kind == BULK else begin
            first = begin if kind == BULK else index
            found.append((int(tag, 16), _element_start(header, tag, value_at, prologue.little), first))
        depth += NESTING[kind]
    ends = [start for _, start, _ in found[1:]] + [len(header)]
    lasts = [first for _, _, first in found[1:]] + [len(split.segments)]
    for (tag_number, start, first), stop, last in zip(found, ends, lasts, strict=True):
        yield Span(tag_number, start, stop, first, last)


def _element_start(header: bytes, tag: str, value_at: int, little: bool) -> int:
    """Where the element begins whose value begins at ``value_at``: its head has 8 or 12 bytes (PS3.5 7.1)."""
    order = "little" if little else "big"
    encoded = int(tag[:4], 16).to_bytes(2, order) + int(tag[4:], 16).to_bytes(2, order)  # type: ignore[arg-type]
    return value_at - (8 if header[value_at - 8 : value_at - 4] == encoded else 12)


def _encode(values: Dataset, tag: int, prologue: Prologue, encodings: list[str]) -> bytes:
    one = Dataset()
    one[tag] = values[tag]
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = prologue.little, prologue.implicit
    write_dataset(buffer, one, encodings)
    return buffer.getvalue()


def _character_set(split: Split, values: Dataset) -> list[str]:
    """Python encodings of the text in the rewritten data set."""
    if "SpecificCharacterSet" in values:
        names = values.SpecificCharacterSet
        return list(convert_encodings([names] if isinstance(names, str) else list(names)))
    try:
        place = find_value(split.header, split.segments, split.transfer_syntax_uid, "00080005")
    except NotFound:
        return list(convert_encodings([""]))
    text = split.header[place.start : place.stop].decode("latin-1")
    return list(convert_encodings([name.strip(" \0") for name in text.split("\\")]))


def _check_text(values: Dataset, encodings: list[str]) -> None:
    for element in values.iterall():
        if element.VR in _TEXT_VRS and element.value:
            for character in str(element.value):
                if not any(_encodable(character, encoding) for encoding in encodings):
                    raise Refused(f"{element.name} {element.tag}: {character!r} is not in the Specific Character Set")


def _encodable(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _file_meta(split: Split, values: Dataset) -> bytes:
    """File meta information that still names the instance (PS3.10 7.1)."""
    changed = {
        meta_tag: str(values[tag].value)
        for tag, meta_tag in ((_SOP_CLASS_UID, 0x00020002), (_SOP_INSTANCE_UID, 0x00020003))
        if tag in values
    }
    return with_uids(split.header, changed) if changed else split.header[: split.dataset_offset]
