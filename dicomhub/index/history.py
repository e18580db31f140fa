"""Reading the change sequence, and how far each plugin has been told of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from dicomhub.dicom.model import Target
from dicomhub.events import Action, Actor, Change, Peer, Source
from dicomhub.index.locate import is_in
from dicomhub.index.records import Cursor
from dicomhub.index.rows import ref
from dicomhub.index.schema import change, plugin_cursor, sequence_counter

_CHANGES = (
    select(change).where(change.c.sequence > bindparam("after")).order_by(change.c.sequence).limit(bindparam("many"))
)
_LATEST = select(sequence_counter.c.value).where(sequence_counter.c.id == 1)
_CURSOR = (
    plugin_cursor.c.plugin,
    plugin_cursor.c.sequence,
    plugin_cursor.c.failures,
    plugin_cursor.c.last_error,
    plugin_cursor.c.retry_at,
)


def latest(conn: Connection) -> int:
    """Number of the last change; 0 before the first."""
    number: int = conn.execute(_LATEST).scalar_one()
    return number


def changes(conn: Connection, after: int, limit: int) -> list[Change]:
    """Changes above ``after``, oldest first, without gaps: what is missing now will never appear in between."""
    return [_change(row) for row in conn.execute(_CHANGES, {"after": after, "many": limit})]


def changes_of(conn: Connection, target: Target, after: int, limit: int) -> list[Change]:
    """The same, of one study, series or instance."""
    later = and_(is_in(target, change), change.c.sequence > after)
    found = conn.execute(select(change).where(later).order_by(change.c.sequence).limit(limit))
    return [_change(row) for row in found]


def _change(row: Any) -> Change:
    peer = Peer(row.peer_address, row.peer_ae_title, row.called_ae_title)
    return Change(
        sequence=row.sequence,
        action=Action(row.action),
        ref=ref(row),
        version=row.version_id,
        previous_version=row.previous_version_id,
        at=row.at,
        source=Source(Actor(row.actor), peer, row.via, row.reason),
        sop_class_uid=row.sop_class_uid,
    )


# ---- plugins: one deliverer per plugin in the whole cluster, by a lease on its cursor


def lease(conn: Connection, plugin: str, owner: str, now: float, until: float) -> Cursor | None:
    """Take, or keep, the right to tell ``plugin`` until ``until`` (seconds since the epoch).

    A plugin that is new here starts before the first change. None when another owner holds the lease.
    """
    row = conn.execute(select(plugin_cursor).where(plugin_cursor.c.plugin == plugin)).first()
    if row is None:
        values = {"sequence": 0, "failures": 0, "last_error": "", "retry_at": 0.0}
        conn.execute(insert(plugin_cursor), {"plugin": plugin, "owner": owner, "leased_until": until} | values)
        return Cursor(plugin, 0, 0, "", 0.0)
    if row.owner not in (None, owner) and row.leased_until > now:
        return None
    if row.owner != owner or row.leased_until < now + (until - now) / 2:  # else fresh enough: save a flush
        _set(conn, plugin, owner=owner, leased_until=until)
    return Cursor(plugin, row.sequence, row.failures, row.last_error, row.retry_at)


def release(conn: Connection, plugin: str, owner: str) -> None:
    """Give the lease back; harmless when it is another's."""
    mine = and_(plugin_cursor.c.plugin == plugin, plugin_cursor.c.owner == owner)
    conn.execute(update(plugin_cursor).where(mine).values(owner=None, leased_until=0.0))


def delivered(conn: Connection, plugin: str, sequence: int) -> None:
    """The plugin knows all changes up to ``sequence``; harmless when it knows more by now."""
    behind = and_(plugin_cursor.c.plugin == plugin, plugin_cursor.c.sequence < sequence)
    values = {"sequence": sequence, "failures": 0, "last_error": "", "retry_at": 0.0}
    conn.execute(update(plugin_cursor).where(behind).values(values))


def failed(conn: Connection, plugin: str, error: str, retry_at: float) -> None:
    """The plugin failed on a notification; try again from ``retry_at`` (seconds since the epoch)."""
    _set(conn, plugin, failures=plugin_cursor.c.failures + 1, last_error=error.replace("\0", ""), retry_at=retry_at)


def cursors(conn: Connection) -> list[Cursor]:
    """All plugins ever told, by name."""
    return [Cursor(*row) for row in conn.execute(select(*_CURSOR).order_by(plugin_cursor.c.plugin))]


def _set(conn: Connection, plugin: str, **values: Any) -> None:
    conn.execute(update(plugin_cursor).where(plugin_cursor.c.plugin == plugin).values(**values))
