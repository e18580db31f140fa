from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.dsutils import encode

from dicomhub.dicom.matching import Match, Range, SequenceMatch, SingleValue, UIDList, Wildcard, matches
from dicomhub.dicom.model import Level
from dicomhub.dimse.contexts import PATIENT_ROOT_FIND, QUERY_TRANSFER_SYNTAXES, STUDY_ROOT_FIND
from dicomhub.dimse.identifier import Identifier, parse_identifier
from dicomhub.errors import BadRequest, InvalidQuery


def encoded(ds: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    data = encode(ds, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    assert data is not None
    return data


def identifier(level: str = "STUDY", root: UID = STUDY_ROOT_FIND, **keys: Any) -> Identifier:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return parse_identifier(encoded(ds), ExplicitVRLittleEndian, root)


@pytest.mark.parametrize("syntax", QUERY_TRANSFER_SYNTAXES)
def test_keys_become_conditions_in_every_transfer_syntax(syntax: UID) -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.QueryRetrieveLevel = "STUDY"
    ds.PatientName = "Müller*"
    ds.StudyDate = "20240101-20240131"
    ds.StudyInstanceUID = ["1.2.3", "1.2.4"]
    ds.ModalitiesInStudy = "CT"
    ds.AccessionNumber = ""
    ds.StudyDescription = "*"
    ds.Rows = 512
    found = parse_identifier(encoded(ds, syntax), syntax, STUDY_ROOT_FIND)
    query = found.query()
    assert query.level is Level.STUDY
    assert set(query.matches) == {
        Match((0x00100010,), "PN", Wildcard("Müller*")),
        Match((0x00080020,), "DA", Range("20240101", "20240131")),
        Match((0x0020000D,), "UI", UIDList(("1.2.3", "1.2.4"))),
        Match((0x00080061,), "CS", SingleValue("CT")),
        Match((0x00280010,), "US", SingleValue("512")),
    }
    assert (0x00080050,) in query.include
    assert (0x00080052,) not in query.include
    assert query.limit is None
    assert found.character_set == ("ISO_IR 100",)


@pytest.mark.parametrize(
    ("word", "level"), [("PATIENT", Level.PATIENT), ("IMAGE", Level.INSTANCE), ("SERIES", Level.SERIES)]
)
def test_level_is_that_of_the_wire(word: str, level: Level) -> None:
    assert identifier(word, PATIENT_ROOT_FIND).level is level


@pytest.mark.parametrize(
    ("level", "root"),
    [("", STUDY_ROOT_FIND), ("PATIENT", STUDY_ROOT_FIND), ("INSTANCE", STUDY_ROOT_FIND), ("", PATIENT_ROOT_FIND)],
)
def test_missing_or_foreign_level_is_refused(level: str, root: UID) -> None:
    with pytest.raises(InvalidQuery, match=r"\(0008,0052\)") as raised:
        identifier(level, root)
    assert raised.value.dimse_status == 0xA900


def test_key_that_its_vr_cannot_be_matched_by_is_refused_with_its_tag() -> None:
    with pytest.raises(InvalidQuery, match=r"\(0008,0020\)") as raised:
        identifier(StudyDate="20241").query()
    assert raised.value.dimse_status == 0xA900


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-3],
        lambda data: data[:6],
        lambda data: b"GET / HTTP/1.1\r\n\r\n" + data,
        lambda data: b"\xff" * 64,
        lambda data: data + b"\x10\x00\x20\x00LO\xff\x00",
        lambda data: b"\x08\x00\x52\x00SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\x04\x00\x00\x00" * 3,
    ],
)
def test_unreadable_identifier_is_a_failure_not_a_crash(change: Callable[[bytes], bytes]) -> None:
    ds = Dataset()
    ds.QueryRetrieveLevel, ds.PatientID = "STUDY", "P1"
    for syntax in [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]:
        with pytest.raises(BadRequest) as raised:
            parse_identifier(change(encoded(ds, syntax)), syntax, STUDY_ROOT_FIND)
        assert raised.value.dimse_status in (0xA900, 0xC000)


def test_deflated_identifier_that_is_no_deflate_stream_is_unreadable() -> None:
    with pytest.raises(BadRequest):
        parse_identifier(b"\xff" * 20, DeflatedExplicitVRLittleEndian, STUDY_ROOT_FIND)


