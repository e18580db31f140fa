"""The rows of ``study`` and ``series``: what searches see of the head, kept true by every change.

Attributes of a study are those of its instances, merged in the order of their arrival: the newest value that is not
empty wins, and stays when only that instance is deleted. Counts, modalities and SOP classes are exact at every change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update

from dicomhub.dicom.model import InstanceRef
from dicomhub.index.columns import Attributes, each, merge, series_columns, several, study_columns
from dicomhub.index.records import InstanceRecord
from dicomhub.index.schema import series, study, version

_OF_STUDY = study.c.study_instance_uid == bindparam("of_study")
_OF_SERIES = and_(
    series.c.study_instance_uid == bindparam("of_study"), series.c.series_instance_uid == bindparam("of_series")
)

_STUDY = select(
    study.c.attributes,
    study.c.sop_classes_in_study,
    study.c.number_of_study_related_series,
    study.c.number_of_study_related_instances,
).where(_OF_STUDY)
_INSERT_STUDY = insert(study)
_UPDATE_STUDY = update(study).where(_OF_STUDY)
_DELETE_STUDY = delete(study).where(_OF_STUDY)

_SERIES = select(series.c.attributes, series.c.modality, series.c.number_of_series_related_instances).where(_OF_SERIES)
_INSERT_SERIES = insert(series)
_UPDATE_SERIES = update(series).where(_OF_SERIES)
_DELETE_SERIES = delete(series).where(_OF_SERIES)

_HEADS_OF_STUDY = and_(version.c.study_instance_uid == bindparam("of_study"), version.c.valid_to.is_(None))
_MODALITIES = select(series.c.modality).distinct().where(series.c.study_instance_uid == bindparam("of_study"))
_SOP_CLASSES = select(version.c.sop_class_uid).distinct().where(_HEADS_OF_STUDY)
_COUNT_SERIES = (
    select(func.count())
    .select_from(version)
    .where(and_(_HEADS_OF_STUDY, version.c.series_instance_uid == bindparam("of_series")))
)
_COUNT_STUDY = select(func.count(), func.sum(series.c.number_of_series_related_instances)).where(
    series.c.study_instance_uid == bindparam("of_study")
)


def add(conn: Connection, record: InstanceRecord, sequence: int, at: float, *, replaced_class: str | None) -> None:
    """Take a stored instance into its series and study.

    Parameters
    ----------
    replaced_class
        SOP Class UID of the version that it replaces; None when the instance is new.
    """
    instances = 1 if replaced_class is None else 0
    new_series, new_modality = _put_series(conn, record.ref, record.series_attributes, sequence, at, instances)
    derived: dict[str, Any] = {}
    if new_modality:
        derived["modalities_in_study"] = _several(conn, _MODALITIES, record.ref.study)
    if replaced_class is not None and replaced_class != record.sop_class_uid:
        derived["sop_classes_in_study"] = _several(conn, _SOP_CLASSES, record.ref.study)
    _put_study(
        conn,
        record.ref,
        record.study_attributes,
        sequence,
        at,
        instances,
        int(new_series),
        derived,
        record.sop_class_uid,
    )


def add_parents(conn: Connection, ref: InstanceRef, parents: list[Attributes], sequence: int, at: float) -> None:
    """Make sure that an instance's study and series have rows, from their attributes; `recount` afterwards."""
    of_study, of_series = parents
    _put_series(conn, ref, of_series, sequence, at, 0)
    _put_study(conn, ref, of_study, sequence, at, 0, 0, {}, None)


def _put_series(
    conn: Connection, ref: InstanceRef, attributes: Attributes, sequence: int, at: float, instances: int
) -> tuple[bool, bool]:
    """Insert or update the series row; returns whether it is new, and whether its modality is."""
    names = {"of_study": ref.study, "of_series": ref.series}
    row = conn.execute(_SERIES, names).first()
    encoded = _encode(attributes)
    if row is None:
        columns = series_columns(attributes)
        identity = {"study_instance_uid": ref.study, "series_instance_uid": ref.series, "created_at": at}
        counts = {"number_of_series_related_instances": instances, "last_change": sequence, "attributes": encoded}
        conn.execute(_INSERT_SERIES, identity | counts | columns)
        return True, True
    count = row.number_of_series_related_instances + instances
    values: dict[str, Any] = {"number_of_series_related_instances": count, "last_change": sequence}
    if encoded != row.attributes:
        merged = merge(orjson.loads(row.attributes), attributes)
        values |= {"attributes": _encode(merged)} | series_columns(merged)
    conn.execute(_UPDATE_SERIES, names | values)
    return False, values.get("modality", row.modality) != row.modality


def _put_study(
    conn: Connection,
    ref: InstanceRef,
    attributes: Attributes,
    sequence: int,
    at: float,
    instances: int,
    new_series: int,
    derived: dict[str, Any],
    sop_class_uid: str | None,
) -> None:
    """Insert or update the study row."""
    row = conn.execute(_STUDY, {"of_study": ref.study}).first()
    encoded = _encode(attributes)
    if row is None:
        values = {
            "study_instance_uid": ref.study,
            "created_at": at,
            "last_change": sequence,
            "number_of_study_related_series": new_series,
            "number_of_study_related_instances": instances,
            "sop_classes_in_study": several([sop_class_uid]),
            "attributes": encoded,
        }
        conn.execute(_INSERT_STUDY, values | study_columns(attributes) | derived)
        return
    values = {
        "last_change": sequence,
        "number_of_study_related_series": row.number_of_study_related_series + new_series,
        "number_of_study_related_instances": row.number_of_study_related_instances + instances,
    } | derived
    classes = each(row.sop_classes_in_study)
    if "sop_classes_in_study" not in derived and sop_class_uid is not None and sop_class_uid not in classes:
        values["sop_classes_in_study"] = several([*classes, sop_class_uid])
    if encoded != row.attributes:
        merged = merge(orjson.loads(row.attributes), attributes)
        values |= {"attributes": _encode(merged)} | study_columns(merged)
    conn.execute(_UPDATE_STUDY, {"of_study": ref.study} | values)


def recount(conn: Connection, study_instance_uid: str, series_uids: Iterable[str], sequence: int) -> None:
    """Make counts and derived columns true again after instances of these series came or went; remove empty rows."""
    of_study = {"of_study": study_instance_uid}
    for series_uid in series_uids:
        names = of_study | {"of_series": series_uid}
        count = conn.execute(_COUNT_SERIES, names).scalar_one()
        if count:
            counted = {"number_of_series_related_instances": count, "last_change": sequence}
            conn.execute(_UPDATE_SERIES, names | counted)
        else:
            conn.execute(_DELETE_SERIES, names)
    count_series, count_instances = conn.execute(_COUNT_STUDY, of_study).one()
    if not count_series:
        conn.execute(_DELETE_STUDY, of_study)
        return
    values: dict[str, Any] = {
        "last_change": sequence,
        "number_of_study_related_series": count_series,
        "number_of_study_related_instances": int(count_instances),
        "modalities_in_study": _several(conn, _MODALITIES, study_instance_uid),
        "sop_classes_in_study": _several(conn, _SOP_CLASSES, study_instance_uid),
    }
    conn.execute(_UPDATE_STUDY, of_study | values)


def _several(conn: Connection, statement: Any, study_instance_uid: str) -> str | None:
    return several(conn.execute(statement, {"of_study": study_instance_uid}).scalars())


def _encode(attributes: Attributes) -> bytes:
    return orjson.dumps(attributes, option=orjson.OPT_SORT_KEYS)
