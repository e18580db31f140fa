"""Search of the head: pages of matching patients, studies, series or instances, as DICOM JSON.

The order is the same on every request, so that a client may page. Studies: by date, newest first, then by UID, those
without a date last. Patients: by ID. Series of a study, instances of a series: by number, then by UID, those without a
number last. Series and instances of several studies: study by study. A page begins where the one before ended (keyset),
whatever was stored meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, func, or_, select

from dicomhub.dicom.levels import Attributes
from dicomhub.dicom.model import Level
from dicomhub.index import rows
from dicomhub.index.below import below_clause
from dicomhub.index.conditions import condition, is_selective
from dicomhub.index.plan import Plan, row_levels
from dicomhub.index.reader import ISSUER, Reader, Undecided
from dicomhub.index.schema import series, study, version

ROWS_MAX = 500
"""Rows looked at in one call."""
PROBED_ROWS_MAX = 100
"""Rows looked at in one call when the instances below have to be looked at too."""
METADATA_ROWS_MAX = 50
"""Rows looked at in one call when their metadata is read too."""
METADATA_BYTES_MAX = 16 * 1024**2
"""Bytes of metadata after which a call ends early."""

LAST_NUMBER = 2**62
"""Stands for the number of a series or instance that has none."""
LAST_TEXT = "\U0010ffff"
"""After every ID and UID."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins."""

    segment: int = 0
    """Rows that have the leading column of the order come first, then those that have not."""
    after: tuple[Any, ...] = ()
    """Order columns of the last row looked at; empty at the beginning of a segment."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the result."""

    rows: list[Attributes | Undecided]
    following: Place | None
    """Where to go on; None at the end."""
    examined: int
    """Rows that were looked at."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A part of the order: SQLite and PostgreSQL sort NULL differently, and only a plain column can use its index."""

    order: tuple[ColumnElement[Any], ...]
    where: tuple[ColumnElement[bool], ...] = ()
    is_descending: bool = False

    def ordered(self) -> list[ColumnElement[Any]]:
        return [column.desc() if self.is_descending else column.asc() for column in self.order]

    def behind(self, after: tuple[Any, ...]) -> ColumnElement[bool]:
        """The rows after the one with these order columns; the first term is what an index can start from."""
        down = self.is_descending
        first, value = self.order[0], after[0]
        terms = []
        for place, column in enumerate(self.order):
            same = [one == other for one, other in zip(self.order[:place], after, strict=False)]
            terms.append(and_(*same, column < after[place] if down else column > after[place]))
        return and_(first <= value if down else first >= value, or_(*terms))


_SEGMENTS: dict[Level, tuple[_Segment, ...]] = {
    Level.PATIENT: (
        _Segment((study.c.patient_id, ISSUER, study.c.study_instance_uid), (study.c.patient_id.is_not(None),)),
        _Segment((study.c.study_instance_uid,), (study.c.patient_id.is_(None),)),
    ),
    Level.STUDY: (
        _Segment((study.c.study_date, study.c.study_instance_uid), (study.c.study_date.is_not(None),), True),
        _Segment((study.c.study_instance_uid,), (study.c.study_date.is_(None),), True),
    ),
    Level.SERIES: (
        _Segment(
            (
                series.c.study_instance_uid,
                func.coalesce(series.c.series_number, LAST_NUMBER),
                series.c.series_instance_uid,
            )
        ),
    ),
    Level.INSTANCE: (
        _Segment(
            (
                version.c.study_instance_uid,
                version.c.series_instance_uid,
                func.coalesce(version.c.instance_number, LAST_NUMBER),
                version.c.sop_instance_uid,
            ),
            (version.c.valid_to.is_(None),),
        ),
    ),
}
_TABLES = {Level.STUDY: study, Level.SERIES: series, Level.INSTANCE: version}


