"""Deleting hides, restoring brings back; nothing is lost and counts stay true."""

from __future__ import annotations

from sqlalchemy import func, select

from dicomhub.dicom.model import Target
from dicomhub.events import Action
from dicomhub.index import history, locate
from dicomhub.index.delete import delete, restore
from dicomhub.index.schema import series, study, version_blob
from dicomhub.index.write import commit

STUDY = Target("1.2.3")


def heads(conn):
    """Counts of the study and of each series."""
    studies = conn.execute(
        select(study.c.number_of_study_related_series, study.c.number_of_study_related_instances)
    ).all()
    of_series = conn.execute(
        select(series.c.series_instance_uid, series.c.number_of_series_related_instances).order_by(
            series.c.series_instance_uid
        )
    ).all()
    return [tuple(row) for row in studies], [tuple(row) for row in of_series]


async def fill(database, record, source):
    for s, i in ["11", "12", "21"]:
        await database.write(commit, record(series=s, instance=i), source, 1.0)


async def test_deleted_instance_is_gone_from_the_head_and_there_in_the_past(database, record, source):
    await fill(database, record, source)
    ref = record().ref
    (change,) = await database.write(delete, Target(ref.study, ref.series, ref.instance), source, 2.0)

    assert (change.action, change.sequence, change.version, change.previous_version) == (Action.DELETED, 4, None, 1)
    assert await database.read(locate.instance, ref) is None
    assert (await database.read(locate.instance, ref, 3)).version_id == 1
    assert await database.read(heads) == ([(2, 2)], [("1.2.3.1", 1), ("1.2.3.2", 1)])


async def test_deleted_study_leaves_no_head_row(database, record, source):
    await fill(database, record, source)
    changes = await database.write(delete, STUDY, source, 2.0)
    assert [one.sequence for one in changes] == [4, 5, 6]
    assert await database.read(heads) == ([], [])
    assert await database.read(history.changes, 3, 10) == changes
    assert await database.write(delete, STUDY, source, 2.0) == []


async def test_delete_in_portions_ends_where_one_delete_does(database, record, source):
    await fill(database, record, source)
    portions = 0
    while await database.write(delete, STUDY, source, 2.0, 2):
        portions += 1
    assert portions == 2
    assert await database.read(heads) == ([], [])


async def test_restore_brings_back_what_was_deleted_with_its_blobs(database, record, source):
    await fill(database, record, source)
    before = await database.read(heads)
    await database.write(delete, STUDY, source, 2.0)
    changes = await database.write(restore, STUDY, 3, source, 3.0)

    assert [one.action for one in changes] == [Action.RESTORED] * 3
    assert [one.version for one in changes] == [7, 8, 9]
    assert await database.read(heads) == before
    located = await database.read(locate.instance, record().ref)
    assert (located.version_id, located.recipe) == (7, record().recipe)
    needs = await database.read(
        lambda conn: conn.execute(
            select(func.count()).select_from(version_blob).where(version_blob.c.version_id == 7)
        ).scalar_one()
    )
    assert needs == 2
    row = await database.read(lambda conn: conn.execute(select(study)).one())
    assert (row.patient_id, row.modalities_in_study) == ("4711", "\\CT\\")
    assert await database.write(restore, STUDY, 3, source, 3.0) == []


async def test_restore_undoes_a_replacement_and_leaves_newer_instances(database, record, source):
    await fill(database, record, source)
    await database.write(commit, record(content="changed"), source, 2.0)
    await database.write(commit, record(series="3"), source, 2.0)
    (change,) = await database.write(restore, STUDY, 3, source, 3.0)

    assert (change.previous_version, change.version) == (4, 6)
    assert (await database.read(locate.instance, record().ref)).recipe == record().recipe
    assert await database.read(locate.instance, record(series="3").ref) is not None
    assert (await database.read(heads))[0] == [(3, 4)]
