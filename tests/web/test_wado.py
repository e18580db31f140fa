"""Retrieve of instances, metadata and frames, as clients ask for them and as they read the answer (PS3.18 10.4)."""

from __future__ import annotations

import io
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from pydicom.encaps import get_frame
from yarl import URL

Client = TestClient[web.Request, web.Application]
Store = Callable[..., Awaitable[dict[str, Any]]]
Make = Callable[..., bytes]

EXPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
ANY_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
DEFAULT_DICOM = 'multipart/related; type="application/dicom"'
OHIF_FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"
OCTETS = "multipart/related; type=application/octet-stream"


def split_as_browsers_do(body: bytes) -> list[tuple[bytes, bytes]]:
    """Header and payload of each part, by searching bytes as cornerstone and the JavaScript client do.

    The first line that begins with ``--`` is the boundary, the first CRLFCRLF ends the part header.
    """
    assert body.startswith(b"--"), "no preamble"
    boundary = body.split(b"\r\n", 1)[0]
    assert body.rstrip(b"\r\n").endswith(boundary + b"--")
    parts = (
        body.split(b"\r\n" + boundary) if body.count(boundary) > 2 else [body.rpartition(b"\r\n" + boundary)[0], b"--"]
    )
    parts[0] = parts[0].removeprefix(boundary)
    found = []
    for part in parts[:-1]:
        header, _, payload = part.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)(?:\r\n|$)", header)
        assert length is not None
        assert int(length[1]) == len(payload)
        found.append((header.strip(), payload))
    return found


async def get(client: Client, path: str, accept: str | None = None, **headers: str) -> ClientResponse:
    return await client.get("/dicom-web" + path, headers={"Accept": accept, **headers} if accept else headers)


async def parts_of(response: ClientResponse) -> list[tuple[bytes, bytes]]:
    assert response.status == 200, await response.text()
    assert response.headers["Content-Type"].startswith('multipart/related; type="')
    body = await response.read()
    if "Content-Length" in response.headers:
        assert int(response.headers["Content-Length"]) == len(body)
    return split_as_browsers_do(body)


def path_of(instance: bytes) -> str:
    ds = pydicom.dcmread(io.BytesIO(instance), force=True, stop_before_pixels=True)
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


@pytest.fixture
def file(shared_data: Path) -> Callable[[str], bytes]:
    return lambda name: (shared_data / "dicom" / name).read_bytes()


# ------------------------------------------------------------------------------------------------------------ instances


async def test_study_comes_back_bit_for_bit_with_one_part_for_each_instance(
    client: Client, store: Store, make_instance: Make
) -> None:
    instances = [make_instance(SeriesInstanceUID=f"1.2.3.4.{i % 2}", rows=100 * i, columns=200) for i in range(1, 5)]
    await store(*instances)
    parts = await parts_of(await get(client, "/studies/1.2.3.4", ANY_DICOM))
    assert sorted(payload for _, payload in parts) == sorted(instances)
    url = str(client.make_url("/dicom-web"))
    for header, payload in parts:
        assert f"Content-Type: application/dicom; transfer-syntax={EXPLICIT}".encode() in header
        assert f"Content-Location: {url}{path_of(payload)}".encode() in header
    series = await parts_of(await get(client, "/studies/1.2.3.4/series/1.2.3.4.0", ANY_DICOM))
    assert len(series) == 2


