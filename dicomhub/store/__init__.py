"""Blobs: immutable bytes named by their SHA-256. `BlobStore` is the whole contract; `open_store` chooses the driver.

A blob is never changed, appended to or renamed, so a store needs few methods. Every driver passes
``tests/store/contract.py``. The format on disk and in a bucket, and why nothing is lost, are told in ``README.md``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from dicomhub.config import Config
from dicomhub.errors import ConfigurationError
from dicomhub.store.staging import INLINE_MAX, Staged, Staging

__all__ = ["INLINE_MAX", "BlobInfo", "BlobStore", "Staged", "Staging", "open_store"]


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob in a listing."""

    digest: bytes
    size: int
    modified_at: float
    """When it was put, or moved to the trash: seconds since the epoch by the store's clock."""


class BlobStore(Protocol):
    """A place for blobs. All methods may be called by any number of processes at once.

    Every method raises `Unavailable` when the store does not answer in time. What it raises besides is told with it.
    """

    def stage(self) -> Staging:
        """Begin to receive a blob. Synchronous; the result may be used by one thread at a time."""
        ...

    async def put(self, staged: Sequence[Staged]) -> None:
        """Make finished blobs durable: when this returns, all of them survive a loss of power.

        Putting a blob that exists renews its time, which protects it from the sweep; put before you refer to a blob.
        Blobs that were staged in memory are put too.

        Raises
        ------
        OutOfResources
            When there is no space left; then any of them may be there and none need be.
        """
        ...

    def put_now(self, staged: Sequence[Staged]) -> bool:
        """`put` without an event loop, for a thread that has just received the blobs; False where that cannot be."""
        ...

    def open_range(self, digest: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes ``start`` to ``stop`` in pieces of at most 1 MiB.

        Raises
        ------
        Corrupt
            When the blob is missing or ends before ``stop``; possibly after some pieces.
        """
        ...

    async def read_range(self, digest: bytes, start: int, stop: int) -> bytes:
        """The same in one piece, for a frame or a header."""
        ...

    async def stat(self, digest: bytes) -> int | None:
        """Bytes of a blob; None when there is none."""
        ...

    def path(self, digest: bytes) -> Path | None:
        """Where the blob's file is, for sendfile; None when it is no local file. Nothing is read to tell."""
        ...

    def list(self) -> AsyncIterator[BlobInfo]:
        """All blobs, in no order; what is put or deleted meanwhile may be missing or there."""
        ...

    async def delete(self, digest: bytes) -> None:
        """Move a blob to the trash, where reads still find it; harmless when it is missing. For the sweep alone."""
        ...

    def list_trash(self) -> AsyncIterator[BlobInfo]:
        """What is in the trash, with the time when it was moved there."""
        ...

    async def restore(self, digest: bytes) -> None:
        """Move a blob back from the trash; harmless when it is not there."""
        ...

    async def purge(self, digest: bytes) -> None:
        """Remove a blob from the trash for ever; one of the same digest outside the trash stays."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...


async def open_store(config: Config) -> BlobStore:
    """Open the configured store.

    Raises
    ------
    ConfigurationError
        When ``storage_url`` is neither a folder nor a bucket, or the bucket does not exist.
    Unavailable
        When it does not answer.
    """
    url = urlsplit(config.effective_storage_url)
    if url.scheme == "file" and url.netloc in ("", "localhost") and url.path:
        from dicomhub.store.local import LocalStore

        return await LocalStore.open(Path(unquote(url.path)), min_free_bytes=config.min_free_bytes)
    if url.scheme == "s3" and url.netloc:
        from dicomhub.store.s3 import S3Store

        return await S3Store.open(url.netloc, url.path.strip("/"), config)
    raise ConfigurationError(f"storage_url: {config.storage_url!r} is neither s3://bucket/prefix nor file:///folder")
