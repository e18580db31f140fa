"""``dicomhub verify``: prove that everything in the index can be read back."""

from __future__ import annotations

import sys

import orjson
import typer
from rich.console import Console

from dicomhub.app import open_archive
from dicomhub.archive.verify import FINDINGS_MAX, Report, verify
from dicomhub.config import Config
from dicomhub.hooks import Hooks


async def run_verify(config: Config, *, quick: bool, as_json: bool) -> int:
    """Verify the archive and print the report; returns the exit status, 1 when there is damage."""
    show = sys.stderr.isatty() and not as_json
    async with open_archive(config, Hooks()) as archive:
        with Console(stderr=True, quiet=not show).status("Reading blobs ...") as status:

            def progress(report: Report) -> None:
                status.update(f"{report.blobs} blobs, {report.bytes / 1e9:.2f} GB, {report.versions} versions")

            report = await verify(archive, quick=quick, progress=progress)
    if as_json:
        body = {name: getattr(report, name) for name in ("blobs", "bytes", "versions", "unreferenced", "damage")}
        typer.echo(orjson.dumps({**body, "clean": report.is_clean, "findings": report.findings}).decode())
    else:
        typer.echo(text(report))
    return 0 if report.is_clean else 1


def text(report: Report) -> str:
    """The report for a person."""
    lines = [f"damage  {finding}" for finding in report.findings]
    if report.damage > FINDINGS_MAX:
        lines.append(f"... and {report.damage - FINDINGS_MAX} more")
    if report.unreferenced:
        lines.append(f"{report.unreferenced} blobs are not referred to: leftovers of interrupted uploads, swept later")
    verdict = "clean" if report.is_clean else f"{report.damage} findings"
    lines.append(f"{report.versions} versions, {report.blobs} blobs, {report.bytes} bytes: {verdict}")
    return "\n".join(lines)
