"""Headers rewritten in place: what is asked for changes, every other element and all pixels stay."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from dicomhub.dicom.rewrite import rewrite
from dicomhub.errors import Refused
from tests.dicom.parts import Memory


def values() -> Dataset:
    ds = Dataset()
    ds.PatientName, ds.InstitutionName, ds.SOPInstanceUID = "New^Name", "General", "1.2.3.99"
    return ds


def test_law_rewritten_real_files_differ_only_where_asked(shared_data: Path) -> None:
    checked = 0
    for path in sorted((shared_data / "dicom").rglob("*")):
        if not path.is_file() or path.suffix == ".csv" or path.parent.name == "malformed":
            continue
        memory = Memory()
        try:
            made = rewrite(memory.split(path.read_bytes()), values(), {0x00101010})
        except Refused:
            continue
        data = memory.joined(made)
        assert len(data) == made.size
        again = memory.split(data)
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


def test_segments_of_a_replaced_sequence_go_and_those_behind_move(make_instance) -> None:
    item = Dataset()
    item.EncapsulatedDocument = bytes(50_000)
    data = make_instance(IconImageSequence=Sequence([item]), rows=300, columns=300)
    memory = Memory()
    before = memory.split(data)
    assert len(before.segments) == 2
    replace = Dataset()
    replace.IconImageSequence = Sequence([])
    made = rewrite(before, replace)
    assert [segment.size for segment in made.segments] == [300 * 300 * 2]
    assert made.pixel_data is not None
    assert made.pixel_data.segment == 0
    assert dcmread(BytesIO(memory.joined(made))).PixelData == dcmread(BytesIO(data)).PixelData


def test_removed_pixel_data_is_gone(make_instance) -> None:
    made = rewrite(Memory().split(make_instance()), Dataset(), {0x7FE00010})
    assert made.pixel_data is None
    assert made.segments == ()


def test_text_that_the_character_set_lacks_is_refused_not_mangled(make_instance) -> None:
    memory = Memory()
    replace = Dataset()
    replace.PatientName = "Люкceмбypг"
    with pytest.raises(Refused, match="Specific Character Set"):
        rewrite(memory.split(make_instance(SpecificCharacterSet="ISO_IR 100")), replace)
    made = rewrite(memory.split(make_instance(SpecificCharacterSet="ISO_IR 192")), replace)
    assert dcmread(BytesIO(memory.joined(made))).PatientName == "Люкceмбypг"
