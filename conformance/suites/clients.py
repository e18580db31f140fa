"""Other people's clients against this server: ``python -m conformance.suites.clients [--program NAME ...]``.

Starts ``dicomhub serve`` on an empty folder, runs every check and prints program x service x result. Exit status: 0 all
right, 1 some are not. Programs that are not installed are said to be missing, and count as not tried.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.servers import dicomhub
from conformance.suites import curl, dcmtk, python_dicomweb
from conformance.suites.subject import Check, Subject

CHECKS: tuple[Check, ...] = (*dcmtk.CHECKS, *python_dicomweb.CHECKS, *curl.CHECKS)
COMMANDS = frozenset({"echoscu", "storescu", "dcmsend", "findscu", "curl"})
"""Programs that are commands, not Python packages."""
PASSED, FAILED, MISSING = "passed", "FAILED", "missing"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a check."""

    check: Check
    outcome: str
    detail: str
    seconds: float


def run(folder: Path, checks: Sequence[Check] = CHECKS, workers: int = 1) -> list[Result]:
    """Run ``checks`` against a server of their own, its data in ``folder``."""
    with dicomhub(folder / "data", workers=workers) as server:
        subject = Subject(server, folder)
        return [_run_check(check, subject) for check in checks]


def _run_check(check: Check, subject: Subject) -> Result:
    if check.program in COMMANDS and shutil.which(check.program) is None:
        return Result(check, MISSING, "not installed", 0.0)
    started = time.perf_counter()
    try:
        outcome, detail = PASSED, check.run(subject)
    except (AssertionError, OSError, subprocess.SubprocessError, ValueError, LookupError, AttributeError) as error:
        outcome, detail = FAILED, f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
    return Result(check, outcome, detail, time.perf_counter() - started)


def table(results: Sequence[Result]) -> str:
    """The matrix as Markdown."""
    lines = ["| program | service | result | seen | s |", "|---|---|---|---|---|"]
    for each in results:
        detail = each.detail.replace("|", "\\|")
        lines.append(
            f"| {each.check.program} | {each.check.service} | {each.outcome} | {detail} | {each.seconds:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m conformance.suites.clients", description=__doc__)
    programs = sorted({check.program for check in CHECKS})
    parser.add_argument("--program", nargs="+", choices=programs, help="only these (with what they store themselves)")
    parser.add_argument("--workers", type=int, default=1, help="server processes")
    options = parser.parse_args()
    checks = [check for check in CHECKS if not options.program or check.program in options.program]
    with tempfile.TemporaryDirectory(prefix="dicomhub-clients-") as folder:
        results = run(Path(folder), checks, options.workers)
    print(table(results))
    return 1 if any(each.outcome == FAILED for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
