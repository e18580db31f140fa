"""Retrieve transaction, WADO-RS: bulk data by its BulkDataURI (PS3.18 10.4.1.1.5)."""

from __future__ import annotations

from aiohttp import web

from dicomhub.archive import decoded, retrieve
from dicomhub.archive.retrieve import BulkData, StoredInstance
from dicomhub.dicom.media_types import Representation, choose_bulkdata
from dicomhub.dicom.reencode import PIXEL_DATA
from dicomhub.web.conditional import cache_headers, entity_tag, not_modified, send, send_range
from dicomhub.web.context import actor
from dicomhub.web.dicomweb.resource import accept, instance_ref, location
from dicomhub.web.dicomweb.wado import send_frames
from dicomhub.web.keys import ARCHIVE
from dicomhub.web.multipart import Multipart

ENCAPSULATED_DOCUMENT = "00420011"
MIME_TYPE_OF_ENCAPSULATED_DOCUMENT = "00420012"


async def bulkdata(request: web.Request) -> web.StreamResponse:
    """PS3.18 10.4.1.1.5: one bulk value; encapsulated pixel data as its frames, one part each.

    A single part body honours ``Range`` (RFC 9110 14).
    """
    archive = request.app[ARCHIVE]
    path = request.match_info["path"].strip("/").upper()
    stored = await retrieve.instance(archive, instance_ref(request), actor(request))
    if path == PIXEL_DATA and stored.is_encapsulated:
        return await send_frames(request, archive, stored, range(1, stored.number_of_frames + 1))
    value = await decoded.bulkdata(archive, stored, path)
    form = choose_bulkdata(accept(request), await _document_type(request, stored, path))
    tag = entity_tag(value.digest, form.media_type, form.is_multipart, is_weak=form.is_multipart)
    if (unchanged := not_modified(request, tag)) is not None:
        return unchanged
    if form.is_multipart:
        return await _multipart(request, stored, path, value, form, tag)
    return await send_range(request, value.open_range, value.size, form.content_type, tag)


async def _document_type(request: web.Request, stored: StoredInstance, path: str) -> str:
    """What an encapsulated document says that it is; empty for any other value."""
    if path != ENCAPSULATED_DOCUMENT:
        return ""
    attributes = await retrieve.attributes(request.app[ARCHIVE], stored)
    values = attributes.get(MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, {}).get("Value") or [""]
    text = str(values[0])
    return text if text.count("/") == 1 and text.isascii() and text.isprintable() else ""


async def _multipart(
    request: web.Request, stored: StoredInstance, path: str, value: BulkData, form: Representation, tag: str
) -> web.StreamResponse:
    multipart = Multipart(form.media_type)
    url = f"{location(request, stored.ref)}/bulkdata/{path}"
    opening = multipart.opening(form.content_type, url, value.size)
    length = multipart.length([(opening, value.size)])
    body = multipart.one_part(opening, value.open_range(0, value.size))
    return await send(request, body, multipart.content_type, length=length, headers=cache_headers(tag))
