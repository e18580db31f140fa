"""Multipart/related bodies, emitted and accepted as streams (PS3.18 8.6.1.2, RFC 2387, RFC 2046 5.1).

What we emit is the strictest form, because browser clients search the bytes instead of parsing them: no preamble, only
CRLF, ``Content-Type:`` spelled so, a random boundary, a length in every part. What we accept is every form that real
clients send: a preamble, a quoted boundary, padding after delimiters, anything after the closing delimiter, parts
without a header. aiohttp's own reader, no faster, fails on the NUL bytes that the JavaScript client appends.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web
from multidict import CIMultiDict

from dicomhub.dicom.media_types import MediaType, parse_media_type
from dicomhub.errors import BadRequest

MAX_PART_HEADER_BYTES = 16 * 1024
"""Bytes of the header of one part; more is malformed."""
MAX_PREAMBLE_BYTES = 64 * 1024
"""Bytes before the first delimiter; more is malformed."""
MAX_BOUNDARY_CHARACTERS = 256
"""Longest boundary taken; RFC 2046 5.1.1 allows 70, some clients take more."""


class ByteStream(Protocol):
    """The part of `aiohttp.StreamReader` that is read here."""

    async def readany(self) -> bytes:
        """Whatever has arrived, at least one byte; empty only at the end."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a body: its header fields, and its payload as a stream.

    Whoever takes the next part before the end of ``chunks`` skips the rest of them.
    """

    headers: CIMultiDict[str]
    chunks: AsyncIterator[bytes]

    @property
    def content_type(self) -> MediaType | None:
        """The part's media type; None when it has none (PS3.18 8.6.1.2.1: that of the ``type`` parameter applies)."""
        text = self.headers.get("Content-Type")
        return parse_media_type(text) if text else None


# ---------------------------------------------------------------------------------------------------------------- emit


