"""What a search needs of the index: which conditions SQL decides, which the matcher, and whose rows are looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dicomhub.dicom.attributes import Selection
from dicomhub.dicom.criteria import Match, SingleValue, UIDList, Universal
from dicomhub.dicom.levels import DEPTH, INSTANCE_AVAILABILITY, is_kept, is_returned, level_of
from dicomhub.dicom.matching import Include, Query
from dicomhub.dicom.model import Level
from dicomhub.index.conditions import is_exact

STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
SOP_INSTANCE_UID = 0x00080018
IN_ALL_ROWS = frozenset({STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID, INSTANCE_AVAILABILITY})
"""Attributes that rows of lower levels have too."""
PATIENT_COUNTS = frozenset({0x00201200, 0x00201202, 0x00201204})
"""Numbers of Patient Related Studies, Series and Instances."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A search, taken apart."""

    level: Level
    row_level: Level
    """Level of the rows that are looked at."""
    own: tuple[Match, ...]
    """Conditions on the row and its parents; rows of patients are those of their studies."""
    rest: tuple[Match, ...]
    """Those of them that SQL alone does not decide."""
    below: tuple[Match, ...]
    """Conditions that one instance of the entity must meet, on attributes of levels below."""
    is_exact_below: bool
    """Whether SQL alone decides them."""
    parents: frozenset[Level]
    """Levels above whose attributes are returned or matched."""
    needs_metadata: bool
    """Whether the rows of instances do not carry all that is returned or matched."""
    needs_metadata_below: bool
    """Whether the rows of instances do not carry all that `below` asks for."""
    needs_patient_counts: bool
    selection: Selection
    """What to return."""

    @property
    def is_exact(self) -> bool:
        """Whether SQL alone decides."""
        return not self.rest and (not self.below or self.is_exact_below)


def make_plan(query: Query) -> Plan:
    """Take a plain query (`dicomhub.dicom.matching.Query.plain`) apart."""
    row_level = Level.STUDY if query.level is Level.PATIENT else query.level
    asked = [match for match in query.matches if not isinstance(match.criterion, Universal)]
    own = tuple(match for match in asked if _is_own(match, row_level))
    below = tuple(match for match in asked if not _is_own(match, row_level))
    rest = tuple(match for match in own if not is_exact(match))
    include = _include(query)
    returned = _returned(query, own)
    paths = returned | {match.path[0] for match in rest}
    return Plan(
        level=query.level,
        row_level=row_level,
        own=own,
        rest=rest,
        below=below,
        is_exact_below=all(is_exact(match) for match in below),
        parents=frozenset(level for level in row_levels(paths) if DEPTH[level] < DEPTH[row_level]),
        needs_metadata=row_level is Level.INSTANCE and (query.include == "all" or _needs_metadata(paths)),
        needs_metadata_below=_needs_metadata(match.path[0] for match in below),
        needs_patient_counts=query.level is Level.PATIENT and (query.include == "all" or bool(PATIENT_COUNTS & paths)),
        selection=Selection(include, query.creators),
    )


def row_levels(tags: Iterable[int]) -> frozenset[Level]:
    """Levels whose rows have these attributes; what all rows have counts for none."""
    levels = frozenset(level_of(tag) for tag in tags if tag not in IN_ALL_ROWS)
    return levels - {Level.PATIENT} | {Level.STUDY} if Level.PATIENT in levels else levels


def _is_own(match: Match, level: Level) -> bool:
    return DEPTH[level_of(match.path[0])] <= DEPTH[level]


def _include(query: Query) -> Include:
    """What is asked for, without what entities of the level do not have."""
    if query.include == "all":
        return "all"
    return frozenset(path for path in query.include if is_returned(path[0], query.level))


def _returned(query: Query, own: tuple[Match, ...]) -> frozenset[int]:
    """Tags of what is returned; of everything, some that stand for the parents it comes from.

    Everything is all of the level, and of the parents that the search does not name (PS3.18 10.6.3.3).
    """
    if query.include != "all":
        return frozenset(path[0] for path in query.include)
    given = {match.path[0] for match in own if isinstance(match.criterion, (SingleValue, UIDList))}
    stand_ins = {STUDY_INSTANCE_UID: 0x00081030, SERIES_INSTANCE_UID: 0x00080060}
    return frozenset(tag for uid, tag in stand_ins.items() if uid not in given)


def _needs_metadata(tags: Iterable[int]) -> bool:
    return any(not is_kept(tag) for tag in tags)
