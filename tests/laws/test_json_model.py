"""The DICOM JSON Model equals pydicom's on every file that pydicom reads, but for what the standard says otherwise."""

from __future__ import annotations

import base64
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomhub.dicom.charset import character_set
from dicomhub.dicom.json_model import find_value, header_to_dict, header_to_json, iter_json
from dicomhub.dicom.part10 import Split
from dicomhub.errors import NotFound
from tests.dicom.parts import Memory, element, item, name_of, part10, readable_files, sequence

pytestmark = pytest.mark.usefixtures("quiet")

ARRAYS = ("OD", "OF", "OL", "OV")
"""Bulk data whatever their size."""
Json = dict[str, Any]

READ_FURTHER = {
    "GH179A.dcm": "a VR of two spaces, after which pydicom takes the rest of the file for one value",
    "GH364.dcm": "an item without its sequence, of which pydicom makes an element",
    "GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm": "a little endian sequence in UN of a big endian file",
    "chrGB2312.dcm": "pydicom leaves the escape sequences of ISO 2022 IR 58 in the text",
    "chrX1.dcm": "so it does",
}
"""Files of which we read more than pydicom; what differs is tested in tests/dicom."""


def as_pydicom_says(ds: pydicom.Dataset) -> Json:
    """pydicom's JSON with the deviations that `dicomhub.dicom.json_model` documents applied."""
    result: Json = {}
    for tag in sorted(ds.keys()):
        if tag & 0xFFFF == 0:
            continue  # group length
        element = ds[tag]
        if element.VR == "SQ":
            items = [as_pydicom_says(item) for item in element.value]
            result[f"{tag:08X}"] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
            continue
        try:
            attribute = element.to_json_dict(None, 0)
        except ValueError:
            continue  # badVR.dcm has an IS of "1A"
        result[f"{tag:08X}"] = normal(attribute, big=ds.original_encoding[1] is False)
    return result


def normal(attribute: Json, *, big: bool) -> Json:
    vr = str(attribute["vr"])
    values = [normal_value(value) for value in attribute.get("Value", ())]
    if values and values != [None]:
        return {"vr": vr, "Value": values}
    if "InlineBinary" in attribute:
        raw = base64.b64decode(attribute["InlineBinary"])
        if big and vr == "OW":
            raw = b"".join(raw[at : at + 2][::-1] for at in range(0, len(raw), 2))
        return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode()}
    return {"vr": vr}


def normal_value(value: Any) -> Any:
    if isinstance(value, str):
        return value.rstrip(" \0") or None
    if isinstance(value, dict):
        return {group: text.rstrip(" \0") for group, text in value.items() if text.rstrip(" \0")} or None
    if isinstance(value, float) and value != value:
        return "NaN"
    return value


def inlined(attributes: Json, memory: Memory, split: Split) -> Json:
    """Our JSON with every BulkDataURI replaced by what it leads to."""
    result: Json = {}
    for tag, attribute in attributes.items():
        if "BulkDataURI" in attribute:
            place = find_value(split.header, split.segments, split.transfer_syntax_uid, attribute["BulkDataURI"][6:])
            assert place.vr == attribute["vr"]
            if place.segment is None:
                assert place.vr in ARRAYS
                raw = split.header[place.start : place.stop]
            else:
                raw = memory.blob(split.segments[place.segment].digest)
            result[tag] = (attribute["vr"], raw, place.is_little_endian)
        elif attribute["vr"] == "SQ" and "Value" in attribute:
            result[tag] = {"vr": "SQ", "Value": [inlined(item, memory, split) for item in attribute["Value"]]}
        else:
            result[tag] = attribute
    return result


def assert_same(ours: Json, theirs: Json, path: str) -> None:
    assert list(ours) == sorted(ours), path
    for tag in theirs:
        left, right = ours[tag], theirs[tag]
        if isinstance(left, tuple):
            assert_same_bulk(left, right, f"{path}/{tag}")
        elif left["vr"] == "SQ":
            assert len(left.get("Value", ())) == len(right.get("Value", ())), f"{path}/{tag}"
            for number, pair in enumerate(zip(left.get("Value", ()), right.get("Value", ()), strict=True), 1):
                assert_same(*pair, f"{path}/{tag}/{number}")
        else:
            assert left == right, f"{path}/{tag}"
    assert ours.keys() - theirs.keys() <= {"00280008"}, path


def assert_same_bulk(ours: tuple[str, bytes, bool], theirs: Json, path: str) -> None:
    vr, raw, little = ours
    assert vr in (theirs["vr"], "UN"), path  # a bulk value in UN stays UN, whatever the dictionary says
    if "InlineBinary" in theirs:
        expected = base64.b64decode(theirs["InlineBinary"])
        if not little and vr == "OW":
            raw = b"".join(raw[at : at + 2][::-1] for at in range(0, len(raw), 2))
        # pydicom leaves the sequence delimiter out
        assert raw in (expected, expected + b"\xfe\xff\xdd\xe0\0\0\0\0"), path


@pytest.mark.parametrize("path", [path for path in readable_files() if path.name not in READ_FURTHER], ids=name_of)
@pytest.mark.parametrize("threshold", [32 * 1024, 200])
def test_law_json_equals_that_of_pydicom(path: Path, threshold: int) -> None:
    memory = Memory()
    split = memory.split(path.read_bytes(), bulk_threshold=threshold)
    split = split.view or split
    text = header_to_json(split.header, split.segments, split.transfer_syntax_uid)
    assert b"".join(iter_json(split.header, split.segments, split.transfer_syntax_uid)) == text
    assert text.count(b'"BulkDataURI":"@bulk/') >= len(split.segments)
    ours = inlined(orjson.loads(text), memory, split)
    assert_same(ours, as_pydicom_says(pydicom.dcmread(path, force=True)), "")


