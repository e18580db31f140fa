"""One value as the attribute object of the DICOM JSON Model (PS3.18 F.2.2, F.2.3), by VR."""

from __future__ import annotations

import struct
from binascii import b2a_base64
from collections.abc import Callable
from decimal import Decimal
from math import isfinite
from typing import Any, Final

from dicomhub.dicom.charset import CharacterSet
from dicomhub.dicom.names import COMPONENT_GROUPS

Attribute = dict[str, Any]
Converter = Callable[[str, bytes, CharacterSet, str], Attribute]
"""From VR, value bytes (not empty), character set and byte order ("<" or ">")."""

_EXACT: Final = 2**53
"""Integers up to here are the same in every JSON reader; larger ones are written as strings (PS3.18 F.2.3)."""
_SAFE_DIGITS: Final = 15
"""Significant decimal digits that a 64-bit float always holds."""


def in_base64(vr: str, raw: bytes) -> Attribute:
    """The value as InlineBinary."""
    return {"vr": vr, "InlineBinary": b2a_base64(raw, newline=False).decode("ascii")}


def _attribute(vr: str, values: list[Any]) -> Attribute:
    return {"vr": vr, "Value": values}


def _strings(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
    """Values of the default repertoire; Latin-1 where a writer left it."""
    text = raw.decode("latin-1").rstrip(" \0")
    if "\\" in text:
        return _attribute(vr, [value.rstrip(" \0") or None for value in text.split("\\")])
    return {"vr": vr, "Value": [text]} if text else {"vr": vr}


def _titles(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
    """AE: leading spaces do not count either (PS3.5 6.2)."""
    values = [value.strip(" \0") or None for value in raw.decode("latin-1").split("\\")]
    return _attribute(vr, values) if values != [None] else {"vr": vr}


def _texts(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
    """LO, SH, UC: several values in the character set of the data set."""
    text = _decode(raw, charset).rstrip(" \0")
    if "\\" in text:
        return _attribute(vr, [value.rstrip(" \0") or None for value in text.split("\\")])
    return {"vr": vr, "Value": [text]} if text else {"vr": vr}


def _text(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
    """LT, ST, UT: one value, in which a backslash is a character."""
    text = _decode(raw, charset).rstrip(" \0")
    return {"vr": vr, "Value": [text]} if text else {"vr": vr}


def _uri(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
    text = raw.decode("latin-1").rstrip(" \0")
    return {"vr": vr, "Value": [text]} if text else {"vr": vr}


def _decode(raw: bytes, charset: CharacterSet) -> str:
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    return charset.decode(raw)


def _names(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
    """PN: an object of the component groups that are not empty (PS3.18 F.2.2)."""
    text = charset.decode(raw, is_name=True).rstrip(" \0")
    values = [_name(value) for value in text.split("\\")]
    return _attribute(vr, values) if values != [None] else {"vr": vr}


def _name(value: str) -> dict[str, str] | None:
    if "=" not in value:
        value = value.rstrip(" \0")
        return {"Alphabetic": value} if value else None
    groups = [group.rstrip(" \0") for group in value.split("=")]
    return {name: group for name, group in zip(COMPONENT_GROUPS, groups, strict=False) if group} or None


def _are_short(raw: bytes, parts: list[bytes]) -> bool:
    """Whether Python's numbers are exact for all values; it would read underscores as well."""
    return (len(raw) <= _SAFE_DIGITS or max(map(len, parts)) <= _SAFE_DIGITS) and b"_" not in raw


def _decimals(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
    parts = raw.split(b"\\")
    try:
        numbers = [*map(float, parts)]
        if _are_short(raw, parts) and isfinite(sum(numbers)):
            return {"vr": vr, "Value": numbers}
    except ValueError:
        pass
    values = [_decimal(value.strip(b" \0")) for value in parts]
    return _attribute(vr, values) if values != [None] else {"vr": vr}


def _decimal(text: bytes) -> float | str | None:
    """DS as a number, or as it is written where a number would lose something."""
    try:
        number = float(text)
    except ValueError:
        return text.decode("latin-1") or None
    if len(text) > _SAFE_DIGITS or not isfinite(number) or b"_" in text:
        return number if _is_exact(text, number) else text.decode("latin-1")
    return number


def _is_exact(text: bytes, number: float) -> bool:
    """Whether the digits of ``text`` are those of ``number``, written as far as they go."""
    try:
        decimal = Decimal(text.decode("ascii"))
        return b"_" not in text and Decimal(format(number, f".{len(decimal.as_tuple().digits)}g")) == decimal
    except (ArithmeticError, ValueError):
        return False


def _integers(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
    parts = raw.split(b"\\")
    try:
        if _are_short(raw, parts):
            return {"vr": vr, "Value": [*map(int, parts)]}
    except ValueError:
        pass
    values = [_integer(value.strip(b" \0")) for value in parts]
    return _attribute(vr, values) if values != [None] else {"vr": vr}


def _integer(text: bytes) -> int | str | None:
    """IS as a number; as it is written where it is no integer."""
    try:
        number = int(text)
    except ValueError:
        decimal = _decimal(text)
        if not isinstance(decimal, float) or not decimal.is_integer():
            return text.decode("latin-1") or None
        number = int(decimal)
    return number if -_EXACT <= number <= _EXACT and b"_" not in text else text.decode("latin-1")


def _tags(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
    numbers = struct.unpack_from(f"{order}{len(raw) // 4 * 2}H", raw)
    if not numbers:
        return in_base64("UN", raw)
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return _attribute(vr, [f"{group:04X}{element:04X}" for group, element in pairs])


def _numbers(code: str) -> Converter:
    """Converter of binary numbers; values of a wrong length become UN."""
    size = struct.calcsize("<" + code)
    one = {order: struct.Struct(order + code).unpack for order in "<>"}

    def convert(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
        if len(raw) == size:
            return {"vr": vr, "Value": [*one[order](raw)]}
        count, rest = divmod(len(raw), size)
        if rest:
            return in_base64("UN", raw)
        return {"vr": vr, "Value": list(struct.unpack(f"{order}{count}{code}", raw))}

    return convert


def _floats(code: str) -> Converter:
    """The same for FL and FD; NaN and infinities as "NaN", "inf", "-inf", for which JSON has no numbers."""
    numbers = _numbers(code)

    def convert(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
        result = numbers(vr, raw, charset, order)
        values = result.get("Value", ())
        if not all(map(isfinite, values)):
            result["Value"] = [value if isfinite(value) else _not_finite(value) for value in values]
        return result

    return convert


def _not_finite(value: float) -> str:
    if value != value:
        return "NaN"
    return "inf" if value > 0 else "-inf"


def _long_numbers(code: str) -> Converter:
    """The same for SV and UV; numbers beyond 2**53 as strings."""
    numbers = _numbers(code)

    def convert(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
        result = numbers(vr, raw, charset, order)
        if "Value" in result:
            result["Value"] = [value if -_EXACT <= value <= _EXACT else str(value) for value in result["Value"]]
        return result

    return convert


def _bytes(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
    return in_base64(vr, raw)


def _words(size: int) -> Converter:
    """Converter of words, which InlineBinary has in little endian order (PS3.18 F.2.6)."""

    def convert(vr: str, raw: bytes, charset: CharacterSet, order: str) -> Attribute:
        if order == ">":
            whole = len(raw) - len(raw) % size
            raw = b"".join(raw[at : at + size][::-1] for at in range(0, whole, size)) + raw[whole:]
        return in_base64(vr, raw)

    return convert


CONVERTERS: Final[dict[str, Converter]] = {
    **dict.fromkeys(("AS", "CS", "DA", "DT", "TM", "UI"), _strings),
    **dict.fromkeys(("LO", "SH", "UC"), _texts),
    **dict.fromkeys(("LT", "ST", "UT"), _text),
    "AE": _titles,
    "AT": _tags,
    "DS": _decimals,
    "FD": _floats("d"),
    "FL": _floats("f"),
    "IS": _integers,
    "OB": _bytes,
    "OD": _words(8),
    "OF": _words(4),
    "OL": _words(4),
    "OV": _words(8),
    "OW": _words(2),
    "PN": _names,
    "SL": _numbers("i"),
    "SS": _numbers("h"),
    "SV": _long_numbers("q"),
    "UL": _numbers("I"),
    "UR": _uri,
    "US": _numbers("H"),
    "UV": _long_numbers("Q"),
}
"""For every VR but SQ and UN, which need their surroundings."""
