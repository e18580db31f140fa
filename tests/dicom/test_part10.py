"""What is cut out of a stream, and what is refused."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

from dicomhub.dicom.part10 import Split, Splitter
from dicomhub.errors import NotDicom, Refused, Truncated
from tests.dicom.parts import (
    BIG_ENDIAN,
    CHARSET,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    REFUSED,
    SHARED,
    UNDEFINED,
    Memory,
    element,
    encapsulated,
    item,
    name_of,
    part10,
    real_files,
    sequence,
    split,
)


def cut(data: bytes, **options: int) -> list[bytes]:
    """The values that are cut out."""
    memory = Memory()
    parts = memory.split(data, **options)
    assert memory.joined(parts) == data
    return [memory.blob(segment.digest) for segment in parts.segments]


def test_values_of_32_kib_are_cut_at_any_level_private_ones_too() -> None:
    big, small = b"B" * 32768, b"s" * 32767
    inner = element(0x00091010, "OB", big) + element(0x00091011, "UN", small + b"s")
    data = part10(
        CHARSET
        + sequence(0x00081140, [item(inner), item(inner, undefined=True)])
        + sequence(0x00082112, [item(inner)], undefined=True)
        + element(0x00420011, "OB", small)
        + element(0x00431010, "LO", big)
    )
    assert cut(data) == [big, small + b"s"] * 3 + [big]


def test_pixel_data_is_cut_whatever_its_size() -> None:
    for tag, vr in ((0x7FE00010, "OW"), (0x7FE00008, "OF"), (0x7FE00009, "OD")):
        assert cut(part10(CHARSET + element(tag, vr, b"12345678"))) == [b"12345678"]
    assert cut(part10(CHARSET + element(0x7FE00010, "OW", b""))) == []


def test_pixel_data_of_an_icon_is_an_ordinary_value() -> None:
    icon = sequence(0x00880200, [item(element(0x7FE00010, "OB", b"1234"))])
    assert cut(part10(CHARSET + icon)) == []


def test_encapsulated_pixel_data_is_cut_from_offset_table_to_delimiter() -> None:
    pixels = encapsulated([b"\xff\xd8..", b"...."], offset_table=struct.pack("<2I", 0, 12))
    (segment,) = cut(part10(CHARSET + pixels, JPEG))
    assert segment == pixels[12:]
    parts = split(part10(CHARSET + pixels, JPEG))
    assert parts.pixel_data is not None
    assert parts.pixel_data.is_encapsulated
    assert parts.pixel_data.fragments is not None
    assert list(parts.pixel_data.fragments.starts) == [24, 36]


@pytest.mark.parametrize("size", [20, 400])
def test_encapsulated_values_elsewhere_are_cut_from_the_threshold_on(size: int) -> None:
    value = encapsulated([b"x" * size], tag=0x00091010)
    expected = [value[12:]] if len(value) - 12 >= 100 else []
    data = part10(CHARSET + sequence(0x00081140, [item(value, undefined=True)]) + element(0x00100020, "LO", b"id"))
    memory = Memory()
    parts = memory.split(data, [1] * len(data), bulk_threshold=100)
    assert [memory.blob(segment.digest) for segment in parts.segments] == expected
    assert memory.joined(parts) == data


def test_sequences_are_never_cut() -> None:
    items = [item(element(0x00081150, "UI", b"1.2.3\0")) for _ in range(3000)]
    assert cut(part10(CHARSET + sequence(0x00081140, items))) == []
    implicit = [item(element(0x00081150, "", b"1.2.3\0")) for _ in range(3000)]
    assert cut(part10(CHARSET + sequence(0x00091010, implicit, vr="UN", undefined=True))) == []
    first = element(0x00080005, "", b"ISO_IR 192")
    assert cut(part10(first + sequence(0x00081140, implicit, vr=""), IMPLICIT)) == []


def test_a_big_endian_data_set_may_have_a_little_endian_sequence_in_un() -> None:
    hidden = sequence(0x00082112, [item(element(0x00091010, "", b"v" * 40000))], vr="", undefined=True)[8:]
    un = struct.pack(">HH", 0x0008, 0x2112) + b"UN\0\0\xff\xff\xff\xff"
    pixels = element(0x7FE00010, "OW", b"12", big=True)
    data = part10(element(0x00080005, "CS", b"", big=True) + un + hidden + pixels, BIG_ENDIAN)
    assert cut(data) == [b"v" * 40000, b"12"]


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def test_a_deflated_data_set_is_one_segment_and_has_an_inflated_view() -> None:
    body = CHARSET + element(0x00100020, "LO", b"id") + element(0x7FE00010, "OW", bytes(70000))
    data = part10(deflate(body) + b"\0", DEFLATED)
    memory = Memory()
    parts = memory.split(data, [140, 1, 200])
    assert memory.joined(parts) == data
    assert parts.pixel_data is None
    assert parts.view is not None
    assert parts.view.transfer_syntax_uid == EXPLICIT
    assert memory.joined(parts.view) == part10(body)
    assert parts.view.pixel_data is not None


def test_a_deflated_data_set_may_not_inflate_without_limit() -> None:
    bomb = part10(deflate(CHARSET + element(0x7FE00010, "OW", bytes(5_000_000))), DEFLATED)
    assert len(bomb) < 10_000
    with pytest.raises(Refused, match="inflates to more than 1000000 bytes"):
        split(bomb, max_inflated=1_000_000)


def test_a_deflated_data_set_that_ends_early_is_truncated() -> None:
    data = part10(deflate(CHARSET + element(0x00100020, "LO", b"id")), DEFLATED)
    with pytest.raises(Truncated):
        split(data[:-3])
    with pytest.raises(NotDicom, match="not deflated"):
        split(part10(b"\xff" * 40, DEFLATED))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"just text, and more of it\n" * 20,
        b"<!DOCTYPE html><html>" + b" " * 300,
        b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(300),
        b"PK\3\4" + bytes(300),
        b"%PDF-1.7\n" + bytes(300),
        b"\x89PNG\r\n\x1a\n" + bytes(300),
        bytes(1000),
        b"\xff" * 1000,
        bytes(128) + b"DICM",
        part10(b""),
    ],
)
def test_what_is_no_data_set_is_refused_as_such(data: bytes) -> None:
    memory = Memory()
    with pytest.raises(NotDicom):
        memory.split(data)


@pytest.mark.parametrize(
    ("data", "transfer_syntax_uid"),
    [
        (element(0x00080005, "CS", b"") + element(0x00080016, "UI", b"1.2\0"), EXPLICIT),
        (element(0x00080005, "", b"") + element(0x00080016, "", b"1.2\0"), IMPLICIT),
        (element(0x00080005, "CS", b"", big=True) + element(0x00080016, "UI", b"1.2\0", big=True), BIG_ENDIAN),
    ],
)
def test_a_bare_data_set_is_read_by_its_first_element(data: bytes, transfer_syntax_uid: str) -> None:
    parts = split(data)
    assert (parts.header, parts.dataset_offset, parts.transfer_syntax_uid) == (data, 0, transfer_syntax_uid)


def test_file_meta_information_without_preamble_is_read() -> None:
    data = part10(CHARSET, EXPLICIT)[132:]
    parts = split(data)
    assert parts.transfer_syntax_uid == EXPLICIT
    assert data[parts.dataset_offset :] == CHARSET


@pytest.mark.parametrize("length", [0, 4, 1_000_000])
def test_a_wrong_group_length_of_the_file_meta_information_does_not_matter(length: int) -> None:
    data = bytearray(part10(CHARSET))
    data[140:144] = length.to_bytes(4, "little")
    assert split(bytes(data)).header[split(bytes(data)).dataset_offset :] == CHARSET


def test_a_transfer_syntax_that_the_data_set_contradicts_is_not_believed() -> None:
    pixels = element(0x7FE00010, "OW", b"12")
    assert cut(part10(CHARSET + pixels, IMPLICIT)) == [b"12"]
    assert cut(part10(CHARSET + pixels, BIG_ENDIAN)) == [b"12"]
    implicit = element(0x00080005, "", b"") + element(0x7FE00010, "", b"12")
    assert cut(part10(implicit, EXPLICIT)) == [b"12"]


def test_an_unknown_transfer_syntax_is_read_as_explicit_little_endian() -> None:
    parts = split(part10(CHARSET + encapsulated([b"frame1"]), "1.2.3.4.5"))
    assert parts.transfer_syntax_uid == "1.2.3.4.5"
    assert parts.pixel_data is not None
    assert parts.pixel_data.is_encapsulated


def test_padding_after_the_data_set_is_kept() -> None:
    padding = element(0xFFFCFFFC, "OB", bytes(10))
    for tail in (padding, bytes(64), padding + b"\0", bytes(7)):
        data = part10(CHARSET + element(0x7FE00010, "OW", b"12") + tail)
        memory = Memory()
        assert memory.joined(memory.split(data)) == data


@pytest.mark.parametrize(
    "data",
    [
        CHARSET + b"\x10",
        CHARSET + element(0x00100020, "LO", b"ab", length=4),
        CHARSET + element(0x7FE00010, "OW", b"ab", length=4),
        CHARSET + encapsulated([b"frame1"])[:-1],
        CHARSET + encapsulated([b"frame1"])[:-8],
        CHARSET + encapsulated([b"frame1"])[:-9],
        CHARSET + element(0x00091010, "UN", b"x" * 33000, length=34000),
        CHARSET + sequence(0x00081140, [item(b"")], undefined=True)[:-8],
        CHARSET + sequence(0x00081140, [item(CHARSET, undefined=True)], undefined=True)[:-16],
        CHARSET + element(0x00081140, "SQ", item(b""), length=40000),
    ],
)
def test_what_ends_inside_an_element_is_truncated(data: bytes) -> None:
    memory = Memory()
    with pytest.raises(Truncated):
        memory.split(part10(data))
    assert all(writer.is_discarded for writer in memory.writers)


def test_a_fragment_that_is_no_item_is_refused() -> None:
    broken = element(0x7FE00010, "OB", item(b"") + b"\1\2\3\4\5\6\7\x08", length=UNDEFINED)
    with pytest.raises(NotDicom, match="item expected"):
        split(part10(CHARSET + broken))


def test_nesting_is_limited() -> None:
    body = b""
    for _ in range(64):
        body = sequence(0x00081140, [item(body, undefined=True)], undefined=True)
    split(part10(CHARSET + body))
    deeper = sequence(0x00081140, [item(body, undefined=True)], undefined=True)
    with pytest.raises(NotDicom, match="deeper than 64"):
        split(part10(CHARSET + deeper))


def test_the_header_is_limited() -> None:
    body = CHARSET + element(0x00420011, "OB", bytes(30000)) * 10
    with pytest.raises(Refused, match="header") as refused:
        split(part10(body), max_header=100_000)
    assert refused.value.failure_reason == 0xA700


def test_fragments_and_offset_tables_are_limited() -> None:
    many = CHARSET + encapsulated([b""] * 20_000)
    with pytest.raises(Refused, match="more than 7692 fragments"):
        split(part10(many, JPEG), max_header=100_000)
    table = CHARSET + encapsulated([b"frame1"], offset_table=bytes(200_000))
    with pytest.raises(NotDicom, match="Basic Offset Table of 200000 bytes"):
        split(part10(table, JPEG), max_header=100_000)


def test_only_the_first_pixel_data_is_cut_whatever_its_size() -> None:
    twice = CHARSET + element(0x7FE00010, "OW", b"12") + element(0x7FE00010, "OW", b"34")
    assert cut(part10(twice)) == [b"12"]


def test_a_damaged_sequence_does_not_reach_beyond_its_end() -> None:
    damaged = sequence(0x00081140, [b"\1\2\3\4\5\6\7\x08garbage!"])
    overrun = sequence(0x00082112, [element(0xFFFEE000, "", CHARSET, length=5000)])
    assert cut(part10(CHARSET + damaged + overrun + element(0x7FE00010, "OW", b"12"))) == [b"12"]


def test_discard_deletes_what_was_written() -> None:
    memory = Memory()
    splitter = Splitter(memory.new_bulk)
    splitter.feed(part10(CHARSET + element(0x7FE00010, "OW", bytes(100)))[:-10])
    splitter.discard()
    splitter.feed(b"more")
    assert [writer.is_discarded for writer in memory.writers] == [True]


def test_a_writer_that_fails_ends_the_split() -> None:
    class Full:
        def write(self, data: bytes | memoryview) -> None:
            raise OSError("no space left")

        def finish(self) -> tuple[bytes, int]:
            return b"", 0

        def discard(self) -> None:
            discarded.append(self)

    discarded: list[Full] = []
    splitter = Splitter(Full)
    with pytest.raises(OSError, match="no space"):
        splitter.feed(part10(CHARSET + element(0x7FE00010, "OW", bytes(100))))
    assert len(discarded) == 1


@pytest.mark.parametrize("path", real_files(), ids=name_of)
def test_real_files_are_read_or_cleanly_refused(path: Path) -> None:
    expected = REFUSED.get(path.name)
    if expected is None:
        assert isinstance(split(path.read_bytes()), Split)
        return
    with pytest.raises(Refused) as refused:
        split(path.read_bytes())
    assert refused.value.code == expected


class Nowhere:
    """A `BulkWriter` that only counts."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self.size += len(data)

    def finish(self) -> tuple[bytes, int]:
        return bytes(32), self.size

    def discard(self) -> None: ...


