"""Store transaction, STOW-RS (PS3.18 10.5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, TypeVarTuple

import structlog
from aiohttp import web

from dicomhub.archive import Archive, ingest
from dicomhub.archive.ingest import Receipt
from dicomhub.archive.receive import Received, Receiver
from dicomhub.dicom.media_types import DICOM, parse_media_type
from dicomhub.dicom.model import is_uid
from dicomhub.errors import (
    BadRequest,
    DicomHubError,
    OutOfResources,
    PayloadTooLarge,
    Refused,
    Unavailable,
    UnsupportedMediaType,
)
from dicomhub.events import Source
from dicomhub.web.context import source
from dicomhub.web.dicomweb.store_response import Failure, Outcome, response
from dicomhub.web.keys import ARCHIVE, CONFIG
from dicomhub.web.multipart import read_parts
from dicomhub.web.urls import base_url

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

log = structlog.get_logger(__name__)

IN_FLIGHT = 8
"""Instances of one request that may be on their way to the commit while the next is received."""

THREAD_FROM = 1024 * 1024
"""Bytes that are collected before a thread splits and hashes them: most instances take one turn of a thread."""


class Unreadable(DicomHubError):
    """An error of ours in reading one instance; its neighbours are stored."""


async def store(request: web.Request) -> web.Response:
    """PS3.18 10.5: store instances, at ``/studies`` or into the study that ``/studies/{study}`` names.

    Takes ``multipart/related; type="application/dicom"`` and, for simple tools, a single ``application/dicom`` body.
    """
    study = request.match_info.get("study")
    if study is not None and not is_uid(study):
        raise BadRequest(f"{study!r} is no Study Instance UID")
    limit = request.app[ARCHIVE].config.max_request_bytes
    if (request.content_length or 0) > limit:
        raise PayloadTooLarge(f"the body has {request.content_length} bytes, the limit is {limit} (max_request_bytes)")
    batch = Batch(request.app[ARCHIVE], source(request), study)
    try:
        async for chunks, media_type in _bodies(request):
            await batch.take(chunks, media_type)
        outcome = await batch.outcome()
    finally:
        await batch.close()
    if not outcome.receipts and not outcome.failures:
        raise BadRequest("the body has no part; send at least one application/dicom part")
    return response(outcome, base_url(request))


async def _bodies(request: web.Request) -> AsyncIterator[tuple[AsyncIterator[bytes], str]]:
    """The instances of a request body, each with its media type."""
    content_type = parse_media_type(request.headers.get("Content-Type", "application/octet-stream"))
    root_type = parse_media_type(content_type.parameters.get("type") or DICOM).essence
    if content_type.essence != DICOM and (content_type.essence != "multipart/related" or root_type != DICOM):
        raise UnsupportedMediaType(
            f"Content-Type is {content_type}; store takes multipart/related; "
            'type="application/dicom", or a single application/dicom body'
        )
    async for part in read_parts(request, timeout_s=request.app[CONFIG].request_timeout_s):
        media_type = part.headers.get("Content-Type", DICOM).split(";")[0].strip().lower()
        yield part.chunks, media_type


@dataclass
class Batch:
    """The instances of one request: received one after the other, committed together."""

    archive: Archive
    source: Source
    study: str | None
    _size: int = 0
    _tasks: list[asyncio.Task[Receipt | Failure]] = field(default_factory=list)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))

    async def take(self, chunks: AsyncIterator[bytes], media_type: str) -> None:
        """Receive one part; its commit goes on while the next part arrives."""
        if len(self._tasks) >= self.archive.config.stow_max_instances:
            raise BadRequest(f"more than {self.archive.config.stow_max_instances} parts (stow_max_instances)")
        await self._slots.acquire()
        try:
            if media_type != DICOM:
                raise Refused(f"a part is {media_type}, not application/dicom", 0xC000)
            received = await _receive(self.archive, self._counted(chunks), self.study)
        except (Refused, Unavailable, Unreadable) as error:
            self._slots.release()
            await _drain(chunks)
            self._done(Failure(error))
        except BaseException:
            self._slots.release()
            raise
        else:
            self._tasks.append(asyncio.create_task(self._store(received)))

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The chunks, up to the limit of a request: a body without Content-Length tells its size only as it arrives."""
        limit = self.archive.config.max_request_bytes
        async for chunk in chunks:
            self._size += len(chunk)
            if self._size > limit:
                raise PayloadTooLarge(f"the body has more than {limit} bytes (max_request_bytes)")
            yield chunk

    async def outcome(self) -> Outcome:
        """Wait for all commits."""
        results = await asyncio.gather(*self._tasks)
        outcome = Outcome()
        for result in results:
            if isinstance(result, Failure):
                outcome.failures.append(result)
            else:
                outcome.receipts.append(result)
        return outcome

    async def close(self) -> None:
        """Let what was received come to its end: a commit is never torn by a request that went away."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, failure: Failure) -> None:
        async def same() -> Receipt | Failure:
            return failure

        self._tasks.append(asyncio.create_task(same()))

    async def _store(self, received: Received) -> Receipt | Failure:
        ref, sop_class_uid = received.ref, received.sop_class_uid
        try:
            return await ingest.store(self.archive, received, self.source, study=self.study)
        except DicomHubError as error:
            return Failure(error, ref, sop_class_uid)
        except Exception:
            log.exception("store failed", sop_instance_uid=ref.instance)
            return Failure(DicomHubError("an error on our side; the log has the details"), ref, sop_class_uid)
        finally:
            self._slots.release()


async def _receive(archive: Archive, chunks: AsyncIterator[bytes], study: str | None) -> Received:
    """Feed one instance's bytes to a receiver, in a thread where they are many."""
    receiver = ingest.receiver(archive)
    pending: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            pending.append(chunk)
            size += len(chunk)
            if size >= THREAD_FROM:
                await _in_thread(_feed, receiver, pending)
                pending, size = [], 0
        return await _in_thread(_finish, archive, receiver, pending, study)
    except (TimeoutError, ConnectionError):  # of the sender
        receiver.discard()
        raise
    except OSError as error:
        receiver.discard()
        raise OutOfResources(f"the upload cannot be staged: {error.strerror}") from error
    except BaseException:
        receiver.discard()
        raise


async def _in_thread(function: Callable[[*Arguments], T], *args: *Arguments) -> T:
    """``function`` in a thread; when cancelled, raise only when it has ended: nobody may touch the receiver before."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


@contextmanager
def _one_instance() -> Iterator[None]:
    """What nobody foresaw about these bytes concerns this instance alone."""
    try:
        yield
    except (DicomHubError, OSError):
        raise
    except Exception as error:
        log.exception("receive failed")
        raise Unreadable("an error on our side; the log has the details") from error


def _feed(receiver: Receiver, chunks: list[bytes]) -> None:
    with _one_instance():
        for chunk in chunks:
            receiver.feed(chunk)


def _finish(archive: Archive, receiver: Receiver, chunks: list[bytes], study: str | None) -> Received:
    _feed(receiver, chunks)
    with _one_instance():
        received = receiver.finish()
    if study in (None, received.ref.study):  # else it will be refused
        ingest.persist(archive, received)
    return received


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    async for _ in chunks:
        pass
