"""Blobs on their way in: hashed as they come, in memory while small, then in a file of the staging folder."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicomhub.errors import OutOfResources, Unavailable

INLINE_MAX = 64 * 1024
"""Bytes up to which a blob is staged in memory, and may be kept inline in the database."""

BUFFER = 64 * 1024
"""Bytes gathered before they are written to the file; larger portions are written without a copy."""

SPACE_CHECK = 64 * 1024 * 1024
"""Bytes of one blob after which free space is looked at again."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A finished blob that is not yet stored: in memory or in a file."""

    digest: bytes
    """SHA-256."""
    size: int
    data: bytes | None
    """The bytes, when there are at most `INLINE_MAX`."""
    path: Path | None
    """The staging file, when there are more."""


class Staging:
    """Receives one blob: ``write`` in any portions, ``finish`` once, ``discard`` whenever it is not wanted any more.

    Synchronous, for use by one thread at a time. Memory: `INLINE_MAX` plus `BUFFER` bytes at most.
    """

    def __init__(self, area: StagingArea) -> None:
        self._area = area
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._size = 0
        self._path: Path | None = None
        self._fd = -1
        self._staged: Staged | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises
        ------
        OutOfResources
            When the disk is full, or nearly (``min_free_bytes``).
        """
        self._hash.update(data)
        size = len(data) if isinstance(data, bytes) else data.nbytes
        before = self._size
        self._size += size
        if self._fd < 0:
            if self._size <= INLINE_MAX:
                self._buffer += data
                return
            self._area.check_space()
            self._path, self._fd = self._area.create()
        elif before // SPACE_CHECK != self._size // SPACE_CHECK:
            self._area.check_space()
        if size >= BUFFER:
            self._flush()
            self._write_out(data)
        else:
            self._buffer += data
            if len(self._buffer) >= BUFFER:
                self._flush()

    def finish(self) -> tuple[bytes, int]:
        """End of the blob; returns its SHA-256 and its size in bytes."""
        data = None
        if self._fd >= 0:
            self._flush()
            _begin_writing(self._fd)
            os.close(self._fd)
            self._fd = -1
        else:
            data = bytes(self._buffer)
        self._buffer = bytearray()
        self._staged = Staged(self._hash.digest(), self._size, data, self._path)
        return self._staged.digest, self._size

    @property
    def is_finished(self) -> bool:
        """Whether `staged` is there."""
        return self._staged is not None

    @property
    def staged(self) -> Staged:
        """The finished blob."""
        assert self._staged is not None, "finish first"
        return self._staged

    def discard(self) -> None:
        """Delete what is staged. Harmless when repeated, and after the blob was put."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._buffer = bytearray()
        if self._path is not None:
            with suppress(FileNotFoundError):
                self._path.unlink()
            self._path = None

    def _flush(self) -> None:
        if self._buffer:
            self._write_out(self._buffer)
            self._buffer = bytearray()

    def _write_out(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        with explained():
            while view:
                view = view[os.write(self._fd, view) :]


def _begin_writing(descriptor: int) -> None:
    """Let the kernel begin to write a file out, without waiting: the flush in `put` then finds most of it done.

    Linux; elsewhere the flush does it all.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), 2)  # SYNC_FILE_RANGE_WRITE


_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)


class StagingArea:
    """The folder of staging files of one process; what dead processes left beside it is cleared at the start.

    ::

        staging/
            lock             held for a moment by a process that starts
            4711-0/          one folder for each area: process id and a number
                lock         held (flock) as long as the process lives
                1 2 3 ...    blobs on their way
    """

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        self._min_free_bytes = min_free_bytes
        self._numbers = itertools.count(1)
        with explained():
            root.mkdir(parents=True, exist_ok=True)
            starting = _lock(root / "lock")  # so that nobody clears a folder whose process has not locked it yet
            try:
                _clear_dead(root)
                self.folder = _own_folder(root)
                self._lock = _lock(self.folder / "lock")
            finally:
                os.close(starting)

    def stage(self) -> Staging:
        """Begin to receive a blob."""
        self.check_space()
        return Staging(self)

    def create(self) -> tuple[Path, int]:
        """A new file, open for writing: its path and descriptor."""
        path = self.folder / str(next(self._numbers))
        with explained():
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def check_space(self) -> None:
        """Refuse to begin what will not fit.

        Raises
        ------
        OutOfResources
            When less than ``min_free_bytes`` are free.
        """
        found = os.statvfs(self.folder)
        free = found.f_bavail * found.f_frsize
        if free < self._min_free_bytes:
            raise OutOfResources(
                f"the data folder has {free} bytes free, less than min_free_bytes={self._min_free_bytes}"
            )

    def close(self) -> None:
        """Delete the folder, with whatever is still in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _clear_dead(root: Path) -> None:
    """Delete the folders whose lock nobody holds: the kernel lets go of a lock when its process dies."""
    for folder in root.iterdir():
        if folder.is_dir():
            try:
                lock = _lock(folder / "lock", fcntl.LOCK_NB)
            except (BlockingIOError, FileNotFoundError):
                continue  # alive; removed by its process just now
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _own_folder(root: Path) -> Path:
    number = 0
    while (folder := root / f"{os.getpid()}-{number}").exists():
        number += 1
    folder.mkdir(mode=0o700)
    return folder


def _lock(path: Path, flags: int = 0) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors of the operating system into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
            raise OutOfResources(f"the data folder takes no more: {error.strerror}") from error
        raise Unavailable(f"the data folder cannot be used: {error}") from error
