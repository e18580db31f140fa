"""Private attributes: tags, and the blocks that data sets reserve for their creators (PS3.5 7.8)."""

from __future__ import annotations

from dicomhub.dicom.levels import Attributes, key


def is_private(tag: int) -> bool:
    """Whether a tag is a private attribute in the block of a creator (PS3.5 7.8)."""
    return bool(tag & 0x10000) and tag & 0xFFFF >= 0x1000


def is_private_creator(tag: int) -> bool:
    """Whether a tag is a private creator, (gggg,0010) to (gggg,00FF) of an odd group (PS3.5 7.8.1)."""
    return bool(tag & 0x10000) and 0x10 <= tag & 0xFFFF <= 0xFF


def creator_tag(tag: int) -> int:
    """The tag whose value is the creator of a private attribute."""
    return tag & 0xFFFF0000 | (tag & 0xFFFF) >> 8


def find_tag(attributes: Attributes, tag: int, creator: str) -> str | None:
    """Key of a private attribute in the block that the data set has reserved for ``creator``; None without one."""
    group = key(tag)[:4]
    for block in range(0x10, 0x100):
        owner = attributes.get(f"{group}00{block:02X}")
        if owner is not None and _first_text(owner) == creator:
            return f"{group}{block:02X}{tag & 0xFF:02X}"
    return None


def _first_text(element: Attributes) -> str:
    values = element.get("Value") or [""]
    return values[0].strip(" ") if isinstance(values[0], str) else ""
