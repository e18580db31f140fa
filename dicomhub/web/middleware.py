"""What every request passes: origin rules, authentication, safe headers, compression."""

from __future__ import annotations

import asyncio
import time
import zlib

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from dicomhub.config import is_loopback
from dicomhub.errors import Forbidden, Unauthenticated
from dicomhub.hooks import Credentials
from dicomhub.web.context import peer
from dicomhub.web.keys import ACTOR, ARCHIVE, CONFIG, CORS_ORIGIN

log = structlog.get_logger("dicomhub.access")

ALLOWED_HEADERS = "Authorization, Accept, Content-Type, Range, If-None-Match, If-Range"
EXPOSED_HEADERS = "Content-Range, Content-Type, Content-Length, Content-Location, Warning, ETag, Location"
PUBLIC_PATHS = ("/healthz", "/readyz")
"""Paths that answer without credentials: probes know none, and they tell nothing about patients."""

COMPRESSIBLE = ("application/dicom+json", "application/json", "text/html", "text/plain", "application/javascript")
COMPRESS_FROM = 1024
"""Bytes of a body below which compressing costs more than it saves."""
THREAD_FROM = 64 * 1024
"""Bytes of a body from which a thread compresses it."""


@web.middleware
async def cors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Cross-origin rules (Fetch standard) for the configured origins; a preflight needs no credentials."""
    origin = request.headers.get("Origin")
    allowed = request.app[CONFIG].cors_origins
    if origin is None or not (origin in allowed or "*" in allowed):
        return await handler(request)
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response: web.StreamResponse = web.Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
        response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        response.headers["Access-Control-Max-Age"] = "600"
    else:
        request[CORS_ORIGIN] = origin
        response = await handler(request)
    if not response.prepared:
        add_cors(response, origin)
    return response


def add_cors(response: web.StreamResponse, origin: str) -> None:
    """Headers that let a page of ``origin`` read the response."""
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
    response.headers.add("Vary", "Origin")


async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every response, streamed ones too."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    origin = request.get(CORS_ORIGIN)
    if origin is not None and "Access-Control-Allow-Origin" not in response.headers:
        add_cors(response, origin)


@web.middleware
async def known_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Where loopback is the only guard, serve only who names this machine.

    A page of any site could otherwise have its name resolve to this machine and read every study (DNS rebinding).
    """
    config = request.app[CONFIG]
    if is_loopback(config.host) and not request.app[ARCHIVE].hooks.authenticates and not config.trust_forwarded:
        name = (request.url.host or "").lower()
        if not is_loopback(name) and name != URL(config.public_url).host:
            raise Forbidden(f"this server does not go by the name {name[:100]!r}; if it should, set public_url")
    return await handler(request)


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask the plugins who this is; without an answer, and where anybody has to log in, 401."""
    hooks = request.app[ARCHIVE].hooks
    if hooks.authenticates and request.path not in PUBLIC_PATHS and request.method != "OPTIONS":
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        actor = await hooks.authenticate(Credentials(peer(request), scheme.lower(), token.strip()))
        if actor is None:
            raise Unauthenticated("credentials are needed: send an Authorization header")
        request[ACTOR] = actor
    return await handler(request)


@web.middleware
async def access_log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One log line a request, where configured."""
    if not request.app[CONFIG].access_log:
        return await handler(request)
    began = time.perf_counter()
    status = 500
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        milliseconds = round(1000 * (time.perf_counter() - began), 1)
        log.info(
            "request", method=request.method, path=request.path, status=status, ms=milliseconds, peer=request.remote
        )


@web.middleware
async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
    """gzip for JSON and pages, when the user agent takes it (RFC 9110 12.5.3)."""
    response = await handler(request)
    if (
        isinstance(response, web.Response)
        and not response.prepared
        # Not response.content_type, which runs the e-mail parser: a third of the time of a frame.
        and response.headers.get("Content-Type", "").partition(";")[0] in COMPRESSIBLE
        and "Content-Encoding" not in response.headers
        and isinstance(response.body, bytes | bytearray)
        and len(response.body) >= COMPRESS_FROM
    ):
        response.headers.add("Vary", "Accept-Encoding")
        if "gzip" in request.headers.get("Accept-Encoding", "").lower():
            body = bytes(response.body)
            packed = await asyncio.to_thread(_gzip, body) if len(body) > THREAD_FROM else _gzip(body)
            response.headers["Content-Encoding"] = "gzip"
            response.body = packed
    return response


def _gzip(body: bytes) -> bytes:
    """Level 1: DICOM JSON shrinks to a tenth at any level, and time is what the viewer waits for."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()
