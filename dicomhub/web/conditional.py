"""Conditional and ranged requests (RFC 9110 13, 14), and bodies that are streamed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from aiohttp import web

from dicomhub.web.errors import error_response
from dicomhub.web.keys import CONFIG

CACHE_CONTROL = "private, no-cache"
"""Patients' data: kept by the user agent alone, and asked for again before use, because a new version may have come."""

GATHER_BYTES = 64 * 1024
"""Chunks smaller than this are joined before they are written."""


def entity_tag(*parts: object, is_weak: bool = False) -> str:
    """ETag of a representation, from what determines it.

    Parameters
    ----------
    is_weak
        For bodies that differ in bytes each time, such as multipart ones with a random boundary (RFC 9110 8.8.1).
    """
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()
    return f'W/"{digest}"' if is_weak else f'"{digest}"'


def cache_headers(tag: str) -> dict[str, str]:
    """Headers of every cacheable response, 304 included."""
    return {"ETag": tag, "Cache-Control": CACHE_CONTROL, "Vary": "Accept"}


def not_modified(request: web.Request, tag: str) -> web.Response | None:
    """304 when the user agent has this representation already (RFC 9110 13.1.2), else None."""
    sent = request.headers.get("If-None-Match")
    if sent is None:
        return None
    opaque = tag.removeprefix("W/")
    if sent.strip() == "*" or opaque in [member.strip().removeprefix("W/") for member in sent.split(",")]:
        return web.Response(status=304, headers=cache_headers(tag))
    return None


def byte_range(request: web.Request, size: int, tag: str) -> tuple[int, int] | web.Response | None:
    """The one range that is asked for, as first byte and end (exclusive).

    Returns None where the whole is to be sent: no range, several, a malformed one, or ``If-Range`` names another
    representation (RFC 9110 14.2); a 416 response when nothing lies in the range.
    """
    sent = request.headers.get("Range")
    condition = request.headers.get("If-Range")
    if sent is None or (condition is not None and condition != tag):
        return None
    unit, _, text = sent.partition("=")
    first, dash, last = text.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not (first + last).isdecimal() or len(first + last) > 36:
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        message = f"the range lies outside of the {size} bytes"
        return error_response(416, "RangeNotSatisfiable", message, {"Content-Range": f"bytes */{size}"})
    return start, stop


async def send(
    request: web.Request,
    chunks: AsyncIterator[bytes],
    content_type: str,
    *,
    length: int | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Stream a body.

    The first chunk is made before the status is sent, so an error there is still answered with its own status. Later
    ones, and a reader that takes nothing for ``request_timeout_s``, cut the connection (see `dicomhub.web.errors`).

    Parameters
    ----------
    length
        Bytes of the whole body; None sends it in chunked transfer coding.
    """
    timeout_s = request.config_dict[CONFIG].request_timeout_s
    response = web.StreamResponse(status=status, headers=headers)
    response.headers["Content-Type"] = content_type
    if length is not None:
        response.content_length = length
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    gathered = _gathered(chunks)
    chunk = await anext(gathered, None)
    await response.prepare(request)
    while chunk is not None:
        async with asyncio.timeout(timeout_s):
            await response.write(chunk)
        chunk = await anext(gathered, None)
    async with asyncio.timeout(timeout_s):
        await response.write_eof()
    return response


async def send_range(
    request: web.Request,
    open_range: Callable[[int, int], AsyncIterator[bytes]],
    size: int,
    content_type: str,
    tag: str,
) -> web.StreamResponse:
    """Answer with a body of ``size`` bytes, or with the range of it that is asked for (RFC 9110 14)."""
    wanted = byte_range(request, size, tag)
    if isinstance(wanted, web.Response):
        return wanted
    start, stop = wanted or (0, size)
    headers = cache_headers(tag) | {"Accept-Ranges": "bytes"}
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    status = 200 if wanted is None else 206
    return await send(
        request, open_range(start, stop), content_type, length=stop - start, status=status, headers=headers
    )


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Chunks with small ones joined, so that part headers and ends do not cost a packet each."""
    small: list[bytes] = []
    size = 0
    async for chunk in chunks:
        if len(chunk) < GATHER_BYTES:
            small.append(chunk)
            size += len(chunk)
        if small and (len(chunk) >= GATHER_BYTES or size >= GATHER_BYTES):
            yield b"".join(small)
            small.clear()
            size = 0
        if len(chunk) >= GATHER_BYTES:
            yield chunk
    if small:
        yield b"".join(small)


async def send_pieces(request: web.Request, headers: Mapping[str, str], pieces: Sequence[bytes]) -> web.StreamResponse:
    """Answer with a body that is at hand, without joining its pieces: a copy of a frame costs more than a write."""
    response = web.StreamResponse(headers=headers)
    response.content_length = sum(map(len, pieces))
    await response.prepare(request)
    if request.method != "HEAD":
        async with asyncio.timeout(request.config_dict[CONFIG].request_timeout_s):
            for piece in pieces:
                await response.write(piece)
            await response.write_eof()
    return response
