"""Frames become the gray and the colours that their attributes prescribe."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_windowing, pixel_array

from dicomhub.dicom.grayscale import LookUpTable, Window, expand_segments, table_paths
from dicomhub.dicom.media_types import DECODABLE, NATIVE
from dicomhub.dicom.render import Presentation, Viewport, parse_presentation, render_frame
from dicomhub.dicom.transcode import PixelDescription, decode_frame, decoded_description, describe
from dicomhub.errors import BadRequest, NotAcceptable

PNG = Presentation(media_type="image/png")


Pixels = np.ndarray[Any, Any]


def gray(values: Any, dtype: str, attributes: dict[str, Any] | None = None, **presentation: Any) -> Pixels:
    """Render values of one row or more; what comes out."""
    array = np.atleast_2d(np.array(values, dtype))
    bits = 8 * array.itemsize
    keywords = dict(attributes or {})
    description = PixelDescription(
        *array.shape,
        bits_allocated=bits,
        bits_stored=keywords.pop("bits_stored", bits),
        is_signed=array.dtype.kind == "i",
        is_float=array.dtype.kind == "f",
        photometric_interpretation=keywords.pop("photometric", "MONOCHROME2"),
    )
    asked = Presentation(**{"media_type": "image/png"} | presentation)
    image = imagecodecs.png_decode(render_frame(array.tobytes(), description, json(keywords), asked))
    return image[0] if len(image) == 1 else image


def json(attributes: dict[str, Any]) -> dict[str, Any]:
    """Keywords to DICOM JSON."""
    ds = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return dict(ds.to_json_dict())


# ----------------------------------------------------------------------------------------------------------- gray scale


def test_linear_window_is_that_of_the_standard() -> None:
    window = {"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 1, "RescaleIntercept": -1024}
    stored = np.array([0, 864, 1063, 1064, 1263, 4095])
    expected = np.clip((stored - 1024 - 39.5) / 399 + 0.5, 0, 1) * 255
    np.testing.assert_array_equal(gray(stored, "<u2", window), np.floor(expected + 0.5))


def test_linear_exact_and_sigmoid() -> None:
    exact = gray([0, 50, 100, 200], "<u2", {"WindowCenter": 100, "WindowWidth": 200, "VOILUTFunction": "LINEAR_EXACT"})
    np.testing.assert_array_equal(exact, [0, 64, 128, 255])
    sigmoid = gray([0, 100, 200], "<u2", {"WindowCenter": 100, "WindowWidth": 200, "VOILUTFunction": "SIGMOID"})
    np.testing.assert_array_equal(sigmoid, np.floor(255 / (1 + np.exp([2, 0, -2])) + 0.5))


def test_width_of_one_is_a_threshold() -> None:
    np.testing.assert_array_equal(gray([9, 10, 11], "<u2", {"WindowCenter": 10.5, "WindowWidth": 1}), [0, 0, 255])


def test_requested_window_replaces_that_of_the_instance() -> None:
    window = Window(100, 200, "LINEAR_EXACT")
    np.testing.assert_array_equal(
        gray([0, 100, 200], "<u2", {"WindowCenter": 0, "WindowWidth": 1}, window=window), [0, 128, 255]
    )


@pytest.mark.parametrize("attributes", [{"photometric": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}])
def test_inverse_images_show_their_minimum_white(attributes: dict[str, Any]) -> None:
    np.testing.assert_array_equal(gray([0, 100, 200], "<u2", attributes), [255, 128, 0])


def test_identity_shape_overrules_monochrome1() -> None:
    attributes = {"photometric": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"}
    np.testing.assert_array_equal(gray([0, 100, 200], "<u2", attributes), [0, 128, 255])


def test_without_window_the_range_of_the_image_is_shown_without_its_padding() -> None:
    np.testing.assert_array_equal(gray([-2000, 10, 20, 30], "<i2", {"PixelPaddingValue": -2000}), [0, 0, 128, 255])


def test_eight_bits_without_window_are_shown_as_they_are() -> None:
    np.testing.assert_array_equal(gray([10, 20, 30], "<u1"), [10, 20, 30])


def test_bits_above_bits_stored_are_ignored() -> None:
    attributes = {"bits_stored": 12, "WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"}
    np.testing.assert_array_equal(gray([0xF000, 0x0FFF, 0xFFFF], "<u2", attributes), [0, 255, 255])
    signed = {"bits_stored": 12, "WindowCenter": 0, "WindowWidth": 2, "VOILUTFunction": "LINEAR_EXACT"}
    np.testing.assert_array_equal(gray([0x0FFF, 1], "<i2", signed), [0, 255])


def test_constant_image_is_rendered() -> None:
    assert len(set(gray([7, 7, 7], "<u2"))) == 1


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<u4", "<i4"])
def test_wide_and_float_pixels(dtype: str) -> None:
    np.testing.assert_array_equal(gray([0, 50, 100], dtype), [0, 128, 255])


def test_not_a_number_is_black_and_does_not_spoil_the_range() -> None:
    np.testing.assert_array_equal(gray([np.nan, 0, 100, np.inf], "<f4"), [0, 0, 255, 255])


def test_one_bit_pixels() -> None:
    image = render_frame(b"\x05", PixelDescription(1, 3, bits_allocated=1, bits_stored=1), {}, PNG)
    np.testing.assert_array_equal(imagecodecs.png_decode(image)[0], [255, 0, 255])


def lut(first: int, entries: list[int], bits: int = 16) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first & 0xFFFF, bits])
    item.add_new("LUTData", "OW", np.array(entries, "<u2").tobytes())
    return item


def test_modality_lut_then_voi_lut() -> None:
    attributes = {"ModalityLUTSequence": [lut(10, [0, 1, 2])], "VOILUTSequence": [lut(0, [0, 0x8000, 0xFFFF])]}
    np.testing.assert_array_equal(gray([9, 10, 11, 12, 13], "<u2", attributes), [0, 0, 128, 255, 255])


def test_voi_lut_of_a_signed_image_begins_below_zero() -> None:
    np.testing.assert_array_equal(gray([-2, -1, 0], "<i2", {"VOILUTSequence": [lut(-2, [0, 5, 10], 4)]}), [0, 85, 170])


def test_tables_kept_as_bulk_data_are_asked_for() -> None:
    attributes = json({"VOILUTSequence": [lut(0, [0, 9, 15], 4)]})
    attributes["00283010"]["Value"][0]["00283006"] = {"vr": "OW", "BulkDataURI": "http://x"}
    assert list(table_paths(attributes)) == ["00283010/1/00283006"]
    tables = {"00283010/1/00283006": np.array([0, 9, 15], "<u2").tobytes()}
    description = PixelDescription(1, 3)
    image = render_frame(np.arange(3, dtype="<u2").tobytes(), description, attributes, PNG, tables=tables)
    np.testing.assert_array_equal(imagecodecs.png_decode(image)[0], [0, 153, 255])


def frame_item(center: float, slope: float) -> pydicom.Dataset:
    item, voi, transformation = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = center, 200, "LINEAR_EXACT"
    transformation.RescaleSlope, transformation.RescaleIntercept = slope, 0
    item.FrameVOILUTSequence, item.PixelValueTransformationSequence = [voi], [transformation]
    return item


def test_functional_groups_of_the_frame_come_before_the_shared_ones() -> None:
    shared = {"SharedFunctionalGroupsSequence": [frame_item(100, 1)]}
    both = shared | {"PerFrameFunctionalGroupsSequence": [frame_item(100, 1), frame_item(100, 2)]}
    native, description = np.array([50], "<u2").tobytes(), PixelDescription(1, 1)
    for attributes, expected in ((shared, 64), (both, 128)):
        image = render_frame(native, description, json(attributes), PNG, frame_number=2)
        assert imagecodecs.png_decode(image)[0, 0] == expected


# -------------------------------------------------------------------------------------------------------------- colours


def colours(description: PixelDescription, native: bytes) -> list[Any]:
    return np.asarray(imagecodecs.png_decode(render_frame(native, description, {}, PNG))).tolist()


def test_colours_by_plane_by_pixel_and_in_sixteen_bits() -> None:
    rgb = PixelDescription(1, 2, 3, 8, 8, photometric_interpretation="RGB")
    assert colours(rgb, bytes([1, 2, 3, 4, 5, 6])) == [[[1, 2, 3], [4, 5, 6]]]
    planes = PixelDescription(1, 2, 3, 8, 8, photometric_interpretation="RGB", planar_configuration=1)
    assert colours(planes, bytes([1, 4, 2, 5, 3, 6])) == [[[1, 2, 3], [4, 5, 6]]]
    wide = PixelDescription(1, 1, 3, 16, 12, photometric_interpretation="RGB")
    assert colours(wide, np.array([0, 0x800, 0xFFF], "<u2").tobytes()) == [[[0, 128, 255]]]


def test_ybr_becomes_rgb() -> None:
    full = PixelDescription(1, 1, 3, 8, 8, photometric_interpretation="YBR_FULL")
    np.testing.assert_allclose(colours(full, bytes([76, 85, 255])), [[[255, 0, 0]]], atol=2)
    half = PixelDescription(1, 2, 3, 8, 8, photometric_interpretation="YBR_FULL_422")
    np.testing.assert_allclose(colours(half, bytes([76, 0, 85, 255])), [[[255, 0, 0], [179, 0, 0]]], atol=2)
    partial = PixelDescription(1, 1, 3, 8, 8, photometric_interpretation="YBR_PARTIAL_420")
    np.testing.assert_allclose(colours(partial, bytes([81, 90, 240])), [[[255, 0, 0]]], atol=2)


def test_segmented_palette_is_expanded() -> None:
    segments = [0, 2, 10, 20, 1, 4, 60, 0, 1, 5, 2, 1, 8, 0]  # two entries, a ramp of four, one, then the ramp again
    expanded = np.frombuffer(expand_segments(np.array(segments, "<u2").tobytes()), "<u2")
    np.testing.assert_array_equal(expanded, [10, 20, 30, 40, 50, 60, 5, 19, 32, 46, 60])


def test_palette_without_tables_is_refused() -> None:
    with pytest.raises(NotAcceptable, match="PALETTE"):
        render_frame(b"\0", PixelDescription(1, 1, 1, 8, 8, photometric_interpretation="PALETTE COLOR"), {}, PNG)


# ------------------------------------------------------------------------------------------------------- query and form


def test_parameters_are_parsed() -> None:
    query = {"window": "40, 400,sigmoid", "viewport": "100,50,,,-20,30", "quality": "70"}
    parsed = parse_presentation(query, "image/png")
    assert parsed.window == Window(40, 400, "SIGMOID")
    assert parsed.viewport == Viewport(100, 50, 0, 0, -20, 30)
    assert parsed.quality == 70


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("window", text)
            for text in ("40", "40,x", "40,0.5", "40,0,sigmoid", "40,400,cubic", "40,400,linear,1", "nan,1", "1,inf")
        ),
        *(("viewport", text) for text in ("10", "0,10", "10,-1", "10,10,a", "99999,1", "1,1,1,1,1,1,1")),
        *(("quality", text) for text in ("0", "101", "x", "-1", "1.5")),
    ],
)
def test_malformed_parameters_are_named(name: str, text: str) -> None:
    with pytest.raises(BadRequest, match=name):
        parse_presentation({name: text}, "image/png")


RAMP = np.tile(np.arange(100, dtype="u1"), (50, 1))


@pytest.mark.parametrize(
    ("viewport", "shape"),
    [("50,50", (25, 50)), ("200,200", (100, 200)), ("10,10,0,0,20,40", (10, 5)), ("20,20,90,40", (20, 20))],
)
def test_viewport_keeps_the_ratio_of_the_region(viewport: str, shape: tuple[int, int]) -> None:
    asked = parse_presentation({"viewport": viewport}, "image/png")
    assert gray(RAMP, "u1", viewport=asked.viewport).shape == shape


def test_negative_region_mirrors() -> None:
    image = gray(RAMP, "u1", viewport=Viewport(100, 50, 0, 0, -100, 50))
    np.testing.assert_array_equal(image[0], np.arange(100)[::-1])


def test_region_outside_of_the_image_is_refused() -> None:
    with pytest.raises(BadRequest, match="viewport"):
        gray(RAMP, "u1", viewport=Viewport(10, 10, 100, 0))


def test_thumbnails_are_small_and_never_enlarged() -> None:
    assert gray(RAMP, "u1", is_thumbnail=True).shape == (50, 100)
    assert gray(np.zeros((512, 1024), "u1"), "u1", is_thumbnail=True).shape == (128, 256)


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/gif"])
def test_encoded_image_is_of_the_type(media_type: str) -> None:
    description = PixelDescription(50, 100, bits_allocated=8, bits_stored=8)
    image = Image.open(io.BytesIO(render_frame(RAMP.tobytes(), description, {}, Presentation(media_type))))
    assert (image.get_format_mimetype(), image.size) == (media_type, (100, 50))


def test_quality_makes_smaller_images() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), "u1").tobytes()
    description = PixelDescription(64, 64, bits_allocated=8, bits_stored=8)
    small, large = (render_frame(noise, description, {}, Presentation(quality=quality)) for quality in (20, 95))
    assert len(small) < len(large) / 2


def test_short_frame_is_refused() -> None:
    with pytest.raises(NotAcceptable, match="bytes"):
        render_frame(b"\0", PixelDescription(2, 2), {}, PNG)


def test_look_up_beyond_the_ends_of_a_table() -> None:
    table = LookUpTable(5, np.array([1, 2, 3], "u2"), 16)
    np.testing.assert_array_equal(table.apply(np.array([-100, 5, 6, 7, 1000])), [1, 1, 2, 3, 3])


# ------------------------------------------------------------------------------------------------------ against pydicom


def expected_image(ds: pydicom.Dataset) -> Pixels | None:
    """What pydicom makes of the first frame; None for what it has no answer to."""
    array = pixel_array(ds, index=0)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        if ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.2":
            return None  # pydicom does not swap big endian tables
        rgb = apply_color_lut(array, ds)
        return rgb >> 8 if rgb.itemsize == 2 else rgb
    if array.ndim == 3:
        return array if array.itemsize == 1 else array >> (ds.BitsStored - 8)
    if "WindowCenter" not in ds or "PerFrameFunctionalGroupsSequence" in ds or "PixelData" not in ds:
        return None
    least, most = (
        (-(1 << ds.BitsStored - 1), (1 << ds.BitsStored - 1) - 1)
        if ds.PixelRepresentation
        else (0, (1 << ds.BitsStored) - 1)
    )
    slope, intercept = ds.get("RescaleSlope", 1), ds.get("RescaleIntercept", 0)
    low, high = least * slope + intercept, most * slope + intercept
    fraction = (apply_windowing(apply_modality_lut(array, ds), ds) - low) / (high - low)
    return 255 * (1 - fraction if ds.PhotometricInterpretation == "MONOCHROME1" else fraction)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", ["fo-dicom", "highdicom", "pydicom", "pylibjpeg", "wg04-J2KI", "wg04-RLE"])
def test_images_are_those_of_pydicom(shared_data: Path, folder: str) -> None:
    compared, wrong = 0, []
    with (shared_data / "dicom" / "index.csv").open() as index:
        names = [row["path"] for row in csv.DictReader(index) if row["path"].startswith(folder + "/")]
    for name in names:
        ds = pydicom.dcmread(shared_data / "dicom" / name, force=True)
        syntax = ds.file_meta.get("TransferSyntaxUID", "")
        if "PixelData" not in ds or syntax not in NATIVE | DECODABLE:
            continue
        try:
            expected = expected_image(ds)
        except (NotImplementedError, RuntimeError, ValueError):
            continue  # no answer
        if expected is None:
            continue
        attributes = ds.to_json_dict(suppress_invalid_tags=True)
        description = describe(attributes)
        if syntax in NATIVE:
            frame = ds.PixelData[: description.frame_bytes]
        else:
            frame = get_frame(ds.PixelData, 0, number_of_frames=int(ds.get("NumberOfFrames") or 1))
        native = decode_frame(frame, description, syntax)
        image = imagecodecs.png_decode(render_frame(native, decoded_description(description, syntax), attributes, PNG))
        is_lossy_jpeg = syntax in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
        difference = np.abs(image.astype(float) - expected).max()
        compared += 1
        if difference > (7 if is_lossy_jpeg else 1.01):
            wrong.append((name, difference))
    assert not wrong
    assert compared
