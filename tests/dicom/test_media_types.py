"""Accept lists as real clients send them, and what is chosen for them (PS3.18 8.7)."""

from __future__ import annotations

import pytest

from dicomhub.dicom.media_types import (
    DECODABLE,
    Representation,
    choose_bulkdata,
    choose_frames,
    choose_instances,
    choose_metadata,
    choose_rendered,
    parse_accept,
    parse_media_type,
)
from dicomhub.dicom.transcode import PixelDescription, decode_frame
from dicomhub.errors import BadRequest, NotAcceptable

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
BASELINE, JPEG_LS, J2K, HTJ2K = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 80, 90, 201))
MPEG4, UNKNOWN = "1.2.840.10008.1.2.4.102", "1.2.3.4.5"

OHIF_FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"
OHIF_METADATA = "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*"
CORNERSTONE = (
    'multipart/related; type="image/jpls"; transfer-syntax=1.2.840.10008.1.2.4.80, '
    'multipart/related; type="application/octet-stream"; transfer-syntax=*'
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
BROWSER_IMAGE = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


def instances(accept: str | None, stored: str, *, single: bool = True, query: str | None = None) -> Representation:
    return choose_instances(parse_accept(accept, query), stored, single=single)


def frames(accept: str | None, stored: str, *, single: bool = True) -> Representation:
    return choose_frames(parse_accept(accept), stored, single=single)


@pytest.mark.parametrize(
    "text",
    [
        'multipart/related; type="application/dicom"; transfer-syntax=*',
        "multipart/related;type=application/dicom;transfer-syntax=*",
        'Multipart/Related ; Transfer-Syntax = "*" ; TYPE = \'x\'; type="application/dicom"'.replace(
            "TYPE = 'x'; ", ""
        ),
        'multipart/related; transfer-syntax="*"; type="application/DICOM"; boundary=x',
    ],
)
def test_spelling_quotes_blanks_and_order_of_parameters_do_not_matter(text: str) -> None:
    assert instances(text, RLE) == Representation("application/dicom", RLE, is_multipart=True)


def test_quoted_values_may_hold_separators() -> None:
    parsed = parse_media_type(r'a/b; x="1;2,\"3\"" ; y=4')
    assert dict(parsed.parameters) == {"x": '1;2,"3"', "y": "4"}
    assert [m.essence for m in parse_accept('a/b; x="1,2", c/d')] == ["a/b", "c/d"]


@pytest.mark.parametrize("stored", [IMPLICIT, BIG, DEFLATED, RLE, BASELINE, JPEG_LS, J2K, HTJ2K])
def test_instances_without_transfer_syntax_are_explicit_vr_little_endian(stored: str) -> None:
    form = instances('multipart/related; type="application/dicom"', stored)
    assert (form.transfer_syntax_uid, form.is_decoded, form.is_multipart) == (EXPLICIT, True, True)


def test_explicit_vr_little_endian_is_sent_as_it_is() -> None:
    assert not instances('multipart/related; type="application/dicom"', EXPLICIT).is_decoded


def test_video_without_transfer_syntax_stays_as_stored() -> None:
    form = instances('multipart/related; type="application/dicom"', MPEG4)
    assert (form.transfer_syntax_uid, form.is_decoded) == (MPEG4, False)


@pytest.mark.parametrize("accept", [None, "", "*/*", BROWSER, "application/*", "multipart/related", "multipart/*"])
@pytest.mark.parametrize("stored", [IMPLICIT, EXPLICIT, BIG, DEFLATED, RLE, J2K, MPEG4, UNKNOWN])
def test_who_takes_anything_gets_instances_as_stored(accept: str | None, stored: str) -> None:
    form = instances(accept, stored)
    assert (form.transfer_syntax_uid, form.is_decoded) == (stored, False)


def test_single_part_instance_is_offered_for_one_instance_only() -> None:
    assert not instances("application/dicom; transfer-syntax=*", RLE).is_multipart
    with pytest.raises(NotAcceptable, match="multipart/related"):
        instances("application/dicom; transfer-syntax=*", RLE, single=False)


def test_accept_query_parameter_replaces_the_header() -> None:
    assert instances(BROWSER, RLE, query="application/dicom; transfer-syntax=*").is_multipart is False
    assert choose_metadata(parse_accept("image/png", "application/dicom json")).media_type == "application/dicom+json"


@pytest.mark.parametrize(
    "accept",
    [f'multipart/related; type="application/dicom"; transfer-syntax={JPEG_LS}', "image/webp", "application/zip"],
)
def test_nothing_acceptable_names_what_there_is(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/dicom"):
        instances(accept, RLE)


def test_unknown_compression_cannot_be_asked_for_decoded() -> None:
    with pytest.raises(NotAcceptable):
        instances('multipart/related; type="application/dicom"', UNKNOWN)


def test_unacceptable_members_are_skipped() -> None:
    assert choose_metadata(parse_accept(OHIF_METADATA)).media_type == "application/dicom+json"
    assert frames(CORNERSTONE, RLE).media_type == "image/dicom-rle"
    assert frames("nonsense, ;;, image/webp, " + OHIF_FRAMES, EXPLICIT).transfer_syntax_uid == EXPLICIT


def test_dicom_and_rendered_types_do_not_mix() -> None:
    with pytest.raises(BadRequest, match=r"8\.7\.5"):
        instances('multipart/related; type="application/dicom", image/jpeg', EXPLICIT)


def test_quality_orders_and_zero_excludes() -> None:
    assert not instances(
        'application/dicom;q=0.9, multipart/related;type="application/dicom";q=0.5', EXPLICIT
    ).is_multipart
    with pytest.raises(NotAcceptable):
        choose_metadata(parse_accept("application/dicom+json;q=0, application/json;q=0, */*"))


def test_stored_form_is_preferred_at_equal_quality() -> None:
    form = instances('multipart/related; type="application/dicom", application/dicom; transfer-syntax=*', RLE)
    assert (form.is_decoded, form.is_multipart) == (False, False)


@pytest.mark.parametrize(
    ("stored", "content_type"),
    [
        (EXPLICIT, f"application/octet-stream; transfer-syntax={EXPLICIT}"),
        (IMPLICIT, f"application/octet-stream; transfer-syntax={EXPLICIT}"),
        (BIG, f"application/octet-stream; transfer-syntax={EXPLICIT}"),
        (DEFLATED, f"application/octet-stream; transfer-syntax={EXPLICIT}"),
        (RLE, f"image/dicom-rle; transfer-syntax={RLE}"),
        (BASELINE, f"image/jpeg; transfer-syntax={BASELINE}"),
        (JPEG_LS, f"image/jls; transfer-syntax={JPEG_LS}"),
        (J2K, f"image/jp2; transfer-syntax={J2K}"),
        (HTJ2K, f"image/jphc; transfer-syntax={HTJ2K}"),
        (MPEG4, f"video/mp4; transfer-syntax={MPEG4}"),
        (UNKNOWN, f"application/octet-stream; transfer-syntax={UNKNOWN}"),
    ],
)
@pytest.mark.parametrize("accept", [OHIF_FRAMES, "*/*", None])
def test_frames_as_stored_carry_the_type_of_their_compression(
    accept: str | None, stored: str, content_type: str
) -> None:
    form = frames(accept, stored)
    assert (form.content_type, form.is_multipart, form.is_decoded) == (content_type, True, False)


@pytest.mark.parametrize("stored", [RLE, BASELINE, JPEG_LS, J2K, HTJ2K])
def test_octet_stream_frames_without_transfer_syntax_are_decoded(stored: str) -> None:
    form = frames("multipart/related; type=application/octet-stream", stored)
    assert (form.content_type, form.is_decoded) == (f"application/octet-stream; transfer-syntax={EXPLICIT}", True)


@pytest.mark.parametrize("accept", ["image/jpeg", 'multipart/related; type="image/jpeg"'])
def test_image_type_takes_any_of_its_transfer_syntaxes_and_no_other(accept: str) -> None:
    assert frames(accept, BASELINE).transfer_syntax_uid == BASELINE
    with pytest.raises(NotAcceptable):
        frames(accept, J2K)


def test_several_frames_need_multipart() -> None:
    assert not frames("application/octet-stream", EXPLICIT).is_multipart
    with pytest.raises(NotAcceptable):
        frames("application/octet-stream", EXPLICIT, single=False)


@pytest.mark.parametrize(
    ("accept", "media_type", "is_multipart"),
    [
        ('multipart/related; type="application/pdf"', "application/pdf", True),
        ("multipart/related; type=application/octet-stream", "application/octet-stream", True),
        ("application/octet-stream", "application/octet-stream", False),
        ("application/pdf", "application/pdf", False),
        (OHIF_FRAMES, "application/octet-stream", True),
        ("*/*", "application/pdf", True),
    ],
)
def test_encapsulated_pdf_is_offered_under_its_type_and_as_octets(
    accept: str, media_type: str, is_multipart: bool
) -> None:
    form = choose_bulkdata(parse_accept(accept), "application/pdf")
    assert (form.content_type, form.is_multipart) == (media_type, is_multipart)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "image/jpeg"),
        ("*/*", "image/jpeg"),
        (BROWSER_IMAGE, "image/jpeg"),
        ("image/png", "image/png"),
        ("image/gif", "image/gif"),
    ],
)
def test_rendered_images_are_jpeg_by_default(accept: str | None, media_type: str) -> None:
    assert choose_rendered(parse_accept(accept)).content_type == media_type


def test_every_transfer_syntax_that_is_offered_decoded_has_a_decoder() -> None:
    for uid in DECODABLE:
        with pytest.raises(NotAcceptable, match=r"frame (cannot be decoded|decodes)"):
            decode_frame(b"\0" * 8, PixelDescription(4, 4), uid)
