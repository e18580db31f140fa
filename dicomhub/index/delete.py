"""Delete and restore: versions end or begin, no byte is lost; the blobs stay as long as any version needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import zstandard
from sqlalchemy import Connection, and_, bindparam, insert, or_, select

from dicomhub.dicom.model import InstanceRef, Target
from dicomhub.events import Action, Change, Source
from dicomhub.index import head
from dicomhub.index.locate import is_current, is_in
from dicomhub.index.schema import version, version_blob
from dicomhub.index.write import close_versions, take_numbers, write_changes

_IDENTITY = (version.c.study_instance_uid, version.c.series_instance_uid, version.c.sop_instance_uid)

_COPIED = [c for c in version.c if c.name not in ("id", "valid_from", "valid_to")]
_COPY_VERSION = insert(version).from_select(
    ["id", "valid_from", *(c.name for c in _COPIED)],
    select(bindparam("new", type_=version.c.id.type), bindparam("since", type_=version.c.id.type), *_COPIED).where(
        version.c.id == bindparam("old")
    ),
)
_COPY_NEEDS = insert(version_blob).from_select(
    ["digest", "version_id"],
    select(version_blob.c.digest, bindparam("new", type_=version.c.id.type)).where(
        version_blob.c.version_id == bindparam("old")
    ),
)


def delete(conn: Connection, target: Target, source: Source, at: float, limit: int = 1000) -> list[Change]:
    """End the current versions of a study, series or instance: at most ``limit`` of them.

    So that a large study neither holds up other writers nor fills the memory, call again in transactions of their own
    until nothing is returned. Everything stays readable as of an earlier change.

    Parameters
    ----------
    at
        Seconds since the epoch, UTC.
    """
    current = and_(is_in(target), is_current(None))
    rows: Sequence[Any] = conn.execute(
        select(version.c.id, *_IDENTITY, version.c.sop_class_uid).where(current).order_by(*_IDENTITY).limit(limit)
    ).all()
    if not rows:
        return []
    first = take_numbers(conn, len(rows)) - len(rows) + 1
    made = [
        Change(first + n, Action.DELETED, InstanceRef(*row[1:4]), None, row.id, at, source, row.sop_class_uid)
        for n, row in enumerate(rows)
    ]
    close_versions(conn, [(row.id, one.sequence) for row, one in zip(rows, made, strict=True)])
    write_changes(conn, made)
    head.recount(conn, target.study, sorted({row.series_instance_uid for row in rows}), made[-1].sequence)
    return made


def restore(
    conn: Connection, target: Target, snapshot: int, source: Source, at: float, limit: int = 1000
) -> list[Change]:
    """Make the versions that were current as of change ``snapshot`` current again: at most ``limit`` of them.

    Instances that were deleted since come back, replaced ones become what they were; instances that are newer than the
    snapshot stay. Each becomes a new version with the old content, so that history is only ever added to. Call again
    until nothing is returned.
    """
    rows = _differing(conn, target, snapshot, limit)
    if not rows:
        return []
    first = take_numbers(conn, len(rows)) - len(rows) + 1
    made = [
        Change(
            first + n, Action.RESTORED, InstanceRef(*row[1:4]), first + n, row.head_id, at, source, row.sop_class_uid
        )
        for n, row in enumerate(rows)
    ]
    close_versions(conn, [(r.head_id, c.sequence) for r, c in zip(rows, made, strict=True) if r.head_id is not None])
    for row, one in zip(rows, made, strict=True):
        conn.execute(_COPY_VERSION, {"old": row.id, "new": one.sequence, "since": one.sequence})
        conn.execute(_COPY_NEEDS, {"old": row.id, "new": one.sequence})
        parents = orjson.loads(zstandard.decompress(row.parent_attributes))
        head.add_parents(conn, one.ref, parents, one.sequence, at)
    write_changes(conn, made)
    head.recount(conn, target.study, sorted({row.series_instance_uid for row in rows}), made[-1].sequence)
    return made


def _differing(conn: Connection, target: Target, snapshot: int, limit: int) -> Sequence[Any]:
    """Versions of a snapshot that the head does not show, with the head's version in their place, if any."""
    now = version.alias("now")
    same_instance = and_(
        now.c.study_instance_uid == version.c.study_instance_uid,
        now.c.series_instance_uid == version.c.series_instance_uid,
        now.c.sop_instance_uid == version.c.sop_instance_uid,
        now.c.valid_to.is_(None),
    )
    differs = or_(now.c.id.is_(None), now.c.recipe_digest != version.c.recipe_digest)
    statement = (
        select(
            version.c.id, *_IDENTITY, version.c.sop_class_uid, version.c.parent_attributes, now.c.id.label("head_id")
        )
        .select_from(version.outerjoin(now, same_instance))
        .where(and_(is_in(target), is_current(snapshot), differs))
        .order_by(*_IDENTITY)
        .limit(limit)
    )
    return conn.execute(statement).all()
