"""The plain matcher and the parsing of keys, case by case of PS3.4 C.2.2.2."""

from __future__ import annotations

from typing import Any

import pytest

from dicomhub.dicom.attributes import nest, parse_path, vr_of
from dicomhub.dicom.matching import (
    EmptyValue,
    Match,
    MultipleValue,
    Query,
    Range,
    SequenceMatch,
    SingleValue,
    UIDList,
    Universal,
    Wildcard,
    matches,
    parse_criterion,
)
from dicomhub.dicom.model import Level
from dicomhub.errors import InvalidQuery


def key(name: str, text: str, **options: Any) -> Match:
    path = parse_path(name)
    return Match(path, vr_of(path[-1]), parse_criterion(vr_of(path[-1]), text, **options))


def data(**values: Any) -> dict[str, Any]:
    """DICOM JSON of attributes by keyword; a list is several values, None is an empty attribute."""
    found = {}
    for name, value in values.items():
        tag = parse_path(name)[0]
        several = value if isinstance(value, list) else [] if value is None else [value]
        if vr_of(tag) == "PN":
            groups = ("Alphabetic", "Ideographic", "Phonetic")
            several = [dict(zip(groups, one.split("="), strict=False)) for one in several]
        found[f"{tag:08X}"] = {"vr": vr_of(tag), **({"Value": several} if several else {})}
    return found


def does_match(name: str, text: str, *values: Any) -> bool:
    return matches([key(name, text)], data(**{name: list(values)}) if values else {})


# ---- parsing


@pytest.mark.parametrize(
    ("vr", "text", "criterion"),
    [
        ("LO", "", Universal()),
        ("LO", "  ", Universal()),
        ("UI", "*", Universal()),
        ("DA", "*", Universal()),
        ("PN", "**", Universal()),
        ("LO", '""', EmptyValue()),
        ("LO", " a b ", SingleValue("a b")),
        ("LO", "a*", Wildcard("a*")),
        ("CS", "M?", Wildcard("M?")),
        ("LO", "a\\b", UIDList(("a", "b"))),
        ("LT", "a\\b", SingleValue("a\\b")),
        ("LO", "a,b", SingleValue("a,b")),
        ("CS", "CT,MR", UIDList(("CT", "MR"))),
        ("UI", "1.2\\1.3", UIDList(("1.2", "1.3"))),
        ("UI", "1.2,1.3", UIDList(("1.2", "1.3"))),
        ("UI", "1.2\\", SingleValue("1.2")),
        ("IS", "007", SingleValue("007")),
        ("AT", "0010,0020", SingleValue("00100020")),
        ("DA", "20240229", SingleValue("20240229")),
        ("DA", "2024.02.29", SingleValue("20240229")),
        ("DA", "20240101-20240131", Range("20240101", "20240131")),
        ("DA", "20240101 - 20240131", Range("20240101", "20240131")),
        ("DA", "20240101-", Range("20240101", "")),
        ("DA", "-20240131", Range("", "20240131")),
        ("TM", "10", Range("10", "105959.999999")),
        ("TM", "10:30", Range("1030", "103059.999999")),
        ("TM", "100000-1200", Range("10", "120059.999999")),
        ("TM", "000000-", Range("00", "")),
        ("TM", "103000.5", Range("103000.5", "103000.599999")),
        ("DT", "2024", Range("20240101", "20241231235959.999999")),
        ("DT", "202402", Range("20240201", "20240229235959.999999")),
        ("DT", "20240101120000+0100", Range("2024010111", "20240101110000.999999")),
        ("DT", "20240101-0500", Range("2024010105", "20240102045959.999999")),  # an offset
        ("DT", "2023-2024", Range("20230101", "20241231235959.999999")),  # no offset: a range
        ("DT", "20240101-0500-20240102-0500", Range("2024010105", "20240103045959.999999")),
        ("DT", "-20240102", Range("", "20240102235959.999999")),
    ],
)
def test_keys_are_parsed_by_their_vr(vr: str, text: str, criterion: object) -> None:
    assert parse_criterion(vr, text) == criterion


def test_a_list_is_all_of_its_values_only_where_multiple_value_matching_is_asked_for() -> None:
    assert parse_criterion("CS", "CT\\PT", multiple=True) == MultipleValue(("CT", "PT"))
    assert parse_criterion("UI", "1.2\\1.3", multiple=True) == UIDList(("1.2", "1.3"))


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("DA", "20240230"),
        ("DA", "2024-01-01"),
        ("DA", "-"),
        ("DA", "2024*"),
        ("DA", "20240101\\20240102"),
        ("TM", "25"),
        ("TM", "1"),
        ("TM", "10-x"),
        ("DT", "20241301"),
        ("DT", "99"),
        ("DT", "2024.5"),
        ("UI", "1.2.*"),
        ("UI", "1." + "1" * 64),
        ("UI", "CT"),
        ("IS", "one"),
        ("IS", "1*"),
        ("DS", "nan"),
        ("AT", "PatientID"),
        ("SQ", "x"),
        ("OB", "x"),
        ("PN", "A*\\B"),
        ("LO", "a\0b"),
        ("LO", "a*" * 600),
        ("IS", "1" * 65),
        ("LO", "a\udcffb"),
    ],
)
def test_what_can_never_match_is_refused(vr: str, text: str) -> None:
    with pytest.raises(InvalidQuery):
        parse_criterion(vr, text)


