"""What `dicomhub verify` asks the index: everything, in pages, and whether its parts agree with each other."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, exists, func, literal, or_, select

from dicomhub.dicom.model import InstanceRef
from dicomhub.index.records import BlobRow
from dicomhub.index.rows import ref
from dicomhub.index.schema import blob, change, sequence_counter, series, study, version, version_blob


@dataclass(frozen=True, slots=True)
class VersionRow:
    """What proves that a version can be read back."""

    version_id: int
    ref: InstanceRef
    size: int
    recipe: bytes
    recipe_digest: bytes
    view_recipe: bytes | None
    frame_table_digest: bytes | None


def blobs(conn: Connection, after: bytes, limit: int) -> list[BlobRow]:
    """Blobs by digest, from behind ``after``."""
    found = conn.execute(select(blob).where(blob.c.digest > after).order_by(blob.c.digest).limit(limit))
    return [BlobRow(bytes(row.digest), row.size, row.encoding, row.data) for row in found]


def versions(conn: Connection, after: int, limit: int) -> list[VersionRow]:
    """Versions of all instances, past ones too, by number, from behind ``after``."""
    found = conn.execute(select(version).where(version.c.id > after).order_by(version.c.id).limit(limit))
    return [
        VersionRow(
            row.id,
            ref(row),
            row.size,
            bytes(row.recipe),
            bytes(row.recipe_digest),
            row.view_recipe,
            row.frame_table_digest,
        )
        for row in found
    ]


def registered(conn: Connection, version_id: int) -> set[bytes]:
    """The blobs that protect a version from the sweep."""
    found = conn.execute(select(version_blob.c.digest).where(version_blob.c.version_id == version_id))
    return {bytes(row.digest) for row in found}


def contradictions(conn: Connection) -> list[str]:
    """Where counts, intervals and the change sequence do not agree, each as a sentence; at most a few of a kind."""
    return [*_sequence(conn), *_intervals(conn), *_series_counts(conn), *_study_counts(conn)]


LISTED = 20
"""Contradictions of one kind that are listed."""


def _sequence(conn: Connection) -> list[str]:
    count, first, last = conn.execute(
        select(func.count(), func.min(change.c.sequence), func.max(change.c.sequence))
    ).one()
    counter = conn.execute(select(sequence_counter.c.value)).scalar_one()
    if (count, first or 1, last or 0) != (counter, 1, counter):
        return [f"the change sequence should be 1 to {counter}, but has {count} changes from {first} to {last}"]
    return []


def _intervals(conn: Connection) -> list[str]:
    broken = select(version.c.id).where(or_(version.c.valid_from != version.c.id, version.c.valid_to <= version.c.id))
    no_change = select(version.c.id).where(~exists().where(change.c.sequence == version.c.id))
    return [
        f"version {row.id} has a wrong interval or no change that made it"
        for row in conn.execute(broken.union(no_change).limit(LISTED))
    ]


def _series_counts(conn: Connection) -> list[str]:
    real = (
        select(version.c.study_instance_uid, version.c.series_instance_uid, func.count().label("many"))
        .where(version.c.valid_to.is_(None))
        .group_by(version.c.study_instance_uid, version.c.series_instance_uid)
        .subquery()
    )
    same = and_(
        real.c.study_instance_uid == series.c.study_instance_uid,
        real.c.series_instance_uid == series.c.series_instance_uid,
    )
    kept = series.c.number_of_series_related_instances
    joined = series.outerjoin(real, same)
    wrong = (
        select(series.c.series_instance_uid, kept, real.c.many)
        .select_from(joined)
        .where(func.coalesce(real.c.many, literal(0)) != kept)
    )
    missing = select(real.c.series_instance_uid).where(~exists().where(same).correlate(real))
    return [
        *(
            f"series {row[0]} says {row[1]} instances and has {row[2] or 0}"
            for row in conn.execute(wrong.limit(LISTED))
        ),
        *(f"series {row[0]} has instances but no row" for row in conn.execute(missing.limit(LISTED))),
    ]


def _study_counts(conn: Connection) -> list[str]:
    real = (
        select(
            series.c.study_instance_uid,
            func.count().label("many"),
            func.sum(series.c.number_of_series_related_instances).label("instances"),
        )
        .group_by(series.c.study_instance_uid)
        .subquery()
    )
    joined = study.outerjoin(real, real.c.study_instance_uid == study.c.study_instance_uid)
    wrong = (
        select(study.c.study_instance_uid)
        .select_from(joined)
        .where(
            or_(
                func.coalesce(real.c.many, literal(0)) != study.c.number_of_study_related_series,
                func.coalesce(real.c.instances, literal(0)) != study.c.number_of_study_related_instances,
            )
        )
    )
    missing = select(real.c.study_instance_uid).where(
        ~exists().where(study.c.study_instance_uid == real.c.study_instance_uid).correlate(real)
    )
    return [
        *(f"study {row[0]} has wrong counts" for row in conn.execute(wrong.limit(LISTED))),
        *(f"study {row[0]} has series but no row" for row in conn.execute(missing.limit(LISTED))),
    ]
