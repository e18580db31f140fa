"""Conditions on attributes of lower levels: an entity matches when one of its instances meets them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import orjson
import zstandard
from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, Table, exists, select, tuple_

from dicomhub.dicom.levels import Attributes
from dicomhub.dicom.matching import compile_matches
from dicomhub.dicom.model import InstanceRef, Level
from dicomhub.index import rows
from dicomhub.index.conditions import condition, is_selective
from dicomhub.index.plan import SOP_INSTANCE_UID, Plan, row_levels
from dicomhub.index.schema import series, study, version

PROBE_ROWS = 200
"""Rows below that one statement brings."""
UNDECIDED_MAX = 100
"""Instances without kept metadata that are left to the caller for one row."""


def below_clause(plan: Plan, dialect: str) -> ColumnElement[bool]:
    """The entity has something below that meets ``plan.below``, as far as SQL can say."""
    inner, outer = _table(plan), series if plan.level is Level.SERIES else study
    mine, theirs = _identity(outer, plan), _identity(inner, plan)
    is_led = any(is_selective(match) for match in plan.below)
    wanted = select(*theirs).select_from(_source(plan)).where(*_clauses(plan, dialect, leads=is_led))
    if is_led:
        return tuple_(*mine).in_(wanted) if len(mine) > 1 else mine[0].in_(wanted)
    return exists(wanted.where(*(a == b for a, b in zip(mine, theirs, strict=True))).correlate(outer))


class Probe:
    """Looks below a row for what meets ``plan.below``."""

    def __init__(self, conn: Connection, plan: Plan) -> None:
        self._conn = conn
        self._plan = plan
        self._table = _table(plan)
        self._holds = compile_matches(plan.below)
        self._unpack = zstandard.ZstdDecompressor().decompress
        self.examined = 0
        """Rows below that were looked at."""

    def __call__(self, row: Row[Any]) -> Literal[True] | tuple[InstanceRef, ...]:
        """True when something below meets the conditions; otherwise instances of which the index cannot tell."""
        undecided: list[InstanceRef] = []
        for below in self._rows(row):
            self.examined += 1
            known = self._known(below)
            if self._plan.needs_metadata_below:
                if below.metadata is None:
                    undecided.append(rows.ref(below))
                    if len(undecided) == UNDECIDED_MAX:
                        break
                    continue
                known = rows.complete(known, orjson.loads(self._unpack(below.metadata)))
            if self._holds(known):
                return True
        return tuple(undecided)

    def _rows(self, row: Row[Any]) -> Iterator[Row[Any]]:
        order = [self._table.c.series_instance_uid]
        if self._table is version:
            order.append(version.c.sop_instance_uid)
        return rows.in_pages(self._conn, self._statement(row), order, PROBE_ROWS)

    def _statement(self, row: Row[Any]) -> Select[Any]:
        mine = [row._mapping[column.name] for column in _identity(self._table, self._plan)]
        same = [column == value for column, value in zip(_identity(self._table, self._plan), mine, strict=True)]
        clauses = _clauses(self._plan, self._conn.dialect.name, leads=False)
        return select(*_columns(self._plan)).select_from(_source(self._plan)).where(*same, *clauses)

    def _known(self, below: Row[Any]) -> Attributes:
        known: Attributes = {}
        if self._table is series or _needs_series(self._plan):
            known |= rows.series_attributes(below)
        if self._table is version:
            known |= rows.instance_attributes(below)
        return known


def _table(plan: Plan) -> Table:
    """Instances, or series when nothing is asked of instances."""
    tags = {match.path[0] for match in plan.below}
    return version if Level.INSTANCE in row_levels(tags) or SOP_INSTANCE_UID in tags else series


def _needs_series(plan: Plan) -> bool:
    """Whether rows of instances need those of their series."""
    return Level.SERIES in row_levels(match.path[0] for match in plan.below)


def _identity(table: Table, plan: Plan) -> list[ColumnElement[Any]]:
    """Columns that tie a row below to the row of the search."""
    study_uid: ColumnElement[Any] = table.c.study_instance_uid
    return [study_uid, table.c.series_instance_uid] if plan.level is Level.SERIES else [study_uid]


def _columns(plan: Plan) -> Iterator[ColumnElement[Any]]:
    if _table(plan) is series:
        yield from rows.SERIES_COLUMNS
        return
    yield from rows.INSTANCE_COLUMNS
    if _needs_series(plan):
        yield from rows.SERIES_COLUMNS[2:]
    if plan.needs_metadata_below:
        yield version.c.metadata


def _source(plan: Plan) -> FromClause:
    table = _table(plan)
    if table is series or not _needs_series(plan):
        return table
    return version.join(series, rows.IN_SERIES)


def _clauses(plan: Plan, dialect: str, *, leads: bool) -> Iterator[ColumnElement[bool]]:
    table = _table(plan)
    if table is version:
        yield version.c.valid_to.is_(None)
    for match in plan.below:
        yield condition(match, dialect, table, leads=leads).clause
