"""Specific Character Set (0008,0005): decoding text (PS3.3 C.12.1.1.2, PS3.5 6.1).

Text that does not fit its character set is decoded with replacement characters; it never raises.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_SINGLE_BYTE: Final = {
    "": "latin-1",
    "6": "latin-1",  # more than ASCII, because many a writer forgets to say ISO_IR 100
    "13": "shift_jis",  # JIS X 0201 is its single-byte part
    "100": "latin-1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "126": "iso8859_7",
    "127": "iso8859_6",
    "138": "iso8859_8",
    "144": "iso8859_5",
    "148": "iso8859_9",
    "166": "iso8859_11",
    "203": "iso8859_15",
    "192": "utf-8",  # in a misspelt ISO_IR 192
}
"""Python codec by ISO-IR registration number; every one has ASCII (or JIS X 0201 romaji) in its lower half."""
_MULTI_BYTE: Final = {"149": "euc_kr", "58": "gb2312"}
"""As initial sets, which the standard does not allow and writers use."""
_STAND_ALONE: Final = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk", "ISO 2022 GBK": "gbk"}

_TO_G0: Final = {b"(B": "", b"(J": "", b"$B": "iso2022_jp", b"$@": "iso2022_jp", b"$(D": "iso2022_jp_2"}
"""Escape sequences (PS3.3 Tables C.12-3 and C.12-4) that change the lower half; "" back to single bytes."""
_TO_G1: Final = {
    b")I": "shift_jis",
    b"-A": "latin-1",
    b"-B": "iso8859_2",
    b"-C": "iso8859_3",
    b"-D": "iso8859_4",
    b"-F": "iso8859_7",
    b"-G": "iso8859_6",
    b"-H": "iso8859_8",
    b"-L": "iso8859_5",
    b"-M": "iso8859_9",
    b"-T": "iso8859_11",
    b"-b": "iso8859_15",
    b"$)C": "euc_kr",
    b"$)A": "gb2312",
}
_ESCAPE: Final = re.compile(rb"\x1b(\$\([A-Z]|\$\)[A-Z]|\$[@AB]|[()-][A-Za-z])")
_RESETS: Final = {False: re.compile(rb"([\\\t\n\x0c\r])"), True: re.compile(rb"([\\\t\n\x0c\r^=])")}
"""Characters after which the initial sets are in force again (PS3.5 6.1.2.5.3), by whether it is a person name."""
_ISO_8859: Final = frozenset({*range(2, 12), 13, 14, 15, 16})
_NUMBER: Final = re.compile(r"ISO.?(?:2022.?)?(?:IR.?)?(\d+)")


class CharacterSet:
    """How the text of a data set is decoded.

    Parameters
    ----------
    codec
        Python codec of text outside escape sequences.
    extensible
        Whether escape sequences may switch to other sets (ISO 2022).
    """

    __slots__ = ("_codec", "_extensible")

    def __init__(self, codec: str, extensible: bool) -> None:
        self._codec = codec
        self._extensible = extensible

    def decode(self, raw: bytes, *, is_name: bool = False) -> str:
        """Text of a value with its padding and backslashes; ``is_name`` for PN, where ``^`` and ``=`` delimit."""
        if self._extensible and b"\x1b" in raw:
            return self._decode_extended(raw, is_name)
        return raw.decode(self._codec, "replace")

    def _decode_extended(self, raw: bytes, is_name: bool) -> str:
        """Text between escape sequences: two-byte sets in the lower half come and go, the upper half has its own."""
        lower, escape, upper = "", b"", self._codec
        text: list[str] = []
        at = 0
        for match in [*_ESCAPE.finditer(raw), None]:
            run = raw[at : match.start() if match else len(raw)]
            if lower:  # Python's codecs of these want the escape sequence before the text
                text.append((escape + run).decode(lower, "replace"))
            else:
                first, delimiter, rest = _partition(run, is_name)
                text.append(first.decode(upper, "replace") + (delimiter + rest).decode(self._codec, "replace"))
                upper = self._codec if delimiter else upper
            if match:
                at = match.end()
                upper = _TO_G1.get(match[1], upper)
                if match[1] in _TO_G0:
                    lower, escape = _TO_G0[match[1]], match[0]
        return "".join(text)


def _partition(run: bytes, is_name: bool) -> tuple[bytes, bytes, bytes]:
    match = _RESETS[is_name].search(run)
    if match is None:
        return run, b"", b""
    return run[: match.start()], match[0], run[match.end() :]


DEFAULT: Final = CharacterSet("latin-1", extensible=True)
"""ISO-IR 6 and whatever a writer without Specific Character Set has meant (PS3.5 6.1.2.1)."""


@lru_cache(maxsize=256)
def character_set(value: bytes) -> CharacterSet:
    """The character set that a value of Specific Character Set names; `DEFAULT` when it names none that we know."""
    terms = [term.strip(" \0") for term in value.decode("latin-1").split("\\")]
    first = terms[0].upper()
    if first in _STAND_ALONE:
        return CharacterSet(_STAND_ALONE[first], extensible=False)
    return CharacterSet(_codec(first), extensible=True)


def _codec(term: str) -> str:
    if match := _NUMBER.fullmatch(term):
        return _SINGLE_BYTE.get(match[1]) or _MULTI_BYTE.get(match[1], "latin-1")
    if re.fullmatch("UTF.?8", term):
        return "utf-8"
    match = re.fullmatch(r"ISO.?8859.?(\d+)", term)
    return f"iso8859_{match[1]}" if match and int(match[1]) in _ISO_8859 else "latin-1"
