"""Retrieve transaction, WADO-RS: instances, metadata, frames (PS3.18 10.4)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from functools import partial

from aiohttp import hdrs, web

from dicomhub.archive import Archive, decoded, retrieve
from dicomhub.archive.retrieve import StoredInstance
from dicomhub.dicom.file_meta import EXPLICIT_VR_BIG_ENDIAN
from dicomhub.dicom.media_types import (
    DICOM,
    Accept,
    Representation,
    choose_frames,
    choose_instances,
    choose_metadata,
)
from dicomhub.dicom.model import InstanceRef, Level, Target
from dicomhub.errors import NotAcceptable, NotFound
from dicomhub.events import Actor
from dicomhub.web.conditional import cache_headers, entity_tag, not_modified, send, send_pieces, send_range
from dicomhub.web.context import actor
from dicomhub.web.dicomweb.resource import accept, frame_numbers, instance_ref, location, target
from dicomhub.web.keys import ARCHIVE
from dicomhub.web.multipart import PART_END, Multipart

WHOLE_BYTES = 8 * 1024**2
"""Bytes of metadata that are gathered for an ETag and for compression; more is streamed."""
UNKNOWN_TRANSFER_SYNTAX = "unknown"
"""Stands for a transfer syntax of which nothing is known but that instances are stored in it."""
NAMED_IN_ERROR = 10
"""Instances that an error names."""


# ----------------------------------------------------------------------------------------------------------- instances


async def instances(request: web.Request) -> web.StreamResponse:
    """PS3.18 10.4.1.1.1: the instances of the target as multipart, or one instance also as ``application/dicom``."""
    named = target(request)
    if named.level is Level.INSTANCE:
        return await _one_instance(request)
    archive, who, accepted = request.app[ARCHIVE], actor(request), accept(request)
    await _check_all(archive, named, who, accepted)
    multipart = Multipart(DICOM)
    return await send(
        request,
        _parts(request, archive, named, who, accepted, multipart),
        multipart.content_type,
        headers={"Vary": "Accept"},
    )


async def _one_instance(request: web.Request) -> web.StreamResponse:
    archive = request.app[ARCHIVE]
    stored = await retrieve.instance(archive, instance_ref(request), actor(request))
    form = choose_instances(accept(request), stored.transfer_syntax_uid, single=True)
    tag = entity_tag(stored.digest, form.content_type, form.is_multipart, is_weak=form.is_multipart)
    if (unchanged := not_modified(request, tag)) is not None:
        return unchanged
    if form.is_multipart:
        return await _one_part(request, archive, stored, form, tag)
    if form.is_decoded:
        explicit = await decoded.explicit_little_endian(archive, stored)
        return await send(request, explicit.chunks, form.content_type, length=explicit.size, headers=cache_headers(tag))
    as_stored = partial(retrieve.open_instance, archive, stored)
    return await send_range(request, as_stored, stored.size, form.content_type, tag)


async def _one_part(
    request: web.Request, archive: Archive, stored: StoredInstance, form: Representation, tag: str
) -> web.StreamResponse:
    multipart = Multipart(DICOM)
    size, chunks = await _open(archive, stored, form)
    opening = multipart.opening(form.content_type, location(request, stored.ref), size)
    length = multipart.length([(opening, size)])
    body = multipart.one_part(opening, chunks)
    return await send(request, body, multipart.content_type, length=length, headers=cache_headers(tag))


async def _check_all(archive: Archive, named: Target, who: Actor, accepted: Accept) -> None:
    """Make sure, before the first byte, that every instance can be sent as it is accepted.

    A part of a study must not look like the whole; 206, which PS3.18 8.5 would allow, is a failure to browser clients.

    Raises
    ------
    NotAcceptable
        Names the instances that cannot be sent.
    """
    if _takes_any(accepted):
        return
    refused: list[str] = []
    reason = ""
    async for stored in retrieve.instances(archive, named, who):
        try:
            choose_instances(accepted, stored.transfer_syntax_uid, single=False)
        except NotAcceptable as error:
            refused.append(stored.ref.instance)
            reason = error.message
        if len(refused) == NAMED_IN_ERROR:
            break
    if refused:
        raise NotAcceptable(f"{reason}; this concerns {', '.join(refused)}")


def _takes_any(accepted: Accept) -> bool:
    """Whether every instance can be sent as stored, so that none has to be looked at beforehand."""
    try:
        choose_instances(accepted, UNKNOWN_TRANSFER_SYNTAX, single=False)
    except NotAcceptable:
        return False
    return True


async def _parts(
    request: web.Request, archive: Archive, named: Target, who: Actor, accepted: Accept, multipart: Multipart
) -> AsyncIterator[bytes]:
    async for stored in retrieve.instances(archive, named, who):
        form = choose_instances(accepted, stored.transfer_syntax_uid, single=False)
        size, chunks = await _open(archive, stored, form)
        yield multipart.opening(form.content_type, location(request, stored.ref), size)
        async for chunk in chunks:
            yield chunk
        yield PART_END
    yield multipart.closing


async def _open(archive: Archive, stored: StoredInstance, form: Representation) -> tuple[int, AsyncIterator[bytes]]:
    if form.is_decoded:
        explicit = await decoded.explicit_little_endian(archive, stored)
        return explicit.size, explicit.chunks
    return stored.size, retrieve.open_instance(archive, stored)


# ------------------------------------------------------------------------------------------------------------ metadata


async def metadata(request: web.Request) -> web.StreamResponse:
    """PS3.18 10.4.1.1.2: the attributes of all instances of the target as DICOM JSON, bulk data as BulkDataURI."""
    form = choose_metadata(accept(request))
    named = target(request)

    def bulkdata_base(ref: InstanceRef) -> bytes:
        return f"{location(request, ref)}/bulkdata".encode()

    pieces = retrieve.metadata(request.app[ARCHIVE], named, actor(request), bulkdata_base=bulkdata_base)
    gathered, size = [], 0
    async for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size > WHOLE_BYTES:
            return await _stream_metadata(request, gathered, pieces, form)
    body = b"".join(gathered)
    tag = f'W/"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'  # weak, because compression keeps it
    unchanged = not_modified(request, tag)
    return unchanged or web.Response(body=body, content_type=form.media_type, headers=cache_headers(tag))


async def _stream_metadata(
    request: web.Request, gathered: list[bytes], pieces: AsyncIterator[bytes], form: Representation
) -> web.StreamResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"".join(gathered)
        gathered.clear()
        async for piece in pieces:
            yield piece

    return await send(request, body(), form.media_type, headers={"Vary": "Accept"})


# -------------------------------------------------------------------------------------------------------------- frames


async def frames(request: web.Request) -> web.StreamResponse:
    """PS3.18 10.4.1.1.6: frames in the order of the list, one part each; a single one also without multipart."""
    archive = request.app[ARCHIVE]
    numbers = frame_numbers(request)
    stored = await retrieve.instance(archive, instance_ref(request), actor(request))
    return await send_frames(request, archive, stored, numbers)


async def send_frames(
    request: web.Request, archive: Archive, stored: StoredInstance, numbers: Sequence[int]
) -> web.StreamResponse:
    """Answer with these frames, in the representation that the request accepts.

    Raises
    ------
    NotFound
        When one of them does not exist; then none is sent.
    """
    if not stored.number_of_frames:
        raise NotFound(f"instance {stored.ref.instance} has no pixel data, so it has no frames")
    if max(numbers) > stored.number_of_frames:
        raise NotFound(f"there is no frame {max(numbers)}: the instance has {stored.number_of_frames}")
    form = choose_frames(accept(request), stored.transfer_syntax_uid, single=len(numbers) == 1)
    tag = entity_tag(stored.digest, numbers, form.content_type, form.is_multipart, is_weak=form.is_multipart)
    if (unchanged := not_modified(request, tag)) is not None:
        return unchanged
    if len(numbers) == 1:
        return await _one_frame(request, archive, stored, numbers[0], form, tag)
    multipart = Multipart(form.media_type)
    payloads = _payloads(archive, stored, numbers, form)
    parts = _frame_parts(location(request, stored.ref), numbers, payloads, form, multipart)
    return await send(request, parts, multipart.content_type, headers=cache_headers(tag))


def _payloads(
    archive: Archive, stored: StoredInstance, numbers: Sequence[int], form: Representation
) -> AsyncIterator[bytes]:
    if _is_sent_as_stored(stored, form):
        return retrieve.frames(archive, stored, numbers)
    return decoded.frames(archive, stored, numbers)


def _is_sent_as_stored(stored: StoredInstance, form: Representation) -> bool:
    """Whether the bytes go out untouched; native ones may have to be swapped, or shifted to the start of a byte."""
    if stored.is_encapsulated:
        return not form.is_decoded
    return stored.number_of_frames == 1 and stored.transfer_syntax_uid != EXPLICIT_VR_BIG_ENDIAN


async def _one_frame(
    request: web.Request, archive: Archive, stored: StoredInstance, number: int, form: Representation, tag: str
) -> web.StreamResponse:
    """The hot path of every viewer: one look-up, one read, no copy."""
    if _is_sent_as_stored(stored, form):
        payload = await retrieve.frame(archive, stored, number)
    else:
        payload = await anext(decoded.frames(archive, stored, (number,)))
    headers = cache_headers(tag)
    if not form.is_multipart:
        headers[hdrs.CONTENT_TYPE] = form.content_type
        return await send_pieces(request, headers, (payload,))
    multipart = Multipart(form.media_type)
    headers[hdrs.CONTENT_TYPE] = multipart.content_type
    opening = multipart.opening(form.content_type, f"{location(request, stored.ref)}/frames/{number}", len(payload))
    return await send_pieces(request, headers, (opening, payload, PART_END + multipart.closing))


async def _frame_parts(
    url: str, numbers: Sequence[int], payloads: AsyncIterator[bytes], form: Representation, multipart: Multipart
) -> AsyncIterator[bytes]:
    remaining = iter(numbers)
    async for payload in payloads:
        yield multipart.opening(form.content_type, f"{url}/frames/{next(remaining)}", len(payload))
        yield payload
        yield PART_END
    yield multipart.closing
