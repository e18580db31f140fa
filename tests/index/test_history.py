"""The change feed and the plugins' places in it."""

from __future__ import annotations

from dicomhub.dicom.model import Target
from dicomhub.index import history
from dicomhub.index.write import commit


async def test_feed_is_read_in_pages_and_by_target(database, record, source):
    for i in "123":
        await database.write(commit, record(instance=i), source, 1.0)
    await database.write(commit, record(study="9.9"), source, 1.0)
    assert [one.sequence for one in await database.read(history.changes, 1, 2)] == [2, 3]
    assert await database.read(history.latest) == 4
    found = await database.read(history.changes_of, Target("9.9"), 0, 10)
    assert [one.sequence for one in found] == [4]
    ref = record(instance="2").ref
    found = await database.read(history.changes_of, Target(ref.study, ref.series, ref.instance), 0, 10)
    assert [one.sequence for one in found] == [2]


async def test_one_owner_at_a_time_delivers(database):
    assert (await database.write(history.lease, "webhook", "a", 0.0, 90.0)).sequence == 0
    assert await database.write(history.lease, "webhook", "b", 1.0, 91.0) is None
    assert await database.write(history.lease, "webhook", "a", 60.0, 150.0) is not None
    assert await database.write(history.lease, "webhook", "b", 100.0, 190.0) is None, "the lease was renewed"
    assert await database.write(history.lease, "webhook", "b", 151.0, 240.0) is not None, "it has run out"
    await database.write(history.release, "webhook", "a")
    assert await database.write(history.lease, "webhook", "c", 152.0, 240.0) is None, "a gave back what was not a's"
    await database.write(history.release, "webhook", "b")
    assert await database.write(history.lease, "webhook", "c", 152.0, 240.0) is not None


async def test_failures_count_until_a_delivery(database):
    await database.write(history.lease, "webhook", "a", 0.0, 90.0)
    await database.write(history.failed, "webhook", "refused\0", 5.0)
    await database.write(history.failed, "webhook", "refused", 9.0)
    (cursor,) = await database.read(history.cursors)
    assert (cursor.failures, cursor.last_error, cursor.retry_at) == (2, "refused", 9.0)
    await database.write(history.delivered, "webhook", 17)
    (cursor,) = await database.read(history.cursors)
    assert (cursor.sequence, cursor.failures, cursor.last_error, cursor.retry_at) == (17, 0, "", 0.0)


async def test_late_deliverer_does_not_turn_the_cursor_back(database):
    await database.write(history.lease, "webhook", "a", 0.0, 90.0)
    await database.write(history.delivered, "webhook", 17)
    await database.write(history.delivered, "webhook", 9)
    assert [cursor.sequence for cursor in await database.read(history.cursors)] == [17]
