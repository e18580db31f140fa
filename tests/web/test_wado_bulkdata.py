"""Bulk data by its URI (PS3.18 10.4.1.1.5)."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from yarl import URL

Client = TestClient[web.Request, web.Application]
Store = Callable[..., Awaitable[dict[str, Any]]]
Make = Callable[..., bytes]
PDF = b"%PDF-1.7\n" + b"x" * 50_000 + b"%%EOF\n\0"


def base_of(instance: bytes) -> str:
    ds = pydicom.dcmread(io.BytesIO(instance), force=True)
    uids = ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID
    return "/dicom-web/studies/{}/series/{}/instances/{}/bulkdata/".format(*uids)


async def get(client: Client, url: str, accept: str, **headers: str) -> tuple[int, str, bytes]:
    response = await client.get(url, headers={"Accept": accept, **headers})
    return response.status, response.headers["Content-Type"], await response.read()


@pytest.fixture
def document(make_instance: Make) -> bytes:
    return make_instance(
        PixelData=None,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1",
        EncapsulatedDocument=PDF,
        MIMETypeOfEncapsulatedDocument="application/pdf",
    )


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ('multipart/related; type="application/pdf"', 'multipart/related; type="application/pdf"'),
        ("multipart/related; type=application/octet-stream", 'multipart/related; type="application/octet-stream"'),
        ("application/pdf", "application/pdf"),
        ("application/octet-stream", "application/octet-stream"),
    ],
)
async def test_document_as_viewers_ask_for_it(
    client: Client, store: Store, document: bytes, accept: str, expected: str
) -> None:
    await store(document)
    status, content_type, body = await get(client, base_of(document) + "00420011", accept)
    assert status == 200
    assert content_type.startswith(expected)
    if expected.startswith("multipart"):
        assert b"\r\n\r\n" + PDF + b"\r\n--" in body
    else:
        assert body == PDF


async def test_range_of_a_value(client: Client, store: Store, document: bytes) -> None:
    await store(document)
    url = base_of(document) + "00420011"
    assert await get(client, url, "application/pdf", Range="bytes=5-8") == (206, "application/pdf", PDF[5:9])
    status, _, body = await get(client, url, 'multipart/related; type="application/pdf"', Range="bytes=5-8")
    assert (status, PDF in body) == (200, True)


@pytest.mark.parametrize(
    ("path", "status"), [("00420012/9/00100010", 404), ("7FE00010", 404), ("xyz", 404), ("00420011", 200)]
)
async def test_values_that_do_not_exist(client: Client, store: Store, document: bytes, path: str, status: int) -> None:
    await store(document)
    assert (await get(client, base_of(document) + path, "*/*"))[0] == status


async def test_every_bulk_data_uri_of_a_file_is_served(client: Client, store: Store, shared_data: Path) -> None:
    instance = (shared_data / "dicom" / "pydicom" / "OBXXXX1A_expb.dcm").read_bytes()
    await store(instance)
    metadata = await (await client.get(base_of(instance).removesuffix("bulkdata/") + "metadata")).json(
        content_type=None
    )

    def uris(item: dict[str, Any]) -> list[str]:
        nested = [u for e in item.values() if e["vr"] == "SQ" for i in e.get("Value", ()) for u in uris(i)]
        return [e["BulkDataURI"] for e in item.values() if "BulkDataURI" in e] + nested

    found = uris(metadata[0])
    assert found
    for uri in found:
        assert (await get(client, str(URL(uri).relative()), "application/octet-stream"))[0] == 200


async def test_encapsulated_pixel_data_comes_as_frames(client: Client, store: Store, shared_data: Path) -> None:
    instance = (shared_data / "dicom" / "pydicom" / "emri_small_RLE.dcm").read_bytes()
    await store(instance)
    url = base_of(instance) + "7FE00010"
    octets = "multipart/related; type=application/octet-stream"
    _, content_type, body = await get(client, url, octets + "; transfer-syntax=*")
    assert content_type.startswith('multipart/related; type="image/dicom-rle"')
    assert body.count(b"Content-Type: image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5\r\n") == 10
    _, _, body = await get(client, url, octets)
    assert body.count(b"Content-Length: 8192\r\n") == 10
