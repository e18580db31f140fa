"""Retrieve transaction, WADO-RS: rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4)."""

from __future__ import annotations

from aiohttp import hdrs, web

from dicomhub.archive import decoded, retrieve
from dicomhub.archive.retrieve import StoredInstance
from dicomhub.dicom.media_types import choose_rendered
from dicomhub.dicom.model import Level
from dicomhub.dicom.render import parse_presentation
from dicomhub.errors import BadRequest, NotFound
from dicomhub.web.conditional import cache_headers, entity_tag, not_modified
from dicomhub.web.context import actor
from dicomhub.web.dicomweb.resource import accept, frame_numbers, instance_ref, target
from dicomhub.web.keys import ARCHIVE

LOOKED_AT = 200
"""Instances of a study or series among which one with pixels is looked for."""


async def rendered(request: web.Request) -> web.StreamResponse:
    """PS3.18 10.4.1.1.3: an image for display.

    Of a frame; of an instance, its representative or first frame; of a series or study, its middle image.
    """
    return await _respond(request, is_thumbnail=False)


async def thumbnail(request: web.Request) -> web.StreamResponse:
    """PS3.18 10.4.1.1.4: a small image that stands for a study, series, instance or frame."""
    return await _respond(request, is_thumbnail=True)


async def _respond(request: web.Request, *, is_thumbnail: bool) -> web.StreamResponse:
    form = choose_rendered(accept(request))
    presentation = parse_presentation(request.query, form.media_type, is_thumbnail=is_thumbnail)
    number = _frame_number(request)
    stored = await _representative(request)
    tag = entity_tag(stored.digest, number, presentation)
    if (unchanged := not_modified(request, tag)) is not None:
        return unchanged
    image = await decoded.render(request.app[ARCHIVE], stored, presentation, number)
    return web.Response(body=image, headers=cache_headers(tag) | {hdrs.CONTENT_TYPE: form.content_type})


def _frame_number(request: web.Request) -> int | None:
    if "frames" not in request.match_info:
        return None
    numbers = frame_numbers(request)
    if len(numbers) != 1:
        raise BadRequest("one frame can be rendered at a time: frames/<number>/rendered")
    return numbers[0]


async def _representative(request: web.Request) -> StoredInstance:
    """The instance of the URL, or the middle one of those with pixels of its series or study.

    Raises
    ------
    NotFound
        When the target does not exist, or none of its first `LOOKED_AT` instances has pixels.
    """
    named = target(request)
    if named.level is Level.INSTANCE:
        return await retrieve.instance(request.app[ARCHIVE], instance_ref(request), actor(request))
    images: list[StoredInstance] = []
    seen = 0
    async for stored in retrieve.instances(request.app[ARCHIVE], named, actor(request)):
        seen += 1
        if stored.number_of_frames:
            images.append(stored)
        if seen == LOOKED_AT:
            break
    if not images:
        raise NotFound(f"no instance of this {named.level.lower()} has pixel data to be rendered")
    first_series = [stored for stored in images if stored.ref.series == images[0].ref.series]
    return first_series[len(first_series) // 2]
