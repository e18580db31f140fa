"""File meta information that we make or change."""

from __future__ import annotations

import io

import pydicom
import pytest

from dicomhub import IMPLEMENTATION_CLASS_UID
from dicomhub.dicom.file_meta import make_file_meta, prologue_of, read_prologue, with_transfer_syntax, with_uids
from dicomhub.errors import NotDicom
from tests.dicom.parts import CHARSET, EXPLICIT, IMPLICIT, JPEG, element


def read(data: bytes) -> pydicom.dataset.FileMetaDataset:
    return pydicom.dcmread(io.BytesIO(data)).file_meta


def test_made_file_meta_is_complete_and_always_the_same() -> None:
    made = make_file_meta("1.2.840.10008.5.1.4.1.1.7", "1.2.3", EXPLICIT)
    assert made == make_file_meta("1.2.840.10008.5.1.4.1.1.7", "1.2.3", EXPLICIT)
    meta = read(made + CHARSET)
    assert meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.FileMetaInformationGroupLength == len(made) - 144
    assert made[132 + 12 + meta.FileMetaInformationGroupLength :] == b""


def test_a_changed_transfer_syntax_keeps_the_rest() -> None:
    header = make_file_meta("1.2.840.10008.5.1.4.1.1.7", "1.2.3", EXPLICIT)
    private = element(0x00020100, "UI", b"1.2.9\0") + element(0x00020102, "OB", b"info")
    changed = with_transfer_syntax(b"P" * 128 + header[128:] + private + CHARSET, JPEG)
    meta = read(changed + CHARSET)
    assert changed[:128] == b"P" * 128
    assert meta.TransferSyntaxUID == JPEG
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.PrivateInformation == b"info"
    assert meta.FileMetaInformationGroupLength == len(changed) - 144


def test_uids_are_added_where_they_are_missing() -> None:
    header = bytes(128) + b"DICM" + element(0x00020010, "UI", EXPLICIT.encode() + b"\0") + CHARSET
    assert read(with_uids(header, {0x00020003: "1.2.3.4"}) + CHARSET).MediaStorageSOPInstanceUID == "1.2.3.4"
    assert with_uids(CHARSET, {0x00020003: "1.2.3.4"}) == b""


def test_more_bytes_are_asked_for_until_the_data_set_begins() -> None:
    data = make_file_meta("1.2.840.10008.5.1.4.1.1.7", "1.2.3", EXPLICIT) + CHARSET
    needed, calls = 0, 0
    while isinstance(found := read_prologue(data[:needed], complete=False), int):
        assert found > needed
        needed, calls = found, calls + 1
    assert data[found.dataset_offset :] == CHARSET
    assert needed <= len(data)
    assert calls < 30


def test_a_transfer_syntax_from_elsewhere_counts_without_file_meta_information() -> None:
    identifier = element(0x00100020, "", b"P1")
    assert prologue_of(identifier, IMPLICIT).implicit
    with pytest.raises(NotDicom):
        prologue_of(identifier)


def test_endless_file_meta_information_is_refused() -> None:
    huge = bytes(128) + b"DICM" + element(0x00020102, "OB", b"", length=0xFFFFFFF0)
    with pytest.raises(NotDicom):
        read_prologue(huge + bytes(2 * 1024**2), complete=False)
    many = bytes(128) + b"DICM" + element(0x00020102, "OB", bytes(100)) * 20_000
    with pytest.raises(NotDicom, match="more than 1048576 bytes"):
        read_prologue(many, complete=False)
