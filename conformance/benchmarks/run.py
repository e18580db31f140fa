"""Run the benchmark: ``python -m conformance.benchmarks.run [--quick | --full] [--only ROW ...] [--workers 2 1]``.

Needs Debian's ``orthanc``, ``orthanc-dicomweb``, ``dcmtk``, ``wrk`` and ``nginx-light``. The servers run one after the
other, never at once, on the same files, by the same clients; every store row starts from an empty archive, the read
rows read what the STOW row has stored. Exit status: 0 all targets reached, 1 some are short or failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

from conformance import servers
from conformance.benchmarks import limits, report
from conformance.benchmarks.load import LoadFailed
from conformance.benchmarks.report import Series
from conformance.benchmarks.rows import FULL, QUICK, ROWS, Inputs, Row, make_inputs
from conformance.servers import Server, ServerFailed

PEER = "Orthanc"
SEED = 20240131

Start = Callable[[Path], AbstractContextManager[Server]]
"""Starts a server on an empty folder."""


def main() -> int:
    """Measure, print, write."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    rows = [row for row in ROWS if not options.only or row.name in options.only]
    missing = [name for name in ("storescu", "wrk") if shutil.which(name) is None]
    if missing:
        sys.exit(f"missing programs: {', '.join(missing)} (Debian packages dcmtk, wrk)")
    with _work_folder(options.folder) as folder:
        info = report.machine(folder)
        print(*(f"{name}: {value}" for name, value in info.items()), sep="\n", flush=True)
        inputs = make_inputs(folder / "images", options.scale, SEED)
        starts = _contestants(options)
        figures = _measure(starts, rows, inputs, folder)
        yardsticks = limits.measure(folder / "limits", inputs) if options.limits else {}
    ours = [name for name in starts if name != PEER]
    print("\n" + report.table(rows, PEER, ours, figures) + "\n")
    print(*(f"{value:10,.0f}  {name}" for name, value in yardsticks.items()), sep="\n")
    results = report.write(inputs, info, figures, yardsticks)
    print(f"\nload average at the end: {os.getloadavg()[0]:.1f}; results: {results}")
    return 0 if ours and _all_reached(rows, figures, ours[0]) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.benchmarks.run", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="scale", action="store_const", const=QUICK, help="smaller and once (default)")
    size.add_argument("--full", dest="scale", action="store_const", const=FULL, help="500 images, median of three runs")
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], metavar="ROW", help="these rows only")
    parser.add_argument(
        "--workers", nargs="*", type=int, default=[2, 1], help="our configurations; the first is judged"
    )
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="without Orthanc")
    parser.add_argument("--no-limits", dest="limits", action="store_false", help="without the yardsticks")
    parser.add_argument("--folder", type=Path, help="work folder on the disk to be measured; default: a temporary one")
    parser.set_defaults(scale=QUICK)
    return parser.parse_args()


@contextmanager
def _work_folder(parent: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dicomhub-benchmark-", dir=parent) as folder:
        yield Path(folder)


def _contestants(options: argparse.Namespace) -> dict[str, Start]:
    starts: dict[str, Start] = {}
    if options.peer:
        starts[PEER] = servers.orthanc
    for workers in options.workers:
        starts[f"dicomhub, {workers} worker{'s' if workers > 1 else ''}"] = _ours(workers)
    return starts


def _ours(workers: int) -> Start:
    return lambda folder: servers.dicomhub(folder, workers=workers)


def _measure(
    starts: dict[str, Start], rows: Sequence[Row], inputs: Inputs, folder: Path
) -> dict[str, dict[str, Series]]:
    """All runs; the servers take turns, so that a slow minute of the machine does not meet one of them only."""
    figures: dict[str, dict[str, Series]] = {name: defaultdict(Series) for name in starts}
    figures.setdefault(PEER, {})
    numbers = count()
    for repeat in range(inputs.scale.repeats):
        runs = folder / f"repeat{repeat}"
        for name, start in starts.items():
            for group in _groups(rows):
                _run_group(start, runs / f"run{next(numbers)}", group, inputs, figures[name], name)
        # Not after each run: ext4 looks for inodes longer while many have just been freed.
        shutil.rmtree(runs, ignore_errors=True)
    return figures


def _groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows that share a server: each store row alone, the reading rows after STOW (done for them if not asked for)."""
    reads = [row for row in rows if not row.stores]
    stow = next(row for row in ROWS if row.name == "stow")
    for row in rows:
        if row.stores and not (row is stow and reads):
            yield [row]
    if reads:
        yield [stow, *reads]


def _run_group(
    start: Start, data: Path, group: Sequence[Row], inputs: Inputs, figures: dict[str, Series], name: str
) -> None:
    """Run the rows of a group on one server; after a failure the rest of the group has failed too."""
    left = list(group)
    try:
        with start(data) as server:
            for row in group:
                _run_row(server, row, inputs, figures[row.name])
                left.remove(row)
                print(f"  {name}: {row.text}: {figures[row.name].text} {row.unit}", flush=True)
    except (LoadFailed, ServerFailed, OSError) as error:
        for row in left:
            figures[row.name].error = str(error)
        print(f"  {name}: {left[0].text if left else 'stopping'}: {error}", flush=True)


def _run_row(server: Server, row: Row, inputs: Inputs, series: Series) -> None:
    before = server.cpu_s()
    measured = row.measure(server, inputs)
    cpu_s = server.cpu_s() - before
    row.check(server, inputs)
    series.add(row, measured, cpu_s)


def _all_reached(rows: Sequence[Row], figures: report.Figures, ours: str) -> bool:
    return all(report.reached(row, figures[PEER].get(row.name), figures[ours].get(row.name)) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
