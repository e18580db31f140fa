"""The change feed, and its delivery to plugins: at least once, in order, by one deliverer per plugin in the cluster."""

from __future__ import annotations

import asyncio
import os
import time
import uuid

import structlog

from dicomhub.archive import Archive
from dicomhub.errors import DicomHubError
from dicomhub.events import Change, InstancesChanged
from dicomhub.hooks import Plugin
from dicomhub.index import history

log = structlog.get_logger(__name__)

PAGE = 200
"""Changes told to a plugin at once."""
POLL_S = 2.0
"""Seconds after which changes of other processes are noticed."""
NOTIFY_TIMEOUT_S = 60.0
"""Seconds one notification may take."""
LEASE_S = 240.0
"""Seconds a deliverer owns a plugin's cursor. It is renewed when half is over, and half is longer than the changes may
take to be read and told: else a second process would tell them too."""
BACKOFF_MAX_S = 60.0
"""Longest pause between tries of a notification that fails."""


async def feed(archive: Archive, after: int, limit: int, wait_s: float = 0.0) -> list[Change]:
    """Changes with a sequence number above ``after``, oldest first; waits up to ``wait_s`` seconds for the first."""
    deadline = time.monotonic() + wait_s
    while True:
        changes: list[Change] = await archive.database.read(history.changes, after, limit)
        left = deadline - time.monotonic()
        if changes or left <= 0:
            return changes
        await archive.changed.wait(min(left, POLL_S))


async def deliver(archive: Archive) -> None:
    """Tell every plugin that listens what happened, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for plugin in archive.hooks.notified:
            group.create_task(_deliver_to(archive, plugin))


async def _deliver_to(archive: Archive, plugin: Plugin) -> None:
    owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        while True:
            try:
                pause = await _turn(archive, plugin, owner)
            except DicomHubError as error:
                log.warning("notification cannot be delivered", plugin=plugin.name, error=error.message)
                pause = POLL_S
            except Exception:  # one plugin's trouble must not end the deliveries of all
                log.exception("notification cannot be delivered", plugin=plugin.name)
                pause = POLL_S
            if pause:
                await archive.changed.wait(pause)
    finally:
        await asyncio.shield(archive.database.write(history.release, plugin.name, owner))


async def _turn(archive: Archive, plugin: Plugin, owner: str) -> float:
    """One step of delivery; returns seconds to pause, 0 when there may be more at once."""
    now = time.time()
    cursor = await archive.database.write(history.lease, plugin.name, owner, now, now + LEASE_S)
    if cursor is None:
        return POLL_S  # another process delivers to this plugin
    if cursor.retry_at > now:
        return min(cursor.retry_at - now, POLL_S)
    changes = await archive.database.read(history.changes, cursor.sequence, PAGE)
    if not changes:
        return POLL_S
    try:
        async with asyncio.timeout(NOTIFY_TIMEOUT_S):
            await plugin.notify(InstancesChanged(tuple(changes)))
    except (Exception, asyncio.CancelledError) as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise  # we are to stop; else the plugin awaited something that was cancelled
        pause = min(BACKOFF_MAX_S, 0.5 * 2.0 ** min(cursor.failures, 10))
        text = f"{type(error).__name__}: {error}"[:500]
        log.warning("plugin failed on a notification", plugin=plugin.name, error=text, retry_in_s=pause)
        await archive.database.write(history.failed, plugin.name, text, time.time() + pause)
        return float(min(pause, POLL_S))
    await archive.database.write(history.delivered, plugin.name, changes[-1].sequence)
    return 0.0
