"""Multipart/related bodies: what real clients send is understood, what we send every real client understands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomhub.errors import BadRequest
from dicomhub.web.multipart import MAX_PART_HEADER_BYTES, PART_END, Multipart, iter_parts, read_parts


class Arrivals:
    """A body that arrives in given pieces, like `aiohttp.StreamReader`."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter([piece for piece in pieces if piece])

    async def readany(self) -> bytes:
        return next(self._pieces, b"")


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[i : i + size] for i in range(0, len(body), size)]


async def collect(pieces: Iterable[bytes], boundary: str = "b") -> list[tuple[str | None, bytes]]:
    return [
        (part.headers.get("Content-Type"), b"".join([chunk async for chunk in part.chunks]))
        async for part in iter_parts(Arrivals(pieces), boundary)
    ]


BODY = b"--b\r\nContent-Type: application/dicom\r\n\r\nDATA\r\n--b\r\nContent-Type: text/plain\r\n\r\nMORE\r\n--b--"
PARTS = [("application/dicom", b"DATA"), ("text/plain", b"MORE")]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(BODY, id="plain"),
        pytest.param(b"\r\n" + BODY, id="leading CRLF of the JavaScript client"),
        pytest.param(BODY + bytes(300), id="trailing NUL bytes of the JavaScript client"),
        pytest.param(
            b"This is a multi-part message.\r\n\r\n" + BODY + b"\r\nepilogue\r\n--b\r\n", id="preamble, epilogue"
        ),
        pytest.param(BODY.replace(b"--b\r\n", b"--b \t\r\n"), id="padding after the delimiter"),
        pytest.param(BODY.replace(b"Content-Type: a", b"content-type:a"), id="header in lower case without blank"),
        pytest.param(BODY.replace(b"Content-Type: t", b"Content-ID: <1>\r\nContent-Type:\r\n t"), id="folded header"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_forms_that_clients_send_are_read_however_they_arrive(body: bytes, size: int) -> None:
    assert await collect(cut(body, size)) == PARTS


async def test_part_without_header_is_accepted() -> None:
    assert await collect([b"--b\r\n\r\nDATA\r\n\r\n\r\n--b--"]) == [(None, b"DATA\r\n\r\n")]


async def test_empty_multipart_has_no_parts() -> None:
    assert await collect([b"--b--\r\n"]) == []


async def test_content_type_parameters_of_a_part_are_parsed() -> None:
    body = b'--b\r\nContent-Type: application/dicom;transfer-syntax="1.2.840.10008.1.2.5"\r\n\r\n\r\n--b--'
    parts = [part async for part in iter_parts(Arrivals([body]), "b")]
    assert parts[0].content_type is not None
    assert parts[0].content_type.essence == "application/dicom"
    assert parts[0].content_type.parameters == {"transfer-syntax": "1.2.840.10008.1.2.5"}


@pytest.mark.parametrize("end", range(5, len(BODY) - 1))
async def test_body_that_ends_early_is_refused_wherever_it_ends(end: int) -> None:
    with pytest.raises(BadRequest, match="closing delimiter"):
        await collect([BODY[:end]])


async def test_endless_part_header_is_refused() -> None:
    with pytest.raises(BadRequest, match="header of a part"):
        await collect([b"--b\r\nX: ", *[b"a" * 1000] * (MAX_PART_HEADER_BYTES // 1000 + 2)])


async def test_body_without_the_boundary_is_refused_before_it_is_read_whole() -> None:
    class Endless:
        async def readany(self) -> bytes:
            return b"x" * 65536

    with pytest.raises(BadRequest, match="boundary"):
        _ = [part async for part in iter_parts(Endless(), "b")]


async def test_silent_body_times_out() -> None:
    class Silent:
        async def readany(self) -> bytes:
            await asyncio.sleep(60)
            return b""

    with pytest.raises(TimeoutError):
        _ = [part async for part in iter_parts(Silent(), "b", timeout_s=0.01)]


@pytest.mark.parametrize("taken", [0, 1])
@pytest.mark.parametrize("closed", [False, True])
async def test_payload_left_by_the_consumer_is_skipped(taken: int, closed: bool) -> None:
    body = b"--b\r\n\r\n" + b"x" * 1000 + b"\r\n--b\r\n\r\nlast\r\n--b--"
    parts, seen = 0, []
    async for part in iter_parts(Arrivals(cut(body, 100)), "b"):
        parts += 1
        for _ in range(taken):
            seen.append(await anext(part.chunks))
        if closed:
            await part.chunks.aclose()  # type: ignore[attr-defined]
    assert (parts, len(seen)) == (2, 2 * taken)


async def test_large_arrivals_are_handed_on_uncut_and_not_held() -> None:
    chunk = bytes(range(256)) * 256
    body = [b"--b\r\n\r\n", chunk, chunk, chunk, b"\r\n--b--"]
    async for part in iter_parts(Arrivals(body), "b"):
        chunks = [c async for c in part.chunks]
    assert [len(c) for c in chunks] == [65536] * 3
    assert chunks[0] is chunk


payloads = st.lists(
    st.binary(max_size=200) | st.sampled_from([b"\r\n--", b"--b--", b"\r", b"\r\n", b"\r\n--boun"]), max_size=5
)


@settings(max_examples=200, deadline=None)
@given(payloads=payloads, size=st.integers(1, 300))
def test_law_what_is_emitted_is_read_back(payloads: list[bytes], size: int) -> None:
    multipart = Multipart("application/dicom")
    openings = [multipart.opening("application/dicom", length=len(p)) for p in payloads]
    body = b"".join(o + p + PART_END for o, p in zip(openings, payloads, strict=True)) + multipart.closing
    assert multipart.length((o, len(p)) for o, p in zip(openings, payloads, strict=True)) == len(body)
    assert [p for _, p in asyncio.run(collect(cut(body, size), multipart.boundary))] == payloads


def test_emitted_body_begins_with_its_delimiter_and_spells_content_type_as_cornerstone_wants_it() -> None:
    opening = Multipart("image/jpeg", "b").opening(
        "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50", "http://h/f/1", 3
    )
    assert opening == (
        b"--b\r\nContent-Type: image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50\r\n"
        b"Content-Length: 3\r\nContent-Location: http://h/f/1\r\n\r\n"
    )
    assert Multipart("image/jpeg", "b").content_type == 'multipart/related; type="image/jpeg"; boundary=b'


def test_boundaries_differ() -> None:
    assert Multipart("a/b").boundary != Multipart("a/b").boundary


async def _echo(request: web.Request) -> web.Response:
    try:
        sizes = [sum([len(chunk) async for chunk in part.chunks]) async for part in read_parts(request)]
    except BadRequest as error:
        return web.json_response({"error": error.message}, status=400)
    return web.json_response(sizes)


@pytest.fixture
async def echo() -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    app = web.Application()
    app.router.add_post("/", _echo)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_chunked_body_with_quoted_boundary_over_http(echo: TestClient) -> None:  # type: ignore[type-arg]
    async def body() -> AsyncIterator[bytes]:
        yield b"--a b\r\nContent-Type: application/dicom\r\n\r\n"
        for _ in range(40):
            yield bytes(65536)
        yield b"\r\n--a b--" + bytes(1000)

    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="a b"'}
    for _ in range(2):  # the second request shows that the epilogue of the first did not break the connection
        response = await echo.post("/", data=body(), headers=headers)
        assert await response.json() == [40 * 65536]


async def test_body_that_is_not_multipart_is_one_part(echo: TestClient) -> None:  # type: ignore[type-arg]
    response = await echo.post("/", data=b"12345", headers={"Content-Type": "application/dicom"})
    assert await response.json() == [5]


async def test_missing_boundary_is_named(echo: TestClient) -> None:  # type: ignore[type-arg]
    response = await echo.post("/", data=BODY, headers={"Content-Type": "multipart/related; type=application/dicom"})
    assert response.status == 400
    assert "boundary" in (await response.json())["error"]
