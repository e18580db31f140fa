"""Where the bytes of instances are, at the head or as of a change. No bytes are read here but those kept inline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, or_, select, tuple_

from dicomhub.dicom.model import InstanceRef, Target
from dicomhub.index.records import BlobRow, Located, MetadataRow
from dicomhub.index.schema import blob as blobs
from dicomhub.index.schema import version

Place = tuple[str, str]
"""Series and instance after which a page begins."""

_IDENTITY = (version.c.study_instance_uid, version.c.series_instance_uid, version.c.sop_instance_uid)
_LOCATED = (
    version.c.id,
    *_IDENTITY,
    version.c.sop_class_uid,
    version.c.transfer_syntax_uid,
    version.c.instance_number,
    version.c.number_of_frames,
    version.c.pixel_segment,
    version.c.size,
    version.c.stored_at,
    version.c.recipe_digest,
    version.c.frame_table_digest,
    version.c.recipe,
    version.c.view_recipe,
)


def is_current(snapshot: int | None) -> ColumnElement[bool]:
    """The versions that are the head, or were when the change sequence stood at ``snapshot``."""
    if snapshot is None:
        return version.c.valid_to.is_(None)
    return and_(version.c.valid_from <= snapshot, or_(version.c.valid_to.is_(None), version.c.valid_to > snapshot))


def is_in(target: Target, table: Table = version) -> ColumnElement[bool]:
    """The versions, or rows of another table with the three UIDs, that belong to a target resource."""
    conditions = [table.c.study_instance_uid == target.study]
    if target.series is not None:
        conditions.append(table.c.series_instance_uid == target.series)
    if target.instance is not None:
        conditions.append(table.c.sop_instance_uid == target.instance)
    return and_(*conditions)


IS_HEAD_OF_INSTANCE = and_(
    version.c.study_instance_uid == bindparam("study"),
    version.c.series_instance_uid == bindparam("series"),
    version.c.sop_instance_uid == bindparam("instance"),
    version.c.valid_to.is_(None),
)
"""The current version of the instance of the parameters that `names` makes."""


def names(ref: InstanceRef) -> dict[str, str]:
    """Parameters of `IS_HEAD_OF_INSTANCE`."""
    return {"study": ref.study, "series": ref.series, "instance": ref.instance}


_INSTANCE = select(*_LOCATED).where(IS_HEAD_OF_INSTANCE)
_METADATA_OF = select(version.c.metadata).where(version.c.id == bindparam("version_id"))
_BLOB = select(blobs.c.digest, blobs.c.size, blobs.c.encoding, blobs.c.data).where(blobs.c.digest == bindparam("of"))


def instance(conn: Connection, ref: InstanceRef, snapshot: int | None = None) -> Located | None:
    """One instance at the head, or as of change ``snapshot``."""
    if snapshot is None:
        row = conn.execute(_INSTANCE, names(ref)).first()
    else:
        target = Target(ref.study, ref.series, ref.instance)
        row = conn.execute(select(*_LOCATED).where(and_(is_in(target), is_current(snapshot)))).first()
    return None if row is None else _located(row)


def instances(
    conn: Connection, target: Target, snapshot: int | None = None, after: Place | None = None, limit: int = 200
) -> list[Located]:
    """A page of the instances of a target resource, ordered by series and instance.

    Parameters
    ----------
    after
        ``cursor`` of the last one of the page before; None for the first page.
    """
    return [_located(row) for row in _page(conn, _LOCATED, target, snapshot, after, limit)]


def metadata(
    conn: Connection, target: Target, snapshot: int | None = None, after: Place | None = None, limit: int = 200
) -> list[MetadataRow]:
    """A page of stored metadata, in the order of `instances`."""
    columns = (version.c.id, *_IDENTITY, version.c.metadata)
    page = _page(conn, columns, target, snapshot, after, limit)
    return [MetadataRow(row[0], InstanceRef(row[1], row[2], row[3]), row[4]) for row in page]


def metadata_of(conn: Connection, version_id: int) -> bytes | None:
    """Stored metadata of one version (zstd of the DICOM JSON); None when it is not kept."""
    packed: bytes | None = conn.execute(_METADATA_OF, {"version_id": version_id}).scalar()
    return packed


def blob(conn: Connection, digest: bytes) -> BlobRow | None:
    """A blob as the index knows it, with its bytes when they are inline."""
    row = conn.execute(_BLOB, {"of": digest}).first()
    return None if row is None else BlobRow(*row)


def _page(
    conn: Connection,
    columns: tuple[Any, ...],
    target: Target,
    snapshot: int | None,
    after: Place | None,
    limit: int,
) -> Iterable[Any]:
    place = (version.c.series_instance_uid, version.c.sop_instance_uid)
    conditions = [is_in(target), is_current(snapshot)]
    if after is not None:
        conditions.append(tuple_(*place) > after)
    return conn.execute(select(*columns).where(and_(*conditions)).order_by(*place).limit(limit))


def _located(row: Any) -> Located:
    version_id, study, series, sop_instance, *rest = row
    return Located(version_id, InstanceRef(study, series, sop_instance), *rest)
