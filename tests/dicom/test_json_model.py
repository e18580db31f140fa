"""DICOM JSON (PS3.18 F), VR by VR."""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson
import pytest

from dicomhub.dicom.json_model import find_value, header_to_dict, header_to_json
from dicomhub.errors import NotDicom, NotFound
from tests.dicom.parts import (
    BIG_ENDIAN,
    CHARSET,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    SHARED,
    element,
    encapsulated,
    item,
    part10,
    sequence,
    split,
)

TEXT_VRS = ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
BINARY_VRS = ["AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "US", "UV"]


def as_json(data_set: bytes, transfer_syntax_uid: str = EXPLICIT, **options: int) -> dict[str, Any]:
    parts = split(part10(data_set, transfer_syntax_uid), **options)
    result: dict[str, Any] = orjson.loads(header_to_json(parts.header, parts.segments, parts.transfer_syntax_uid))
    return result


def value_of(vr: str, value: bytes, tag: int = 0x00091001) -> dict[str, Any]:
    """JSON of one element."""
    attribute: dict[str, Any] = as_json(CHARSET + element(tag, vr, value))[f"{tag:08X}"]
    assert attribute["vr"] == vr
    return attribute


@pytest.mark.parametrize(
    ("vr", "raw", "values"),
    [
        ("AE", b" STORE \\  \\B ", ["STORE", None, "B"]),
        ("AS", b"035Y", ["035Y"]),
        ("AT", b"\x28\0\x10\0\x10\0\x20\0", ["00280010", "00100020"]),
        ("CS", b"ORIGINAL\\PRIMARY\\ ", ["ORIGINAL", "PRIMARY", None]),
        ("CS", b"A\\\\B ", ["A", None, "B"]),
        ("DA", b"20240131", ["20240131"]),
        ("DS", b"1.5\\-2e3\\ 7 ", [1.5, -2000.0, 7.0]),
        ("DS", b"1\\\\3 ", [1.0, None, 3.0]),
        ("DS", b"-761.87000000000", [-761.87]),
        ("DS", b"9007199254740993", ["9007199254740993"]),
        ("DS", b"1e999 ", ["1e999"]),
        ("DS", b"nan ", ["nan"]),
        ("DS", b"1,5 ", ["1,5"]),
        ("DS", b"1_0 ", ["1_0"]),
        ("DT", b"20240131120000.000000+0100", ["20240131120000.000000+0100"]),
        ("FD", struct.pack("<3d", 0.1, float("inf"), float("nan")), [0.1, "inf", "NaN"]),
        ("FL", struct.pack("<2f", 0.5, float("-inf")), [0.5, "-inf"]),
        ("IS", b"12\\-3\\\\ 7 ", [12, -3, None, 7]),
        ("IS", b"1.0\\1.5\\x ", [1, "1.5", "x"]),
        ("IS", b"99999999999999999999", ["99999999999999999999"]),
        ("LO", "Überweisung\\zwei ".encode(), ["Überweisung", "zwei"]),
        ("LT", b"first\\not a second \r\n ", ["first\\not a second \r\n"]),
        ("SH", b' leading and "quoted" ', [' leading and "quoted"']),
        ("SL", struct.pack("<2i", -1, 2**31 - 1), [-1, 2**31 - 1]),
        ("SS", struct.pack("<2h", -1, 5), [-1, 5]),
        ("ST", b"a\\b ", ["a\\b"]),
        ("SV", struct.pack("<2q", -1, -(2**63)), [-1, "-9223372036854775808"]),
        ("TM", b"120000.5", ["120000.5"]),
        ("UC", b"a\\b ", ["a", "b"]),
        ("UI", b"1.2.3\\1.2.4\0", ["1.2.3", "1.2.4"]),
        ("UL", struct.pack("<I", 2**32 - 1), [2**32 - 1]),
        ("UR", b"https://example.org/a?b=c  ", ["https://example.org/a?b=c"]),
        ("US", struct.pack("<2H", 0, 65535), [0, 65535]),
        ("UT", b"\t\x01 text ", ["\t\x01 text"]),
        ("UV", struct.pack("<2Q", 2**53, 2**63 - 1), [2**53, "9223372036854775807"]),
    ],
)
def test_values_become_json_values(vr: str, raw: bytes, values: list[Any]) -> None:
    assert value_of(vr, raw)["Value"] == values


@pytest.mark.parametrize("vr", [*TEXT_VRS, *BINARY_VRS])
def test_an_empty_element_has_only_its_vr(vr: str) -> None:
    assert value_of(vr, b"") == {"vr": vr}


@pytest.mark.parametrize("vr", TEXT_VRS)
def test_padding_alone_is_an_empty_element(vr: str) -> None:
    assert value_of(vr, b"  \0\0") == {"vr": vr}


@pytest.mark.parametrize("vr", ["OD", "OF", "OL", "OV"])
def test_arrays_of_numbers_are_bulk_data_whatever_their_size(vr: str) -> None:
    assert value_of(vr, b"12345678") == {"vr": vr, "BulkDataURI": "@bulk/00091001"}
    assert value_of(vr, b"") == {"vr": vr}


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_bytes_are_inline_binary(vr: str) -> None:
    assert base64.b64decode(value_of(vr, b"12345678")["InlineBinary"]) == b"12345678"


@pytest.mark.parametrize(
    ("vr", "inline"),
    [("OB", b"12345678"), ("OW", b"21436587")],
)
def test_inline_binary_is_little_endian_whatever_the_file_is(vr: str, inline: bytes) -> None:
    first = element(0x00080005, "CS", b"", big=True)
    attributes = as_json(first + element(0x00091001, vr, b"12345678", big=True), BIG_ENDIAN)
    assert base64.b64decode(attributes["00091001"]["InlineBinary"]) == inline


def test_big_endian_numbers_are_read() -> None:
    first = element(0x00080005, "CS", b"", big=True)
    body = (
        element(0x00091001, "US", b"\1\2", big=True)
        + element(0x00091002, "AT", b"\0\x28\0\x10", big=True)
        + sequence(0x00091003, [item(element(0x00091001, "FL", struct.pack(">f", 2.5), big=True), big=True)], big=True)
    )
    attributes = as_json(first + body, BIG_ENDIAN)
    assert attributes["00091001"]["Value"] == [0x0102]
    assert attributes["00091002"]["Value"] == ["00280010"]
    assert attributes["00091003"]["Value"] == [{"00091001": {"vr": "FL", "Value": [2.5]}}]


def test_person_names_are_objects_of_the_groups_that_are_there() -> None:
    raw = "Yamada^Tarou=山田^太郎=やまだ^たろう\\=王^小东\\\\Doe^Jane^^=".encode()
    assert value_of("PN", raw + b" " * (len(raw) % 2))["Value"] == [
        {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
        {"Ideographic": "王^小东"},
        None,
        {"Alphabetic": "Doe^Jane^^"},
    ]


@pytest.mark.parametrize(("vr", "size"), [("US", 3), ("FD", 7), ("UL", 6), ("AT", 2), ("SV", 4)])
def test_numbers_of_a_wrong_length_become_un(vr: str, size: int) -> None:
    attributes = as_json(CHARSET + element(0x00091001, vr, b"x" * size) + b"\0" * (size % 2))
    assert attributes["00091001"]["vr"] == "UN"
    assert base64.b64decode(attributes["00091001"]["InlineBinary"]) == b"x" * size


def test_sequences_keep_their_items_and_inherit_the_character_set() -> None:
    latin = element(0x00080005, "CS", b"ISO_IR 100")
    name = element(0x00100010, "PN", b"J\xe9r\xf4me^")
    nested = sequence(
        0x00081140, [item(latin + name), item(b""), item(sequence(0x00082112, [item(name)]), undefined=True)]
    )
    attributes = as_json(element(0x00080005, "CS", b"ISO_IR 144") + nested + sequence(0x00082112, []))
    first, second, third = attributes["00081140"]["Value"]
    assert first["00100010"]["Value"] == [{"Alphabetic": "Jérôme^"}]
    assert second == {}
    assert third["00082112"]["Value"][0]["00100010"]["Value"] == [{"Alphabetic": "Jщrєme^"}]
    assert attributes["00082112"] == {"vr": "SQ"}


def test_group_lengths_and_file_meta_information_are_left_out_and_tags_ordered() -> None:
    body = (
        element(0x00080000, "UL", b"\1\0\0\0")
        + CHARSET
        + element(0x00200013, "IS", b"1 ")
        + element(0x00100020, "LO", b"P1")
        + element(0x00200013, "IS", b"2 ")
        + bytes(16)
    )
    attributes = as_json(body)
    assert list(attributes) == ["00080005", "00100020", "00200013"]
    assert attributes["00200013"]["Value"] == [2]


def test_private_elements_have_the_vr_of_their_creator_in_implicit_vr() -> None:
    creator = element(0x00090010, "", b"GEMS_IDEN_01")
    known, unknown = element(0x00091002, "", b"CT01"), element(0x000910FE, "", b"\1\2\3\4")
    orphan = element(0x00191002, "", b"CT01")
    attributes = as_json(element(0x00080005, "", b"") + creator + known + unknown + orphan, IMPLICIT)
    assert attributes["00090010"] == {"vr": "LO", "Value": ["GEMS_IDEN_01"]}
    assert attributes["00091002"] == {"vr": "SH", "Value": ["CT01"]}
    assert attributes["000910FE"]["vr"] == attributes["00191002"]["vr"] == "UN"


def test_un_of_a_known_tag_gets_its_vr() -> None:
    body = CHARSET + element(0x00090010, "UN", b"GEMS_IDEN_01") + element(0x00091002, "UN", b"CT01")
    attributes = as_json(body + element(0x00280010, "UN", b"\0\2") + element(0x0028FF10, "UN", b"\0\2"))
    assert attributes["00090010"] == {"vr": "LO", "Value": ["GEMS_IDEN_01"]}
    assert attributes["00091002"] == {"vr": "SH", "Value": ["CT01"]}
    assert attributes["00280010"] == {"vr": "US", "Value": [512]}
    assert attributes["0028FF10"]["vr"] == "UN"


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("vr", ["", "UI"])
def test_a_sequence_hidden_in_un_is_found(undefined: bool, vr: str) -> None:
    inner = item(element(0x00081150, vr, b"1.2.3\0"), undefined=True)
    attributes = as_json(CHARSET + sequence(0x00081140, [inner], vr="UN", undefined=undefined))
    assert attributes["00081140"] == {"vr": "SQ", "Value": [{"00081150": {"vr": "UI", "Value": ["1.2.3"]}}]}


def test_a_sequence_in_un_that_is_none_stays_bytes() -> None:
    attributes = as_json(CHARSET + element(0x00081140, "UN", b"no items"))
    assert attributes["00081140"] == {"vr": "UN", "InlineBinary": base64.b64encode(b"no items").decode()}


def hidden(depth: int) -> bytes:
    value = element(0x00081150, "UI", b"1.2\0")
    for _ in range(depth):
        value = element(0x00081140, "UN", item(value))
    return value


def test_sequences_hidden_very_deep_stay_bytes() -> None:
    attributes = as_json(CHARSET + hidden(40))
    depth = 0
    while "Value" in attributes["00081140"]:
        (attributes,) = attributes["00081140"]["Value"]
        depth += 1
    assert depth == 16
    assert attributes["00081140"]["vr"] == "UN"


def test_a_header_with_sequences_nested_too_deep_is_refused() -> None:
    value = element(0x00081150, "UI", b"1.2\0")
    for _ in range(70):
        value = sequence(0x00081140, [item(value)])
    parts = split(part10(CHARSET + value))
    with pytest.raises(NotDicom, match="deeper"):
        header_to_json(parts.header, parts.segments, parts.transfer_syntax_uid)


@pytest.mark.parametrize(("representation", "vr", "value"), [(0, "US", 65535), (1, "SS", -1)])
def test_us_or_ss_follows_pixel_representation_be_it_behind(representation: int, vr: str, value: int) -> None:
    signed = element(0x00280103, "", bytes((representation, 0)))
    body = (
        element(0x00080005, "", b"")
        + element(0x00189810, "", b"\xff\xff")  # Zero Velocity Pixel Value
        + signed
        + element(0x00280106, "", b"\xff\xff")  # Smallest Image Pixel Value
        + sequence(0x00409096, [item(element(0x00409216, "", b"\xff\xff"))], vr="")
    )
    attributes = as_json(body, IMPLICIT)
    assert attributes["00189810"] == attributes["00280106"] == {"vr": vr, "Value": [value]}
    assert attributes["00409096"]["Value"][0]["00409216"] == {"vr": vr, "Value": [value]}


def test_the_first_value_of_a_lut_descriptor_is_unsigned() -> None:
    attributes = as_json(CHARSET + element(0x00283002, "SS", struct.pack("<3h", -2, -5, 16)))
    assert attributes["00283002"] == {"vr": "SS", "Value": [65534, -5, 16]}


def test_lut_data_of_one_entry_is_a_number_in_implicit_vr() -> None:
    def body(entries: int) -> bytes:
        lut = element(0x00283002, "", struct.pack("<3H", entries, 0, 16)) + element(0x00283006, "", b"\5\0" * entries)
        return element(0x00080005, "", b"") + sequence(0x00283000, [item(lut)], vr="")

    (one,) = as_json(body(1), IMPLICIT)["00283000"]["Value"]
    (two,) = as_json(body(2), IMPLICIT)["00283000"]["Value"]
    assert one["00283006"] == {"vr": "US", "Value": [5]}
    assert two["00283006"]["vr"] == "OW"


def test_bulk_values_have_a_path_with_item_numbers() -> None:
    wave = element(0x54001010, "OW", b"w" * 40)
    body = CHARSET + sequence(0x54000100, [item(b""), item(wave)]) + element(0x7FE00010, "OW", b"pixels")
    parts = split(part10(body), bulk_threshold=32)
    attributes = header_to_dict(parts.header, parts.segments, EXPLICIT, bulkdata_prefix=b"http://x/bulkdata")
    assert attributes["7FE00010"] == {"vr": "OW", "BulkDataURI": "http://x/bulkdata/7FE00010"}
    assert attributes["54000100"]["Value"] == [
        {},
        {"54001010": {"vr": "OW", "BulkDataURI": "http://x/bulkdata/54000100/2/54001010"}},
    ]
    assert find_value(parts.header, parts.segments, EXPLICIT, "54000100/2/54001010").segment == 0
    assert find_value(parts.header, parts.segments, EXPLICIT, "7fe00010").segment == 1


@pytest.mark.parametrize(
    "path",
    [
        "54000100",
        "54000100/1/54001010",
        "54000100/3/54001010",
        "54000100/2",
        "",
        "/",
        "x",
        "7FE00011",
        "54000100/02/54001010",
    ],
)
def test_a_path_that_leads_nowhere_is_not_found(path: str) -> None:
    body = CHARSET + sequence(0x54000100, [item(b""), item(element(0x54001010, "OW", b"w" * 40))])
    parts = split(part10(body))
    assert parts.header[slice(*_range(parts, "54000100/2/54001010"))] == b"w" * 40
    with pytest.raises(NotFound):
        find_value(parts.header, parts.segments, EXPLICIT, path)


def _range(parts: Any, path: str) -> tuple[int, int]:
    place = find_value(parts.header, parts.segments, EXPLICIT, path)
    assert place.segment is None
    return place.start, place.stop


def test_pixel_data_in_implicit_vr_is_ow_unless_encapsulated() -> None:
    first = element(0x00080005, "", b"")
    assert as_json(first + element(0x7FE00010, "", b"1234"), IMPLICIT)["7FE00010"]["vr"] == "OW"
    pixels = sequence(0x7FE00010, [item(b""), item(b"frame1")], vr="", undefined=True)
    assert as_json(first + pixels, IMPLICIT)["7FE00010"]["vr"] == "OB"


def test_an_encapsulated_icon_is_inline_with_its_items() -> None:
    icon = encapsulated([b"\xff\xd8.."])
    attributes = as_json(CHARSET + sequence(0x00880200, [item(icon, undefined=True)], undefined=True), JPEG)
    (image,) = attributes["00880200"]["Value"]
    assert base64.b64decode(image["7FE00010"]["InlineBinary"]) == icon[12:-8]


def test_a_value_cannot_forge_a_bulk_data_uri() -> None:
    text = header_to_json(*_parts(CHARSET + element(0x00104000, "LT", b'"BulkDataURI":"@bulk/7FE00010"')), EXPLICIT)
    assert b'"BulkDataURI":"@bulk' not in text


def _parts(body: bytes) -> tuple[bytes, Any]:
    parts = split(part10(body))
    return parts.header, parts.segments


def test_a_vr_that_nobody_knows_becomes_un() -> None:
    new = struct.pack("<HH2sHI", 0x0009, 0x1001, b"ZZ", 0, 4) + b"1234"
    old = struct.pack("<HH2sH", 0x0009, 0x1002, b"ZY", 2) + b"12"
    attributes = as_json(CHARSET + new + old + element(0x00100020, "LO", b"P1"))
    assert base64.b64decode(attributes["00091001"]["InlineBinary"]) == b"1234"
    assert base64.b64decode(attributes["00091002"]["InlineBinary"]) == b"12"
    assert attributes["00100020"]["Value"] == ["P1"]


def real(name: str) -> dict[str, Any]:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is missing")
    parts = split(path.read_bytes())
    return header_to_dict(parts.header, parts.segments, parts.transfer_syntax_uid)


def test_real_file_with_a_blank_vr_is_read_to_its_end() -> None:
    attributes = real("malformed/GH179A.dcm")
    assert attributes["00280120"] == {"vr": "SS", "Value": [0]}
    assert attributes["00281053"] == {"vr": "DS", "Value": [1.0]}
    assert attributes["00400310"]["Value"][0].startswith("TotalDLP=1748.68")


def test_real_file_with_a_stray_item_is_read_to_its_end() -> None:
    attributes = real("malformed/GH364.dcm")
    assert attributes["00280010"]["Value"] == [768]
    assert "BulkDataURI" in attributes["7FE00010"]


def test_real_big_endian_file_with_a_little_endian_sequence_in_un_is_read() -> None:
    attributes = real("malformed/GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm")
    (source,) = attributes["00082112"]["Value"]
    assert source["00081150"]["Value"][0].startswith("1.2.840.10008.")
    assert attributes["00280010"]["Value"] == [512]


def test_real_file_with_gb_2312_loses_its_escape_sequences() -> None:
    assert real("fo-dicom/chrGB2312.dcm")["00100010"]["Value"] == [
        {"Alphabetic": "Zhang^XiaoDong", "Ideographic": "张^小东"}
    ]


def test_sequences_of_many_items_may_be_left_without_value() -> None:
    frames = [item(sequence(0x00209113, [item(element(0x00200032, "DS", b"1\\2\\3 "))])) for _ in range(1000)]
    body = CHARSET + sequence(0x52009230, frames) + sequence(0x52009231, frames[:2]) + element(0x7FE00010, "OW", b"12")
    parts = split(part10(body))
    attributes = header_to_dict(parts.header, parts.segments, EXPLICIT, max_items=2)
    assert attributes["52009230"] == {"vr": "SQ"}
    assert len(attributes["52009231"]["Value"]) == 2
    assert "BulkDataURI" in attributes["7FE00010"]
