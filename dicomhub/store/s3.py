"""Blobs in a bucket of S3 or a server that speaks its protocol.

::

    {prefix}/blobs/00a1b2...     a blob, named by its SHA-256 in hexadecimal
    {prefix}/trash/00a1b2...     what the sweep removed, until it is purged

Uploads carry a checksum that the server must find right (SHA-256 for whole blobs, MD5 for parts), so that what is
acknowledged is what we hashed. Blobs on their way in are staged in the data folder.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as HTTPError
from botocore.exceptions import BotoCoreError, ClientError

from dicomhub.config import Config
from dicomhub.errors import ConfigurationError, Corrupt, DicomHubError, OutOfResources, Unavailable
from dicomhub.store import BlobInfo
from dicomhub.store.staging import Staged, Staging, StagingArea, explained

CONNECTIONS = 32
"""Requests of one process at the same time."""
UPLOADS = 4
"""Parts of one process that are uploaded, and so held in memory, at the same time."""
TRIES = 4
"""Tries of one request, with growing pauses between them."""
CONNECT_TIMEOUT_S = 10.0
"""Seconds to make a connection."""
WHOLE_MAX = 16 * 1024 * 1024
"""Bytes up to which a blob is uploaded in one request."""
PART = 8 * 1024 * 1024
"""Bytes of one part of a larger one, unless `PARTS_MAX` makes them larger."""
PARTS_MAX = 10_000
"""Parts of one blob, by the protocol."""
COPY_MAX = 5 * 1024**3
"""Bytes that the protocol copies in one request."""
CHUNK = 256 * 1024
"""Bytes of one piece of a range."""

_MISSING = {"404", "NoSuchKey", "NotFound"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}


class S3Store:
    """A `dicomhub.store.BlobStore` in a bucket."""

    def __init__(self, client: Any, bucket: str, prefix: str, area: StagingArea, resources: AsyncExitStack) -> None:
        self._client = client
        self._bucket = bucket
        self._blobs = f"{prefix}/blobs/".lstrip("/")
        self._trash = f"{prefix}/trash/".lstrip("/")
        self._area = area
        self._resources = resources
        self._uploads = asyncio.Semaphore(UPLOADS)

    @classmethod
    async def open(cls, bucket: str, prefix: str, config: Config) -> Self:
        """Connect, and see that the bucket is there."""
        area = await asyncio.to_thread(StagingArea, config.data_dir / "staging", config.min_free_bytes)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, area.close)
            client = await stack.enter_async_context(
                get_session().create_client(
                    "s3",
                    region_name=config.s3_region,
                    endpoint_url=config.s3_endpoint_url or None,
                    config=_client_config(config),
                )
            )
            with _explained(f"storage_url: bucket {bucket!r}"):
                await client.head_bucket(Bucket=bucket)
            return cls(client, bucket, prefix, area, stack.pop_all())

    def stage(self) -> Staging:
        """See `dicomhub.store.BlobStore.stage`."""
        return self._area.stage()

    # ---- in

    def put_now(self, staged: Sequence[Staged]) -> bool:
        """See `dicomhub.store.BlobStore.put_now`: uploads belong to the event loop."""
        return not staged

    async def put(self, staged: Sequence[Staged]) -> None:
        """See `dicomhub.store.BlobStore.put`."""
        with _explained():
            async with asyncio.TaskGroup() as group:
                for one in {one.digest: one for one in staged}.values():
                    group.create_task(self._upload(one))

    async def _upload(self, staged: Staged) -> None:
        if staged.size > WHOLE_MAX:
            await self._upload_parts(staged)
            return
        async with self._uploads:
            body = staged.data if staged.data is not None else await _read(staged, 0, staged.size)
            await self._client.put_object(
                **self._blob(staged.digest),
                Body=body,
                ContentMD5=await _md5(body),
                ChecksumSHA256=_base64(staged.digest),
            )

    async def _upload_parts(self, staged: Staged) -> None:
        upload = self._blob(staged.digest)
        upload["UploadId"] = (await self._client.create_multipart_upload(**upload))["UploadId"]
        size = max(PART, -(-staged.size // PARTS_MAX))
        try:
            async with asyncio.TaskGroup() as group:
                parts = [
                    group.create_task(self._upload_part(upload, staged, number, start, min(size, staged.size - start)))
                    for number, start in enumerate(range(0, staged.size, size), start=1)
                ]
            done = {"Parts": [part.result() for part in parts]}
            await self._client.complete_multipart_upload(**upload, MultipartUpload=done)
        except BaseException:
            await asyncio.shield(self._client.abort_multipart_upload(**upload))
            raise
        await self._check_size(staged)

    async def _upload_part(
        self, upload: dict[str, str], staged: Staged, number: int, start: int, size: int
    ) -> dict[str, Any]:
        async with self._uploads:
            body = await _read(staged, start, size)
            answer = await self._client.upload_part(**upload, PartNumber=number, Body=body, ContentMD5=await _md5(body))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    async def _check_size(self, staged: Staged) -> None:
        """Parts were checked one by one; that they were joined in full is told by the length."""
        found = await self._client.head_object(**self._blob(staged.digest))
        if found["ContentLength"] != staged.size:
            raise Unavailable(f"the bucket joined {found['ContentLength']} of {staged.size} bytes of an upload")

    # ---- out

    async def open_range(self, digest: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        """See `dicomhub.store.BlobStore.open_range`; a connection that breaks is taken up again where it broke."""
        position, tries = start, TRIES
        while position < stop:
            before = position
            try:
                with _explained():
                    async for piece in self._get(digest, position, stop):
                        position += len(piece)
                        yield piece
            except Unavailable:
                tries = TRIES if position > before else tries - 1
                if tries == 0:
                    raise
            else:
                if position < stop:
                    raise Corrupt(f"blob {digest.hex()} ends at byte {position}, {stop} were expected")

    async def _get(self, digest: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        answer = await self._get_object(digest, f"bytes={start}-{stop - 1}")
        async with answer["Body"] as body:
            async for piece in body.iter_chunks(CHUNK):
                yield piece

    async def _get_object(self, digest: bytes, byte_range: str) -> Any:
        for place in (self._blob(digest), self._trashed(digest), self._blob(digest)):
            # The third look: a sweep may have restored it between the first and the second.
            try:
                return await self._client.get_object(**place, Range=byte_range)
            except ClientError as error:
                if _code(error) in ("416", "InvalidRange"):
                    raise Corrupt(f"blob {digest.hex()} is shorter than {byte_range}") from error
                if _code(error) not in _MISSING:
                    raise
        raise Corrupt(f"blob {digest.hex()} is missing from bucket {self._bucket}; run 'dicomhub verify'")

    async def read_range(self, digest: bytes, start: int, stop: int) -> bytes:
        """See `dicomhub.store.BlobStore.read_range`."""
        return b"".join([piece async for piece in self.open_range(digest, start, stop)])

    async def stat(self, digest: bytes) -> int | None:
        """See `dicomhub.store.BlobStore.stat`."""
        for place in (self._blob(digest), self._trashed(digest), self._blob(digest)):
            size = await self._size(place)
            if size is not None:
                return size
        return None

    async def _size(self, place: dict[str, str]) -> int | None:
        with _explained():
            try:
                size: int = (await self._client.head_object(**place))["ContentLength"]
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise
            return size

    def path(self, digest: bytes) -> Path | None:
        """See `dicomhub.store.BlobStore.path`: there is none."""
        return None

    # ---- the sweep

    def list(self) -> AsyncIterator[BlobInfo]:
        """See `dicomhub.store.BlobStore.list`."""
        return self._list(self._blobs)

    def list_trash(self) -> AsyncIterator[BlobInfo]:
        """See `dicomhub.store.BlobStore.list_trash`."""
        return self._list(self._trash)

    async def _list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        with _explained():
            async for page in pages:
                for entry in page.get("Contents", ()):
                    name = entry["Key"].removeprefix(prefix)
                    if len(name) == 64:
                        yield BlobInfo(bytes.fromhex(name), entry["Size"], entry["LastModified"].timestamp())

    async def delete(self, digest: bytes) -> None:
        """See `dicomhub.store.BlobStore.delete`."""
        await self._move(self._blob(digest), self._trashed(digest))

    async def restore(self, digest: bytes) -> None:
        """See `dicomhub.store.BlobStore.restore`."""
        await self._move(self._trashed(digest), self._blob(digest))

    async def purge(self, digest: bytes) -> None:
        """See `dicomhub.store.BlobStore.purge`."""
        with _explained():
            await self._client.delete_object(**self._trashed(digest))

    async def _move(self, source: dict[str, str], target: dict[str, str]) -> None:
        """Copy, then delete: at every moment it is in one place at least."""
        size = await self._size(source)
        if size is None:
            return
        with _explained():
            if size <= COPY_MAX:
                await self._client.copy_object(**target, CopySource=source)
            else:
                await self._copy_parts(source, target, size)
            await self._client.delete_object(**source)

    async def _copy_parts(self, source: dict[str, str], target: dict[str, str], size: int) -> None:
        upload = dict(target)
        upload["UploadId"] = (await self._client.create_multipart_upload(**target))["UploadId"]
        done = []
        try:
            for number, start in enumerate(range(0, size, COPY_MAX), start=1):
                answer = await self._client.upload_part_copy(
                    **upload,
                    CopySource=source,
                    CopySourceRange=f"bytes={start}-{min(size, start + COPY_MAX) - 1}",
                    PartNumber=number,
                )
                etag = answer.get("CopyPartResult", {}).get("ETag")
                if etag is None:
                    raise Unavailable(f"the bucket's server cannot copy {size} bytes in parts")
                done.append({"PartNumber": number, "ETag": etag})
            await self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})
        except BaseException:
            await asyncio.shield(self._client.abort_multipart_upload(**upload))
            raise

    async def close(self) -> None:
        """See `dicomhub.store.BlobStore.close`."""
        await self._resources.aclose()

    def _blob(self, digest: bytes) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._blobs + digest.hex()}

    def _trashed(self, digest: bytes) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._trash + digest.hex()}


def _client_config(config: Config) -> AioConfig:
    return AioConfig(
        max_pool_connections=CONNECTIONS,
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=config.storage_timeout_s,
        retries={"total_max_attempts": TRIES, "mode": "standard"},
        # We send the checksums that count ourselves; the streamed trailers of the default are not known everywhere.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if config.s3_endpoint_url else "auto"},
    )


@contextmanager
def _explained(what: str = "the bucket") -> Iterator[None]:
    """Turn errors of the client into ours, also when they come out of a task group."""
    try:
        yield
    except Exception as error:
        cause = _first(error)
        if isinstance(cause, ClientError):
            raise _of_server(cause, what) from error
        if isinstance(cause, (BotoCoreError, HTTPError, OSError)):
            raise Unavailable(f"{what} does not answer: {cause}") from error
        raise cause from (None if cause is error else error)


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _of_server(error: ClientError, what: str) -> DicomHubError:
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _FULL or status == 507:
        return OutOfResources(f"{what} takes no more: {code}")
    if status in (301, 401, 403) or code in _MISSING or code == "NoSuchBucket":
        return ConfigurationError(f"{what}: the server says {code}; see storage_url, s3_endpoint_url, AWS_* variables")
    return Unavailable(f"{what}: the server says {code or status}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


async def _read(staged: Staged, start: int, size: int) -> bytes:
    path = staged.path
    assert path is not None, "larger than what is staged in memory"

    def read() -> bytes:
        with explained(), path.open("rb") as file:
            return os.pread(file.fileno(), size, start)

    return await asyncio.to_thread(read)


async def _md5(body: bytes) -> str:
    digest = await asyncio.to_thread(lambda: hashlib.md5(body, usedforsecurity=False).digest())
    return _base64(digest)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
