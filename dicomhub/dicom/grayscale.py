"""From stored pixel values to presentation values of 8 bits: modality, VOI, palette (PS3.3 C.7.9, C.11.1, C.11.2).

Integer pixels of up to 16 bits go through one table over all stored values, so the cost for a pixel is one look-up
whatever the transformation is.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicomhub.dicom.transcode import PixelDescription
from dicomhub.errors import BadRequest, NotAcceptable

Array = NDArray[Any]
Attributes = Mapping[str, Any]
"""DICOM JSON (PS3.18 F)."""
Tables = Mapping[str, bytes]
"""Values of table elements by path, such as ``00283010/1/00283006``, little endian."""

_MODALITY_LUT_SEQUENCE, _VOI_LUT_SEQUENCE = "00283000", "00283010"
_LUT_DESCRIPTOR, _LUT_DATA = "00283002", "00283006"
_PALETTE = (
    ("00281101", "00281201", "00281221"),
    ("00281102", "00281202", "00281222"),
    ("00281103", "00281203", "00281223"),
)
"""Descriptor, data and segmented data of the red, green and blue palette."""
_SHARED_GROUPS, _PER_FRAME_GROUPS = "52009229", "52009230"
_PIXEL_VALUE_TRANSFORMATION, _FRAME_VOI_LUT = "00289145", "00289132"


@dataclass(frozen=True, slots=True)
class Window:
    """A VOI window (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    function: str = "LINEAR"
    """LINEAR, LINEAR_EXACT or SIGMOID."""

    def __post_init__(self) -> None:
        least = 1 if self.function == "LINEAR" else 0
        if not (np.isfinite(self.center) and np.isfinite(self.width)) or self.width < least or self.width <= 0:
            raise BadRequest(
                f"window width {self.width:g} is too small for {self.function}: at least 1, or above 0 else"
            )

    def apply(self, values: Array) -> Array:
        """Values to 0..1."""
        if self.function == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (values - self.center) / self.width, -500, 500)))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.center) / self.width + 0.5, 0, 1)
        if self.width == 1:
            return np.where(values > self.center - 0.5, 1.0, 0.0)
        return np.clip((values - (self.center - 0.5)) / (self.width - 1) + 0.5, 0, 1)


@dataclass(frozen=True, slots=True)
class LookUpTable:
    """A Modality or VOI LUT, or one colour of a palette (PS3.3 C.11.1.1)."""

    first: int
    """Input value of the first entry."""
    data: Array
    bits: int
    """Bits of an entry."""

    def apply(self, values: Array) -> Array:
        """Table entries; inputs beyond the ends give the first and the last entry."""
        index = np.clip(values - self.first, 0, len(self.data) - 1).astype(np.intp)
        entries: Array = self.data[index]
        return entries


@dataclass(frozen=True, slots=True)
class Rescale:
    """Rescale Slope and Intercept (PS3.3 C.11.1)."""

    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, values: Array) -> Array:
        """Values in the output units."""
        return values * self.slope + self.intercept


@dataclass(frozen=True, slots=True)
class Grayscale:
    """How the values of one frame become gray."""

    modality: LookUpTable | Rescale = Rescale()
    voi: LookUpTable | Window | None = None
    """None: the range of the values."""
    is_inverse: bool = False
    padding: tuple[int, int] | None = None
    """Stored values, first and last, that are no image (PS3.3 C.7.5.1.1.2)."""


# ---------------------------------------------------------------------------------------------------------------- read


def table_paths(attributes: Attributes) -> Iterator[str]:
    """Paths of the table elements whose values are not in ``attributes``, to be read as bulk data before rendering."""
    for sequence in (_MODALITY_LUT_SEQUENCE, _VOI_LUT_SEQUENCE):
        item = _item(attributes, sequence)
        if "BulkDataURI" in item.get(_LUT_DATA, {}):
            yield f"{sequence}/1/{_LUT_DATA}"
    for _, *elements in _PALETTE:
        yield from (tag for tag in elements if "BulkDataURI" in attributes.get(tag, {}))


def read_grayscale(
    attributes: Attributes,
    description: PixelDescription,
    tables: Tables,
    frame_number: int,
    window: Window | None = None,
) -> Grayscale:
    """The transformations that the instance prescribes for a frame; ``window`` replaces its VOI."""
    return Grayscale(
        modality=_modality(attributes, description, tables, frame_number),
        voi=window or _voi(attributes, description, tables, frame_number),
        is_inverse=_is_inverse(attributes, description),
        padding=_padding(attributes),
    )


def _modality(
    attributes: Attributes, description: PixelDescription, tables: Tables, frame_number: int
) -> LookUpTable | Rescale:
    if table := _sequence_table(attributes, _MODALITY_LUT_SEQUENCE, description.is_signed, tables):
        return table
    source = _macro(attributes, _PIXEL_VALUE_TRANSFORMATION, frame_number) or attributes
    return Rescale(_number(source, "00281053", 1.0) or 1.0, _number(source, "00281052", 0.0))


