"""Attributes as clients name them, and the selection of those they want back (PS3.18 8.3.4.1, 8.3.4.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicomhub.dicom.criteria import Match, SequenceMatch
from dicomhub.dicom.levels import ALWAYS_PRESENT, DEFAULT_RETURN, Attributes, key
from dicomhub.dicom.matching import Include
from dicomhub.dicom.model import Level
from dicomhub.dicom.private import creator_tag, find_tag, is_private, is_private_creator
from dicomhub.errors import InvalidQuery

Path = tuple[int, ...]
"""Tags from the data set down to an attribute: all but the last are sequences."""

MAX_DEPTH = 16
"""Sequences in one path; no IOD nests that deep."""

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]*")


class UnknownAttribute(LookupError):
    """A name that is neither a tag nor a keyword of PS3.6."""


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """Read an attribute: keywords of PS3.6 or eight hexadecimal digits, joined by dots into a path through sequences.

    Raises
    ------
    UnknownAttribute
        A part is no keyword; it may be a parameter of another kind.
    InvalidQuery
        The path goes through an attribute that is no sequence, or is too long.
    """
    parts = text.split(".")
    path = tuple(_parse_tag(part, text) for part in parts)
    if len(path) > MAX_DEPTH:
        raise InvalidQuery(f"{text[:80]!r} goes through more than {MAX_DEPTH} sequences")
    for part, tag in zip(parts[:-1], path[:-1], strict=True):
        if vr_of(tag) not in ("SQ", "UN"):
            raise InvalidQuery(f"{text[:200]!r}: {part} is no sequence, so nothing can follow it")
    return path


def _parse_tag(part: str, text: str) -> int:
    if _TAG.fullmatch(part):
        return int(part, 16)
    tag = tag_for_keyword(part) if _KEYWORD.fullmatch(part) else None
    if tag is None:
        raise UnknownAttribute(text)
    return tag


@lru_cache(maxsize=4096)
def vr_of(tag: int) -> str:
    """Value representation by PS3.6, the first where it gives a choice; ``UN`` for private and unknown attributes."""
    try:
        return dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return "LO" if is_private_creator(tag) else "UN"


def nest(query_matches: Iterable[Match]) -> tuple[Match, ...]:
    """Join conditions on paths through the same sequence: one item must meet them all (PS3.4 C.2.2.2.6)."""
    found: list[Match] = []
    items: dict[int, list[Match]] = {}
    for match in query_matches:
        first, *rest = match.path
        if rest:
            items.setdefault(first, []).append(Match(tuple(rest), match.vr, match.criterion, match.creator))
        else:
            found.append(match)
    found.extend(Match((tag,), "SQ", SequenceMatch(nest(inner))) for tag, inner in items.items())
    return tuple(found)


@lru_cache(maxsize=16)
def default_include(level: Level, *, study_given: bool, series_given: bool) -> frozenset[Path]:
    """What a search returns unasked (PS3.18 10.6.3.3): its level's table, and those of parents not named in it."""
    tags = set(DEFAULT_RETURN[level])
    if level in (Level.SERIES, Level.INSTANCE) and not study_given:
        tags.update(DEFAULT_RETURN[Level.STUDY])
    if level is Level.INSTANCE and not series_given:
        tags.update(DEFAULT_RETURN[Level.SERIES])
    return frozenset((tag,) for tag in tags)


class Selection:
    """Picks the attributes to return out of data sets.

    Parameters
    ----------
    include
        Paths to return. Of a sequence that only paths go through, items are returned with what the paths name.
    creators
        Private creators by tag, as the request names them; what they own is found in whatever block it is.
    """

    def __init__(self, include: Include, creators: Mapping[int, str] | None = None) -> None:
        self._creators = creators or {}
        self._all = include == "all"
        self._whole: dict[str, int] = {}
        self._inner: dict[str, Selection] = {}
        self._private: dict[str, int] = {}
        self._empty: Attributes = {}
        if include != "all":
            self._divide(include)

    def _divide(self, include: frozenset[Path]) -> None:
        inner: dict[int, set[Path]] = {}
        for path in include:
            if len(path) == 1:
                self._whole[key(path[0])] = path[0]
            else:
                inner.setdefault(path[0], set()).add(path[1:])
        for tag, paths in inner.items():
            if key(tag) not in self._whole:
                self._inner[key(tag)] = Selection(frozenset(paths), self._creators)
        self._private = {
            name: tag for name, tag in self._whole.items() if is_private(tag) and creator_tag(tag) in self._creators
        }
        self._empty = {key(tag): {"vr": vr_of(tag)} for tag in ALWAYS_PRESENT if key(tag) in self._whole}

    def __call__(self, attributes: Attributes, *, complete: bool = False) -> Attributes:
        """The attributes to return; a new dictionary over the same elements.

        Parameters
        ----------
        complete
            Add attributes of type R that are absent, empty (PS3.18 10.6.3.3).
        """
        if self._all:
            return _without_bulk(attributes)
        found = dict(self._empty) if complete else {}
        for name in attributes.keys() & self._whole.keys():
            element = attributes[name]
            if "BulkDataURI" not in element:
                found[name] = _bare(element) if element.get("vr") == "SQ" else element
        for name, selection in self._inner.items():
            if name in attributes:
                found[name] = _prune(attributes[name], selection)
        for name, tag in self._private.items():
            found.pop(name, None)
            self._add_private(found, attributes, tag)
        return found

    def _add_private(self, found: Attributes, attributes: Attributes, tag: int) -> None:
        """A private attribute with its creator (PS3.18 10.6.3.3), in the block where this data set has them."""
        name = find_tag(attributes, tag, self._creators[creator_tag(tag)])
        if name is not None and name in attributes:
            owner = key(creator_tag(int(name, 16)))
            found |= _without_bulk({owner: attributes[owner], name: attributes[name]})


def _without_bulk(attributes: Attributes) -> Attributes:
    """The same without bulk data at any depth: a search refers to none."""
    return {name: _bare(element) for name, element in attributes.items() if "BulkDataURI" not in element}


def _bare(element: Any) -> Any:
    if element.get("vr") != "SQ" or "Value" not in element:
        return element
    items = [_without_bulk(item) if isinstance(item, dict) else item for item in element["Value"]]
    return {**element, "Value": items}


def _prune(element: Attributes, selection: Selection) -> Attributes:
    items = element.get("Value")
    if not items:
        return element
    return {**element, "Value": [selection(item) if isinstance(item, dict) else item for item in items]}
