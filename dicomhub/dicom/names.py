"""The search form of person names: case- and accent-insensitive in every script (PS3.5 6.2.1, PS3.4 C.2.2.2.1)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

COMPONENT_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
"""Component groups of a person name, in their order, as DICOM JSON calls them (PS3.18 F.2.2)."""

_ASCII_NAME = re.compile(r"[ -~]*")
_SPACES = re.compile(r" +")
_SPACES_AT_CARET = re.compile(r" *\^ *")


def normalise_person_name(text: str) -> str:
    """One component group of a person name as it is compared.

    Two names match when their normal forms are equal. Case and accents are dropped (``Müller`` and ``MULLER`` match;
    PS3.4 C.2.2.2.1 leaves that to the implementation), compatibility forms are unified (half-width katakana,
    ligatures), padding and trailing empty components are removed. The wildcards ``*`` and ``?`` and the delimiter ``^``
    stay, so that keys and values are normalised by the same function. In scripts whose marks are letters of their own
    (Hangul jamo, kana voicing, Indic vowels) marks stay.
    """
    folded = text.lower() if _ASCII_NAME.fullmatch(text) else _fold(text)
    if " " in folded:
        folded = _SPACES_AT_CARET.sub("^", _SPACES.sub(" ", folded))
    return folded.strip(" ").rstrip("^").strip(" ")


def person_name_text(groups: Mapping[str, str]) -> str:
    """A person name of DICOM JSON as a data set writes it: component groups joined by ``=`` (PS3.5 6.2.1)."""
    return "=".join(groups.get(group, "") for group in COMPONENT_GROUPS).rstrip("=")


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    bare = "".join(character for character in decomposed if not _is_accent(character))
    return unicodedata.normalize("NFC", bare).replace("\u3000", " ")


def _is_accent(character: str) -> bool:
    """Whether this is an accent of Latin, Greek or Cyrillic: the block Combining Diacritical Marks."""
    return "\u0300" <= character <= "\u036f"
