"""Search as of a change of the past: of the versions that were current then.

Rows of studies and series are kept for the head only. Those that have not changed since serve the past as well; the
others are put together from their versions. So SQL narrows by UIDs alone, the matcher does the rest, and the order is
by UID.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import zstandard
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, select, tuple_

from dicomhub.dicom.levels import DEPTH, Attributes
from dicomhub.dicom.matching import compile_matches
from dicomhub.dicom.model import InstanceRef, Level
from dicomhub.errors import InvalidQuery
from dicomhub.index import rows
from dicomhub.index.columns import merge, series_columns
from dicomhub.index.conditions import condition
from dicomhub.index.locate import is_current
from dicomhub.index.plan import IN_ALL_ROWS, Plan
from dicomhub.index.reader import Undecided
from dicomhub.index.schema import series, study, version
from dicomhub.index.search import METADATA_BYTES_MAX, Page, Place

ROWS = 50
"""Entities looked at in one call."""

VERSIONS = 500
"""Versions that one statement brings."""

_Columns = tuple[ColumnElement[Any], ...]
_UIDS: _Columns = (version.c.study_instance_uid, version.c.series_instance_uid, version.c.sop_instance_uid)


def search_past(conn: Connection, plan: Plan, snapshot: int, place: Place, limit: int) -> Page:
    """Look at the next studies, series or instances that existed when the change sequence stood at ``snapshot``.

    Raises
    ------
    InvalidQuery
        For patients, which are searched at the head only.
    """
    if plan.level is Level.PATIENT:
        raise InvalidQuery("patients cannot be searched in the past: search studies")
    uids = _UIDS[: DEPTH[plan.level]]
    past = _Past(conn, plan, snapshot)
    found: list[Attributes | Undecided] = []
    after, examined = place.after, 0
    for row in past.candidates(uids, after):
        examined += 1
        after = tuple(row)[: len(uids)]
        match = past.read(row)
        if match is not None:
            found.append(match)
        if len(found) == limit or past.bytes_read > METADATA_BYTES_MAX:
            return Page(found, Place(after=after), examined + past.probed)
    following = Place(after=after) if examined == ROWS else None
    return Page(found, following, examined + past.probed)


class _Past:
    """The archive as of a change."""

    def __init__(self, conn: Connection, plan: Plan, snapshot: int) -> None:
        self._conn = conn
        self._plan = plan
        self._snapshot = snapshot
        self._holds = compile_matches(plan.own)
        self._unpack = zstandard.ZstdDecompressor().decompress
        self._holds_below = compile_matches(plan.below)
        self._known_study: tuple[str, Attributes] = ("", {})
        self._known_series: tuple[tuple[str, str], Attributes] = (("", ""), {})
        self.bytes_read = 0
        """Of metadata."""
        self.probed = 0
        """Instances below that were looked at."""

    def candidates(self, uids: _Columns, after: tuple[Any, ...]) -> list[Row[Any]]:
        """Entities of the level, with the columns of an instance when they are instances."""
        columns = self._instance_columns() if self._plan.level is Level.INSTANCE else uids
        matches = [match for match in (*self._plan.own, *self._plan.below) if match.path[0] in IN_ALL_ROWS]
        clauses = [condition(match, self._conn.dialect.name, version).clause for match in matches]
        if after:
            clauses.append(tuple_(*uids) > after)
        statement = select(*columns).where(is_current(self._snapshot), *clauses).order_by(*uids).limit(ROWS)
        return list(self._conn.execute(statement if self._plan.level is Level.INSTANCE else statement.distinct()))

    def _instance_columns(self) -> _Columns:
        needs_metadata = self._plan.needs_metadata or self._plan.needs_metadata_below
        return (*rows.INSTANCE_COLUMNS, version.c.metadata) if needs_metadata else rows.INSTANCE_COLUMNS

    def read(self, row: Row[Any]) -> Attributes | Undecided | None:
        """The returned attributes of a match; None for what is none."""
        plan = self._plan
        known = self._study(row.study_instance_uid)
        if plan.level is not Level.STUDY:
            known = known | self._series(row.study_instance_uid, row.series_instance_uid)
        if plan.level is Level.INSTANCE:
            known = known | rows.instance_attributes(row)
            if plan.needs_metadata:
                if row.metadata is None:
                    return Undecided(known, (rows.ref(row),), {})
                known = rows.complete(known, self._metadata(row))
        if not self._holds(known):
            return None
        answer = plan.selection(known, complete=True)
        if not plan.below:
            return answer
        below = self._probe(row, known)
        return answer if below is True else Undecided(known, below, answer) if below else None

    def _probe(self, row: Row[Any], known: Attributes) -> bool | tuple[InstanceRef, ...]:
        undecided: list[InstanceRef] = []
        for below in self._versions(self._instance_columns(), tuple(row), _UIDS):
            self.probed += 1
            all_known = known | self._series(below.study_instance_uid, below.series_instance_uid)
            all_known |= rows.instance_attributes(below)
            if self._plan.needs_metadata_below:
                if below.metadata is None:
                    undecided.append(rows.ref(below))
                    continue
                all_known = rows.complete(all_known, self._metadata(below))
            if self._holds_below(all_known):
                return True
        return tuple(undecided)

    def _versions(self, columns: _Columns, within: tuple[str, ...], order: _Columns) -> Iterator[Row[Any]]:
        """Versions of a study or series that were current."""
        same = and_(*(column == uid for column, uid in zip(_UIDS, within, strict=False)))
        statement: Select[Any] = select(*columns).where(is_current(self._snapshot), same)
        return rows.in_pages(self._conn, statement, order, VERSIONS)

    def _metadata(self, row: Row[Any]) -> Attributes:
        text = self._unpack(row.metadata)
        self.bytes_read += len(text)
        metadata: Attributes = orjson.loads(text)
        return metadata

    # ---- studies and series as they were

    def _study(self, uid: str) -> Attributes:
        if self._known_study[0] != uid:
            unchanged: Select[Any] = select(*rows.STUDY_COLUMNS).where(
                study.c.study_instance_uid == uid, study.c.last_change <= self._snapshot
            )
            row = self._conn.execute(unchanged).first()
            self._known_study = uid, self._past_study(uid) if row is None else rows.study_attributes(row)
        return self._known_study[1]

    def _series(self, study_uid: str, uid: str) -> Attributes:
        if self._known_series[0] != (study_uid, uid):
            unchanged: Select[Any] = select(*rows.SERIES_COLUMNS).where(
                series.c.study_instance_uid == study_uid,
                series.c.series_instance_uid == uid,
                series.c.last_change <= self._snapshot,
            )
            row = self._conn.execute(unchanged).first()
            known = self._past_series(study_uid, uid) if row is None else rows.series_attributes(row)
            self._known_series = (study_uid, uid), known
        return self._known_series[1]

    def _past_study(self, uid: str) -> Attributes:
        merged: Attributes = {}
        of_each: dict[str, Attributes] = {}
        classes: set[str] = set()
        instances = 0
        for row, (of_study, of_series) in self._parents((uid,)):
            instances += 1
            classes.add(row.sop_class_uid)
            merged = merge(merged, of_study)
            of_each[row.series_instance_uid] = merge(of_each.get(row.series_instance_uid, {}), of_series)
        modalities = {series_columns(one)["modality"] for one in of_each.values()} - {None}
        return rows.as_study(merged, uid, sorted(modalities), sorted(classes), len(of_each), instances)

    def _past_series(self, study_uid: str, uid: str) -> Attributes:
        merged: Attributes = {}
        instances = 0
        for _, (_, of_series) in self._parents((study_uid, uid)):
            instances += 1
            merged = merge(merged, of_series)
        return rows.as_series(merged, study_uid, uid, instances)

    def _parents(self, within: tuple[str, ...]) -> Iterator[tuple[Row[Any], list[Attributes]]]:
        """Versions in the order of their arrival, with the study and series attributes that each brought."""
        columns = (*_UIDS, version.c.sop_class_uid, version.c.parent_attributes)
        packed, parents = b"", []
        for row in self._versions(columns, within, (version.c.id,)):
            if row.parent_attributes != packed:  # most bring the same
                packed, parents = row.parent_attributes, orjson.loads(self._unpack(row.parent_attributes))
            yield row, parents
