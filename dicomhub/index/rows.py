"""Rows of the index as DICOM JSON: the attributes that were stored, and those that the index knows (PS3.4 C.3.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, tuple_

from dicomhub.dicom.levels import Attributes, level_of
from dicomhub.dicom.model import InstanceRef, Level
from dicomhub.index.columns import each
from dicomhub.index.schema import series, study, version

STUDY_COLUMNS = (
    study.c.study_instance_uid,
    study.c.modalities_in_study,
    study.c.sop_classes_in_study,
    study.c.number_of_study_related_series,
    study.c.number_of_study_related_instances,
    study.c.attributes.label("study_attributes"),
)
SERIES_COLUMNS = (
    series.c.study_instance_uid,
    series.c.series_instance_uid,
    series.c.number_of_series_related_instances,
    series.c.attributes.label("series_attributes"),
)
INSTANCE_COLUMNS = (
    version.c.study_instance_uid,
    version.c.series_instance_uid,
    version.c.sop_instance_uid,
    version.c.transfer_syntax_uid,
    version.c.attributes.label("instance_attributes"),
)

IN_SERIES = and_(
    series.c.study_instance_uid == version.c.study_instance_uid,
    series.c.series_instance_uid == version.c.series_instance_uid,
)
"""A version belongs to a series."""

_ONLINE = {"vr": "CS", "Value": ["ONLINE"]}
"""Instance Availability (0008,0056), PS3.3 C.4.23.1.1: everything is at hand."""


def ref(row: Row[Any]) -> InstanceRef:
    """The instance of a row with the three UIDs."""
    return InstanceRef(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid)


def in_pages(conn: Connection, statement: Select[Any], order: Sequence[ColumnElement[Any]], size: int) -> Iterator[Any]:
    """All rows of ``statement`` by ``order``, ``size`` at a time; the columns of the order come last in them."""
    statement = statement.add_columns(*order).order_by(*order).limit(size)
    page = statement
    while True:
        found = conn.execute(page).all()
        yield from found
        if len(found) < size:
            return
        page = statement.where(tuple_(*order) > tuple(found[-1])[-len(order) :])


def study_attributes(row: Row[Any]) -> Attributes:
    """Attributes of patient and study."""
    return as_study(
        orjson.loads(row.study_attributes),
        row.study_instance_uid,
        each(row.modalities_in_study),
        each(row.sop_classes_in_study),
        row.number_of_study_related_series,
        row.number_of_study_related_instances,
    )


def as_study(
    attributes: Attributes, uid: str, modalities: list[str], sop_classes: list[str], of_series: int, instances: int
) -> Attributes:
    """Attributes of a study, with those that the index knows; ``attributes`` becomes the result."""
    attributes["0020000D"] = _element("UI", [uid])
    attributes["00080061"] = _element("CS", modalities)
    attributes["00080062"] = _element("UI", sop_classes)
    attributes["00201206"] = _element("IS", [of_series])
    attributes["00201208"] = _element("IS", [instances])
    attributes["00080056"] = _ONLINE
    return attributes


def series_attributes(row: Row[Any]) -> Attributes:
    """Attributes of a series, and the study's UID."""
    return as_series(
        orjson.loads(row.series_attributes),
        row.study_instance_uid,
        row.series_instance_uid,
        row.number_of_series_related_instances,
    )


def as_series(attributes: Attributes, study_uid: str, uid: str, instances: int) -> Attributes:
    """Attributes of a series, with those that the index knows; ``attributes`` becomes the result."""
    attributes["0020000D"] = _element("UI", [study_uid])
    attributes["0020000E"] = _element("UI", [uid])
    attributes["00201209"] = _element("IS", [instances])
    attributes["00080056"] = _ONLINE
    return attributes


def instance_attributes(row: Row[Any]) -> Attributes:
    """Attributes that the row of an instance carries, and the UIDs of study and series."""
    attributes: Attributes = orjson.loads(row.instance_attributes)
    attributes["0020000D"] = _element("UI", [row.study_instance_uid])
    attributes["0020000E"] = _element("UI", [row.series_instance_uid])
    attributes["00080018"] = _element("UI", [row.sop_instance_uid])
    attributes["00083002"] = _element("UI", [row.transfer_syntax_uid])
    attributes["00080056"] = _ONLINE
    return attributes


def complete(known: Attributes, metadata: Attributes) -> Attributes:
    """What is known of an instance from the rows, completed by the instance-level attributes of its own metadata."""
    own = {tag: element for tag, element in metadata.items() if _is_of_instance(tag)}
    return own | known


def patient_attributes(of_study: Attributes) -> Attributes:
    """Only the patient's attributes."""
    return {tag: element for tag, element in of_study.items() if level_of(int(tag, 16)) is Level.PATIENT} | {
        "00080056": _ONLINE
    }


def patient_counts(studies: int, of_series: int, instances: int) -> Attributes:
    """Numbers of Patient Related Studies, Series and Instances."""
    return {
        "00201200": _element("IS", [studies]),
        "00201202": _element("IS", [of_series]),
        "00201204": _element("IS", [instances]),
    }


@lru_cache(maxsize=4096)
def _is_of_instance(tag: str) -> bool:
    return level_of(int(tag, 16)) is Level.INSTANCE


def _element(vr: str, values: list[Any]) -> Attributes:
    return {"vr": vr, "Value": values} if values else {"vr": vr}
