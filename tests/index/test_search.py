"""Search of the index: order, paging, patients, the past, and what SQL is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
import zstandard
from sqlalchemy import Connection

from dicomhub.dicom.attributes import parse_path, vr_of
from dicomhub.dicom.matching import Match, Query, parse_criterion
from dicomhub.dicom.model import Level, Target
from dicomhub.events import Source
from dicomhub.index import search as index
from dicomhub.index.database import Database
from dicomhub.index.delete import delete
from dicomhub.index.plan import make_plan
from dicomhub.index.reader import Undecided
from dicomhub.index.records import InstanceRecord
from dicomhub.index.search_past import search_past
from dicomhub.index.write import commit
from tests.index.conftest import SQLITE

Make = Callable[..., InstanceRecord]
UIDS = {Level.PATIENT: "00100020", Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.INSTANCE: "00080018"}


def query(level: Level, include: tuple[str, ...] = (), **keys: str) -> Query:
    found = []
    for name, text in keys.items():
        path = parse_path(name)
        found.append(Match(path, vr_of(path[-1]), parse_criterion(vr_of(path[-1]), text)))
    wanted = {parse_path(UIDS[level]), *map(parse_path, include)}
    return Query(level, tuple(found), frozenset(wanted))


def everything(conn: Connection, asked: Query, size: int, snapshot: int | None = None) -> list[Any]:
    plan = make_plan(asked.plain())
    found: list[Any] = []
    place: index.Place | None = index.Place()
    while place is not None:
        if snapshot is None:
            page = index.search(conn, plan, place, size)
        else:
            page = search_past(conn, plan, snapshot, place, size)
        assert len(page.rows) <= size
        found.extend(page.rows)
        place = page.following
    return found


async def find(database: Database, asked: Query, size: int = 500, snapshot: int | None = None) -> list[str]:
    rows = await database.read(everything, asked, size, snapshot)
    return [row[UIDS[asked.level]].get("Value", [""])[0] for row in rows]


async def put(database: Database, *records: InstanceRecord) -> int:
    sequence = 0
    for record in records:
        sequence = (await database.write(commit, record, Source(), 0.0)).version_id
    return sequence


def study_of(uid: str, **keywords: str) -> dict[str, Any]:
    return {"0020000D": {"vr": "UI", "Value": [uid]}} | attributes(**keywords)


def attributes(**keywords: Any) -> dict[str, Any]:
    found = {}
    for name, value in keywords.items():
        tag = parse_path(name)[0]
        found[f"{tag:08X}"] = {"vr": vr_of(tag), "Value": [{"Alphabetic": value} if vr_of(tag) == "PN" else value]}
    return found


@pytest.mark.parametrize("size", [1, 2, 500])
async def test_studies_come_newest_first_and_those_without_a_date_last(
    database: Database, record: Make, size: int
) -> None:
    dates = {"1.1": "20240101", "1.2": "20240301", "1.3": "", "1.4": "20240201", "1.5": "", "1.6": "20240201"}
    for uid, date in dates.items():
        await put(database, record(uid, study_attributes=study_of(uid, **({"StudyDate": date} if date else {}))))
    assert await find(database, query(Level.STUDY), size) == ["1.2", "1.6", "1.4", "1.1", "1.5", "1.3"]


@pytest.mark.parametrize("size", [1, 3, 500])
async def test_series_and_instances_come_by_number(database: Database, record: Make, size: int) -> None:
    for series, number in (("1", 10), ("2", 9), ("3", None)):
        of_series = {"0020000E": {"vr": "UI", "Value": [f"1.2.3.{series}"]}}
        of_series |= attributes(SeriesNumber=number) if number is not None else {}
        await put(database, record(series=series, series_attributes=of_series))
    assert await find(database, query(Level.SERIES), size) == ["1.2.3.2", "1.2.3.1", "1.2.3.3"]
    for instance, number in (("a", 10), ("b", 9), ("c", None), ("d", 9)):
        of_instance = {"00080018": {"vr": "UI", "Value": [f"1.2.3.4.{instance}"]}}
        of_instance |= attributes(InstanceNumber=number) if number is not None else {}
        await put(database, record(series="4", instance=instance, instance_attributes=of_instance))
    asked = query(Level.INSTANCE, SeriesInstanceUID="1.2.3.4")
    assert [uid[-1] for uid in await find(database, asked, size)] == ["b", "d", "a", "c"]


async def test_a_page_goes_on_where_the_last_one_ended_whatever_is_stored_meanwhile(
    database: Database, record: Make
) -> None:
    for day in (10, 20, 30):
        await put(database, record(f"1.{day}", study_attributes=study_of(f"1.{day}", StudyDate=f"202401{day}")))
    plan = make_plan(query(Level.STUDY))
    first = await database.read(index.search, plan, index.Place(), 2)
    await put(database, record("1.25", study_attributes=study_of("1.25", StudyDate="20240125")))
    assert first.following is not None
    second = await database.read(index.search, plan, first.following, 2)
    assert [row["0020000D"]["Value"][0] for row in (*first.rows, *second.rows)] == ["1.30", "1.20", "1.10"]


@pytest.mark.parametrize("offset", range(1, 8))
async def test_skip_leads_to_the_same_place_as_reading_on(database: Database, record: Make, offset: int) -> None:
    for number in range(1, 7):
        date = {"StudyDate": f"2024010{number}"} if number % 2 else {}
        await put(database, record(f"1.{number}", study_attributes=study_of(f"1.{number}", **date)))
    plan = make_plan(query(Level.STUDY))
    whole = await find(database, query(Level.STUDY))
    place = await database.read(index.skip, plan, offset)
    rest: list[str] = []
    while place is not None:
        page = await database.read(index.search, plan, place, 2)
        rest += [row["0020000D"]["Value"][0] for row in page.rows]
        place = page.following
    assert rest == whole[offset:]


@pytest.mark.parametrize("size", [1, 2, 500])
async def test_patients_are_their_studies_together(database: Database, record: Make, size: int) -> None:
    for uid, patient, issuer in (
        ("1.1", "P1", ""),
        ("1.2", "P2", ""),
        ("1.3", "P1", ""),
        ("1.4", "P1", "ELSEWHERE"),
        ("1.5", "", ""),
        ("1.6", "P1", ""),
    ):
        of_study = study_of(uid, PatientID=patient, IssuerOfPatientID=issuer, StudyDescription=uid)
        await put(database, record(uid, study_attributes=of_study))
    assert await find(database, query(Level.PATIENT), size) == ["P1", "P1", "P2", ""]
    assert await find(database, query(Level.PATIENT, StudyDescription="1.6"), size) == ["P1"]
    assert await find(database, query(Level.PATIENT, PatientID="P2", Modality="CT"), size) == ["P2"]
    assert await find(database, query(Level.PATIENT, Modality="MR"), size) == []


async def test_numbers_of_patients_are_counted_when_asked_for(database: Database, record: Make) -> None:
    await put(database, record("1.1"), record("1.1", "2"), record("1.2"), record("1.2", "1", "2"))
    counts = ("NumberOfPatientRelatedStudies", "NumberOfPatientRelatedSeries", "NumberOfPatientRelatedInstances")
    (row,) = await database.read(everything, query(Level.PATIENT, counts), 500)
    assert [row[tag]["Value"] for tag in ("00201200", "00201202", "00201204")] == [[2], [3], [4]]


async def test_a_study_of_the_wanted_modality_is_not_hidden_by_its_others(database: Database, record: Make) -> None:
    await put(database, record("1.1", "1"), record("1.1", "2", modality="SR"), record("1.2", modality="MR"))
    for text, expected in (("SR", ["1.1"]), ("CT\\MR", ["1.2", "1.1"]), ("S*", ["1.1"]), ("XA", [])):
        for size in (1, 500):
            assert await find(database, query(Level.STUDY, ModalitiesInStudy=text), size) == expected
            assert await find(database, query(Level.STUDY, Modality=text), size) == expected


def with_metadata(one: InstanceRecord, metadata: dict[str, Any] | None) -> InstanceRecord:
    packed = None if metadata is None else zstandard.compress(orjson.dumps(metadata))
    return replace(one, metadata=packed)


async def test_what_no_row_carries_is_read_from_metadata(database: Database, record: Make) -> None:
    for number in range(1, 8):
        one = record("1.1", instance=str(number))
        await put(database, with_metadata(one, attributes(KVP=number % 2, SOPInstanceUID=one.ref.instance)))
    asked = query(Level.INSTANCE, ("KVP",), KVP="1")
    rows = await database.read(everything, asked, 2)
    assert [row["00180060"]["Value"] for row in rows] == [[1]] * 4
    assert await find(database, query(Level.STUDY, KVP="0")) == ["1.1"]
    assert await find(database, query(Level.SERIES, KVP="2")) == []


async def test_instances_without_kept_metadata_are_left_to_the_caller(database: Database, record: Make) -> None:
    one = record("1.1")
    await put(database, with_metadata(one, None))
    for level in (Level.INSTANCE, Level.SERIES, Level.STUDY):
        (row,) = await database.read(everything, query(level, KVP="1"), 500)
        assert isinstance(row, Undecided)
        assert row.instances == (one.ref,)
        (row,) = await database.read(everything, query(level, KVP="1"), 500, 1)
        assert isinstance(row, Undecided)


async def test_the_past_is_searched_as_it_was(database: Database, record: Make) -> None:
    before = study_of("1.1", PatientName="Before", StudyDescription="old")
    first = await put(database, record("1.1", study_attributes=before))
    second = await put(database, record("1.1", "2", modality="MR", study_attributes=before), record("1.2"))
    after = study_of("1.1", PatientName="After", StudyDescription="new")
    third = await put(database, record("1.1", content="changed", study_attributes=after))
    await database.write(delete, Target("1.2"), Source(), 0.0)
    cases = [
        (first, query(Level.STUDY), ["1.1"]),
        (first, query(Level.STUDY, Modality="MR"), []),
        (first, query(Level.SERIES), ["1.1.1"]),
        (second, query(Level.STUDY, PatientName="before"), ["1.1"]),
        (second, query(Level.STUDY, ModalitiesInStudy="MR"), ["1.1"]),
        (second, query(Level.INSTANCE, PatientName="before"), ["1.1.1.1", "1.1.2.1"]),
        (third, query(Level.STUDY, PatientName="before"), []),
        (third, query(Level.STUDY, StudyDescription="new"), ["1.1"]),
        (third, query(Level.STUDY, StudyInstanceUID="1.2"), ["1.2"]),
        (third + 1, query(Level.STUDY), ["1.1"]),
        (third + 1, query(Level.STUDY, SOPInstanceUID="1.2.1.1"), []),
    ]
    for snapshot, asked, expected in cases:
        for size in (1, 500):
            assert await find(database, asked, size, snapshot) == expected, (snapshot, asked)


async def test_counts_of_the_past_are_those_of_then(database: Database, record: Make) -> None:
    first = await put(database, record("1.1"))
    await put(database, record("1.1", "2"), record("1.1", "2", "2"))
    asked = query(Level.STUDY, ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"))
    (row,) = await database.read(everything, asked, 500, first)
    assert (row["00201206"]["Value"], row["00201208"]["Value"]) == ([1], [1])


# ---- how SQLite goes about it


def explain(conn: Connection, asked: Query) -> str:
    plan = make_plan(asked.plain())
    statement = index._statement(plan, index._SEGMENTS[asked.level][0], "sqlite", ()).limit(10)
    text = str(statement.compile(conn.engine, compile_kwargs={"literal_binds": True}))
    return "\n".join(row[3] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))


@SQLITE
@pytest.mark.parametrize(
    ("asked", "expected", "unexpected"),
    [
        (query(Level.STUDY), "USING INDEX study_study_date", "TEMP B-TREE"),
        (query(Level.STUDY, StudyDate="20240101-20240131"), "USING INDEX study_study_date", "TEMP B-TREE"),
        (query(Level.STUDY, PatientID="P1"), "study_patient_id (patient_id=?)", "SCAN study"),
        (query(Level.STUDY, PatientID="P1*"), "study", "SCAN series"),
        (query(Level.STUDY, StudyInstanceUID="1.2"), "(study_instance_uid=?)", "SCAN"),
        (query(Level.STUDY, SOPInstanceUID="1.2"), "version_sop_instance_uid (sop_instance_uid=?)", "SCAN"),
        (query(Level.SERIES, StudyInstanceUID="1.2"), "(study_instance_uid=?)", "SCAN"),
        (query(Level.STUDY, Modality="CT"), "CORRELATED", "series_modality"),
        (query(Level.SERIES, StudyInstanceUID="1.2", Modality="CT"), "(study_instance_uid=?)", "series_modality"),
        (
            query(Level.INSTANCE, StudyInstanceUID="1.2", SeriesInstanceUID="1.3"),
            "(study_instance_uid=? AND series_instance_uid=?)",
            "SCAN",
        ),
        (query(Level.INSTANCE), "version_head", "FOR ORDER BY"),
    ],
)
async def test_sqlite_uses_its_indexes(database: Database, asked: Query, expected: str, unexpected: str) -> None:
    """Plans of PostgreSQL depend on statistics."""
    plan = await database.read(explain, asked)
    assert expected in plan
    assert unexpected not in plan
