"""STOW-RS (PS3.18 10.5) over a real server."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydicom.uid import ImplicitVRLittleEndian, generate_uid

from dicomhub.archive.receive import Receiver
from dicomhub.dicom.levels import split_levels
from dicomhub.errors import OutOfResources
from dicomhub.events import Source
from dicomhub.web import make_app
from dicomhub.web.dicomweb.stow import Batch
from tests.conftest import staged_files

URL = "/dicom-web/studies"


@pytest.fixture(params=["embedded", "cluster"])
def backend(request: pytest.FixtureRequest) -> str:
    """The way in is tested on both: SQLite and a folder, PostgreSQL and S3."""
    return str(request.param)


def multipart(*instances: bytes, boundary: bytes = b"b", part_type: bytes = b"application/dicom") -> bytes:
    parts = b"".join(b"--%b\r\nContent-Type: %b\r\n\r\n%b\r\n" % (boundary, part_type, i) for i in instances)
    return parts + b"--%b--" % boundary


HEADERS = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="b"'}


async def stored(client, uid: str, study: str = "1.2.3.4", series: str = "1.2.3.4.5") -> bytes:
    path = f"{URL}/{study}/series/{series}/instances/{uid}"
    response = await client.get(path, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert response.status == 200, await response.text()
    return await response.read()


async def test_response_names_what_was_stored_and_nothing_else(client, make_instance, store):
    uid = generate_uid()
    body = await store(make_instance(SOPInstanceUID=uid))
    root = str(client.make_url("/dicom-web"))
    assert body["00081190"] == {"vr": "UR", "Value": [f"{root}/studies/1.2.3.4"]}
    assert "00081198" not in body
    (item,) = body["00081199"]["Value"]
    assert item["00081155"]["Value"] == [uid]
    assert item["00081190"]["Value"] == [f"{root}/studies/1.2.3.4/series/1.2.3.4.5/instances/{uid}"]


async def test_content_type_is_exact(client, make_instance):
    response = await client.post(URL, data=multipart(make_instance()), headers=HEADERS)
    assert response.headers["Content-Type"] == "application/dicom+json"


async def test_what_comes_back_is_what_was_sent(client, make_instance, store):
    uid = generate_uid()
    sent = make_instance(SOPInstanceUID=uid, rows=300, columns=300)
    await store(sent)
    assert await stored(client, uid) == sent


async def test_same_bytes_twice_adds_no_version(client, make_instance, store):
    sent = make_instance()
    await store(sent)
    body = await store(sent)
    assert len(body["00081199"]["Value"]) == 1
    changes = await (await client.get("/api/v1/changes")).json()
    assert [change["action"] for change in changes["changes"]] == ["created"]


async def test_other_bytes_become_a_new_version(client, make_instance, store):
    uid = generate_uid()
    await store(make_instance(SOPInstanceUID=uid, PatientName="Old^Name"))
    second = make_instance(SOPInstanceUID=uid, PatientName="New^Name")
    await store(second)
    assert await stored(client, uid) == second
    changes = (await (await client.get("/api/v1/changes")).json())["changes"]
    assert [change["action"] for change in changes] == ["created", "replaced"]
    assert changes[1]["previous_version"] == changes[0]["version"]


async def test_single_part_body(client, make_instance):
    response = await client.post(URL, data=make_instance(), headers={"Content-Type": "application/dicom"})
    assert response.status == 200


async def test_body_as_the_javascript_client_sends_it(client, make_instance):
    body = b"\r\n" + multipart(make_instance(), make_instance()) + b"\0" * 100
    response = await client.post(URL, data=body, headers=HEADERS)
    assert response.status == 200
    assert len((await response.json(content_type=None))["00081199"]["Value"]) == 2


async def test_part_with_transfer_syntax_parameter(client, make_instance):
    part_type = b"application/dicom;transfer-syntax=1.2.840.10008.1.2.1"
    response = await client.post(URL, data=multipart(make_instance(), part_type=part_type), headers=HEADERS)
    assert response.status == 200


async def test_chunked_body_in_tiny_pieces(client, make_instance):
    async def pieces() -> AsyncIterator[bytes]:
        body = multipart(make_instance())
        for start in range(0, len(body), 7):
            yield body[start : start + 7]
            if start % 700 == 0:
                await asyncio.sleep(0)

    response = await client.post(URL, data=pieces(), headers=HEADERS)
    assert response.status == 200


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
async def test_missing_uid_is_refused_and_the_neighbour_is_stored(client, make_instance, keyword):
    good = make_instance()
    response = await client.post(URL, data=multipart(make_instance(**{keyword: None}), good), headers=HEADERS)
    assert response.status == 202
    body = await response.json(content_type=None)
    assert len(body["00081199"]["Value"]) == 1
    failures = body.get("00081198", body.get("0008119A"))["Value"]
    assert failures[0]["00081197"]["Value"] == [0xA900]
    assert "Warning" in response.headers


@pytest.mark.parametrize(
    "bad", [b"hello, this is no DICOM " * 20, b"\xff\xd8\xff\xe0" + b"\0" * 500, b"x", b"PK\3\4" * 99]
)
async def test_what_is_not_dicom_is_refused(client, bad):
    response = await client.post(URL, data=multipart(bad), headers=HEADERS)
    assert response.status == 409
    body = await response.json(content_type=None)
    assert body["0008119A"]["Value"][0]["00081197"]["Value"] == [0xC000]


async def test_truncated_instance_leaves_nothing(client, make_instance, config):
    whole = make_instance(rows=600, columns=600)
    response = await client.post(URL, data=multipart(whole[: len(whole) // 2]), headers=HEADERS)
    assert response.status == 409
    assert await (await client.get(URL)).json(content_type=None) == []
    assert not [
        path for path in (config.data_dir / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 4096
    ]


async def test_without_space_503_and_the_response_says_a700(client, make_instance, archive, monkeypatch):
    def full(*_: object) -> bool:
        raise OutOfResources("no space left")

    monkeypatch.setattr(type(archive.store), "put_now", full)
    response = await client.post(URL, data=multipart(make_instance(), make_instance()), headers=HEADERS)
    assert response.status == 503
    assert int(response.headers["Retry-After"]) > 0
    failures = (await response.json(content_type=None))["0008119A"]["Value"]
    assert [failure["00081197"]["Value"] for failure in failures] == [[0xA700]] * 2


async def test_error_that_nobody_foresaw_concerns_its_instance_alone(client, make_instance, monkeypatch):
    def defective(metadata: dict[str, object], *rest: object) -> object:
        if metadata["00100010"]["Value"][0]["Alphabetic"] == "Defect":
            raise KeyError("of ours")
        return split_levels(metadata, *rest)

    monkeypatch.setattr("dicomhub.archive.receive.split_levels", defective)
    bad, good = make_instance(PatientName="Defect"), make_instance()
    response = await client.post(URL, data=multipart(good, bad, good), headers=HEADERS)
    assert response.status == 202
    body = await response.json(content_type=None)
    assert [item["00081197"]["Value"] for item in body["0008119A"]["Value"]] == [[0x0110]]
    assert len(body["00081199"]["Value"]) == 2
    response = await client.post(URL, data=multipart(bad), headers=HEADERS)
    assert response.status == 500
    assert "of ours" not in await response.text()


async def test_instance_of_another_study_is_refused(client, make_instance):
    response = await client.post(f"{URL}/9.9.9", data=multipart(make_instance()), headers=HEADERS)
    assert response.status == 409
    body = await response.json(content_type=None)
    assert body["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]


async def test_wrong_media_type_is_415(client):
    response = await client.post(URL, data=b"{}", headers={"Content-Type": "application/json"})
    assert response.status == 415
    assert (await response.json())["error"]["code"] == "UnsupportedMediaType"


@pytest.mark.parametrize("root_type", ["application/dicom+json", "application/dicom+xml", "image/jpeg"])
async def test_multipart_of_another_root_type_is_415(client, make_instance, root_type):
    headers = {"Content-Type": f'multipart/related; type="{root_type}"; boundary=b'}
    response = await client.post(URL, data=multipart(make_instance(), part_type=root_type.encode()), headers=headers)
    assert response.status == 415
    assert root_type in (await response.json())["error"]["message"]
    assert await (await client.get(URL)).json(content_type=None) == []


@pytest.mark.parametrize(
    "parameters", ["", "type=application/dicom; ", 'type="Application/DICOM"; ', 'type="application/dicom;x=y"; ']
)
async def test_root_type_of_dicom_is_taken_in_every_spelling(client, make_instance, parameters):
    headers = {"Content-Type": f"multipart/related; {parameters}boundary=b"}
    response = await client.post(URL, data=multipart(make_instance()), headers=headers)
    assert response.status == 200


async def test_empty_multipart_is_400(client):
    response = await client.post(URL, data=b"--b--", headers=HEADERS)
    assert response.status == 400


async def test_other_methods_are_405_and_name_the_right_ones(client):
    response = await client.put(URL)
    assert response.status == 405
    assert set(response.headers["Allow"].split(",")) >= {"GET", "POST"}


async def test_implicit_little_endian_is_kept_as_sent(client, make_instance, store):
    uid = generate_uid()
    sent = make_instance(SOPInstanceUID=uid, transfer_syntax=ImplicitVRLittleEndian)
    await store(sent)
    assert await stored(client, uid) == sent


async def test_two_writers_of_one_uid_at_once_lose_nothing(client, make_instance):
    uid = generate_uid()
    versions = [make_instance(SOPInstanceUID=uid, PatientID=f"P{n}") for n in range(8)]
    responses = await asyncio.gather(*(client.post(URL, data=multipart(v), headers=HEADERS) for v in versions))
    assert [response.status for response in responses] == [200] * 8
    changes = (await (await client.get("/api/v1/changes")).json())["changes"]
    assert [change["action"] for change in changes] == ["created"] + ["replaced"] * 7
    assert await stored(client, uid) in versions


async def test_refused_instances_are_not_kept_in_memory(archive, make_instance):
    data = make_instance(StudyInstanceUID=None, rows=256, columns=256)

    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(bytearray(data))  # a copy, as from a socket

    batch = Batch(archive, Source(), None)
    await batch.take(chunks(), "application/dicom")
    tracemalloc.start()
    try:
        for _ in range(20):
            await batch.take(chunks(), "application/dicom")
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len((await batch.outcome()).failures) == 21
    assert held < 20 * len(data) / 10


async def test_cancelled_upload_lets_the_thread_end_before_it_discards(archive, make_instance, config, monkeypatch):
    """A descriptor closed under a writing thread may be another instance's a moment later."""
    began, ended = threading.Event(), []
    feed = Receiver.feed

    def slow(receiver: Receiver, chunk: bytes) -> None:
        began.set()
        time.sleep(0.3)
        feed(receiver, chunk)
        ended.append(True)

    monkeypatch.setattr(Receiver, "feed", slow)

    async def chunks() -> AsyncIterator[bytes]:
        yield make_instance(rows=1024, columns=1024)
        await asyncio.sleep(60)

    upload = asyncio.create_task(Batch(archive, Source(), None).take(chunks(), "application/dicom"))
    await asyncio.to_thread(began.wait, 10)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert ended, "the thread still writes"
    assert not staged_files(config.data_dir)


async def test_body_that_does_not_tell_its_length_has_the_same_limit(archive, make_instance):
    limited = replace(archive, config=archive.config.model_copy(update={"max_request_bytes": 50_000}))
    async with TestClient(TestServer(make_app(limited))) as client:

        async def body() -> AsyncIterator[bytes]:
            yield make_instance(rows=512, columns=512)

        response = await client.post(URL, data=body(), headers={"Content-Type": "application/dicom"})
        assert response.status == 413
