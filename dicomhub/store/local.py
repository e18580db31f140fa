"""Blobs in a folder.

::

    blobs/
        00/ ... ff/                  by the first byte of the digest
            00a1b2...                a blob, named by its SHA-256 in hexadecimal, read-only
        staging/                     blobs on their way in (`dicomhub.store.staging`)
        trash/                       what the sweep removed, until it is purged
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

from dicomhub.errors import Corrupt, Unavailable
from dicomhub.store import BlobInfo
from dicomhub.store.staging import Staged, Staging, StagingArea, explained

T = TypeVar("T")

THREADS = 8
"""Threads of one process that read, write and flush files."""
CHUNK = 1024 * 1024
"""Bytes of one piece of a range."""
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)  # Linux

CACHED_MAX = 1024 * 1024 if _NOWAIT else 0
"""Bytes up to which a range is read in the event loop when the kernel has it in memory."""


class LocalStore:
    """A `dicomhub.store.BlobStore` in a folder; any number of processes may share it."""

    def __init__(self, root: Path, area: StagingArea) -> None:
        self._root = root
        self._area = area
        self._trash = root / "trash"
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._buffer = memoryview(bytearray(CACHED_MAX))  # used again and again: new memory costs more than the copy
        self._folders = [str(root / f"{first:02x}") for first in range(256)]

    @classmethod
    async def open(cls, root: Path, *, min_free_bytes: int = 0) -> Self:
        """Open the folder; create what is missing."""
        return await asyncio.to_thread(cls._open, root, min_free_bytes)

    @classmethod
    def _open(cls, root: Path, min_free_bytes: int) -> Self:
        with explained():
            root.mkdir(parents=True, exist_ok=True)
            for name in ("staging", "trash", *(f"{first:02x}" for first in range(256))):
                (root / name).mkdir(exist_ok=True)
            _flush_folder(str(root))  # the 256 folders are there for good: no put has to flush their names again
        return cls(root, StagingArea(root / "staging", min_free_bytes))

    def stage(self) -> Staging:
        """See `dicomhub.store.BlobStore.stage`."""
        return self._area.stage()

    async def put(self, staged: Sequence[Staged]) -> None:
        """See `dicomhub.store.BlobStore.put`."""
        if staged:
            await self._in_thread(lambda: self._put(staged))

    def put_now(self, staged: Sequence[Staged]) -> bool:
        """See `dicomhub.store.BlobStore.put_now`."""
        self._put(staged)
        return True

    def _put(self, staged: Sequence[Staged]) -> None:
        with explained():
            for one in {one.digest: one for one in staged}.values():
                self._put_file(one)
            # A rename is durable when its folder is flushed.
            for first in {one.digest[0] for one in staged}:
                _flush_folder(self._folders[first])

    def _put_file(self, staged: Staged) -> None:
        path = staged.path if staged.path is not None else self._write_file(staged.data or b"")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o444)
            os.utime(descriptor)  # the sweep's grace counts from now, not from when a slow sender began
            os.fsync(descriptor)  # before the rename: a name must never show bytes that a power loss can take
        finally:
            os.close(descriptor)
        # Over an existing blob too: it has the same bytes, and a fresh file cannot be one that a sweep is removing.
        path.replace(self._name(staged.digest))

    def _write_file(self, data: bytes) -> Path:
        path, descriptor = self._area.create()
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        return path

    async def read_range(self, digest: bytes, start: int, stop: int) -> bytes:
        """See `dicomhub.store.BlobStore.read_range`."""
        if stop - start <= CACHED_MAX:
            cached = self._read_cached(digest, start, stop)
            if cached is not None:
                return cached
        return await self._in_thread(lambda: self._read(digest, start, stop))

    def _read_cached(self, digest: bytes, start: int, stop: int) -> bytes | None:
        """A range that the kernel has in memory, without a thread; None when it has not, and whenever in doubt.

        512 KiB take 25 us this way; the way through a thread takes 75 us alone, and more when the event loop is busy.
        """
        try:
            descriptor = os.open(self._name(digest), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            size = os.preadv(descriptor, [self._buffer[: stop - start]], start, _NOWAIT)
        except OSError:  # EAGAIN: not in memory; EOPNOTSUPP: this file system cannot tell
            return None
        finally:
            os.close(descriptor)
        return bytes(self._buffer[:size]) if size == stop - start else None

    def _read(self, digest: bytes, start: int, stop: int) -> bytes:
        descriptor = self._open_blob(digest)
        try:
            return _read_exactly(descriptor, digest, start, stop)
        finally:
            os.close(descriptor)

    async def open_range(self, digest: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        """See `dicomhub.store.BlobStore.open_range`."""
        if start >= stop:
            return
        descriptor = await self._in_thread(lambda: self._open_blob(digest))
        try:
            for begin in range(start, stop, CHUNK):
                end = min(stop, begin + CHUNK)
                yield await self._in_thread(_reader(descriptor, digest, begin, end))
        finally:
            os.close(descriptor)

    def _open_blob(self, digest: bytes) -> int:
        with explained():
            for name in (self._name(digest), self._trashed(digest), self._name(digest)):
                # The third look: a sweep may have restored it between the first and the second.
                with suppress(FileNotFoundError):
                    return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        raise Corrupt(f"blob {digest.hex()} is missing from {self._root}; run 'dicomhub verify'")

    async def stat(self, digest: bytes) -> int | None:
        """See `dicomhub.store.BlobStore.stat`."""
        return await self._in_thread(lambda: self._stat(digest))

    def _stat(self, digest: bytes) -> int | None:
        with explained():
            for name in (self._name(digest), self._trashed(digest), self._name(digest)):
                with suppress(FileNotFoundError):
                    return Path(name).stat().st_size
        return None

    def path(self, digest: bytes) -> Path | None:
        """See `dicomhub.store.BlobStore.path`."""
        return Path(self._name(digest))

    def list(self) -> AsyncIterator[BlobInfo]:
        """See `dicomhub.store.BlobStore.list`."""
        return self._list_folders(self._folders)

    def list_trash(self) -> AsyncIterator[BlobInfo]:
        """See `dicomhub.store.BlobStore.list_trash`."""
        return self._list_folders([str(self._trash)])

    async def _list_folders(self, folders: Iterable[str]) -> AsyncIterator[BlobInfo]:
        for folder in folders:
            for info in await self._in_thread(_lister(folder)):
                yield info

    async def delete(self, digest: bytes) -> None:
        """See `dicomhub.store.BlobStore.delete`."""
        await self._in_thread(lambda: _move(self._name(digest), self._trashed(digest)))

    async def restore(self, digest: bytes) -> None:
        """See `dicomhub.store.BlobStore.restore`."""
        await self._in_thread(lambda: _move(self._trashed(digest), self._name(digest)))

    async def purge(self, digest: bytes) -> None:
        """See `dicomhub.store.BlobStore.purge`."""
        with explained(), suppress(FileNotFoundError):
            await self._in_thread(lambda: Path(self._trashed(digest)).unlink())

    async def close(self) -> None:
        """See `dicomhub.store.BlobStore.close`."""
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._area.close)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function)
        except RuntimeError as error:  # of the executor, after close
            raise Unavailable("the store is closed") from error

    def _name(self, digest: bytes) -> str:
        return f"{self._folders[digest[0]]}/{digest.hex()}"

    def _trashed(self, digest: bytes) -> str:
        return f"{self._trash}/{digest.hex()}"


def _reader(descriptor: int, digest: bytes, start: int, stop: int) -> Callable[[], bytes]:
    return lambda: _read_exactly(descriptor, digest, start, stop)


def _read_exactly(descriptor: int, digest: bytes, start: int, stop: int) -> bytes:
    with explained():
        data = os.pread(descriptor, stop - start, start)
        while len(data) < stop - start:
            more = os.pread(descriptor, stop - start - len(data), start + len(data))
            if not more:
                raise Corrupt(f"blob {digest.hex()} ends at byte {start + len(data)}, {stop} were expected")
            data += more
    return data


def _lister(folder: str) -> Callable[[], list[BlobInfo]]:
    return lambda: _list_folder(folder)


def _list_folder(folder: str) -> list[BlobInfo]:
    found = []
    with explained(), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError, ValueError):  # removed meanwhile; no blob's name
                digest = bytes.fromhex(entry.name)
                status = entry.stat()
                found.append(BlobInfo(digest, status.st_size, status.st_mtime))
    return found


def _move(source: str, target: str) -> None:
    """Move a blob, with the present as its time; the time first, so that it never arrives with an old one."""
    with explained(), suppress(FileNotFoundError):
        os.utime(source)
        Path(source).replace(target)
        _flush_folder(str(Path(target).parent))


def _flush_folder(name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
