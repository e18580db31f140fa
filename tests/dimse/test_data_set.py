"""What we write of DICOM JSON, read back by pydicom."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from dicomhub.dimse.contexts import QUERY_TRANSFER_SYNTAXES
from dicomhub.dimse.data_set import Writer

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


def read(data: bytes, syntax: str) -> Dataset:
    uid = UID(syntax)
    data = zlib.decompress(data, -zlib.MAX_WBITS) if uid.is_deflated else data
    ds = read_dataset(BytesIO(data), uid.is_implicit_VR, uid.is_little_endian, bytelength=len(data))
    ds.decode()
    return ds


ATTRIBUTES: dict[str, Any] = {
    "00080020": {"vr": "DA", "Value": ["20240131"]},
    "00080056": {"vr": "CS", "Value": ["ONLINE"]},
    "00080061": {"vr": "CS", "Value": ["CT", "SEG"]},
    "00080090": {"vr": "PN"},
    "00081110": {
        "vr": "SQ",
        "Value": [
            {"00081150": {"vr": "UI", "Value": ["1.2.3"]}, "00081155": {"vr": "UI", "Value": ["1.2.34"]}},
            {"00081150": {"vr": "UI", "Value": ["1.2.5"]}},
        ],
    },
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
    "00101030": {"vr": "DS", "Value": [71.5]},
    "00180050": {"vr": "DS", "Value": [0.1234567890123456789, 5, None]},
    "00189073": {"vr": "FD", "Value": [0.25]},
    "00200013": {"vr": "IS", "Value": [7]},
    "00201208": {"vr": "IS", "Value": [12]},
    "00280009": {"vr": "AT", "Value": ["00181063"]},
    "00280010": {"vr": "US", "Value": [512]},
    "00660040": {"vr": "OL", "InlineBinary": "AQAAAA=="},
}


@pytest.mark.parametrize("syntax", [str(uid) for uid in QUERY_TRANSFER_SYNTAXES])
def test_pydicom_reads_what_was_written(syntax: str) -> None:
    data = Writer(syntax).write(ATTRIBUTES)
    assert len(data) % 2 == 0
    ds = read(data, syntax)
    assert len(ds) == len(ATTRIBUTES)
    assert (ds.StudyDate, ds.PatientName, ds.Rows) == ("20240131", "Doe^Jane", 512)
    assert list(ds.ModalitiesInStudy) == ["CT", "SEG"]
    assert [item.ReferencedSOPClassUID for item in ds.ReferencedStudySequence] == ["1.2.3", "1.2.5"]
    assert ds["ReferringPhysicianName"].is_empty
    assert ds.InstanceNumber == 7
    assert ds.AcquisitionDuration == 0.25
    assert ds.FrameIncrementPointer == 0x00181063
    assert ds.PatientWeight == 71.5
    assert "SpecificCharacterSet" not in ds


def test_decimal_strings_fit_sixteen_characters() -> None:
    data = Writer(IMPLICIT).write(ATTRIBUTES)
    assert b"0.12345678901235\\5\\" in data


@pytest.mark.parametrize(
    ("name", "wanted", "written"),
    [
        ("Doe^Jane", (), ""),
        ("Müller^Jürgen", (), "ISO_IR 192"),
        ("Müller^Jürgen", ("ISO_IR 100",), "ISO_IR 100"),
        ("Люкceмбypг", ("ISO_IR 144",), "ISO_IR 144"),
        ("Гусева", ("ISO_IR 100",), "ISO_IR 192"),
        ("Müller", ("ISO_IR 6",), "ISO_IR 192"),
        ("Müller", ("ISO_IR 999",), "ISO_IR 192"),
        ("王^小东", ("GB18030",), "GB18030"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ("", "ISO 2022 IR 87"), ["", "ISO 2022 IR 87"]),
        ("Hong^Gildong=洪^吉洞=홍^길동", ("", "ISO 2022 IR 149"), ["", "ISO 2022 IR 149"]),
        ("山田^太郎", ("", "ISO 2022 IR 149", "ISO_IR 100"), "ISO_IR 192"),
    ],
)
def test_requested_character_set_is_used_where_it_can_express_the_text(
    name: str, wanted: tuple[str, ...], written: Any
) -> None:
    groups = dict(zip(("Alphabetic", "Ideographic", "Phonetic"), name.split("="), strict=False))
    attributes = {"00100010": {"vr": "PN", "Value": [groups]}, "00081030": {"vr": "LO", "Value": [name.split("=")[-1]]}}
    ds = read(Writer(EXPLICIT).write(attributes, wanted), EXPLICIT)
    assert ds.get("SpecificCharacterSet", "") == written
    assert str(ds.PatientName) == name
    assert ds.StudyDescription == name.split("=")[-1]


text = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs"], exclude_characters="\\=^"), max_size=20
)


@given(text, text, st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3))
def test_law_written_values_read_back(name: str, description: str, numbers: list[float]) -> None:
    attributes: dict[str, Any] = {
        "00081030": {"vr": "LO", "Value": [description]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]},
        "00180050": {"vr": "DS", "Value": numbers},
        "00189073": {"vr": "FD", "Value": numbers},
    }
    data = Writer(EXPLICIT).write(attributes)
    ds = read(data, EXPLICIT)
    assert ds.StudyDescription == description
    assert str(ds.PatientName) == name
    fd = ds["AcquisitionDuration"]
    assert ([] if fd.is_empty else [fd.value] if len(numbers) == 1 else list(fd.value)) == numbers
    thickness = ds["SliceThickness"]
    decimals = [] if thickness.is_empty else [thickness.value] if len(numbers) == 1 else list(thickness.value)
    assert len(decimals) == len(numbers)
    assert all(len(str(decimal)) <= 16 for decimal in decimals)
