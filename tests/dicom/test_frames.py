"""Where frames are, against pydicom and by hand."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import get_expected_length

from dicomhub.dicom.frames import FrameTable, frame_table
from dicomhub.dicom.json_model import header_to_dict
from dicomhub.dicom.part10 import Split
from dicomhub.errors import Corrupt, NotFound
from tests.dicom.parts import CHARSET, JPEG, Memory, element, encapsulated, item, name_of, part10, readable_files, split

OTHER_THAN_PYDICOM = {
    "badVR.dcm": "Number of Frames is '1A'",
    "meta_missing_tsyntax.dcm": "empty pixel data",
    "nested_priv_SQ.dcm": "empty pixel data",
    "GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm": "pydicom cannot read it",
}


def table_of(parts: Split) -> FrameTable | None:
    attributes = header_to_dict(parts.header, parts.segments, parts.transfer_syntax_uid)
    table = frame_table(parts, attributes)
    assert table is None or FrameTable.decode(table.encode()) == table
    return table


def frames_of(table: FrameTable, segment: bytes) -> list[bytes]:
    numbers = range(1, table.count + 1)
    return [b"".join(segment[start:stop] for start, stop in table.fragments(number)) for number in numbers]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "path", [path for path in readable_files() if path.name not in OTHER_THAN_PYDICOM], ids=name_of
)
def test_frames_are_those_of_pydicom(path: Path) -> None:
    memory = Memory()
    parts = memory.split(path.read_bytes())
    parts = parts.view or parts
    table = table_of(parts)
    ds = pydicom.dcmread(path, force=True)
    if table is None:
        assert not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(ds.dir())
        return
    expected = pydicom_frames(ds, table)
    assert parts.pixel_data is not None
    segment = memory.blob(parts.segments[parts.pixel_data.segment].digest)
    assert frames_of(table, segment) == expected


def pydicom_frames(ds: pydicom.Dataset, table: FrameTable) -> list[bytes]:
    count = int(ds.get("NumberOfFrames", 1) or 1)
    assert table.count == count
    if table.is_encapsulated:
        extended = (
            (ds["ExtendedOffsetTable"].value, ds["ExtendedOffsetTableLengths"].value)
            if "ExtendedOffsetTable" in ds
            else None
        )
        return list(generate_frames(ds.PixelData, number_of_frames=count, extended_offsets=extended))
    raw = next(
        ds[keyword].value for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if keyword in ds
    )
    if table.frame_bits % 8:
        assert (table.frame_bits * count + 7) // 8 == get_expected_length(ds)
        bits = table.frame_bits
        return [raw[bits * index // 8 : -(-bits * (index + 1) // 8)] for index in range(count)]
    size = get_expected_length(ds) // count
    assert size * 8 == table.frame_bits
    return [raw[size * index : size * (index + 1)] for index in range(count)]


def image(pixel_data: bytes, frames: int | None = None, **values: int) -> bytes:
    """A 4x4 image of 8 bits."""
    shape = {"samples": 1, "rows": 4, "columns": 4, "bits": 8} | values
    body = CHARSET + element(0x00280002, "US", struct.pack("<H", shape["samples"]))
    if frames is not None:
        body += element(0x00280008, "IS", f"{frames:<6}".encode())
    body += element(0x00280010, "US", struct.pack("<H", shape["rows"]))
    body += element(0x00280011, "US", struct.pack("<H", shape["columns"]))
    return body + element(0x00280100, "US", struct.pack("<H", shape["bits"])) + pixel_data


def encapsulated_frames(pixels: bytes, frames: int | None, transfer_syntax_uid: str = JPEG) -> list[bytes] | None:
    memory = Memory()
    parts = memory.split(part10(image(pixels, frames), transfer_syntax_uid), [700, 1, 1, 1, 3, 50])
    table = table_of(parts)
    assert parts.pixel_data is not None
    return None if table is None else frames_of(table, memory.blob(parts.segments[parts.pixel_data.segment].digest))


A1, A2, B1, B2 = b"\xff\xd8a1", b"a2\xff\xd9", b"\xff\xd8b1", b"b\xff\xd9\0"


def test_a_basic_offset_table_says_which_fragments_are_a_frame() -> None:
    pixels = encapsulated([b"aa", b"bb", b"cc"], offset_table=struct.pack("<2I", 0, 10))
    assert encapsulated_frames(pixels, 2) == [b"aa", b"bbcc"]
    pixels = encapsulated([b"aa", b"bb", b"cc"], offset_table=struct.pack("<2I", 0, 20))
    assert encapsulated_frames(pixels, 2) == [b"aabb", b"cc"]
    assert encapsulated_frames(pixels, 7) == [b"aabb", b"cc"]


def test_a_single_frame_has_all_fragments_even_if_a_table_lists_them() -> None:
    pixels = encapsulated([b"aa", b"bb"], offset_table=struct.pack("<2I", 0, 10))
    assert encapsulated_frames(pixels, None) == [b"aabb"]


def extended(offsets: list[int], lengths: list[int]) -> bytes:
    return element(0x7FE00001, "OV", struct.pack(f"<{len(offsets)}Q", *offsets)) + element(
        0x7FE00002, "OV", struct.pack(f"<{len(lengths)}Q", *lengths)
    )


def test_an_extended_offset_table_cuts_padding_off() -> None:
    pixels = extended([0, 12], [3, 4]) + encapsulated([b"aaa\0", b"bbbb"])
    assert encapsulated_frames(pixels, 2) == [b"aaa", b"bbbb"]


def test_an_extended_offset_table_may_be_a_segment_itself() -> None:
    count = 5000
    table = extended([10 * index for index in range(count)], [1] * count)
    pixels = table + encapsulated([b"a\0"] * count)
    assert encapsulated_frames(pixels, count) == [b"a"] * count


@pytest.mark.parametrize("offsets", [[0, 11], [4, 14], [10, 0], [0, 0], [0, 1000]])
def test_a_wrong_offset_table_is_not_believed(offsets: list[int]) -> None:
    pixels = encapsulated([b"aa", b"bb"], offset_table=struct.pack("<2I", *offsets))
    assert encapsulated_frames(pixels, 2) == [b"aa", b"bb"]
    assert encapsulated_frames(extended(offsets, [2, 2]) + encapsulated([b"aa", b"bb"]), 2) == [b"aa", b"bb"]


def test_without_a_table_one_frame_has_all_fragments() -> None:
    assert encapsulated_frames(encapsulated([b"aa", b"bb"]), 1) == [b"aabb"]
    assert encapsulated_frames(encapsulated([b"aa", b"bb"]), None) == [b"aabb"]


def test_without_a_table_as_many_fragments_as_frames_are_frames() -> None:
    assert encapsulated_frames(encapsulated([b"aa", b"bb"]), 2) == [b"aa", b"bb"]
    assert encapsulated_frames(encapsulated([b"aa", b"", b"bb", b""]), 2) == [b"aa", b"bb"]


def test_without_a_table_markers_tell_where_frames_begin() -> None:
    assert encapsulated_frames(encapsulated([A1, A2, B1, b"..", B2]), 2) == [A1 + A2, B1 + b".." + B2]
    soc = b"\xff\x4f\xff\x51"
    assert encapsulated_frames(encapsulated([soc + b"..", b"xx", soc + b"!!", b"xx"]), 2) == [
        soc + b"..xx",
        soc + b"!!xx",
    ]
    # a fragment that goes on with bytes like a marker
    assert encapsulated_frames(encapsulated([A1, b"\xff\xd8", A2, B1, B2]), 2) == [A1 + b"\xff\xd8" + A2, B1 + B2]


def test_fewer_fragments_than_frames_are_the_frames_there_are() -> None:
    assert encapsulated_frames(encapsulated([b"aa", b"bb"]), 5) == [b"aa", b"bb"]


def test_where_nothing_tells_there_is_no_table() -> None:
    assert encapsulated_frames(encapsulated([b"aa", b"bb", b"cc"]), 2) is None
    assert encapsulated_frames(encapsulated([]), 1) is None
    assert table_of(split(part10(CHARSET))) is None
    assert table_of(split(part10(CHARSET + element(0x7FE00010, "OW", b"12")))) is None


def test_a_video_is_one_frame() -> None:
    pixels = encapsulated([b"\0\0\1\xb3", b"more"])
    assert encapsulated_frames(pixels, 25, "1.2.840.10008.1.2.4.102") == [b"\0\0\1\xb3more"]
    assert encapsulated_frames(pixels, 25, "1.2.840.10008.1.2.4.100.1") == [b"\0\0\1\xb3more"]


def native(pixel_data: bytes, frames: int | None = None, **values: int) -> FrameTable:
    table = table_of(split(part10(image(element(0x7FE00010, "OW", pixel_data), frames, **values))))
    assert table is not None
    assert not table.is_encapsulated
    return table


def test_native_frames_follow_each_other() -> None:
    table = native(bytes(64), 4)
    assert table.count == 4
    assert table.fragments(1) == ((0, 16),)
    assert table.fragments(4) == ((48, 64),)
    assert native(bytes(96), 1, samples=3, bits=16).fragments(1) == ((0, 96),)


def test_frames_of_one_bit_need_not_begin_on_a_byte() -> None:
    table = native(bytes(4), 3, rows=3, columns=3, bits=1)
    assert [table.bit_range(number) for number in (1, 2, 3)] == [(0, 9), (9, 18), (18, 27)]
    assert [table.fragments(number) for number in (1, 2, 3)] == [((0, 2),), ((1, 3),), ((2, 4),)]


def test_two_pixels_share_chrominance_in_4_2_2() -> None:
    photometric = element(0x00280004, "CS", b"YBR_FULL_422")
    body = image(element(0x7FE00010, "OB", bytes(64)), 2, samples=3)
    at = body.index(struct.pack("<2H", 0x0028, 0x0008))
    table = table_of(split(part10(body[:at] + photometric + body[at:])))
    assert table is not None
    assert table.fragments(2) == ((32, 64),)


@pytest.mark.parametrize(("tag", "vr", "size"), [(0x7FE00008, "OF", 4), (0x7FE00009, "OD", 8)])
def test_float_pixels_have_the_size_of_their_element(tag: int, vr: str, size: int) -> None:
    table = table_of(split(part10(image(element(tag, vr, bytes(32 * size)), 2))))
    assert table is not None
    assert table.fragments(2) == ((16 * size, 32 * size),)


def test_native_pixel_data_that_is_too_short_has_fewer_frames() -> None:
    assert native(bytes(40), 4).count == 2
    short = native(bytes(10), 1)
    assert short.fragments(1) == ((0, 10),)


@pytest.mark.parametrize("frame_number", [-1, 0, 4, 2**40])
def test_frames_are_counted_from_one_to_the_last(frame_number: int) -> None:
    pixels = part10(image(encapsulated([b"aa", b"bb", b"cc"]), 3), JPEG)
    for table in (table_of(split(pixels)), native(bytes(48), 3)):
        assert table is not None
        with pytest.raises(NotFound, match="the instance has 3, counted from 1"):
            table.fragments(frame_number)


def test_damaged_tables_are_noticed() -> None:
    encoded = FrameTable(1, 128, 16).encode()
    for damaged in (b"", b"DHF2" + encoded[4:], encoded + b"x", encoded[:-1]):
        with pytest.raises(Corrupt):
            FrameTable.decode(damaged)


def test_a_table_of_many_frames_takes_12_bytes_each() -> None:
    count = 50_000
    body = CHARSET + element(0x00280008, "IS", b"50000 ") + encapsulated([b"\xff\xd8"] * count)
    data = part10(body, JPEG)
    attributes: dict[str, Any] = {"00280008": {"vr": "IS", "Value": [count]}}
    parts = split(data)
    tracemalloc.start()
    table = frame_table(parts, attributes)
    assert table is not None
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert table.count == count
    assert len(table.encode()) < 12 * count + 100
    assert held < 13 * count
    start = data.index(item(b"\xff\xd8")) - data.index(item(b""), len(part10(CHARSET)))
    assert table.fragments(count) == ((start + 8 + 10 * (count - 1), start + 10 + 10 * (count - 1)),)
