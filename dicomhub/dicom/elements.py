"""What the first bytes of a data element say: VR tables (PS3.5 6.2, 7.1) and the tag dictionary (PS3.6)."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from pydicom.datadict import dictionary_VR, private_dictionary_VR

UNDEFINED: Final = 0xFFFFFFFF
"""Undefined length (PS3.5 7.1.1)."""

LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""VRs with two reserved bytes and a 32-bit length (PS3.5 7.1.2)."""
SHORT_VRS: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""VRs with a 16-bit length."""

# Forms of an element: where its length is and what it may be.
SHORT: Final = 0
LONG: Final = 1
UNKNOWN: Final = 2
"""Two capital letters that are no VR: the length has 32 bits if the 16-bit one is 0 (so PS3.5 6.2 promises)."""
IMPLICIT: Final = 3
"""No VR where one should be: the element is in Implicit VR."""
DELIMITER: Final = 4
"""Item, Item Delimitation or Sequence Delimitation (PS3.5 7.5)."""


@lru_cache(maxsize=16384)
def tag_vr(tag: int) -> str:
    """VR of a public tag, group length or private creator; "" when the dictionary (PS3.6) has none.

    May be ambiguous: "US or SS", "OB or OW", "US or OW", "US or SS or OW".
    """
    if tag & 0xFFFF == 0:
        return "UL"
    if tag & 0x10000:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else ""
    try:
        vr = str(dictionary_VR(tag))
    except KeyError:
        return ""
    return "" if vr == "NONE" else vr


@lru_cache(maxsize=16384)
def look_up(tag: str) -> tuple[str, str]:
    """VR of a public tag as `tag_vr`; of a private one, the tag of its creator (PS3.5 7.8.1)."""
    number = int(tag, 16)
    if number & 0x10000 and number & 0xFF00:
        return "", f"{tag[:4]}00{tag[4:6]}"
    return tag_vr(number), ""


@lru_cache(maxsize=16384)
def private_vr(tag: str, creator: str) -> str:
    """VR of a private tag by its creator; "" when the private dictionary has none."""
    try:
        return str(private_dictionary_VR(int(tag, 16), creator))
    except KeyError:
        return ""


@lru_cache(maxsize=32768)
def describe_explicit(key: bytes, little: bool) -> tuple[str, str, int]:
    """Tag as eight hexadecimal digits, VR and form of an element, from its first six bytes.

    The VR is "UN" where what is written is no VR, and the dictionary's ("" or ambiguous, too) for the form `IMPLICIT`.
    """
    tag = _hexadecimal(key, little)
    vr = key[4:]
    if tag.startswith("FFFE"):
        return tag, "", DELIMITER
    if vr in SHORT_VRS:
        return tag, vr.decode(), SHORT
    if vr in LONG_VRS:
        return tag, vr.decode(), LONG
    if vr.isalpha() and vr.isupper():
        return tag, "UN", UNKNOWN
    if vr == b"  ":  # written by a CT scanner, with a 16-bit length
        return tag, "UN", SHORT
    return tag, tag_vr(int(tag, 16)), IMPLICIT


@lru_cache(maxsize=32768)
def describe_implicit(key: bytes, little: bool) -> tuple[str, str, int]:
    """The same for Implicit VR, from the four bytes of the tag."""
    tag = _hexadecimal(key, little)
    if tag.startswith("FFFE"):
        return tag, "", DELIMITER
    return tag, tag_vr(int(tag, 16)), IMPLICIT


def explicit_head(tag: int, vr: bytes, length: int, order: str = "<") -> bytes:
    """What comes before a value in Explicit VR (PS3.5 7.1.2); ``order`` is that of `struct`, ``<`` or ``>``."""
    if vr in LONG_VRS:
        return struct.pack(order + "HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length)
    return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr, length)


def fitting_vr(vr: str, length: int) -> str:
    """The VR to write a value of ``length`` bytes under: UN where its own has too few bits for that (PS3.5 6.2.2)."""
    return vr if length <= 0xFFFF or vr.encode() in LONG_VRS else "UN"


def _hexadecimal(key: bytes, little: bool) -> str:
    group, element = struct.unpack_from("<HH" if little else ">HH", key)
    return f"{group:04X}{element:04X}"
