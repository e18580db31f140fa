"""Queries as values (PS3.4 C.2.2.2, PS3.18 8.3.4). How they are met is `dicomhub.dicom.matcher`, shown here too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dicomhub.dicom.criteria import (
    CombinedRange,
    Criterion,
    EmptyValue,
    FuzzyName,
    Match,
    MultipleValue,
    Range,
    SequenceMatch,
    SingleValue,
    UIDList,
    Universal,
    Wildcard,
    fuzzy_name,
    parse_criterion,
)
from dicomhub.dicom.matcher import compile_matches, matches
from dicomhub.dicom.model import Level
from dicomhub.dicom.private import creator_tag, is_private, is_private_creator

__all__ = [
    "CombinedRange",
    "Criterion",
    "EmptyValue",
    "FuzzyName",
    "Include",
    "Match",
    "MultipleValue",
    "Query",
    "Range",
    "SequenceMatch",
    "SingleValue",
    "UIDList",
    "Universal",
    "Wildcard",
    "compile_matches",
    "matches",
    "parse_criterion",
]

Include = frozenset[tuple[int, ...]] | Literal["all"]
"""Attributes to return, each as the tags from the data set down to it; or every one that there is."""

DATE_AND_TIME = {
    0x00080020: 0x00080030,  # Study
    0x00080021: 0x00080031,  # Series
    0x00080022: 0x00080032,  # Acquisition
    0x00080023: 0x00080033,  # Content
    0x00080012: 0x00080013,  # Instance Creation
    0x00100030: 0x00100032,  # Patient's Birth
    0x00400244: 0x00400245,  # Performed Procedure Step Start
    0x00400250: 0x00400251,  # Performed Procedure Step End
}
"""Dates with the time that belongs to them."""


@dataclass(frozen=True, slots=True)
class Query:
    """A search: which entities, what of them, how many.

    An entity matches when at least one of its instances meets all conditions at once; conditions on attributes of the
    entity's own or a higher level are asked of the entity. So a study may be found by what only its series know.
    """

    level: Level
    matches: tuple[Match, ...] = ()
    include: Include = frozenset()
    """Attributes to return, and no others. Those of lower levels are ignored (PS3.18 10.6.3.3)."""
    limit: int | None = None
    """Results to return at most; None: all."""
    offset: int = 0
    """Results to skip."""
    fuzzy: bool = False
    """Fuzzy semantic matching of person names (PS3.18 8.3.4.2)."""
    combined: bool = False
    """Combined date-time matching (PS3.4 C.2.2.2.5.4): a range of dates and one of times are two moments."""

    creators: Mapping[int, str] = field(default_factory=dict)
    """Private creators by their tag in this request, for private attributes in `include`; filled by `plain`."""

    def where(self, *more: Match) -> Query:
        """The same search with further conditions, all of which must hold."""
        return replace(self, matches=self.matches + more)

    def plain(self) -> Query:
        """The same search with `fuzzy`, `combined` and private creators worked into the conditions.

        A creator (gggg,00bb) in a request names the owner of its (gggg,bbxx); an instance may have reserved another
        block for the same creator (PS3.5 7.8.1). A creator that no attribute belongs to stays a condition of its own.
        """
        creators = _creators(self.matches)
        paths = [match.path for match in self.matches] + ([] if self.include == "all" else list(self.include))
        used = {creator_tag(tag) for path in paths for tag in path if is_private(tag)} & creators.keys()
        found = tuple(
            _owned(match, creators)
            for match in self.matches
            if match.path[0] not in used and not _is_never_matched(match.path[0])
        )
        if self.fuzzy:
            found = tuple(_fuzzy(match) for match in found)
        if self.combined:
            found = _combine(found)
        return replace(self, matches=found, fuzzy=False, combined=False, creators=creators)


SPECIFIC_CHARACTER_SET = 0x00080005


def _is_never_matched(tag: int) -> bool:
    """Specific Character Set says how a request is encoded (PS3.4 C.2.2.2); group lengths are retired (PS3.5 7.2)."""
    return tag == SPECIFIC_CHARACTER_SET or tag & 0xFFFF == 0


def _creators(query_matches: Sequence[Match]) -> dict[int, str]:
    return {
        match.path[0]: match.criterion.value
        for match in query_matches
        if len(match.path) == 1 and is_private_creator(match.path[0]) and isinstance(match.criterion, SingleValue)
    }


def _owned(match: Match, names: Mapping[int, str]) -> Match:
    owner = next(
        (names[creator] for tag in match.path if is_private(tag) and (creator := creator_tag(tag)) in names), ""
    )
    return replace(match, creator=match.creator or owner)


def _fuzzy(match: Match) -> Match:
    if match.vr == "PN":
        return replace(match, criterion=fuzzy_name(match.criterion))
    if isinstance(match.criterion, SequenceMatch):
        return replace(match, criterion=SequenceMatch(tuple(_fuzzy(item) for item in match.criterion.matches)))
    return match


def _combine(query_matches: tuple[Match, ...]) -> tuple[Match, ...]:
    """Join each range of dates with the range of the times that belong to them (PS3.4 C.2.2.2.5.4)."""
    ranges = {m.path[0]: m.criterion for m in query_matches if len(m.path) == 1 and isinstance(m.criterion, Range)}
    combined: dict[int, CombinedRange] = {}
    for date_tag, time_tag in DATE_AND_TIME.items():
        dates, times = ranges.get(date_tag), ranges.get(time_tag)
        if dates and times:
            combined[date_tag] = CombinedRange(time_tag, dates, times)
    gone = {criterion.time_tag for criterion in combined.values()}
    return tuple(
        replace(match, criterion=combined.get(match.path[0], match.criterion))
        for match in query_matches
        if len(match.path) > 1 or match.path[0] not in gone
    )
