"""What the sweep asks of the index."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from dicomhub.index.schema import archive_info, blob


def claim(conn: Connection, now: float, interval_s: float) -> bool:
    """Whether it is time for a sweep, and the caller shall do it: one process in each interval is told so.

    Parameters
    ----------
    now
        Seconds since the epoch.
    """
    swept_at = conn.execute(select(archive_info.c.swept_at)).scalar_one()
    if swept_at + interval_s > now:
        return False
    conn.execute(update(archive_info).values(swept_at=now))
    return True


def wanted(conn: Connection, digests: Sequence[bytes]) -> set[bytes]:
    """Those of ``digests`` that the index has a blob for."""
    return {bytes(row[0]) for row in conn.execute(select(blob.c.digest).where(blob.c.digest.in_(digests)))}