# ---- matching


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("THORAX", "THORAX", True),
        ("THORAX", "Thorax", False),  # case-sensitive, PS3.4 C.2.2.2.1
        ("THORAX", "THORAX ", True),  # padding does not count
        ("*AX", "THORAX", True),
        ("T*R*X", "THORAX", True),
        ("T??RAX", "THORAX", True),
        ("T?RAX", "THORAX", False),
        ("*", "", True),
        ("?*", "", False),
        ("[T]*", "THORAX", False),
        ("[T]*", "[T]HORAX", True),
        ("T.ORAX", "THORAX", False),
        ("a*c", "a\nc", True),
        ('""', "", True),
        ('""', " ", True),
        ('""', "x", False),
    ],
)
def test_text(text: str, value: str, expected: bool) -> None:
    assert does_match("StudyDescription", text, value) is expected


def test_patterns_of_many_wildcards_take_no_time() -> None:
    assert not does_match("StudyDescription", "*a" * 30 + "*b", "a" * 64)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("doe^jane", "DOE^Jane", True),
        ("Doe^Jane", "Doe^Jane^^", True),
        ("Doe", "Doe^Jane", False),
        ("do*", "Doe^Jane", True),
        ("muller*", "Müller^Anna", True),
        ("Müller*", "MULLER^ANNA", True),
        ("гусева*", "Гусева^Ольга", True),
        ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("yamada*=山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("yamada*=佐藤*", "Yamada^Tarou=山田^太郎=やまだ^たろう", False),
        ("=山田*", "Yamada^Tarou=山田^太郎", True),
        ("*=*", "Doe^Jane", True),
        ("?oe^*", "Doe^Jane", True),
    ],
)
def test_person_names(text: str, name: str, expected: bool) -> None:
    assert does_match("PatientName", text, name) is expected


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("10", "100000", True),
        ("10", "10", True),
        ("10", "105959.9", True),
        ("10", "110000", False),
        ("103000", "1030", True),
        ("1030-1100", "110030", True),
        ("1030-1100", "102959.999999", False),
        ("-10", "095959", True),
        ("10:30", "10:30:15", True),
    ],
)
def test_times_of_any_precision(text: str, value: str, expected: bool) -> None:
    assert does_match("StudyTime", text, value) is expected


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("20240101-20240131", "20240131", True),
        ("20240101-20240131", "20240201", False),
        ("20240131", "2024.01.31", True),
        ("-20240131", "19990101", True),
        ("20240131-", "20240131", True),
    ],
)
def test_dates(text: str, value: str, expected: bool) -> None:
    assert does_match("StudyDate", text, value) is expected
    assert not does_match("StudyDate", text)


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("20240101120000+0100", "20240101110000.5", True),
        ("20240101110000", "20240101120000+0100", True),
        ("20240101-0500", "20240102040000", True),
        ("2024", "2024", True),
        ("202402-202403", "20240229235959.999999", True),
        ("20240101", "20231231235960", False),
    ],
)
def test_date_times_are_compared_in_utc(text: str, value: str, expected: bool) -> None:
    assert does_match("AcquisitionDateTime", text, value) is expected


def test_numbers_are_equal_by_value() -> None:
    assert does_match("SliceThickness", "1.50", 1.5)
    assert does_match("InstanceNumber", "007", 7)
    assert does_match("InstanceNumber", "9007199254740993", "9007199254740993")
    assert not does_match("InstanceNumber", "9007199254740993", 9007199254740992)
    assert does_match("Rows", "256\\512", 512)


def test_any_of_several_values_is_enough() -> None:
    assert does_match("ImageType", "PRIMARY", "ORIGINAL", "PRIMARY")
    assert not does_match("ImageType", "SECONDARY", "ORIGINAL", "PRIMARY")


def test_only_the_first_value_counts_where_there_may_be_only_one() -> None:
    assert does_match("StudyID", "1", "1", "2")
    assert not does_match("StudyID", "2", "1", "2")


def test_multiple_value_matching_needs_each_value() -> None:
    both = key("ModalitiesInStudy", "CT\\PT", multiple=True)
    assert matches([both], data(ModalitiesInStudy=["CT", "PT", "SR"]))
    assert not matches([both], data(ModalitiesInStudy=["CT", "SR"]))
    assert matches([key("ModalitiesInStudy", "CT\\PT")], data(ModalitiesInStudy=["CT", "SR"]))