def _voi(
    attributes: Attributes, description: PixelDescription, tables: Tables, frame_number: int
) -> LookUpTable | Window | None:
    """The first window; else the VOI LUT; else none."""
    source = _macro(attributes, _FRAME_VOI_LUT, frame_number) or attributes
    center, width = _number(source, "00281050", np.nan), _number(source, "00281051", np.nan)
    function = str(_value(source, "00281056") or "LINEAR")
    if function == "LINEAR" and 0 < width < 1:
        function = "LINEAR_EXACT"  # written for normalised floating point values; LINEAR begins at a width of 1
    try:
        return Window(center, width, function)
    except BadRequest:  # absent, or of a width that means nothing
        is_signed = description.is_signed or _number(attributes, "00281052", 0.0) < 0
        return _sequence_table(attributes, _VOI_LUT_SEQUENCE, is_signed, tables)


def _is_inverse(attributes: Attributes, description: PixelDescription) -> bool:
    """Presentation LUT Shape where present; else MONOCHROME1 has its minimum white."""
    shape = _value(attributes, "20500020")
    return bool(shape == "INVERSE") if shape else description.photometric_interpretation == "MONOCHROME1"


def _padding(attributes: Attributes) -> tuple[int, int] | None:
    value, limit = _value(attributes, "00280120"), _value(attributes, "00280121")
    if not isinstance(value, int):
        return None
    other = limit if isinstance(limit, int) else value
    return min(value, other), max(value, other)


def _value(attributes: Attributes, tag: str) -> Any:
    values = attributes.get(tag, {}).get("Value")
    return values[0] if values else None


def _number(attributes: Attributes, tag: str, default: float) -> float:
    try:
        return float(_value(attributes, tag))
    except (TypeError, ValueError):
        return default


def _item(attributes: Attributes, sequence: str, index: int = 0) -> Attributes:
    items = attributes.get(sequence, {}).get("Value", ())
    return items[index] or {} if 0 <= index < len(items) else {}


def _macro(attributes: Attributes, sequence: str, frame_number: int) -> Attributes:
    """A functional group of a frame: its own or the shared one (PS3.3 C.7.6.16)."""
    own = _item(_item(attributes, _PER_FRAME_GROUPS, frame_number - 1), sequence)
    return own or _item(_item(attributes, _SHARED_GROUPS), sequence)


def _sequence_table(attributes: Attributes, sequence: str, is_signed: bool, tables: Tables) -> LookUpTable | None:
    item = _item(attributes, sequence)
    data = _binary(item, _LUT_DATA, tables.get(f"{sequence}/1/{_LUT_DATA}"))
    return _table(item.get(_LUT_DESCRIPTOR, {}).get("Value"), data, is_signed) if data else None


def _binary(attributes: Attributes, tag: str, bulk: bytes | None) -> bytes | None:
    element = attributes.get(tag, {})
    if bulk is not None or not element:
        return bulk
    if "InlineBinary" in element:
        return base64.b64decode(element["InlineBinary"])
    values = element.get("Value")
    return np.array(values, np.int64).astype("<u2").tobytes() if values else None


def _table(descriptor: Any, data: bytes, is_signed: bool) -> LookUpTable:
    """Decode a table by its descriptor: number of entries (0 is 65536), first input value, bits of an entry."""
    if not descriptor or len(descriptor) != 3:
        raise NotAcceptable("LUT Descriptor has not three values: retrieve the instance with transfer-syntax=*")
    count, first, bits = (int(number) for number in descriptor)
    count = count & 0xFFFF or 0x10000
    if is_signed and first >= 0x8000:
        first -= 0x10000
    # Tables of 8 bits are packed two to a word, but some writers take a word for each entry.
    entries = (
        np.frombuffer(data, "u1", count)
        if len(data) - count in (0, 1)
        else np.frombuffer(data[: len(data) & ~1], "<u2")
    )
    if not len(entries[:count]):
        raise NotAcceptable("a LUT has no entries: retrieve the instance with transfer-syntax=*")
    return LookUpTable(first, entries[:count], bits if entries.itemsize > 1 else 8)


# --------------------------------------------------------------------------------------------------------------- apply


def to_gray(samples: Array, description: PixelDescription, grayscale: Grayscale) -> Array:
    """Stored values, rows x columns, as gray of 8 bits."""
    if description.is_float or description.bits_allocated > 16:
        values = samples.astype(np.float64)
        return _present(grayscale.modality.apply(values), values, description, grayscale)
    codes = _codes(samples, description)
    stored = _stored_values(description)
    values = grayscale.modality.apply(stored.astype(np.float64) if _is_linear(grayscale) else stored)
    if _voi_of(description, grayscale) is None:
        present = np.zeros(len(stored), bool)
        present[codes.ravel()] = True
        voi = _range(values[present], stored[present], grayscale)
        return _to_8_bit(voi.apply(values), grayscale)[codes]
    return _present(values, stored, description, grayscale)[codes]


