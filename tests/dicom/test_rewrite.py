"""Headers rewritten in place: what is asked for changes, every other element and all pixels stay."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from dicomhub.dicom.part10 import Split, Splitter, join
from dicomhub.dicom.rewrite import rewrite
from dicomhub.errors import Refused


class Parts:
    """Keeps the segments of a split by their digest."""

    def __init__(self) -> None:
        self.bytes: dict[bytes, bytes] = {}

    def new(self) -> Writer:
        return Writer(self.bytes)


class Writer:
    def __init__(self, kept: dict[bytes, bytes]) -> None:
        self.kept, self.data = kept, bytearray()

    def write(self, data: bytes | memoryview) -> None:
        self.data += data

    def finish(self) -> tuple[bytes, int]:
        digest = hashlib.sha256(self.data).digest()
        self.kept[digest] = bytes(self.data)
        return digest, len(self.data)

    def discard(self) -> None:
        self.data.clear()


def split(data: bytes, parts: Parts) -> Split:
    splitter = Splitter(parts.new)
    splitter.feed(data)
    return splitter.finish()


def joined(made: Split, parts: Parts) -> bytes:
    return b"".join(join(made.header, made.segments, lambda segment: [parts.bytes[segment.digest]]))


@pytest.fixture
def parts() -> Parts:
    return Parts()


def values() -> Dataset:
    ds = Dataset()
    ds.PatientName, ds.InstitutionName, ds.SOPInstanceUID = "New^Name", "General", "1.2.3.99"
    return ds


def test_law_rewritten_real_files_differ_only_where_asked(shared_data: Path, parts: Parts) -> None:
    checked = 0
    for path in sorted((shared_data / "dicom").rglob("*")):
        if not path.is_file() or path.suffix == ".csv" or path.parent.name == "malformed":
            continue
        try:
            made = rewrite(split(path.read_bytes(), parts), values(), {0x00101010})
        except Refused:
            continue
        data = joined(made, parts)
        assert len(data) == made.size
        again = split(data, parts)
        assert (again.header, again.segments) == (made.header, made.segments), path.name
        before, after = dcmread(path, force=True), dcmread(BytesIO(data), force=True)
        assert (after.PatientName, after.SOPInstanceUID) == ("New^Name", "1.2.3.99")
        if after.file_meta.get("MediaStorageSOPInstanceUID"):
            assert after.file_meta.MediaStorageSOPInstanceUID == "1.2.3.99"
        for element in before:
            if element.tag not in values() and element.tag != 0x00101010:
                assert after[element.tag] == element, (path.name, element.tag)
        checked += 1
    assert checked > 100


def test_segments_of_a_replaced_sequence_go_and_those_behind_move(make_instance, parts: Parts) -> None:
    item = Dataset()
    item.EncapsulatedDocument = bytes(50_000)
    data = make_instance(IconImageSequence=Sequence([item]), rows=300, columns=300)
    before = split(data, parts)
    assert len(before.segments) == 2
    replace = Dataset()
    replace.IconImageSequence = Sequence([])
    made = rewrite(before, replace)
    assert [segment.size for segment in made.segments] == [300 * 300 * 2]
    assert made.pixel_data is not None
    assert made.pixel_data.segment == 0
    assert dcmread(BytesIO(joined(made, parts))).PixelData == dcmread(BytesIO(data)).PixelData


def test_removed_pixel_data_is_gone(make_instance, parts: Parts) -> None:
    made = rewrite(split(make_instance(), parts), Dataset(), {0x7FE00010})
    assert made.pixel_data is None
    assert made.segments == ()


def test_text_that_the_character_set_lacks_is_refused_not_mangled(make_instance, parts: Parts) -> None:
    replace = Dataset()
    replace.PatientName = "Люкceмбypг"
    with pytest.raises(Refused, match="Specific Character Set"):
        rewrite(split(make_instance(SpecificCharacterSet="ISO_IR 100"), parts), replace)
    made = rewrite(split(make_instance(SpecificCharacterSet="ISO_IR 192"), parts), replace)
    assert dcmread(BytesIO(joined(made, parts))).PatientName == "Люкceмбypг"