def test_sequence_with_keys_in_its_item_matches_items_and_returns_only_those_keys() -> None:
    item, code = Dataset(), Dataset()
    item.ScheduledProcedureStepID = "S1"
    item.RequestedProcedureID = ""
    found = identifier(
        "SERIES", RequestAttributesSequence=[item], ProcedureCodeSequence=[], AnatomicRegionSequence=[code]
    )
    query = found.query()
    wanted = Match((0x00400009,), "SH", SingleValue("S1"))
    assert query.matches == (Match((0x00400275,), "SQ", SequenceMatch((wanted,))),)
    row = {
        "00400275": {
            "vr": "SQ",
            "Value": [
                {
                    "00400009": {"vr": "SH", "Value": ["S1"]},
                    "00401001": {"vr": "SH", "Value": ["R1"]},
                    "00400007": {"vr": "LO", "Value": ["not asked for"]},
                },
                {},
            ],
        },
        "00081032": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["T-D1100"]}}]},
    }
    assert matches(query.matches, row)
    answer = found.answer(row, "DICOMHUB")
    assert answer["00400275"]["Value"] == [
        {"00400009": {"vr": "SH", "Value": ["S1"]}, "00401001": {"vr": "SH", "Value": ["R1"]}},
        {"00400009": {"vr": "SH"}, "00401001": {"vr": "SH"}},
    ]
    assert answer["00081032"] == row["00081032"]
    assert answer["00082218"] == {"vr": "SQ", "Value": []}


def test_answer_has_every_key_and_says_where_to_retrieve() -> None:
    found = identifier(
        "IMAGE", SOPInstanceUID="", InstanceNumber="", ContentTime="", InstanceAvailability="", Rows=None
    )
    row = {
        "00080018": {"vr": "UI", "Value": ["1.2.3"]},
        "00200013": {"vr": "IS", "Value": [4]},
        "00080008": {"vr": "CS", "Value": ["ORIGINAL"]},
        "00280010": {"vr": "US", "BulkDataURI": "x"},
    }
    assert found.answer(row, "DICOMHUB") == {
        "00080018": row["00080018"],
        "00080033": {"vr": "TM"},
        "00080052": {"vr": "CS", "Value": ["IMAGE"]},
        "00080054": {"vr": "AE", "Value": ["DICOMHUB"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00200013": row["00200013"],
        "00280010": {"vr": "US"},
    }


def test_group_length_keys_are_ignored() -> None:
    data = b"\x08\x00\x00\x00UL\x04\x00\x10\x00\x00\x00" + b"\x08\x00\x52\x00CS\x06\x00STUDY "
    found = parse_identifier(data, ExplicitVRLittleEndian, STUDY_ROOT_FIND)
    assert not found.keys


def test_private_key_is_found_in_the_block_of_its_creator() -> None:
    ds = Dataset()
    ds.QueryRetrieveLevel = "IMAGE"
    block = ds.private_block(0x0009, "ACME", create=True)
    block.add_new(0x01, "LO", "x")
    found = parse_identifier(encoded(ds), ExplicitVRLittleEndian, STUDY_ROOT_FIND)
    assert found.query().plain().matches == (Match((0x00091001,), "LO", SingleValue("x"), "ACME"),)
    row = {
        "00090010": {"vr": "LO", "Value": ["OTHER"]},
        "00090011": {"vr": "LO", "Value": ["ACME"]},
        "00091101": {"vr": "LO", "Value": ["x"]},
    }
    answer = found.answer(row, "DICOMHUB")
    assert answer["00090010"] == {"vr": "LO", "Value": ["ACME"]}
    assert answer["00091001"] == {"vr": "LO", "Value": ["x"]}


@pytest.mark.parametrize(
    ("level", "keys", "unsupported"),
    [
        ("STUDY", {"PatientName": "D*", "StudyDate": "", "ModalitiesInStudy": "", "InstanceAvailability": ""}, False),
        ("STUDY", {"TimezoneOffsetFromUTC": "", "RetrieveAETitle": ""}, False),
        ("IMAGE", {"Rows": None, "ImageType": "ORIGINAL", "KVP": ""}, False),
        ("STUDY", {"SeriesNumber": ""}, True),
        ("SERIES", {"InstanceNumber": ""}, True),
        ("STUDY", {"InstanceAvailability": "OFFLINE"}, True),
        ("IMAGE", {"RedPaletteColorLookupTableData": b"\0\1"}, True),
    ],
)
def test_keys_that_are_not_supported_are_noticed(level: str, keys: dict[str, Any], unsupported: bool) -> None:
    assert identifier(level, **keys).has_unsupported_keys() is unsupported


def test_numeric_and_name_keys_reach_the_matcher_as_text() -> None:
    query = identifier(
        "IMAGE", InstanceNumber="7", PatientName="Yamada^Tarou=山田^太郎", SpecificCharacterSet="ISO_IR 192"
    ).query()
    assert {match.criterion for match in query.matches} == {SingleValue("7"), SingleValue("Yamada^Tarou=山田^太郎")}


def test_list_of_a_thousand_uids_is_one_key() -> None:
    uids = [f"1.2.826.0.1.3680043.8.498.{number:032d}" for number in range(10**31, 10**31 + 1000)]
    (match,) = identifier("IMAGE", SOPInstanceUID=uids).query().matches
    assert match.criterion == UIDList(tuple(uids))


def test_empty_identifier_is_refused() -> None:
    with pytest.raises(BadRequest) as raised:
        parse_identifier(b"", ExplicitVRLittleEndian, STUDY_ROOT_FIND)
    assert raised.value.dimse_status in (0xA900, 0xC000)