def search(conn: Connection, plan: Plan, place: Place, limit: int) -> Page:
    """Look at the next rows.

    Parameters
    ----------
    limit
        Matches wanted; fewer may come although there are more, see ``Page.following``.
    """
    segment = _SEGMENTS[plan.level][place.segment]
    size = min(limit, _most_rows(plan)) if plan.is_exact else _most_rows(plan)
    reader = Reader(conn, plan)
    found: list[Attributes | Undecided] = []
    examined, after, is_last = 0, place.after, True
    for row in conn.execute(_statement(plan, segment, conn.dialect.name, place.after).limit(size)):
        examined += 1
        match = reader.read(row)
        after = tuple(row)[-len(segment.order) :]
        if match is not None:
            found.append(match)
        if reader.is_returned(row) and len(after) > 1:
            after = (*after[:-1], LAST_TEXT)  # other studies of the same patient add nothing
        if len(found) == limit or reader.bytes_read > METADATA_BYTES_MAX or examined == size:
            is_last = False
            break
    return Page(found, _following(plan, place, after, is_last), examined + reader.probed)


def skip(conn: Connection, plan: Plan, offset: int) -> Place | None:
    """The place after the first ``offset`` matches of an exact plan; None when there are no more.

    Looks at the order columns alone, which an index holds.
    """
    for number, segment in enumerate(_SEGMENTS[plan.level]):
        keys = _filtered(select(*segment.order), plan, segment, conn.dialect.name)
        row = conn.execute(keys.order_by(*segment.ordered()).offset(offset - 1).limit(1)).first()
        if row is not None:
            return Place(number, tuple(row))
        count = _filtered(select(func.count()), plan, segment, conn.dialect.name)
        offset -= conn.execute(count).scalar_one()
        if offset == 0:
            return _following(plan, Place(number), (), is_last=True)
    return None


def _following(plan: Plan, place: Place, after: tuple[Any, ...], is_last: bool) -> Place | None:
    if not is_last:
        return Place(place.segment, after)
    return Place(place.segment + 1) if place.segment + 1 < len(_SEGMENTS[plan.level]) else None


def _most_rows(plan: Plan) -> int:
    if plan.needs_metadata:
        return METADATA_ROWS_MAX
    return PROBED_ROWS_MAX if plan.below and not plan.is_exact_below else ROWS_MAX


# --------------------------------------------------------------------------------------------------------------- SQL


def _statement(plan: Plan, segment: _Segment, dialect: str, after: tuple[Any, ...]) -> Select[Any]:
    """Candidates in order; the order columns come last in the row."""
    columns: list[ColumnElement[Any]] = list(_columns(plan))
    statement = _filtered(select(*columns, *segment.order), plan, segment, dialect).order_by(*segment.ordered())
    return statement.where(segment.behind(after)) if after else statement


def _columns(plan: Plan) -> Iterator[ColumnElement[Any]]:
    match plan.row_level:
        case Level.INSTANCE:
            yield from rows.INSTANCE_COLUMNS
            if plan.needs_metadata:
                yield version.c.metadata
            if Level.SERIES in plan.parents:
                yield from rows.SERIES_COLUMNS[2:]
        case Level.SERIES:
            yield from rows.SERIES_COLUMNS
        case _:
            yield from rows.STUDY_COLUMNS
    if Level.STUDY in plan.parents:
        yield from rows.STUDY_COLUMNS[1:]


def _filtered(statement: Select[Any], plan: Plan, segment: _Segment, dialect: str) -> Select[Any]:
    table = _TABLES[plan.row_level]
    is_within = any(is_selective(match) for match in plan.own)
    clauses = [condition(match, dialect, table, leads=not is_within).clause for match in plan.own]
    if plan.below:
        clauses.append(below_clause(plan, dialect))
    return statement.select_from(_source(plan)).where(*segment.where, *clauses)


def _source(plan: Plan) -> FromClause:
    """The row's table, joined with its parents' as far as they are needed."""
    needed = plan.parents | row_levels(match.path[0] for match in plan.own)
    source: FromClause = _TABLES[plan.row_level]
    if plan.row_level is Level.INSTANCE and Level.SERIES in needed:
        source = source.join(series, rows.IN_SERIES)
    if plan.row_level is not Level.STUDY and Level.STUDY in needed:
        uid = _TABLES[plan.row_level].c.study_instance_uid
        source = source.join(study, study.c.study_instance_uid == uid)
    return source
