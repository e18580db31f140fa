"""``dicomhub import``: files from disk through the one ingest path."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dicomhub.app import open_archive
from dicomhub.archive import Archive, ingest
from dicomhub.archive.receive import Received
from dicomhub.config import Config
from dicomhub.errors import ConfigurationError, DicomHubError, NotDicom, Unavailable
from dicomhub.events import SYSTEM, Source

READ_SIZE = 1024**2
"""Bytes that are read from a file at once."""
NAMED_MAX = 1000
"""Refused files that are named at the end; the others are counted."""
DICOMDIR_SOP_CLASS = "1.2.840.10008.1.3.10"
"""Media Storage Directory: describes files, is none of them (PS3.3 F)."""


@dataclass
class Summary:
    """What became of the files."""

    created: int = 0
    replaced: int = 0
    duplicate: int = 0
    not_dicom: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)

    def refuse(self, path: Path, message: str) -> None:
        """Count a refused file and keep its reason."""
        self.refused += 1
        if len(self.reasons) < NAMED_MAX:
            self.reasons.append(f"{path}: {message}")

    def text(self) -> str:
        """The summary for a person."""
        lines = [f"refused  {reason}" for reason in self.reasons]
        if self.refused > len(self.reasons):
            lines.append(f"... and {self.refused - len(self.reasons)} more")
        lines.append(
            f"{self.created} stored, {self.replaced} stored as new versions, {self.duplicate} were there already, "
            f"{self.refused} refused, {self.not_dicom} not DICOM"
        )
        return "\n".join(lines)


async def run_import(config: Config, paths: list[Path], *, jobs: int, progress: bool) -> Summary:
    """Import files and folders, ``jobs`` at a time.

    Raises
    ------
    ConfigurationError
        When a path does not exist.
    Unavailable
        When the archive takes no more: what was stored until then stays stored.
    """
    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"there is no file or folder {path}")
    summary = Summary()
    async with open_archive(config) as archive:
        with _progress(progress, sum(1 for _ in _files(paths)) if progress else 0) as advance:
            pending: set[asyncio.Task[None]] = set()
            try:
                for path, named in _files(paths):
                    if len(pending) >= jobs:
                        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                        for task in done:
                            task.result()
                    pending.add(asyncio.create_task(_import_file(archive, path, named, summary, advance)))
                await asyncio.gather(*pending)
            finally:
                await asyncio.gather(*pending, return_exceptions=True)
    return summary


def _files(paths: list[Path]) -> Iterator[tuple[Path, bool]]:
    """Every file below ``paths``, and whether it was named itself; symbolic links to folders are not followed."""
    for path in paths:
        if not path.is_dir():
            yield path, True
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                if file.is_file():
                    yield file, False


async def _import_file(archive: Archive, path: Path, named: bool, summary: Summary, advance: Advance) -> None:
    try:
        received = await asyncio.to_thread(_read, archive, path)
        if received.sop_class_uid == DICOMDIR_SOP_CLASS:
            received.discard()
            summary.not_dicom += 1
            return
        source = Source(actor=SYSTEM, via="import", reason=path.name[:64])
        receipt = await ingest.store(archive, received, source)
        setattr(summary, receipt.kind, getattr(summary, receipt.kind) + 1)
    except Unavailable:
        raise
    except NotDicom as error:
        if named:
            summary.refuse(path, error.message)
        else:
            summary.not_dicom += 1
    except DicomHubError as error:
        summary.refuse(path, error.message)
    except OSError as error:
        summary.refuse(path, f"cannot be read: {error.strerror}")
    finally:
        advance()


def _read(archive: Archive, path: Path) -> Received:
    receiver = ingest.receiver(archive)
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(READ_SIZE):
                receiver.feed(chunk)
        received = receiver.finish()
        ingest.persist(archive, received)
        return received
    except BaseException:
        receiver.discard()
        raise


class Advance:
    """Moves the progress bar by one file."""

    def __init__(self, progress: Progress | None = None, total: int = 0) -> None:
        self._progress = progress
        self._task = progress.add_task("Importing", total=total) if progress is not None else None

    def __call__(self) -> None:
        """One file is done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)


@contextlib.contextmanager
def _progress(show: bool, total: int) -> Iterator[Advance]:
    if not show:
        yield Advance()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Advance(progress, total)
