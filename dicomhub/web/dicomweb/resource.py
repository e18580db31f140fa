"""What a retrieve request names and accepts (PS3.18 8.2, 8.3, 10.4.1)."""

from __future__ import annotations

import re

from aiohttp import web

from dicomhub.dicom.media_types import Accept, parse_accept
from dicomhub.dicom.model import InstanceRef, Target, is_uid
from dicomhub.errors import BadRequest
from dicomhub.web.urls import base_url, instance_url

MAX_FRAMES = 10_000
"""Frame numbers in one request; a URL of 64 KB holds no more."""


_FRAME_NUMBER = re.compile(r" *0*[1-9][0-9]{0,8} *")


def target(request: web.Request) -> Target:
    """The study, series or instance of the URL.

    Raises
    ------
    BadRequest
        When a part of the path is no UID.
    """
    names = request.match_info
    for part in ("study", "series", "instance"):
        if part in names and not is_uid(names[part]):
            raise BadRequest(f"{names[part]!r} is no UID: the path has a {part.title()} Instance UID there")
    return Target(names["study"], names.get("series"), names.get("instance"))


def instance_ref(request: web.Request) -> InstanceRef:
    """The instance of the URL."""
    named = target(request)
    assert named.series is not None
    assert named.instance is not None
    return InstanceRef(named.study, named.series, named.instance)


def frame_numbers(request: web.Request) -> tuple[int, ...]:
    """The frame list of the URL, in its order (PS3.18 10.4.1.1.6).

    Raises
    ------
    BadRequest
        When it is not a list of numbers from 1 on.
    """
    text = request.match_info["frames"]
    parts = text.split(",")
    if len(parts) > MAX_FRAMES or not all(map(_FRAME_NUMBER.fullmatch, parts)):
        raise BadRequest(f"frames/{text[:80]} is not a list of frame numbers, which count from 1: frames/1,2,3")
    return tuple(map(int, parts))


def accept(request: web.Request) -> Accept:
    """The acceptable media types: the ``accept`` query parameter, else the Accept fields."""
    query = request.query.get("accept") if request.query_string else None
    fields = request.headers.getall("Accept", ())
    return parse_accept(fields[0] if len(fields) == 1 else ", ".join(fields) or None, query)


def location(request: web.Request, ref: InstanceRef) -> str:
    """Absolute URL of an instance."""
    return instance_url(base_url(request), ref)