@pytest.mark.parametrize("accept", [ANY_DICOM, DEFAULT_DICOM, "*/*", "application/dicom", None])
async def test_one_instance_comes_back_bit_for_bit(
    client: Client, store: Store, make_instance: Make, accept: str | None
) -> None:
    instance = make_instance(rows=300, columns=300)
    await store(instance)
    response = await get(client, path_of(instance), accept)
    if accept == "application/dicom":
        assert response.headers["Content-Type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
        assert response.headers["Content-Length"] == str(len(instance))
        assert await response.read() == instance
    else:
        assert [payload for _, payload in await parts_of(response)] == [instance]


@pytest.mark.parametrize(
    "name",
    [
        "pydicom/OBXXXX1A_expb.dcm",
        "pydicom/liver_nonbyte_aligned_rle.dcm",
        "pydicom/emri_small_RLE.dcm",
        "wg04-J2KI/VL1_J2KI",
        "wg04-JLSL/CT1_JLSL",
        "fo-dicom/JPEGwithIcon.dcm",
        "pylibjpeg/rtdose_rle_1frame.dcm",
    ],
)
@pytest.mark.filterwarnings("ignore")
async def test_without_transfer_syntax_an_instance_is_decoded(
    client: Client, store: Store, file: Callable[[str], bytes], name: str
) -> None:
    instance = file(name)
    await store(instance)
    for accept, is_multipart in (("application/dicom", False), (DEFAULT_DICOM, True)):
        response = await get(client, path_of(instance), accept)
        assert response.status == 200, await response.text()
        data = (await parts_of(response))[0][1] if is_multipart else await response.read()
        assert is_multipart or len(data) == int(response.headers["Content-Length"])
        ds, original = pydicom.dcmread(io.BytesIO(data)), pydicom.dcmread(io.BytesIO(instance))
        assert ds.file_meta.TransferSyntaxUID == EXPLICIT
        assert len(ds.PixelData) % 2 == 0
        assert ds.PatientID == original.PatientID
        if ds.BitsAllocated > 1:  # pydicom has no decoder for RLE of 1 bit
            colour = ds.PhotometricInterpretation == "RGB"
            expected = original.pixel_array
            if not colour or original.PhotometricInterpretation == "RGB":
                np.testing.assert_array_equal(ds.pixel_array, expected)


async def test_study_of_which_an_instance_cannot_be_sent_as_asked_is_refused_with_its_name(
    client: Client, store: Store, make_instance: Make, file: Callable[[str], bytes]
) -> None:
    video = pydicom.dcmread(io.BytesIO(file("wg04-RLE/CT1_RLE")))
    video.StudyInstanceUID = "1.2.3.4"
    buffer = io.BytesIO()
    video.save_as(buffer)
    await store(make_instance(), buffer.getvalue())
    jpeg_ls = f"{DEFAULT_DICOM}; transfer-syntax=1.2.840.10008.1.2.4.80"
    response = await get(client, "/studies/1.2.3.4", jpeg_ls)
    assert response.status == 406
    assert video.SOPInstanceUID in (await response.json())["error"]["message"]
    assert len(await parts_of(await get(client, "/studies/1.2.3.4", DEFAULT_DICOM))) == 2


async def test_range_of_a_single_part_instance(client: Client, store: Store, make_instance: Make) -> None:
    instance = make_instance(rows=300, columns=300)
    await store(instance)
    path, accept = path_of(instance), "application/dicom; transfer-syntax=*"
    size = len(instance)
    for asked, (start, stop) in {
        "bytes=0-0": (0, 1),
        "bytes=100-99999": (100, 100_000),
        "bytes=-10": (size - 10, size),
        f"bytes={size - 5}-": (size - 5, size),
        "bytes=0-99999999": (0, size),
    }.items():
        response = await get(client, path, accept, Range=asked)
        assert response.status == 206
        assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
        assert await response.read() == instance[start:stop]
    whole = await get(client, path, accept)
    assert whole.headers["Accept-Ranges"] == "bytes"
    for ignored in ("bytes=5-2", "bytes=0-1,4-5", "bytes=x-", "lines=1-2", "bytes=-"):
        assert (await get(client, path, accept, Range=ignored)).status == 200
    other = await get(client, path, accept, **{"Range": "bytes=0-1", "If-Range": '"another"'})
    assert other.status == 200
    beyond = await get(client, path, accept, Range=f"bytes={size}-")
    assert beyond.status == 416
    assert beyond.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize("suffix", ["", "/metadata", "/frames/1"])
@pytest.mark.parametrize("accept", [None, "*/*"])
async def test_unchanged_representation_is_not_sent_again(
    client: Client, store: Store, make_instance: Make, suffix: str, accept: str | None
) -> None:
    instance = make_instance()
    await store(instance)
    first = await get(client, path_of(instance) + suffix, accept)
    tag = first.headers["ETag"]
    again = await get(client, path_of(instance) + suffix, accept, **{"If-None-Match": f'"x", {tag}'})
    assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
    await store(make_instance(SOPInstanceUID=path_of(instance).rsplit("/")[-1], PatientName="Changed^Name"))
    assert (await get(client, path_of(instance) + suffix, accept, **{"If-None-Match": tag})).status == 200


@pytest.mark.parametrize("suffix", ["", "/metadata", "/frames/1", "/rendered", "/bulkdata/7FE00010"])
async def test_head_is_get_without_body(client: Client, store: Store, make_instance: Make, suffix: str) -> None:
    instance = make_instance()
    await store(instance)
    got = await get(client, path_of(instance) + suffix)
    head = await client.head("/dicom-web" + path_of(instance) + suffix)
    assert (head.status, await head.read()) == (200, b"")
    for name in ("Content-Length", "ETag"):
        assert head.headers[name] == got.headers[name]
    assert head.headers["Content-Type"].split("boundary")[0] == got.headers["Content-Type"].split("boundary")[0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies/1.2.3.4.99", 404),
        ("/studies/1.2.3.4/series/9", 404),
        ("/studies/1.2.3.4/series/1.2.3.4.5/instances/9", 404),
        ("/studies/1.2.3.4.99/metadata", 404),
        ("/studies/1.2.3.4/series/1.2.3.4.5/instances/9/frames/1", 404),
        ("/studies/x/metadata", 400),
        ("/studies/1.2.3.4/series/y/rendered", 400),
    ],
)
async def test_what_does_not_exist_and_what_is_no_uid(
    client: Client, store: Store, make_instance: Make, path: str, status: int
) -> None:
    await store(make_instance())
    assert (await get(client, path)).status == status


