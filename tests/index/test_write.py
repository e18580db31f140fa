"""Storing: what becomes a version, what is a duplicate, and what studies and series look like afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, func, select

from dicomhub.dicom.model import Target
from dicomhub.events import Action
from dicomhub.index import history, locate
from dicomhub.index.schema import blob, series, study, version, version_blob
from dicomhub.index.write import commit

MR = "1.2.840.10008.5.1.4.1.1.4"


def study_row(conn: Connection, uid: str = "1.2.3") -> Any:
    return conn.execute(select(study).where(study.c.study_instance_uid == uid)).one()


def count(conn: Connection, table: Any) -> int:
    return int(conn.execute(select(func.count()).select_from(table)).scalar_one())


def name(text: str) -> dict[str, Any]:
    return {"00100010": {"vr": "PN", "Value": [{"Alphabetic": text}] if text else []}}


async def test_first_store_creates_version_series_study_and_change(database, record, source):
    outcome = await database.write(commit, record(), source, 12.5)

    assert (outcome.kind, outcome.version_id) == ("created", 1)
    assert outcome.change.action is Action.CREATED
    assert await database.read(history.changes, 0, 10) == [outcome.change]
    located = await database.read(locate.instance, record().ref)
    assert (located.version_id, located.stored_at, located.recipe) == (1, 12.5, record().recipe)
    row = await database.read(study_row)
    assert (row.number_of_study_related_series, row.number_of_study_related_instances) == (1, 1)
    assert (row.patient_id, row.modalities_in_study) == ("4711", "\\CT\\")


async def test_same_file_again_changes_nothing(database, record, source):
    first = await database.write(commit, record(), source, 1.0)
    again = await database.write(commit, record(), source, 2.0)

    assert (again.kind, again.change, again.version_id) == ("duplicate", None, first.version_id)
    assert await database.read(history.latest) == 1
    assert await database.read(count, version) == 1


async def test_other_file_meta_is_a_version_when_the_sender_chose_it(database, record, source):
    await database.write(commit, record(file_meta="scanner"), source, 1.0)
    assert (await database.write(commit, record(file_meta="export"), source, 2.0)).kind == "replaced"


async def test_other_file_meta_is_a_duplicate_when_we_made_it(database, record, source):
    await database.write(commit, record(file_meta="scanner"), source, 1.0)
    ours = record(file_meta="ours", own_file_meta=False)
    assert (await database.write(commit, ours, source, 2.0)).kind == "duplicate"


async def test_other_transfer_syntax_is_a_version_even_when_we_made_the_file_meta(database, record, source):
    await database.write(commit, record(), source, 1.0)
    implicit = record(transfer_syntax_uid="1.2.840.10008.1.2", own_file_meta=False)
    assert (await database.write(commit, implicit, source, 2.0)).kind == "replaced"


async def test_other_bytes_replace_and_the_old_version_stays_readable(database, record, source):
    await database.write(commit, record(content="old"), source, 1.0)
    replaced = await database.write(commit, record(content="new"), source, 2.0)

    assert (replaced.kind, replaced.change.previous_version) == ("replaced", 1)
    ref = record().ref
    assert (await database.read(locate.instance, ref)).recipe == record(content="new").recipe
    assert (await database.read(locate.instance, ref, 1)).recipe == record(content="old").recipe
    assert await database.read(locate.instance, ref, 0) is None
    assert (await database.read(study_row)).number_of_study_related_instances == 1


async def test_same_sop_instance_uid_in_another_study_is_another_instance(database, record, source):
    first = record()
    await database.write(commit, first, source, 1.0)
    elsewhere = replace(first, ref=replace(first.ref, study="1.2.4"))
    assert (await database.write(commit, elsewhere, source, 1.0)).kind == "created"


async def test_newest_value_that_is_not_empty_wins(database, record, source):
    for number, text in enumerate(["Doe^John", "Doe^Jane", ""], start=1):
        await database.write(commit, record(instance=str(number), study_attributes=name(text)), source, 1.0)
    row = await database.read(study_row)
    assert row.patient_name_alphabetic == "doe^jane"
    assert orjson.loads(row.attributes) == name("Doe^Jane")


async def test_modalities_and_classes_of_a_study_follow_its_instances(database, record, source):
    await database.write(commit, record(series="1"), source, 1.0)
    await database.write(commit, record(series="2", modality="MR", sop_class_uid=MR), source, 1.0)
    row = await database.read(study_row)
    assert row.modalities_in_study == "\\CT\\MR\\"
    assert row.sop_classes_in_study == f"\\1.2.840.10008.5.1.4.1.1.2\\{MR}\\"

    await database.write(commit, record(series="1", modality="MR", sop_class_uid=MR), source, 2.0)
    row = await database.read(study_row)
    assert (row.modalities_in_study, row.sop_classes_in_study) == ("\\MR\\", f"\\{MR}\\")
    assert row.number_of_study_related_series == 2


async def test_request_attributes_become_columns(database, record, source):
    items = [
        {"00400009": {"vr": "SH", "Value": ["SPS1"]}, "00401001": {"vr": "SH", "Value": ["RP1"]}},
        {"00400009": {"vr": "SH", "Value": ["SPS2"]}},
    ]
    request = {"00400275": {"vr": "SQ", "Value": items}}
    await database.write(commit, record(series_attributes=request), source, 1.0)
    row = await database.read(lambda conn: conn.execute(select(series)).one())
    assert (row.scheduled_procedure_step_id, row.requested_procedure_id) == ("\\SPS1\\SPS2\\", "\\RP1\\")


async def test_hostile_values_are_stored(database, record, source):
    odd = {
        "00100020": {"vr": "LO", "Value": ["a\0b"]},
        "00081030": {"vr": "LO", "Value": ["' OR 1=1 --"]},
        "00100010": {"vr": "PN", "Value": ["not an object"]},
        "00080020": {"vr": "DA", "Value": ["1997.04.24"]},
        "00080030": {"vr": "TM", "Value": [None]},
    }
    number = {"00200013": {"vr": "IS", "Value": [1e30]}}
    await database.write(commit, record(study_attributes=odd, instance_attributes=number), source, 1.0)
    row = await database.read(study_row)
    assert (row.patient_id, row.study_date, row.study_time) == ("ab", "19970424", None)
    assert (await database.read(locate.instance, record().ref)).instance_number is None


async def test_blobs_are_kept_once_and_renewed(database, record, source):
    first, second = record(content="a"), record(content="b")
    shared = first.blobs[1]
    second = replace(second, blobs=(second.blobs[0], shared))
    await database.write(commit, first, source, 1.0)
    await database.write(commit, second, source, 9.0)

    def created_at(conn: Connection) -> float:
        return conn.execute(select(blob.c.created_at).where(blob.c.digest == shared.digest)).scalar_one()

    assert await database.read(count, blob) == 3
    assert await database.read(count, version_blob) == 4
    assert await database.read(created_at) == 9.0
    assert await database.read(locate.blob, first.blobs[0].digest) == first.blobs[0]
    assert (await database.read(locate.blob, shared.digest)).data is None


async def test_source_is_in_the_change_feed(database, record, source):
    await database.write(commit, record(), source, 1.0)
    (change,) = await database.read(history.changes, 0, 10)
    assert change.source == source


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_cover_a_target_once(database, record, source, limit):
    refs = {(s, i) for s in "123" for i in "12"}
    for s, i in sorted(refs):
        await database.write(commit, record(series=s, instance=i), source, 1.0)
    await database.write(commit, record(study="9.9"), source, 1.0)
    for read in (locate.instances, locate.metadata):
        for snapshot in (None, 6):
            after, seen = None, []
            while page := await database.read(read, Target("1.2.3"), snapshot, after, limit):
                assert len(page) <= limit
                seen += [row.ref for row in page]
                after = page[-1].cursor
            assert seen == [record(series=s, instance=i).ref for s, i in sorted(refs)]
    of_series = await database.read(locate.instances, Target("1.2.3", "1.2.3.2"))
    assert {one.ref.series for one in of_series} == {"1.2.3.2"}
    assert len(of_series) == 2
