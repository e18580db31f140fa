"""From an error to a status, a JSON body and headers: the only place where that happens."""

from __future__ import annotations

import asyncio

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from dicomhub.errors import DicomHubError, Unauthenticated, Unavailable

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 5
"""Seconds after which a client may try again what is unavailable now."""


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """The one shape of an error: ``{"error": {"status", "code", "message"}}``, PS3.18 8.5 status codes."""
    body = orjson.dumps({"error": {"status": status, "code": code, "message": message}})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def from_error(error: DicomHubError) -> web.Response:
    """The response for one of our own errors."""
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="dicomhub"'
    return error_response(error.http_status, error.code, error.message, headers)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in the one shape; after the first byte of a body the connection is cut instead.

    A cut connection is the only honest sign left then: a client must not take half an instance for a whole one.
    """
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return error_response(error.status, "Http", error.text or error.reason, allow)
    except asyncio.CancelledError:
        raise
    except DicomHubError as error:
        if error.http_status >= 500:
            log.error("request failed", method=request.method, path=request.path, error=error.message)
        return _unless_begun(request, from_error(error))
    except ConnectionResetError:
        raise  # the peer is gone, nobody to answer
    except TimeoutError:
        late = error_response(408, "Timeout", "the request made no progress in time")
        return _unless_begun(request, late)
    except Exception:
        log.exception("request failed", method=request.method, path=request.path)
        failed = error_response(500, "Internal", "an error on our side; the log has the details")
        return _unless_begun(request, failed)


def _unless_begun(request: web.Request, response: web.Response) -> web.Response:
    if request.writer.output_size > 0:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("response was cut after an error")
    return response
