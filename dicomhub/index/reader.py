"""From rows that SQL let through to what a search returns: what SQL could not decide, and the selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import zstandard
from sqlalchemy import Connection, Row, func, select

from dicomhub.dicom.levels import Attributes
from dicomhub.dicom.matching import compile_matches
from dicomhub.dicom.model import InstanceRef, Level
from dicomhub.index import rows
from dicomhub.index.below import Probe
from dicomhub.index.plan import Plan
from dicomhub.index.schema import study

ISSUER = func.coalesce(study.c.issuer_of_patient_id, "")
"""Issuer of Patient ID, to compare and order by."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """A row that is a match if one of some instances, whose metadata the index does not keep, meets the conditions."""

    known: Attributes
    """All attributes of the row."""
    instances: tuple[InstanceRef, ...]
    answer: Attributes
    """What is returned of a match; of an instance, as far as it is known."""


class Reader:
    """From rows to what is returned of matches."""

    def __init__(self, conn: Connection, plan: Plan) -> None:
        self._conn = conn
        self._plan = plan
        self._holds = compile_matches(plan.rest)
        self._probe = Probe(conn, plan) if plan.below and not plan.is_exact_below else None
        self._unpack = zstandard.ZstdDecompressor().decompress
        self._patient: tuple[Any, ...] | None = None
        self.bytes_read = 0
        """Of metadata."""

    @property
    def probed(self) -> int:
        """Rows below that were looked at."""
        return self._probe.examined if self._probe else 0

    def is_returned(self, row: Row[Any]) -> bool:
        """Whether the row is a study of the patient that was returned last."""
        return self._patient is not None and _patient(row) == self._patient

    def read(self, row: Row[Any]) -> Attributes | Undecided | None:
        """The returned attributes of a match; None for a row that is none."""
        if self.is_returned(row):
            return None
        known = self._known(row)
        if self._plan.needs_metadata:
            if row.metadata is None:
                return Undecided(known, (rows.ref(row),), {})
            text = self._unpack(row.metadata)
            self.bytes_read += len(text)
            known = rows.complete(known, orjson.loads(text))
        if not self._holds(known):
            return None
        if self._probe is not None:
            below = self._probe(row)
            if not below:
                return None
            if below is not True:
                return Undecided(known, below, self._answer(row, known))
        if self._plan.level is Level.PATIENT:
            self._patient = _patient(row)
        return self._answer(row, known)

    def _known(self, row: Row[Any]) -> Attributes:
        plan = self._plan
        known: Attributes = {}
        if plan.row_level is Level.STUDY or Level.STUDY in plan.parents:
            known |= rows.study_attributes(row)
        if plan.row_level is Level.SERIES or Level.SERIES in plan.parents:
            known |= rows.series_attributes(row)
        if plan.row_level is Level.INSTANCE:
            known |= rows.instance_attributes(row)
        return known

    def _answer(self, row: Row[Any], known: Attributes) -> Attributes:
        if self._plan.level is Level.PATIENT:
            known = rows.patient_attributes(known)
            if self._plan.needs_patient_counts:
                known |= _patient_counts(self._conn, row)
        return self._plan.selection(known, complete=True)


def _patient(row: Row[Any]) -> tuple[Any, ...]:
    """What tells patients apart: ID and issuer; studies without an ID are patients of their own."""
    order = tuple(row)[len(rows.STUDY_COLUMNS) :]
    return order[:-1] if len(order) > 1 else order


def _patient_counts(conn: Connection, row: Row[Any]) -> Attributes:
    order = tuple(row)[len(rows.STUDY_COLUMNS) :]
    same = [study.c.study_instance_uid == row.study_instance_uid]
    if len(order) > 1:
        same = [study.c.patient_id == order[0], order[1] == ISSUER]
    sums = (study.c.number_of_study_related_series, study.c.number_of_study_related_instances)
    counted = conn.execute(select(func.count(), *(func.sum(column) for column in sums)).where(*same)).one()
    return rows.patient_counts(*(int(number) for number in counted))
