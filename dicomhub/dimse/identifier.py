"""Identifiers of C-FIND: from the wire to a query, from a row of its result to the wire (PS3.4 C.4.1).

Matching and its meaning are `dicomhub.dicom.matching`, the same as for QIDO-RS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dicomhub.dicom.criteria import NUMBER_VRS, TEMPORAL_VRS, TEXT_VRS
from dicomhub.dicom.json_model import header_to_dict
from dicomhub.dicom.levels import DEPTH, TIMEZONE_OFFSET_FROM_UTC, Attributes, level_of
from dicomhub.dicom.matching import Match, Query, SequenceMatch, Universal, parse_criterion
from dicomhub.dicom.model import Level
from dicomhub.dicom.names import person_name_text
from dicomhub.dicom.part10 import Splitter, make_file_meta
from dicomhub.dicom.private import creator_tag, find_tag, is_private, is_private_creator
from dicomhub.dimse.contexts import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from dicomhub.errors import BadRequest, DicomHubError, InvalidQuery

MAX_IDENTIFIER = 1024**2
"""Bytes; lists of thousands of UIDs fit."""

SPECIFIC_CHARACTER_SET = "00080005"
QUERY_RETRIEVE_LEVEL = "00080052"
RETRIEVE_AE_TITLE = "00080054"
INSTANCE_AVAILABILITY = "00080056"
CONTROL = frozenset({SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL})
"""Attributes of an identifier that say how to read it; all others are keys (PS3.4 C.4.1.1.3.1)."""
OURS = frozenset({RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY})
"""Keys that we answer from what we are, not from what is stored."""
EVERYWHERE = frozenset({f"{TIMEZONE_OFFSET_FROM_UTC:08X}", *OURS})
"""Keys of no level."""

WIRE_LEVELS: Mapping[str, Level] = {
    "PATIENT": Level.PATIENT,
    "STUDY": Level.STUDY,
    "SERIES": Level.SERIES,
    "IMAGE": Level.INSTANCE,
}
"""Query/Retrieve Level (0008,0052), PS3.4 C.6.1.1 and C.6.2.1."""
LEVELS_OF_MODEL: Mapping[str, frozenset[str]] = {
    PATIENT_ROOT_FIND: frozenset(WIRE_LEVELS),
    STUDY_ROOT_FIND: frozenset(WIRE_LEVELS) - {"PATIENT"},
}

MATCHED_VRS = TEXT_VRS | NUMBER_VRS | TEMPORAL_VRS | {"AT", "SQ", "UI"}


@dataclass(frozen=True, slots=True)
class Identifier:
    """A request identifier."""

    wire_level: str
    """As in Query/Retrieve Level (0008,0052)."""
    keys: Attributes
    """Matching and return keys as DICOM JSON, group lengths left out."""
    character_set: tuple[str, ...]
    """Specific Character Set of the request: the requestor can read it."""

    @property
    def level(self) -> Level:
        """Level of the entities that are searched."""
        return WIRE_LEVELS[self.wire_level]

    def query(self) -> Query:
        """The search that it asks for.

        Raises
        ------
        InvalidQuery
            A key's value is not one that its VR can be matched by.
        """
        keys = {tag: element for tag, element in self.keys.items() if tag not in OURS}
        include = frozenset((int(tag, 16),) for tag in keys if not is_private_creator(int(tag, 16)))
        return Query(level=self.level, matches=tuple(_matches(keys)), include=include)

    def has_unsupported_keys(self) -> bool:
        """Whether an optional key is neither matched nor returned at this level (PS3.4 C.4.1.1.4, status FF01)."""
        return any(self._is_unsupported(tag, element) for tag, element in self.keys.items())

    def _is_unsupported(self, tag: str, element: Mapping[str, Any]) -> bool:
        if tag in EVERYWHERE or is_private_creator(int(tag, 16)):
            return tag in OURS and bool(element.get("Value"))
        if element["vr"] not in MATCHED_VRS and _has_value(element):
            return True
        return DEPTH[level_of(int(tag, 16))] > DEPTH[self.level]

    def answer(self, row: Attributes, ae_title: str) -> dict[str, Any]:
        """The response identifier for a matching entity: every key that was asked for, with its value or empty.

        Parameters
        ----------
        ae_title
            Where the entity can be retrieved from (PS3.4 C.4.1.1.3.2).
        """
        found = _select(self.keys, row)
        found[QUERY_RETRIEVE_LEVEL] = {"vr": "CS", "Value": [self.wire_level]}
        found[RETRIEVE_AE_TITLE] = {"vr": "AE", "Value": [ae_title]}
        if INSTANCE_AVAILABILITY in self.keys:
            found[INSTANCE_AVAILABILITY] = {"vr": "CS", "Value": ["ONLINE"]}
        return found


def parse_identifier(data: bytes, transfer_syntax_uid: str, sop_class_uid: str) -> Identifier:
    """Read a request identifier.

    Raises
    ------
    BadRequest
        The bytes are no data set in ``transfer_syntax_uid``.
    InvalidQuery
        The Query/Retrieve Level is missing or not one of the information model.
    """
    attributes = _attributes(data, transfer_syntax_uid)
    wire_level = "".join(_texts(attributes.get(QUERY_RETRIEVE_LEVEL, {}))[:1]).strip().upper()
    levels = LEVELS_OF_MODEL[sop_class_uid]
    if wire_level not in levels:
        asked = wire_level[:16] or "missing"
        raise InvalidQuery(f"Query/Retrieve Level (0008,0052) is {asked}: use {', '.join(sorted(levels))}")
    keys = {tag: element for tag, element in attributes.items() if tag not in CONTROL}
    character_set = tuple(text.strip() for text in _texts(attributes.get(SPECIFIC_CHARACTER_SET, {})))
    return Identifier(wire_level, keys, character_set)


def _attributes(data: bytes, transfer_syntax_uid: str) -> Attributes:
    """The data set as DICOM JSON; the splitter inflates it, and refuses what ends inside an element."""
    splitter = Splitter(_Nowhere, bulk_threshold=MAX_IDENTIFIER + 1, max_inflated=MAX_IDENTIFIER)
    try:
        splitter.feed(make_file_meta(PATIENT_ROOT_FIND, "1.2", transfer_syntax_uid) + data)
        split = splitter.finish()
        view = split.view or split
        return header_to_dict(view.header, view.segments, view.transfer_syntax_uid)
    except DicomHubError as error:
        raise BadRequest(f"The identifier cannot be read: {error.message}") from error


class _Nowhere:
    """Takes what the splitter cuts out: the deflated form of what it also gives inflated, or pixel data, no key."""

    def write(self, data: bytes | memoryview) -> None:
        """Forget."""

    def finish(self) -> tuple[bytes, int]:
        """As if nothing had been written."""
        return b"", 0

    def discard(self) -> None:
        """Nothing to discard."""


# -- keys ------------------------------------------------------------------------------------------------------------


def _matches(keys: Attributes) -> Iterator[Match]:
    """Conditions of the keys that have values; without one a key matches everything (PS3.4 C.2.2.2.3)."""
    for tag, element in keys.items():
        path, vr = (int(tag, 16),), element["vr"]
        if vr == "SQ":
            inner = tuple(match for item in element.get("Value") or () for match in _matches(item or {}))
            if inner:
                yield Match(path, vr, SequenceMatch(inner))
        elif vr in MATCHED_VRS and _has_value(element):
            criterion = _criterion(tag, vr, element)
            if not isinstance(criterion, Universal):
                yield Match(path, vr, criterion)


def _criterion(tag: str, vr: str, element: Mapping[str, Any]) -> Any:
    try:
        return parse_criterion(vr, "\\".join(_texts(element)))
    except InvalidQuery as error:
        raise InvalidQuery(f"({tag[:4]},{tag[4:]}): {error.message}") from error


def _has_value(element: Mapping[str, Any]) -> bool:
    return bool(element.get("Value") or element.get("InlineBinary"))


def _texts(element: Mapping[str, Any]) -> list[str]:
    """Values as text, as they were written in the identifier."""
    return [_text_of(value) for value in element.get("Value") or ()]


def _text_of(value: Any) -> str:
    if isinstance(value, dict):
        return person_name_text(value)
    return "" if value is None else str(value)


# -- answers ---------------------------------------------------------------------------------------------------------


def _select(keys: Attributes, row: Attributes) -> dict[str, Any]:
    """What of ``row`` the keys ask for; of sequences with keys in their item, only those (PS3.4 C.2.2.2.6)."""
    return {tag: _element(tag, wanted, keys, row) for tag, wanted in keys.items()}


def _element(tag: str, wanted: Mapping[str, Any], keys: Attributes, row: Attributes) -> Mapping[str, Any]:
    if is_private_creator(int(tag, 16)):
        return wanted
    found = row.get(_tag_in_row(tag, keys, row)) or {}
    if found.get("vr", wanted["vr"]) == "SQ":
        items = found.get("Value") or []
        item_keys = next(iter(wanted.get("Value") or ()), None)
        return {"vr": "SQ", "Value": [_select(item_keys, item or {}) for item in items] if item_keys else items}
    if "Value" in found or "InlineBinary" in found:
        return found
    return {"vr": wanted["vr"]}


def _tag_in_row(tag: str, keys: Attributes, row: Attributes) -> str:
    """The tag in the row; a private attribute may be in another block there (PS3.5 7.8.1)."""
    number = int(tag, 16)
    if is_private(number):
        creator = _texts(keys.get(f"{creator_tag(number):08X}", {}))
        return (find_tag(row, number, creator[0].strip()) if creator else None) or tag
    return tag