@pytest.mark.parametrize("attributes", [{}, data(PatientID=None), data(PatientID=""), data(PatientID=" ")])
def test_absent_and_empty_attributes_match_universal_and_empty_value_only(attributes: dict[str, Any]) -> None:
    assert matches([key("PatientID", "")], attributes)
    assert matches([key("PatientID", "*")], attributes)
    assert matches([key("PatientID", '""')], attributes)
    assert not matches([key("PatientID", "?*")], attributes)
    assert not matches([key("PatientID", "P")], attributes)


REQUESTS = {
    "00400275": {
        "vr": "SQ",
        "Value": [
            {"00400009": {"vr": "SH", "Value": ["S1"]}, "00401001": {"vr": "SH", "Value": ["R1"]}},
            {"00400009": {"vr": "SH", "Value": ["S2"]}, "00401001": {"vr": "SH", "Value": ["R2"]}},
        ],
    }
}


def test_one_item_must_meet_all_conditions_of_a_sequence() -> None:
    step = key("RequestAttributesSequence.ScheduledProcedureStepID", "S1")
    procedure = key("RequestAttributesSequence.RequestedProcedureID", "R2")
    assert matches([step, procedure], REQUESTS)  # two conditions, each on any item
    nested = nest([step, procedure])
    assert isinstance(nested[0].criterion, SequenceMatch)
    assert not matches(nested, REQUESTS)
    assert matches(nest([step, key("RequestAttributesSequence.RequestedProcedureID", "R?")]), REQUESTS)


def test_an_empty_sequence_key_matches_everything() -> None:
    assert matches([Match((0x00400275,), "SQ", SequenceMatch(()))], {})


PRIVATE = {
    "00090010": {"vr": "LO", "Value": ["OTHER"]},
    "00090011": {"vr": "LO", "Value": ["ACME 1.1"]},
    "00091002": {"vr": "LO", "Value": ["theirs"]},
    "00091102": {"vr": "LO", "Value": ["ours"]},
}


def test_private_attributes_are_found_in_the_block_of_their_creator() -> None:
    asked = Query(Level.INSTANCE, (key("00091002", "ours"), key("00090010", "ACME 1.1")))
    assert matches(asked.plain().matches, PRIVATE)
    assert not matches([key("00091002", "ours")], PRIVATE)
    assert matches([key("00091002", "theirs")], PRIVATE)
    assert not matches(Query(Level.INSTANCE, (key("00091002", "ours"), key("00090010", "X"))).plain().matches, PRIVATE)


def test_a_private_creator_alone_is_an_attribute_like_any_other() -> None:
    assert matches(Query(Level.INSTANCE, (key("00090011", "ACME*"),)).plain().matches, PRIVATE)


@pytest.mark.parametrize(
    ("element", "text", "expected"),
    [
        ({"vr": "DS", "Value": [1.5]}, "1.50", True),
        ({"vr": "DA", "Value": ["20240115"]}, "20240101-20240131", True),
        ({"vr": "LO", "Value": ["abc"]}, "a*", True),
        ({"vr": "UI", "Value": ["1.2"]}, "not a UID", False),
        ({"vr": "UN", "InlineBinary": "QUJDIA=="}, "ABC", True),
        ({"vr": "UN", "InlineBinary": "/////w=="}, "ABC", False),
        ({"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]}, "doe*", True),
        ({"vr": "LO"}, '""', True),
    ],
)
def test_what_a_private_key_means_is_decided_by_the_vr_that_is_stored(
    element: dict[str, Any], text: str, expected: bool
) -> None:
    assert matches([key("00091002", text)], {"00091002": element}) is expected


def test_the_character_set_and_group_lengths_are_never_matched() -> None:
    asked = Query(Level.STUDY, (key("00080005", "ISO_IR 100"), key("00080000", "12"), key("PatientID", "P1")))
    assert [match.path for match in asked.plain().matches] == [(0x00100020,)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("jane doe", True), ("Doe^Ja*", True), ("ja", True), ("jan do", True), ("ane", False), ("doe richard", False)],
)
def test_fuzzy_matching_takes_beginnings_of_words_in_any_order(text: str, expected: bool) -> None:
    asked = Query(Level.STUDY, (key("PatientName", text),), fuzzy=True).plain()
    assert matches(asked.matches, data(PatientName="Doë^Jane Mary^^Dr.")) is expected


@pytest.mark.parametrize(
    ("day", "moment", "expected"),
    [
        ("20240101", "0900", False),
        ("20240101", "1000", True),
        ("20240102", "0300", True),
        ("20240103", "1759", True),
        ("20240103", "1801", False),
        ("20240104", "1200", False),
    ],
)
def test_combined_date_and_time_are_two_moments(day: str, moment: str, expected: bool) -> None:
    keys = (key("StudyDate", "20240101-20240103"), key("StudyTime", "1000-1800"))
    assert (
        matches(Query(Level.STUDY, keys, combined=True).plain().matches, data(StudyDate=day, StudyTime=moment))
        is expected
    )
    separate = "1000" <= moment <= "1800" and day <= "20240103"
    assert matches(Query(Level.STUDY, keys).plain().matches, data(StudyDate=day, StudyTime=moment)) is separate
