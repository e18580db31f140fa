"""Small data sets, such as identifiers, from the DICOM JSON Model to bytes in any uncompressed transfer syntax.

Rows of a search are DICOM JSON already. Going through a data set library would parse, validate and refuse values that
were accepted into the archive; a peer that asks for them must get them as they are.
"""

from __future__ import annotations

import base64
import contextlib
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydicom.charset import convert_encodings, default_encoding, encode_string, python_encoding
from pydicom.uid import UID
from pydicom.valuerep import PersonName

from dicomhub.dicom.elements import explicit_head, fitting_vr
from dicomhub.dicom.names import person_name_text

Attributes = Mapping[str, Any]
"""DICOM JSON of one data set (PS3.18 F.2)."""

SPECIFIC_CHARACTER_SET = "00080005"
UTF_8 = "ISO_IR 192"
KNOWN_CHARACTER_SETS = frozenset(python_encoding)
"""Defined terms that pydicom knows; others it would silently take for Latin-1."""

_NUMBERS = {"FD": "d", "FL": "f", "SL": "l", "SS": "h", "SV": "q", "UL": "L", "US": "H", "UV": "Q"}
_DECIMAL_STRING_MAX = 16
_LOCAL_TEXT = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
"""VRs of text in the data set's character set; PN is the other one (PS3.5 6.1.2.3)."""


class Writer:
    """Writes data sets in one transfer syntax.

    Parameters
    ----------
    transfer_syntax_uid
        Implicit or explicit VR, little or big endian, deflated.
    """

    def __init__(self, transfer_syntax_uid: str) -> None:
        syntax = UID(transfer_syntax_uid)
        self._is_implicit = syntax.is_implicit_VR
        self._is_deflated = syntax.is_deflated
        self._order = "<" if syntax.is_little_endian else ">"

    def write(self, attributes: Attributes, character_set: Sequence[str] = ()) -> bytes:
        """Encode ``attributes`` with Specific Character Set ``character_set`` where that can express all text.

        Text outside of the default repertoire that it cannot express, or without one, is written in UTF-8 (ISO_IR 192).
        """
        try:
            data = self._with_character_set(attributes, character_set)
        except UnicodeError:
            data = self._with_character_set(attributes, (UTF_8,))
        if self._is_deflated:
            deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            data = deflater.compress(data) + deflater.flush()
            data += b"\0" * (len(data) % 2)  # PS3.5 A.5
        return data

    def _with_character_set(self, attributes: Attributes, character_set: Sequence[str]) -> bytes:
        named = {tag: element for tag, element in attributes.items() if tag != SPECIFIC_CHARACTER_SET}
        if any(character_set):
            named[SPECIFIC_CHARACTER_SET] = {"vr": "CS", "Value": [*character_set]}
        return self._data_set(named, _encoder(character_set))

    def _data_set(self, attributes: Attributes, encode: Encode) -> bytes:
        return b"".join(self._element(int(tag, 16), attributes[tag], encode) for tag in sorted(attributes))

    def _element(self, tag: int, element: Mapping[str, Any], encode: Encode) -> bytes:
        vr: str = element["vr"]
        value = self._value(vr, element, encode)
        if self._is_implicit:
            return struct.pack(self._order + "HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
        return explicit_head(tag, fitting_vr(vr, len(value)).encode(), len(value), self._order) + value

    def _value(self, vr: str, element: Mapping[str, Any], encode: Encode) -> bytes:
        values = element.get("Value") or ()
        if vr == "SQ":
            return b"".join(self._item(item or {}, encode) for item in values)
        if vr in _NUMBERS:
            return b"".join(struct.pack(self._order + _NUMBERS[vr], _number(vr, value)) for value in values)
        if vr == "AT":
            tags = (int(value, 16) for value in values)
            return b"".join(struct.pack(self._order + "HH", tag >> 16, tag & 0xFFFF) for tag in tags)
        if "InlineBinary" in element:
            return base64.b64decode(element["InlineBinary"])
        return _text(vr, values, encode)

    def _item(self, item: Attributes, encode: Encode) -> bytes:
        data = self._data_set(item, encode)
        return struct.pack(self._order + "HHL", 0xFFFE, 0xE000, len(data)) + data


Encode = Callable[[str, bool], bytes]
"""Text and whether it is a person name, to bytes; raises UnicodeError."""


def _encoder(character_set: Sequence[str]) -> Encode:
    """How text becomes bytes in a character set; pydicom knows the code extensions (PS3.5 6.1.2.5)."""
    if not any(character_set):
        return lambda text, is_name: text.encode("ascii")
    if not KNOWN_CHARACTER_SETS.issuperset(character_set):
        raise UnicodeError(f"Unknown character set {character_set}")
    encodings = convert_encodings([*character_set])

    def encode(text: str, is_name: bool) -> bytes:
        if not text.isascii() and not all(_can_express(encodings, character) for character in text):
            raise UnicodeError(f"{character_set} cannot express {text!r}")  # pydicom would write question marks
        return bytes(PersonName(text).encode(encodings) if is_name else encode_string(text, encodings))

    return encode


def _can_express(encodings: Sequence[str], character: str) -> bool:
    for encoding in encodings:
        with contextlib.suppress(UnicodeError):
            # What pydicom calls default is Latin-1 for leniency in reading; we write the repertoire of PS3.5 6.1.2.1.
            character.encode("ascii" if encoding == default_encoding else encoding)
            return True
    return False


def _text(vr: str, values: Iterable[Any], encode: Encode) -> bytes:
    parts = [_part(vr, value) for value in values]
    if vr == "PN":
        raw = b"\\".join(encode(part, True) for part in parts)
    elif vr in _LOCAL_TEXT:
        raw = b"\\".join(encode(part, False) for part in parts)
    else:
        raw = "\\".join(parts).encode("latin-1", "replace")
    return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)


def _part(vr: str, value: Any) -> str:
    if value is None:
        return ""
    if vr == "PN":
        return person_name_text(value)
    if vr == "DS" and isinstance(value, float):
        return _decimal_string(value)
    return str(value)


def _decimal_string(value: float) -> str:
    """The shortest exact form, or the closest one that a DS can hold (PS3.5 6.2: 16 characters)."""
    text = repr(value).removesuffix(".0")
    digits = _DECIMAL_STRING_MAX
    while len(text) > _DECIMAL_STRING_MAX:
        digits -= 1
        text = f"{value:.{digits}g}"
    return text


def _number(vr: str, value: Any) -> int | float:
    if value is None:
        return 0
    return float(value) if vr in ("FD", "FL") else int(value)