@pytest.mark.parametrize("path", readable_files(), ids=name_of)
def test_law_every_inline_value_is_found_by_its_path(path: Path) -> None:
    split = Memory().split(path.read_bytes())
    split = split.view or split
    attributes = header_to_dict(split.header, split.segments, split.transfer_syntax_uid)
    for tag, attribute in attributes.items():
        if attribute["vr"] == "SQ":
            continue
        place = find_value(split.header, split.segments, split.transfer_syntax_uid, tag)
        if attribute["vr"] == "OB" and "InlineBinary" in attribute:
            assert split.header[place.start : place.stop] == base64.b64decode(attribute["InlineBinary"])
        elif "Value" not in attribute and place.segment is None:
            assert not split.header[place.start : place.stop].strip(b" \0") or "InlineBinary" in attribute
    with pytest.raises(NotFound):
        find_value(split.header, split.segments, split.transfer_syntax_uid, "00091234/1/00080005")


numbers = st.one_of(
    st.tuples(st.just("US"), st.integers(0, 2**16 - 1)),
    st.tuples(st.just("SS"), st.integers(-(2**15), 2**15 - 1)),
    st.tuples(st.just("UL"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("SL"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("UV"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("SV"), st.integers(-(2**63), 2**63 - 1)),
)
SIZES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "UV": 8, "SV": 8}


@given(st.lists(numbers, min_size=1, max_size=20), st.booleans())
def test_law_integers_are_carried_exactly(values: list[tuple[str, int]], big: bool) -> None:
    body = b"".join(
        element(
            0x00091000 + index,
            vr,
            value.to_bytes(SIZES[vr], "big" if big else "little", signed=vr[0] == "S"),
            big=big,
        )
        for index, (vr, value) in enumerate(values)
    )
    split = Memory().split(part10(element(0x00080005, "CS", b"", big=big) + body, f"1.2.840.10008.1.2.{1 + big}"))
    attributes = orjson.loads(header_to_json(split.header, split.segments, split.transfer_syntax_uid))
    for index, (vr, value) in enumerate(values):
        (carried,) = attributes[f"{0x00091000 + index:08X}"]["Value"]
        assert attributes[f"{0x00091000 + index:08X}"]["vr"] == vr
        assert int(carried) == value
        assert isinstance(carried, str) == (abs(value) > 2**53)


@given(st.text("0123456789.eE+- _\0\\xnaif", max_size=20), st.sampled_from(("DS", "IS")))
def test_law_text_numbers_lose_nothing(text: str, vr: str) -> None:
    raw = text.encode()
    split = Memory().split(
        part10(element(0x00080005, "CS", b"") + element(0x00181041, vr, raw + b" " * (len(raw) % 2)))
    )
    attribute = orjson.loads(header_to_json(split.header, split.segments, split.transfer_syntax_uid))["00181041"]
    written = [part.strip(" \0") for part in text.split("\\")]
    carried = attribute.get("Value", [None])
    assert len(carried) == len(written)
    for value, part in zip(carried, written, strict=True):
        if value is None:
            assert part == ""
        elif isinstance(value, str):
            assert value == part
        else:
            digits = len(Decimal(part).as_tuple().digits)
            assert Decimal(format(value, f".{max(digits, 1)}g")) == Decimal(part)


@settings(max_examples=300)
@given(
    st.sampled_from(
        [b"", b"ISO_IR 100", b"ISO_IR 13", b"ISO_IR 192", b"GB18030", b"GBK", b"\\ISO 2022 IR 149", b"\\ISO 2022 IR 58",
         b"ISO 2022 IR 13\\ISO 2022 IR 87", b"ISO 2022 IR 6\\ISO 2022 IR 159", b"ISO_IR 166", b"nonsense"]
    ),
    st.lists(st.binary(max_size=12) | st.sampled_from([b"\x1b$B", b"\x1b(B", b"\x1b$)C", b"\x1b)I", b"^", b"="])),
    st.booleans(),
)  # fmt: skip
def test_law_any_bytes_become_text(charset: bytes, parts: list[bytes], is_name: bool) -> None:
    text = character_set(charset).decode(b"".join(parts), is_name=is_name)
    assert orjson.loads(orjson.dumps(text)) == text


def test_law_json_of_a_large_header_is_the_same_in_pieces() -> None:
    position = element(0x00200032, "DS", b"1.5\\-2.25\\3 " * 10)
    frames = [item(sequence(0x00209113, [item(position)])) for _ in range(15_000)]
    body = element(0x00080005, "CS", b"ISO_IR 192") + sequence(0x52009230, frames) + element(0x60000010, "US", b"\1\0")
    split = Memory().split(part10(body))
    pieces = list(iter_json(split.header, split.segments, split.transfer_syntax_uid))
    assert len(split.header) > 2 * 1024**2
    assert max(map(len, pieces)) < 1000
    whole = orjson.dumps(header_to_dict(split.header, split.segments, split.transfer_syntax_uid))
    assert b"".join(pieces) == whole == header_to_json(split.header, split.segments, split.transfer_syntax_uid)