def test_splitting_a_ct_image_takes_far_less_than_a_millisecond() -> None:
    """A guard against slips into per-byte work or quadratic copies, with room for a slow machine."""
    path = SHARED / "malformed" / "GH1308.dcm"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    data = path.read_bytes()

    def once() -> float:
        begin = time.perf_counter()
        splitter = Splitter(Nowhere)
        for at in range(0, len(data), 16384):
            splitter.feed(memoryview(data)[at : at + 16384])
        splitter.finish()
        return time.perf_counter() - begin

    assert min(once() for _ in range(20)) < 0.001


def test_memory_does_not_grow_with_the_size_of_the_instance() -> None:
    """Native, encapsulated and private values of 64 MiB pass in chunks of 64 KiB."""
    chunk = bytes(64 * 1024)
    count = 1024
    total = count * len(chunk)
    fragment = element(0xFFFEE000, "", b"", length=len(chunk) - 8)[:8] + chunk[8:]
    undefined = element(0x7FE00010, "OB", element(0xFFFEE000, "", b""), length=UNDEFINED)
    cases = [
        (element(0x7FE00010, "OW", b"", length=total), chunk, b""),
        (undefined, fragment, element(0xFFFEE0DD, "", b"")),
        (element(0x00091010, "UN", b"", length=total), chunk, b""),
    ]

    for head, body, tail in cases:
        splitter = Splitter(Nowhere)
        tracemalloc.start()
        splitter.feed(part10(CHARSET + head))
        for _ in range(count):
            splitter.feed(body)
        splitter.feed(tail)
        assert len(splitter.finish().segments) == 1
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1024**2
