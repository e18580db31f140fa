"""Delivery of the change feed to plugins, whatever one of them does."""

from __future__ import annotations

import asyncio

import pytest

from dicomhub.archive import changes
from dicomhub.archive.changes import deliver
from dicomhub.hooks import Hooks, Plugin
from dicomhub.index.database import READ_TIMEOUT_S


class Cancelling(Plugin):
    """Awaits something that was cancelled, once."""

    name = "cancelling"

    def __init__(self) -> None:
        super().__init__({})
        self.told: list[int] = []
        self.tries = 0
        self.is_told = asyncio.Event()

    async def notify(self, event):
        self.tries += 1
        if self.tries == 1:
            raise asyncio.CancelledError
        self.told += [change.sequence for change in event.changes]
        self.is_told.set()


@pytest.fixture
def hooks():
    return Hooks([Cancelling()])


async def test_plugin_whose_own_work_is_cancelled_is_told_again(archive, hooks, store, make_instance):
    task = asyncio.create_task(deliver(archive))
    try:
        await store(make_instance())
        async with asyncio.timeout(10):
            await hooks.plugins[0].is_told.wait()
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert hooks.plugins[0].told == [1]
    assert task.cancelled(), "it did not stop when it was told to"


def test_lease_outlasts_what_is_done_under_it():
    """It is renewed at half time (`dicomhub.index.history.lease`)."""
    assert changes.LEASE_S / 2 > READ_TIMEOUT_S + changes.NOTIFY_TIMEOUT_S