@dataclass(frozen=True, slots=True)
class Multipart:
    """The delimiters of one body that we emit.

    A body is, for every part, ``opening(...)``, the payload and ``PART_END``; then ``closing``.

    Parameters
    ----------
    media_type
        Type of the root part, such as ``application/dicom``; becomes the ``type`` parameter.
    boundary
        Token that does not occur in any payload: random unless a test says otherwise.
    """

    media_type: str
    boundary: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def content_type(self) -> str:
        """The response's ``Content-Type``."""
        return f'multipart/related; type="{self.media_type}"; boundary={self.boundary}'

    def opening(self, content_type: str, location: str = "", length: int | None = None) -> bytes:
        """Delimiter and header of a part, up to the first byte of its payload.

        Parameters
        ----------
        content_type
            The part's type with its ``transfer-syntax`` parameter.
        location
            Absolute URL of what the part holds; empty: none.
        length
            Bytes of the payload; None when unknown.
        """
        lines = [f"--{self.boundary}", f"Content-Type: {content_type}"]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        if location:
            lines.append(f"Content-Location: {location}")
        return "\r\n".join([*lines, "", ""]).encode()

    @property
    def closing(self) -> bytes:
        """The closing delimiter."""
        return f"--{self.boundary}--\r\n".encode()

    def length(self, parts: Iterable[tuple[bytes, int]]) -> int:
        """Bytes of the whole body whose parts have these openings and payload lengths."""
        return sum(len(opening) + size + len(PART_END) for opening, size in parts) + len(self.closing)

    async def one_part(self, opening: bytes, payload: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body that has one part."""
        yield opening
        async for chunk in payload:
            yield chunk
        yield PART_END + self.closing


PART_END = b"\r\n"
"""Follows every payload; belongs to the delimiter after it (RFC 2046 5.1.1)."""


# -------------------------------------------------------------------------------------------------------------- accept


async def read_parts(request: web.BaseRequest, *, timeout_s: float = 60.0) -> AsyncIterator[Part]:
    """The parts of a request body; a body that is not multipart is one part with the request's own ``Content-Type``.

    Parameters
    ----------
    request
        Its body is consumed up to the closing delimiter; the server discards the rest.
    timeout_s
        Seconds in which some byte must arrive.

    Raises
    ------
    BadRequest
        The boundary is missing, the body ends before the closing delimiter, or a header exceeds its limit.
    TimeoutError
        Nothing arrived for ``timeout_s``.
    """
    content_type = parse_media_type(request.headers.get("Content-Type", "application/octet-stream"))
    if content_type.type != "multipart":
        headers = CIMultiDict({"Content-Type": str(content_type)})
        yield Part(headers, _whole(request.content, timeout_s))
        return
    boundary = content_type.parameters.get("boundary", "")
    if not 0 < len(boundary) <= MAX_BOUNDARY_CHARACTERS:
        raise BadRequest("The multipart Content-Type has no usable boundary parameter: send boundary=<token>")
    async for part in iter_parts(request.content, boundary, timeout_s=timeout_s):
        yield part


async def iter_parts(stream: ByteStream, boundary: str, *, timeout_s: float = 60.0) -> AsyncIterator[Part]:
    """The parts of a multipart body (RFC 2046 5.1.1), each before its payload has arrived.

    Raises
    ------
    BadRequest
        As `read_parts`; inside ``Part.chunks`` when the body ends within a payload.
    """
    scanner = _Scanner(stream, boundary.encode("latin-1", "replace"), timeout_s)
    more = await scanner.skip_preamble()
    while more:
        yield Part(await scanner.header(), scanner.payload())
        await scanner.skip_payload()
        more = await scanner.delimiter_tail()


async def _whole(stream: ByteStream, timeout_s: float) -> AsyncIterator[bytes]:
    while chunk := await _receive(stream, timeout_s):
        yield chunk


async def _receive(stream: ByteStream, timeout_s: float) -> bytes:
    async with asyncio.timeout(timeout_s):
        return await stream.readany()


class _Scanner:
    """Position in a multipart body. Holds one arrival and at most one delimiter or header more."""

    def __init__(self, stream: ByteStream, boundary: bytes, timeout_s: float) -> None:
        self._stream = stream
        self._timeout_s = timeout_s
        self._delimiter = b"\r\n--" + boundary
        self._data = b"\r\n"  # so that a delimiter at the very start of the body looks like any other
        self._position = 0
        self._in_payload = True

    async def skip_preamble(self) -> bool:
        """Go behind the first delimiter; False when the body has no part (or is empty)."""
        skipped = 0
        async for chunk in self.payload():
            skipped += len(chunk)
            if skipped > MAX_PREAMBLE_BYTES:
                raise BadRequest("No delimiter found in the body: is the boundary parameter that of the body?")
        return await self.delimiter_tail()

    async def payload(self) -> AsyncIterator[bytes]:
        """The bytes up to the next delimiter; the position is behind it afterwards."""
        delimiter = self._delimiter
        while True:
            data, start = self._data, self._position
            end = data.find(delimiter, start)
            if end >= 0:
                self._position = end + len(delimiter)
                self._in_payload = False
                if end > start:
                    yield data[start:end]
                return
            end = _partial_delimiter(data, delimiter, start)
            held = data[end:]
            self._data, self._position = held, 0
            if end > start:
                yield data[start:end] if start or held else data
            # Read only now: while the consumer writes, nothing but the held bytes is kept here.
            await self._fill()

    async def skip_payload(self) -> None:
        """Go behind the next delimiter, whatever the consumer has taken of the payload, and however it stopped."""
        if self._in_payload:
            async for _ in self.payload():
                pass

    async def delimiter_tail(self) -> bool:
        """Read what follows a delimiter: True when a part begins, False after the closing delimiter."""
        if await self._need(2) == b"--":
            return False
        end = await self._find(b"\r\n")
        padding = self._data[self._position : end]
        if padding.strip(b" \t"):
            raise BadRequest(
                "A line in the body begins with the boundary but is no delimiter: choose a longer boundary"
            )
        self._position = end  # the CRLF stays: it begins the empty header of a part without any
        return True

    async def header(self) -> CIMultiDict[str]:
        """The header fields of the part that begins here."""
        end = await self._find(b"\r\n\r\n")
        text = self._data[self._position + 2 : end].decode("utf-8", "replace") if end > self._position else ""
        self._position = end + 4
        self._in_payload = True
        return _parse_header(text)

    async def _need(self, count: int) -> bytes:
        while len(self._data) - self._position < count:
            self._data, self._position = self._data[self._position :], 0
            await self._fill()
        return self._data[self._position : self._position + count]

    async def _find(self, token: bytes) -> int:
        """Index of ``token``, reading on until it is there."""
        while (end := self._data.find(token, self._position)) < 0:
            self._data, self._position = self._data[self._position :], 0
            if len(self._data) > MAX_PART_HEADER_BYTES:
                raise BadRequest(f"The header of a part is longer than {MAX_PART_HEADER_BYTES} bytes")
            await self._fill()
        return end

    async def _fill(self) -> None:
        """Append an arrival to the held bytes."""
        chunk = await _receive(self._stream, self._timeout_s)
        if not chunk:
            raise BadRequest("The multipart body ends before its closing delimiter")
        self._data = self._data + chunk if self._data else chunk


def _partial_delimiter(data: bytes, delimiter: bytes, start: int) -> int:
    """Index from which ``data`` could be the beginning of a delimiter that is still arriving; its length when none."""
    index = data.find(b"\r", max(start, len(data) - len(delimiter) + 1))
    while index >= 0:
        if delimiter.startswith(data[index:]):
            return index
        index = data.find(b"\r", index + 1)
    return len(data)


def _parse_header(text: str) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    name = ""
    for line in text.split("\r\n"):
        if line[:1] in (" ", "\t") and name:  # obsolete line folding (RFC 5322 2.2.3)
            headers[name] = f"{headers.get(name, '')} {line.strip()}".lstrip()
            continue
        name, colon, value = line.partition(":")
        name = name.strip()
        if colon and name:
            headers.add(name, value.strip())
    return headers
