"""Attribute paths, levels and the selection of what is returned."""

from __future__ import annotations

from typing import Any

import pytest

from dicomhub.dicom.attributes import Selection, UnknownAttribute, default_include, parse_path, vr_of
from dicomhub.dicom.levels import ALWAYS_PRESENT, COMPUTED, DEFAULT_RETURN, is_kept, level_of, split_levels
from dicomhub.dicom.model import Level
from dicomhub.errors import InvalidQuery


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("PatientName", (0x00100010,)),
        ("00100010", (0x00100010,)),
        ("0020000d", (0x0020000D,)),
        ("RequestAttributesSequence.ScheduledProcedureStepID", (0x00400275, 0x00400009)),
        ("00400275.00400009", (0x00400275, 0x00400009)),
        ("00400275.ScheduledProcedureStepID", (0x00400275, 0x00400009)),
        ("00091002.00091003", (0x00091002, 0x00091003)),
        ("60000010", (0x60000010,)),
    ],
)
def test_paths(text: str, path: tuple[int, ...]) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize(
    "text", ["", "PatientNane", "patientname", "0010001", "_", "RequestAttributesSequence.Foo", "."]
)
def test_unknown_names(text: str) -> None:
    with pytest.raises(UnknownAttribute):
        parse_path(text)


@pytest.mark.parametrize("text", ["PatientName.PatientID", ".".join(["00081115"] * 17)])
def test_paths_that_lead_nowhere_are_refused(text: str) -> None:
    with pytest.raises(InvalidQuery):
        parse_path(text)


def test_vr_of_ambiguous_and_unknown_attributes() -> None:
    assert (vr_of(0x00280106), vr_of(0x00091002), vr_of(0x00090010), vr_of(0x60000010)) == ("US", "UN", "LO", "US")


def test_default_return_grows_by_the_parents_that_a_request_does_not_name() -> None:
    of_study, of_series = (
        {(tag,) for tag in DEFAULT_RETURN[Level.STUDY]},
        {(tag,) for tag in DEFAULT_RETURN[Level.SERIES]},
    )
    narrow = default_include(Level.INSTANCE, study_given=True, series_given=True)
    within_study = default_include(Level.INSTANCE, study_given=True, series_given=False)
    wide = default_include(Level.INSTANCE, study_given=False, series_given=False)
    assert narrow < within_study < wide
    assert of_series <= within_study
    assert (0x00100010,) not in within_study
    assert of_study <= wide


def test_type_r_attributes_are_among_those_returned() -> None:
    assert {tag for tags in DEFAULT_RETURN.values() for tag in tags} >= ALWAYS_PRESENT


DATA: dict[str, Any] = {
    "00080018": {"vr": "UI", "Value": ["1.2.3"]},
    "00090011": {"vr": "LO", "Value": ["ACME"]},
    "00091102": {"vr": "LO", "Value": ["ours"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe"}]},
    "00400275": {
        "vr": "SQ",
        "Value": [
            {"00400009": {"vr": "SH", "Value": ["S1"]}, "00401001": {"vr": "SH", "Value": ["R1"]}},
            {"00401001": {"vr": "SH", "Value": ["R2"]}, "00420011": {"vr": "OB", "BulkDataURI": "x"}},
        ],
    },
    "7FE00010": {"vr": "OW", "BulkDataURI": "x"},
}


def test_selection_takes_what_is_asked_for_and_no_bulk_data() -> None:
    asked = frozenset({(0x00080018,), (0x7FE00010,), (0x00081030,)})
    assert Selection(asked)(DATA) == {"00080018": DATA["00080018"]}


def test_selection_within_a_sequence_keeps_the_items() -> None:
    asked = frozenset({(0x00400275, 0x00400009)})
    assert Selection(asked)(DATA)["00400275"]["Value"] == [{"00400009": {"vr": "SH", "Value": ["S1"]}}, {}]
    whole = Selection(asked | {(0x00400275,)})(DATA)["00400275"]["Value"]
    assert whole[0] == DATA["00400275"]["Value"][0]
    assert whole[1] == {"00401001": {"vr": "SH", "Value": ["R2"]}}


def test_selection_of_everything_leaves_bulk_data_out_at_any_depth() -> None:
    found = Selection("all")(DATA)
    assert set(found) == set(DATA) - {"7FE00010"}
    assert "BulkDataURI" not in str(found)


def test_selection_completes_type_r_attributes() -> None:
    found = Selection(frozenset({(0x00080050,), (0x00081030,)}))({}, complete=True)
    assert found == {"00080050": {"vr": "SH"}}


def test_private_attributes_come_with_their_creator_from_whatever_block() -> None:
    found = Selection(frozenset({(0x00091002,)}), {0x00090010: "ACME"})(DATA)
    assert found == {"00090011": DATA["00090011"], "00091102": DATA["00091102"]}
    assert Selection(frozenset({(0x00091002,)}), {0x00090010: "OTHER"})(DATA) == {}


def test_levels_of_attributes() -> None:
    assert level_of(0x00100010) is Level.PATIENT
    assert level_of(0x00081030) is Level.STUDY
    assert level_of(0x00080060) is Level.SERIES
    assert level_of(0x00180060) is Level.INSTANCE
    assert level_of(0x00091002) is Level.INSTANCE
    assert level_of(0x00080061) is Level.STUDY
    assert is_kept(0x00280010)
    assert not is_kept(0x00180060)


def test_split_keeps_every_level_small_and_believes_no_computed_attribute() -> None:
    offset = {"vr": "SH", "Value": ["+0100"]}
    metadata = {
        **DATA,
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00080201": offset,
        "00102000": {"vr": "LO", "InlineBinary": "AAAA"},
        **{f"{tag:08X}": {"vr": "IS", "Value": [99]} for tag in COMPUTED},
    }
    study, series, instance = split_levels(metadata)
    assert study == {"00100010": DATA["00100010"], "00080201": offset}
    assert series == {"00080060": metadata["00080060"], "00400275": DATA["00400275"], "00080201": offset}
    assert instance == {"00080018": DATA["00080018"], "00080201": offset}