# ------------------------------------------------------------------------------------------------------------- metadata


async def test_metadata_has_absolute_bulk_data_uris_that_work(
    client: Client, store: Store, make_instance: Make
) -> None:
    instances = [make_instance(InstanceNumber=i, rows=300, columns=300) for i in range(3)]
    await store(*instances)
    for path, count in (("/studies/1.2.3.4", 3), ("/studies/1.2.3.4/series/1.2.3.4.5", 3), (path_of(instances[0]), 1)):
        response = await get(client, path + "/metadata", "application/dicom+json")
        assert response.headers["Content-Type"] == "application/dicom+json"
        found = await response.json(content_type=None)
        assert len(found) == count
    uri = found[0]["7FE00010"]["BulkDataURI"]
    assert uri == f"{client.make_url('/dicom-web')}{path_of(instances[0])}/bulkdata/7FE00010"
    value = await client.get(URL(uri).relative(), headers={"Accept": "application/octet-stream"})
    assert await value.read() == pydicom.dcmread(io.BytesIO(instances[0])).PixelData


async def test_metadata_for_what_ohif_sends_and_for_what_cannot_be(
    client: Client, store: Store, make_instance: Make
) -> None:
    instance = make_instance()
    await store(instance)
    ohif = f"application/dicom+json, {OHIF_FRAMES}"
    assert (await get(client, path_of(instance) + "/metadata", ohif)).status == 200
    assert (await get(client, path_of(instance) + "/metadata", "image/webp")).status == 406
    by_query = await get(client, path_of(instance) + "/metadata?accept=application/dicom+json", "text/html")
    assert by_query.status == 200


