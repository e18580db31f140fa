"""Absolute URLs of our own resources, right behind proxies too."""

from __future__ import annotations

from aiohttp import web

from dicomhub.dicom.model import InstanceRef
from dicomhub.web.keys import BASE_URL, CONFIG

DICOMWEB_ROOT = "/dicom-web"
"""Path of the DICOMweb root below the server's origin."""


def base_url(request: web.Request) -> str:
    """Absolute URL of the DICOMweb root, without trailing slash.

    In this order: the configured ``public_url``; ``Forwarded`` (RFC 7239) or ``X-Forwarded-*`` when ``trust_forwarded``
    is on; the request's own scheme and ``Host``.
    """
    cached = request.get(BASE_URL)
    if cached is None:
        cached = request[BASE_URL] = origin(request) + DICOMWEB_ROOT
    return cached


def instance_url(base: str, ref: InstanceRef) -> str:
    """URL of an instance below ``base``, the DICOMweb root."""
    return f"{base}/studies/{ref.study}/series/{ref.series}/instances/{ref.instance}"


def origin(request: web.Request) -> str:
    """Scheme, host and port (and path prefix of a proxy) that the user agent used, without trailing slash."""
    config = request.config_dict[CONFIG]
    if config.public_url:
        return config.public_url.rstrip("/")
    scheme, host, prefix = request.scheme, _with_port(request), ""
    if config.trust_forwarded:
        headers = request.headers
        forwarded = request.forwarded[0] if request.forwarded else {}
        scheme = forwarded.get("proto") or _first(headers.get("X-Forwarded-Proto")) or scheme
        host = forwarded.get("host") or _first(headers.get("X-Forwarded-Host")) or host
        prefix = _first(headers.get("X-Forwarded-Prefix")).rstrip("/")
        port = _first(headers.get("X-Forwarded-Port"))
        if port and ":" not in host and port not in ("80", "443"):
            host = f"{host}:{port}"
    return f"{scheme}://{host}{prefix}"


def _with_port(request: web.Request) -> str:
    """The ``Host`` of the request; some clients leave the port out of it (RFC 9110 7.2 wants it)."""
    host = request.host
    if host in ("localhost", "127.0.0.1", "[::1]") and request.transport is not None:
        port = request.transport.get_extra_info("sockname")[1]
        return host if port == 80 else f"{host}:{port}"
    return host


def _first(value: str | None) -> str:
    return (value or "").split(",")[0].strip()
