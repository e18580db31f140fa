"""Frames decode to what pydicom decodes them to; instances re-encode to what pydicom reads from the original."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import get_frame
from pydicom.pixels import convert_color_space, pixel_array

from dicomhub.dicom.media_types import DECODABLE
from dicomhub.dicom.reencode import (
    BitJoiner,
    BulkValue,
    DecodedPixels,
    Swapper,
    plan_explicit_little_endian,
)
from dicomhub.dicom.transcode import (
    PixelDescription,
    decode_frame,
    decoded_description,
    describe,
    extract_bits,
    swap,
)
from dicomhub.errors import NotAcceptable, Refused
from tests.dicom.parts import EXPLICIT, SHARED, Memory

RLE, JPEG_BASELINE = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50"
LOSSY_TOLERANCE = 7
"""Steps of 255 by which two correct decoders of subsampled YCbCr may differ (ISO 10918-2 allows that)."""


def folders() -> list[str]:
    return sorted(path.name for path in SHARED.iterdir() if path.is_dir()) if SHARED.is_dir() else []


def files(folder: str) -> Iterator[Path]:
    with (SHARED / "index.csv").open() as index:
        yield from (SHARED / row["path"] for row in csv.DictReader(index) if row["path"].split("/")[0] == folder)


def describe_dataset(ds: pydicom.Dataset) -> PixelDescription:
    return describe({f"{element.tag:08X}": _json(element) for element in ds if element.tag.group in (0x0028, 0x7FE0)})


def _json(element: Any) -> dict[str, Any]:
    value = element.value
    return {"vr": element.VR, "Value": [value] if isinstance(value, int | str) else []}


def read_image(path: Path) -> tuple[pydicom.Dataset, list[bytes], PixelDescription] | None:
    """A data set with its decoded frames; None where there are no pixels that pydicom or we could read."""
    try:
        ds = pydicom.dcmread(path, force=True)
        description, pixels = describe_dataset(ds), ds.PixelData
        syntax = ds.file_meta.TransferSyntaxUID
    except (AttributeError, NotAcceptable, NotImplementedError, OSError):
        return None
    if syntax not in DECODABLE:
        return None
    count = int(ds.get("NumberOfFrames") or 1)
    frames = [get_frame(pixels, i, number_of_frames=count) for i in range(count)]
    return ds, [decode_frame(frame, description, syntax) for frame in frames], description


def as_array(frames: list[bytes], decoded: PixelDescription) -> np.ndarray[Any, Any]:
    """Decoded frames as frames x rows x columns x RGB or gray."""
    rows, columns, samples = decoded.rows, decoded.columns, decoded.samples_per_pixel
    if decoded.bits_allocated == 1:
        return np.stack([unpack(frame, rows * columns).reshape(rows, columns) for frame in frames])
    flat = np.frombuffer(b"".join(frames), decoded.dtype)
    if samples == 1:
        return flat.reshape(-1, rows, columns)
    if decoded.planar_configuration:
        colours = flat.reshape(-1, samples, rows, columns).transpose(0, 2, 3, 1)
    else:
        colours = flat.reshape(-1, rows, columns, samples)
    if decoded.photometric_interpretation.startswith("YBR"):
        return np.stack([convert_color_space(c, decoded.photometric_interpretation, "RGB") for c in colours])
    return colours


def unpack(data: bytes, count: int) -> np.ndarray[Any, Any]:
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count, bitorder="little")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", folders())
def test_frames_decode_to_what_pydicom_decodes_them_to(folder: str) -> None:
    compared, wrong = 0, []
    for path in files(folder):
        image = read_image(path)
        if image is None:
            continue
        ds, frames, description = image
        syntax = ds.file_meta.TransferSyntaxUID
        try:
            expected = pixel_array(ds)
        except Exception:  # every plugin that pydicom has failed: no oracle
            continue
        ours = as_array(frames, decoded_description(description, syntax)).reshape(expected.shape)
        difference = int(np.abs(ours.astype(np.int64) - expected.astype(np.int64)).max())
        tolerance = LOSSY_TOLERANCE if syntax in (JPEG_BASELINE, "1.2.840.10008.1.2.4.51") else 0
        compared += 1
        if difference > tolerance:
            wrong.append((path.name, difference))
    assert not wrong
    if not compared:
        pytest.skip("no encapsulated images that pydicom decodes")


@pytest.mark.parametrize("compression", ["rle", "j2k", "deflate"])
@pytest.mark.parametrize("name", ["liver", "liver_nonbyte_aligned"])
def test_one_bit_frames_decode_to_those_of_the_native_original(shared_data: Path, name: str, compression: str) -> None:
    folder = shared_data / "dicom" / "pydicom"
    native = pydicom.dcmread(folder / f"{name}.dcm")
    bits = native.Rows * native.Columns
    image = read_image(folder / f"{name}_{compression}.dcm")
    assert image is not None
    assert image[1] == [extract_bits(native.PixelData, i * bits, bits) for i in range(native.NumberOfFrames)]


@pytest.mark.parametrize("name", ["XA1", "MR4"])
def test_twelve_bit_lossy_jpeg_is_near_the_lossless_original(shared_data: Path, name: str) -> None:
    lossy, lossless = (
        read_image(shared_data / "dicom" / f"wg04-{kind}" / f"{name}_{kind}") for kind in ("JPLY", "JLSL")
    )
    assert lossy is not None
    assert lossless is not None
    ours = as_array(lossy[1], decoded_description(lossy[2], lossy[0].file_meta.TransferSyntaxUID)).astype(int)
    original = as_array(lossless[1], lossless[2]).astype(int)
    assert np.abs(ours - original).mean() < 0.01 * (original.max() - original.min())


def test_description_changes_with_the_colours_only() -> None:
    ybr = PixelDescription(2, 2, 3, 8, 8, photometric_interpretation="YBR_FULL_422")
    assert decoded_description(ybr, JPEG_BASELINE).photometric_interpretation == "RGB"
    assert decoded_description(ybr, "1.2.840.10008.1.2.4.70").photometric_interpretation == "YBR_FULL"
    rct = PixelDescription(2, 2, 3, 8, 8, photometric_interpretation="YBR_RCT", planar_configuration=1)
    assert decoded_description(rct, "1.2.840.10008.1.2.4.90") == PixelDescription(
        2, 2, 3, 8, 8, photometric_interpretation="RGB"
    )
    planes = PixelDescription(2, 2, 3, 8, 8, photometric_interpretation="RGB", planar_configuration=1)
    assert decoded_description(planes, RLE) == planes


def test_codestream_of_another_size_than_described_is_not_sent_as_if_it_fitted(shared_data: Path) -> None:
    ds = pydicom.dcmread(shared_data / "dicom" / "wg04-JLSL" / "XA1_JLSL")
    wrong = PixelDescription(ds.Rows, ds.Columns // 2)
    with pytest.raises(NotAcceptable, match="Rows, Columns"):
        decode_frame(get_frame(ds.PixelData, 0, number_of_frames=1), wrong, ds.file_meta.TransferSyntaxUID)


def test_attributes_that_describe_no_pixels_are_named() -> None:
    with pytest.raises(NotAcceptable, match="Bits Allocated"):
        describe({"00280010": {"vr": "US", "Value": [4]}, "00280011": {"vr": "US", "Value": [4]}})


# ------------------------------------------------------------------------------------------------- instances re-encoded


def reencode(data: bytes, description: PixelDescription | None, frames: list[bytes]) -> bytes:
    memory = Memory()
    parts = memory.split(data)
    parts = parts.view or parts
    plan = plan_explicit_little_endian(
        parts.header,
        parts.segments,
        sop_class_uid="1.2.3",
        sop_instance_uid="1.2.4",
        pixels=description,
        decoded_frames=len(frames),
    )
    out = bytearray()
    for piece in plan.pieces:
        if isinstance(piece, bytes):
            out += piece
        elif isinstance(piece, BulkValue):
            out += swap(memory.blob(parts.segments[piece.segment].digest), piece.swap)
        elif isinstance(piece, DecodedPixels):
            assert description is not None
            native = joined(frames, description)
            out += native + bytes(piece.size - len(native))
    assert len(out) == plan.size
    return bytes(out)


def joined(frames: list[bytes], description: PixelDescription) -> bytes:
    if description.bits_allocated > 1:
        return b"".join(frames)
    joiner = BitJoiner(description.frame_bits)
    return b"".join(joiner.feed(frame) for frame in frames) + joiner.finish()


def differences(before: pydicom.Dataset, after: pydicom.Dataset, ignored: set[int]) -> list[str]:
    """Tags in which two data sets differ; group lengths and padding are not expected to be kept."""
    found = []
    tags = {e.tag for e in before if e.tag.element != 0 and e.tag != 0xFFFCFFFC} | {e.tag for e in after}
    for tag in sorted(tags - ignored):
        if tag not in before or tag not in after:
            found.append(f"{tag} only in one")
        elif before[tag].VR == "SQ":
            found += [
                d for a, b in zip(before[tag].value, after[tag].value, strict=True) for d in differences(a, b, ignored)
            ]
        elif str(before[tag].value) != str(after[tag].value):
            found.append(f"{tag}: {before[tag].value!r:.50} != {after[tag].value!r:.50}")
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", [name for name in folders() if name != "malformed"])
def test_reencoded_instance_reads_as_the_original(folder: str) -> None:
    for path in files(folder):
        data = path.read_bytes()
        try:
            ds = pydicom.dcmread(io.BytesIO(data), force=True)
            syntax = str(ds.file_meta.TransferSyntaxUID)
            Memory().split(data)
        except (Refused, AttributeError):
            continue
        image = read_image(path)
        frames = image[1] if image else []
        description = describe_dataset(ds) if "PixelData" in ds else None
        sent = decoded_description(description, syntax) if description else None
        again = pydicom.dcmread(io.BytesIO(reencode(data, sent, frames)))
        assert again.file_meta.TransferSyntaxUID == EXPLICIT
        # Big endian words are compared as pixels below; decoding drops the icon and the offset tables.
        ignored = {0x7FE00010} | ({0x00280004, 0x00280006, 0x00880200, 0x7FE00001, 0x7FE00002} if frames else set())
        if syntax == "1.2.840.10008.1.2.2":
            ignored |= {e.tag for e in ds.iterall() if e.VR == "OW"}
        assert differences(ds, again, ignored) == [], path
        if "PixelData" in ds and not frames:
            np.testing.assert_array_equal(pixels_of(again), pixels_of(ds), err_msg=str(path))
        elif frames and sent is not None:
            assert again.PixelData.rstrip(b"\0") == joined(frames, sent).rstrip(b"\0"), path
            assert again.PhotometricInterpretation == sent.photometric_interpretation


def pixels_of(ds: pydicom.Dataset) -> Any:
    try:
        return ds.pixel_array
    except Exception:
        return None


def test_palette_words_are_swapped_from_big_endian(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "pydicom"
    data = (folder / "OBXXXX1A_expb.dcm").read_bytes()
    again = pydicom.dcmread(io.BytesIO(reencode(data, describe_dataset(pydicom.dcmread(io.BytesIO(data))), [])))
    little = pydicom.dcmread(folder / "OBXXXX1A_rle.dcm")
    assert again.RedPaletteColorLookupTableData == little.RedPaletteColorLookupTableData


def test_data_set_without_file_meta_gets_one(shared_data: Path) -> None:
    ds = pydicom.dcmread(shared_data / "dicom" / "pydicom" / "693_UNCR.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, pydicom.Dataset(ds), implicit_vr=True, little_endian=True)
    again = pydicom.dcmread(io.BytesIO(reencode(buffer.getvalue(), describe_dataset(ds), [])))
    assert again.file_meta.MediaStorageSOPInstanceUID == "1.2.4"
    assert again.pixel_array.tobytes() == ds.pixel_array.tobytes()


# -------------------------------------------------------------------------------------------------------- bits, bytes


@given(frames=st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=6), bits=st.integers(9, 16))
def test_law_joined_bits_are_extracted_again(frames: list[bytes], bits: int) -> None:
    joiner = BitJoiner(bits)
    data = b"".join(joiner.feed(frame) for frame in frames) + joiner.finish()
    assert len(data) == (bits * len(frames) + 7) // 8
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(unpack(extract_bits(data, index * bits, bits), bits), unpack(frame, bits))


@given(data=st.binary(max_size=50), width=st.sampled_from([1, 2, 4, 8]), cut=st.integers(1, 9))
def test_law_swapping_twice_is_identity_and_chunks_do_not_matter(data: bytes, width: int, cut: int) -> None:
    swapper = Swapper(width)
    chunks = b"".join(swapper.feed(data[i : i + cut]) for i in range(0, len(data), cut)) + swapper.finish()
    assert chunks == swap(data, width)
    assert swap(chunks, width) == data
