"""``dicomhub doctor``: look at this machine and this configuration with a newcomer's eyes."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import typer

from dicomhub import __version__, hooks
from dicomhub.app import check, open_archive
from dicomhub.commands.ports import probe
from dicomhub.config import Config
from dicomhub.errors import DicomHubError
from dicomhub.index import history
from dicomhub.web.viewer import viewer_folder

SLOW_FLUSH_MS = 20.0
"""Milliseconds of a flush above which stores will feel slow."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``level``: ``ok``, ``warn`` (runs, but) or ``fail`` (will not run)."""

    level: str
    subject: str
    text: str


async def run_doctor(config: Config) -> int:
    """Print every finding; returns the exit status: 1 when the server will not run."""
    failed = False
    typer.echo(f"dicomhub {__version__}, Python {sys.version.split()[0]}, {sys.platform}")
    async for finding in _examine(config):
        failed = failed or finding.level == "fail"
        typer.echo(f"{finding.level:>5}  {finding.subject:<10} {finding.text}")
    typer.echo("The server will not run." if failed else "The server will run.")
    return 1 if failed else 0


async def _examine(config: Config) -> AsyncIterator[Finding]:
    yield _safety(config)
    yield await asyncio.to_thread(_folder, config.data_dir, config.min_free_bytes)
    yield await _archive(config)
    yield _port(config, "http_port")
    yield _port(config, "dimse_port")
    yield _viewer(config)
    yield _tools()


def _safety(config: Config) -> Finding:
    try:
        loaded = hooks.load(config)
        check(config, loaded)
    except DicomHubError as error:
        return Finding("fail", "settings", error.message)
    names = ", ".join(plugin.name for plugin in loaded.plugins) or "none"
    return Finding("ok", "settings", f"listens on {config.host}, plugins: {names}")


def _folder(folder: Path, min_free_bytes: int) -> Finding:
    trial = folder / f".doctor-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        with trial.open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        flush_ms = 1000 * (time.perf_counter() - began)
        trial.unlink()
    except OSError as error:
        return Finding("fail", "data", f"{folder} cannot be written: {error.strerror}; set DICOMHUB_DATA_DIR")
    free = shutil.disk_usage(folder).free
    text = f"{folder.resolve()}: {free / 1e9:.1f} GB free, a flush takes {flush_ms:.1f} ms"
    if free < min_free_bytes:
        return Finding("fail", "data", f"{text}; stores need {min_free_bytes / 1e9:.1f} GB free (min_free_bytes)")
    return Finding("warn" if flush_ms > SLOW_FLUSH_MS else "ok", "data", text)


async def _archive(config: Config) -> Finding:
    try:
        async with asyncio.timeout(30), open_archive(config, hooks.Hooks()) as archive:
            latest = await archive.database.read(history.latest)
    except TimeoutError:
        return Finding("fail", "archive", "the database or the store does not answer within 30 s")
    except (DicomHubError, OSError) as error:
        return Finding("fail", "archive", str(error))
    return Finding("ok", "archive", f"database and store answer; {latest} changes so far")


def _port(config: Config, name: str) -> Finding:
    port = getattr(config, name)
    subject = name.removesuffix("_port").upper()
    try:
        probe(config.host, port)
    except OSError as error:
        text = f"{config.host}:{port}: {error.strerror} (a running dicomhub?); set DICOMHUB_{name.upper()}"
        return Finding("warn", subject, text)
    return Finding("ok", subject, f"{config.host}:{port} is free")


def _viewer(config: Config) -> Finding:
    folder = viewer_folder(config)
    if not (folder / "index.html").is_file():
        return Finding("warn", "viewer", "not built: run 'make viewer' (needs Node.js and npm); all else works without")
    return Finding("ok", "viewer", str(folder))


def _tools() -> Finding:
    found = [tool for tool in ("storescu", "dcmsend", "findscu") if shutil.which(tool)]
    if len(found) < 3:
        return Finding("ok", "DCMTK", "not installed; only tests and trials need it (Debian package dcmtk)")
    return Finding("ok", "DCMTK", "installed")