async def test_large_metadata_is_streamed_as_one_array(
    client: Client, store: Store, make_instance: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomhub.web.dicomweb.wado.WHOLE_BYTES", 100)
    await store(*(make_instance(InstanceNumber=i) for i in range(5)))
    response = await get(client, "/studies/1.2.3.4/metadata")
    assert len(await response.json(content_type=None)) == 5
    assert "Content-Length" not in response.headers


# --------------------------------------------------------------------------------------------------------------- frames


async def test_native_frames_in_the_order_of_the_list(client: Client, store: Store, make_instance: Make) -> None:
    instance = make_instance(rows=64, columns=32, frames=4)
    await store(instance)
    pixels = pydicom.dcmread(io.BytesIO(instance)).PixelData
    frames = [pixels[i : i + 4096] for i in range(0, len(pixels), 4096)]
    parts = await parts_of(await get(client, path_of(instance) + "/frames/3,1,3", OHIF_FRAMES))
    assert [payload for _, payload in parts] == [frames[2], frames[0], frames[2]]
    assert (
        parts[0][0].split(b"\r\n")[0] == f"Content-Type: application/octet-stream; transfer-syntax={EXPLICIT}".encode()
    )
    url = str(client.make_url("/dicom-web"))
    assert f"Content-Location: {url}{path_of(instance)}/frames/3".encode() in parts[0][0].split(b"\r\n")
    single = await get(client, path_of(instance) + "/frames/2", "application/octet-stream")
    assert await single.read() == frames[1]


@pytest.mark.parametrize(
    ("frames", "status"), [("0", 400), ("-1", 400), ("x", 400), ("1,,2", 400), ("1-2", 400), ("5", 404), ("1,5", 404)]
)
async def test_frame_numbers_that_do_not_exist(
    client: Client, store: Store, make_instance: Make, frames: str, status: int
) -> None:
    instance = make_instance(frames=4)
    await store(instance)
    assert (await get(client, f"{path_of(instance)}/frames/{frames}")).status == status


async def test_object_without_pixels_has_no_frames(client: Client, store: Store, make_instance: Make) -> None:
    instance = make_instance(PixelData=None)
    await store(instance)
    assert (await get(client, path_of(instance) + "/frames/1")).status == 404
    assert (await get(client, path_of(instance) + "/rendered")).status == 404


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("fo-dicom/JPEGwithIcon.dcm", "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"),
        ("fo-dicom/D_CLUNIE_CT1_RLE_FRAGS.dcm", "image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5"),
        ("highdicom/sm_image_jpegls_nobot.dcm", "image/jls; transfer-syntax=1.2.840.10008.1.2.4.80"),
        ("wg04-J2KI/CT2_J2KI", "image/jp2; transfer-syntax=1.2.840.10008.1.2.4.91"),
    ],
)
async def test_encapsulated_frame_is_its_fragments_without_items(
    client: Client, store: Store, file: Callable[[str], bytes], name: str, content_type: str
) -> None:
    instance = file(name)
    await store(instance)
    ds = pydicom.dcmread(io.BytesIO(instance))
    count = int(ds.get("NumberOfFrames") or 1)
    numbers = range(1, min(count, 3) + 1)
    path = f"{path_of(instance)}/frames/{','.join(map(str, numbers))}"
    response = await get(client, path, OHIF_FRAMES)
    assert response.headers["Content-Type"].startswith(
        f'multipart/related; type="{content_type.split(";")[0]}"; boundary='
    )
    parts = await parts_of(response)
    for number, (header, payload) in zip(numbers, parts, strict=True):
        assert header.startswith(f"Content-Type: {content_type}\r\n".encode())
        assert payload.rstrip(b"\0") == get_frame(ds.PixelData, number - 1, number_of_frames=count).rstrip(b"\0")
    decoded = await parts_of(await get(client, path, OCTETS))
    expected = np.ascontiguousarray(ds.pixel_array).reshape(count, -1)
    if ds.PhotometricInterpretation == "MONOCHROME2":
        assert [payload for _, payload in decoded] == [expected[n - 1].tobytes() for n in numbers]


async def test_big_endian_frames_are_sent_in_little_endian(client: Client, store: Store, make_instance: Make) -> None:
    pixels = np.arange(64, dtype=">u2")
    instance = make_instance(pixels=pixels.tobytes(), transfer_syntax=BIG)
    await store(instance)
    for suffix in ("/frames/1", "/bulkdata/7FE00010"):
        parts = await parts_of(await get(client, path_of(instance) + suffix, OHIF_FRAMES))
        assert parts[0][1] == pixels.astype("<u2").tobytes()
    ranged = await get(client, path_of(instance) + "/bulkdata/7FE00010", "application/octet-stream", Range="bytes=3-8")
    assert await ranged.read() == pixels.astype("<u2").tobytes()[3:9]


@pytest.mark.parametrize("name", ["liver_nonbyte_aligned", "liver_nonbyte_aligned_rle", "liver_nonbyte_aligned_j2k"])
async def test_one_bit_frames_begin_at_their_first_bit(
    client: Client, store: Store, file: Callable[[str], bytes], name: str
) -> None:
    instance = file(f"pydicom/{name}.dcm")
    await store(instance)
    native = pydicom.dcmread(io.BytesIO(file("pydicom/liver_nonbyte_aligned.dcm")))
    bits = np.unpackbits(np.frombuffer(native.PixelData, np.uint8), bitorder="little")
    size = native.Rows * native.Columns
    parts = await parts_of(await get(client, path_of(instance) + "/frames/1,2,3", OCTETS))
    for index, (_, payload) in enumerate(parts):
        ours = np.unpackbits(np.frombuffer(payload, np.uint8), count=size, bitorder="little")
        np.testing.assert_array_equal(ours, bits[index * size : (index + 1) * size])


async def test_damaged_frame_is_an_error_and_never_half_an_answer(
    client: Client, store: Store, file: Callable[[str], bytes]
) -> None:
    ds = pydicom.dcmread(io.BytesIO(file("wg04-JLSL/XA1_JLSL")))
    ds.Rows = ds.Rows // 2
    buffer = io.BytesIO()
    ds.save_as(buffer)
    await store(buffer.getvalue())
    path = path_of(buffer.getvalue())
    assert (await get(client, path + "/frames/1", OCTETS)).status == 406
    assert (await get(client, path + "/rendered")).status == 406
    assert (await get(client, path + "/frames/1", OHIF_FRAMES)).status == 200
