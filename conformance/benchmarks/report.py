"""Machine, table and results file."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from conformance.benchmarks.load import Measured
from conformance.benchmarks.rows import Inputs, Row

RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(slots=True)
class Series:
    """The runs of one row on one server."""

    figures: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    """CPU milliseconds of the server per instance or request."""
    error: str = ""

    def add(self, row: Row, measured: Measured, cpu_s: float) -> None:
        self.figures.append(row.figure(measured))
        self.cpu_ms.append(1000 * cpu_s / measured.count)

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def text(self) -> str:
        """Median, and least to greatest where there are several."""
        if self.error or not self.figures:
            return "failed"
        spread = f" ({min(self.figures):,.0f}-{max(self.figures):,.0f})" if len(self.figures) > 1 else ""
        return f"{self.median:,.1f}{spread}"


Figures = Mapping[str, Mapping[str, Series]]
"""Server name to row name to runs."""


def machine(folder: Path) -> dict[str, str]:
    """What the figures were measured on."""
    disk = max(
        (part for part in psutil.disk_partitions(all=True) if str(folder.resolve()).startswith(part.mountpoint)),
        key=lambda part: len(part.mountpoint),
    )
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "file system": f"{disk.fstype} ({disk.opts.split(',')[0]})",
        "kernel": platform.release(),
        "load average": " ".join(f"{value:.1f}" for value in os.getloadavg()),
        "Python": platform.python_version(),
        "dicomhub": _revision(),
        "aiohttp, pynetdicom": f"{importlib.metadata.version('aiohttp')}, {importlib.metadata.version('pynetdicom')}",
        "peer": _debian("orthanc") + ", " + _debian("orthanc-dicomweb"),
        "clients": _debian("dcmtk") + ", " + _debian("wrk"),
        "yardstick": _debian("nginx"),
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _debian(package: str) -> str:
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return f"{package} {done.stdout or 'not installed'}"


def _revision() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return done.stdout.strip() or "unknown revision"


def table(rows: Sequence[Row], peer: str, ours: Sequence[str], figures: Figures) -> str:
    """The table as Markdown: one column group for each of our configurations."""
    head = ["what", "unit", peer]
    for name in ours:
        head += [name, "times as fast", "verdict"]
    lines = [[*head, "to reach", f"server CPU ms each: {', '.join(['peer', *ours])}"]]
    for row in rows:
        line = [row.text, row.unit, _figure(figures[peer].get(row.name))]
        for name in ours:
            line += _against(row, figures[peer].get(row.name), figures[name].get(row.name))
        cpu = [_cpu(figures[name].get(row.name)) for name in (peer, *ours)]
        lines.append([*line, str(row.target), ", ".join(cpu)])
    return markdown(lines)


def _against(row: Row, peer: Series | None, ours: Series | None) -> list[str]:
    if ours is None or ours.error or not ours.figures:
        return [_figure(ours), "", "short"]
    times = _times_as_fast(row, peer, ours)
    return [_figure(ours), f"{times:.2f}" if times else "", "reached" if reached(row, peer, ours) else "short"]


def reached(row: Row, peer: Series | None, ours: Series | None) -> bool:
    """Whether our runs of a row all succeeded and are as fast as its target says."""
    if ours is None or ours.error or not ours.figures:
        return False
    return row.target.reached(ours.median, _times_as_fast(row, peer, ours))


def _times_as_fast(row: Row, peer: Series | None, ours: Series) -> float | None:
    return row.times_as_fast(ours.median, peer.median) if peer and peer.figures else None


def _figure(series: Series | None) -> str:
    return series.text if series else ""


def _cpu(series: Series | None) -> str:
    return f"{statistics.median(series.cpu_ms):.2f}" if series and series.cpu_ms else "-"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns padded, the first line being the head."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def write(inputs: Inputs, info: Mapping[str, str], figures: Figures, limits: Mapping[str, float]) -> Path:
    """Everything as JSON in ``conformance/results/``, which git ignores."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"benchmark-{inputs.scale.name}-{time.strftime('%Y%m%dT%H%M%S')}.json"
    runs = {
        server: {
            row: {"figures": series.figures, "cpu_ms": series.cpu_ms, "error": series.error}
            for row, series in rows.items()
        }
        for server, rows in figures.items()
    }
    path.write_text(json.dumps({"machine": info, "scale": inputs.scale.name, "runs": runs, "limits": limits}, indent=2))
    return path
