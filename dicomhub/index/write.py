"""Changes: store, delete and restore instances, with the head rows and counts of their study and series.

All functions run inside `dicomhub.index.database.Database.write`, so nobody else writes at the same time.
"""

from __future__ import annotations

from typing import Any

import orjson
import zstandard
from sqlalchemy import Connection, RowMapping, bindparam, insert, select, text, update

from dicomhub.events import Action, Change, Source
from dicomhub.index import head
from dicomhub.index.columns import clean, instance_columns
from dicomhub.index.locate import IS_HEAD_OF_INSTANCE, names
from dicomhub.index.records import InstanceRecord, Outcome
from dicomhub.index.schema import change, sequence_counter, version

_HEAD = select(
    version.c.id,
    version.c.recipe_digest,
    version.c.dataset_digest,
    version.c.received_digest,
    version.c.transfer_syntax_uid,
    version.c.sop_class_uid,
).where(IS_HEAD_OF_INSTANCE)

_NEXT = (
    update(sequence_counter)
    .where(sequence_counter.c.id == 1)
    .values(value=sequence_counter.c.value + bindparam("many"))
    .returning(sequence_counter.c.value)
)

_CLOSE = update(version).where(version.c.id == bindparam("closed")).values(valid_to=bindparam("until"))

_INSERT_VERSION = insert(version)
_INSERT_CHANGE = insert(change)

# The same text in both dialects; SQLAlchemy has two constructs for it.
_KEEP_BLOB = text(
    "INSERT INTO blob (digest, size, encoding, created_at, data) "
    "VALUES (:digest, :size, :encoding, :created_at, :data) "
    "ON CONFLICT (digest) DO UPDATE SET created_at = excluded.created_at"
)
_NEED_BLOB = text("INSERT INTO version_blob (digest, version_id) VALUES (:digest, :version_id)")


def commit(conn: Connection, record: InstanceRecord, source: Source, at: float) -> Outcome:
    """Make a received instance the head.

    The same file again, or over a door that carries no file meta information the same data set in the same transfer
    syntax, is a duplicate: nothing changes. A different one becomes a new version; the old one stays readable.

    Parameters
    ----------
    at
        Seconds since the epoch, UTC.
    """
    current = conn.execute(_HEAD, names(record.ref)).mappings().first()
    if current is not None and _is_same(current, record):
        return Outcome("duplicate", None, current["id"])
    sequence = take_numbers(conn, 1)
    if current is not None:
        conn.execute(_CLOSE, {"closed": current["id"], "until": sequence})
    conn.execute(_INSERT_VERSION, _version_row(record, sequence, at))
    _keep_blobs(conn, record, sequence, at)
    replaced_class = current["sop_class_uid"] if current is not None else None
    head.add(conn, record, sequence, at, replaced_class=replaced_class)
    made = Change(
        sequence,
        Action.CREATED if current is None else Action.REPLACED,
        record.ref,
        sequence,
        None if current is None else current["id"],
        at,
        source,
        record.sop_class_uid,
    )
    write_changes(conn, [made])
    return Outcome(made.action.value, made, sequence)


def _is_same(current: RowMapping, record: InstanceRecord) -> bool:
    if current["recipe_digest"] == record.recipe_digest:
        return True
    if record.received_digest is not None and current["received_digest"] == record.received_digest:
        return True
    return (
        not record.own_file_meta
        and current["dataset_digest"] == record.dataset_digest
        and current["transfer_syntax_uid"] == record.transfer_syntax_uid
    )


def _version_row(record: InstanceRecord, sequence: int, at: float) -> dict[str, Any]:
    parents = orjson.dumps([record.study_attributes, record.series_attributes])
    return {
        "id": sequence,
        "study_instance_uid": record.ref.study,
        "series_instance_uid": record.ref.series,
        "sop_instance_uid": record.ref.instance,
        "valid_from": sequence,
        "valid_to": None,
        "sop_class_uid": record.sop_class_uid,
        "transfer_syntax_uid": record.transfer_syntax_uid,
        "number_of_frames": record.number_of_frames,
        "pixel_segment": record.pixel_segment,
        "size": record.size,
        "stored_at": at,
        "recipe_digest": record.recipe_digest,
        "dataset_digest": record.dataset_digest,
        "received_digest": record.received_digest,
        "frame_table_digest": record.frame_table_digest,
        "attributes": orjson.dumps(record.instance_attributes),
        "recipe": record.recipe,
        "view_recipe": record.view_recipe,
        "parent_attributes": zstandard.compress(parents, 1),
        "metadata": record.metadata,
        **instance_columns(record.instance_attributes),
    }


def _keep_blobs(conn: Connection, record: InstanceRecord, version_id: int, at: float) -> None:
    """Blob rows, renewed where they exist already, and what the version needs."""
    blobs = {blob.digest: blob for blob in record.blobs}
    conn.execute(
        _KEEP_BLOB,
        [
            {"digest": b.digest, "size": b.size, "encoding": b.encoding, "created_at": at, "data": b.data}
            for b in blobs.values()
        ],
    )
    conn.execute(_NEED_BLOB, [{"digest": digest, "version_id": version_id} for digest in blobs])


def take_numbers(conn: Connection, many: int) -> int:
    """The last of the next ``many`` numbers of the change sequence; given back when the transaction is undone."""
    last: int = conn.execute(_NEXT, {"many": many}).scalar_one()
    return last


def close_versions(conn: Connection, closed: list[tuple[int, int]]) -> None:
    """End versions: pairs of version and the change that ends it."""
    if closed:
        conn.execute(_CLOSE, [{"closed": version_id, "until": sequence} for version_id, sequence in closed])


def write_changes(conn: Connection, changes: list[Change]) -> None:
    """Append to the change sequence."""
    conn.execute(_INSERT_CHANGE, [_change_row(one) for one in changes])


def _change_row(one: Change) -> dict[str, Any]:
    source = one.source
    return {
        "sequence": one.sequence,
        "action": one.action.value,
        "study_instance_uid": one.ref.study,
        "series_instance_uid": one.ref.series,
        "sop_instance_uid": one.ref.instance,
        "sop_class_uid": one.sop_class_uid,
        "version_id": one.version,
        "previous_version_id": one.previous_version,
        "at": one.at,
        "actor": clean(source.actor.name) or "",
        "via": clean(source.via) or "",
        "peer_address": clean(source.peer.address) or "",
        "peer_ae_title": clean(source.peer.ae_title) or "",
        "called_ae_title": clean(source.peer.called_ae_title) or "",
        "reason": clean(source.reason) or "",
    }