def to_rgb(samples: Array, description: PixelDescription, palette: tuple[LookUpTable, ...]) -> Array:
    """Palette indices, rows x columns, as RGB of 8 bits (PS3.3 C.7.9)."""
    codes = _codes(samples, description)
    stored = _stored_values(description)
    colours = [table.apply(stored) >> max(table.bits - 8, 0) for table in palette]
    return np.stack(colours, axis=-1).astype(np.uint8)[codes]


def read_palette(attributes: Attributes, description: PixelDescription, tables: Tables) -> tuple[LookUpTable, ...]:
    """Red, green and blue tables.

    Raises
    ------
    NotAcceptable
        When the instance has none (a Palette Color LUT UID refers to a well-known one that is not kept here).
    """
    palette = []
    for descriptor_tag, data_tag, segmented_tag in _PALETTE:
        descriptor = attributes.get(descriptor_tag, {}).get("Value")
        data = _binary(attributes, data_tag, tables.get(data_tag))
        if not data and (segments := _binary(attributes, segmented_tag, tables.get(segmented_tag))):
            data = expand_segments(segments, descriptor[2] if descriptor else 16)
        if not descriptor or not data:
            raise NotAcceptable("PALETTE COLOR without palette tables cannot be rendered: retrieve its frames")
        palette.append(_table(descriptor, data, description.is_signed))
    return tuple(palette)


def expand_segments(data: bytes, bits: int = 16) -> bytes:
    """Expand a segmented palette (PS3.3 C.7.9.2) to entries of 16 bits; what cannot be understood ends it."""
    entries = np.frombuffer(data, "u1") if bits == 8 else np.frombuffer(data[: len(data) & ~1], "<u2")
    out: list[int] = []
    _expand(entries.tolist(), 0, None, out)
    return np.array(out[:0x10000], "<u2").tobytes()


def _expand(entries: list[int], at: int, segments: int | None, out: list[int]) -> None:
    """Append what ``segments`` segments from entry ``at`` stand for; all when None."""
    done = 0
    while at + 2 < len(entries) and done != segments and len(out) < 0x10000:
        opcode, length = entries[at], entries[at + 1]
        if opcode == 0:  # discrete
            out += entries[at + 2 : at + 2 + length]
            at += 2 + length
        elif opcode == 1 and out:  # linear, from the last entry
            out += np.rint(np.linspace(out[-1], entries[at + 2], length + 1)[1:]).astype(int).tolist()
            at += 3
        elif opcode == 2 and segments is None and at + 3 < len(entries):  # indirect: copies, which cannot be nested
            _expand(entries, (entries[at + 2] | entries[at + 3] << 16) // 2, length, out)
            at += 4
        else:
            return
        done += 1


def _codes(samples: Array, description: PixelDescription) -> Array:
    """Stored bits as unsigned numbers; bits above Bits Stored may hold anything (PS3.5 8.1.1)."""
    if description.bits_allocated == 1:
        return samples
    unsigned = samples.view(f"<u{description.bits_allocated // 8}")
    if description.bits_stored >= min(description.bits_allocated, 16):
        return unsigned
    codes: Array = unsigned & ((1 << description.bits_stored) - 1)
    return codes


def _stored_values(description: PixelDescription) -> Array:
    """The value that each of the `_codes` stands for."""
    values = np.arange(1 << min(description.bits_stored, description.bits_allocated, 16))
    return np.where(values >= len(values) // 2, values - len(values), values) if description.is_signed else values


def _is_linear(grayscale: Grayscale) -> bool:
    return isinstance(grayscale.modality, Rescale)


def _voi_of(description: PixelDescription, grayscale: Grayscale) -> LookUpTable | Window | None:
    """The VOI transformation; images of up to 8 bits without any are meant to be shown as they are."""
    is_plain = grayscale.modality == Rescale() and description.bits_stored <= 8 and not description.is_signed
    if grayscale.voi is None and is_plain:
        full = (1 << description.bits_stored) - 1
        return Window(full / 2, full, "LINEAR_EXACT")
    return grayscale.voi


def _present(values: Array, stored: Array, description: PixelDescription, grayscale: Grayscale) -> Array:
    voi = _voi_of(description, grayscale) or _range(values, stored, grayscale)
    if isinstance(voi, LookUpTable):
        full = (1 << voi.bits) - 1
        return _to_8_bit(voi.apply(np.rint(values)) / full, grayscale)
    return _to_8_bit(voi.apply(values), grayscale)


def _range(values: Array, stored: Array, grayscale: Grayscale) -> Window:
    """A window over the values that are image."""
    is_image = np.isfinite(values)
    if grayscale.padding is not None:
        first, last = grayscale.padding
        is_image &= (stored < first) | (stored > last)
    image = values[is_image]
    if not image.size:
        return Window(0, 1, "LINEAR_EXACT")
    low, high = float(image.min()), float(image.max())
    return Window((low + high) / 2, high - low if high > low else 1, "LINEAR_EXACT")


def _to_8_bit(fraction: Array, grayscale: Grayscale) -> Array:
    clean = np.nan_to_num(fraction, nan=0.0)
    clean = 1 - clean if grayscale.is_inverse else clean
    gray: Array = (np.clip(clean, 0, 1) * 255 + 0.5).astype(np.uint8)
    return gray
