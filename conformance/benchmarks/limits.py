"""What this machine gives at best: yardsticks beside the servers."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conformance.benchmarks import checks, load
from conformance.benchmarks.rows import Inputs
from conformance.servers import nginx

FLUSHES = 100
"""Files written and flushed for one figure."""


def nginx_frames(folder: Path, inputs: Inputs) -> float:
    """Requests per second at which nginx serves the same frames from files, 8 connections."""
    root = folder / "frames"
    root.mkdir(parents=True)
    for number, image in enumerate(inputs.large.images):
        (root / f"{number}").write_bytes(image.frame())
    paths = [f"/{number}" for number in range(len(inputs.large.images))]
    with nginx(folder / "nginx", root) as server:
        return load.wrk(server, paths, checks.AS_STORED, connections=8, duration_s=inputs.scale.wrk_s).per_second


def durable_writes(folder: Path, size_bytes: int, threads: int) -> float:
    """Files of ``size_bytes`` per second: written, flushed, renamed, the folder flushed."""
    folder.mkdir(parents=True, exist_ok=True)
    content = os.urandom(size_bytes)

    def write(number: int) -> None:
        temporary = folder / f"{number}.tmp"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / str(number))
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(FLUSHES)))
    return FLUSHES / (time.perf_counter() - started)


def measure(folder: Path, inputs: Inputs) -> dict[str, float]:
    """All yardsticks, by what they are."""
    return {
        "nginx, same frames from files, 8 connections (requests/s)": nginx_frames(folder, inputs),
        "512 KB file write + fsync + rename + fsync of the folder, 1 thread (files/s)": durable_writes(
            folder / "w1", 512 * 1024, 1
        ),
        "the same, 4 threads (files/s)": durable_writes(folder / "w4", 512 * 1024, 4),
        "4 KB file, 1 thread (files/s)": durable_writes(folder / "s1", 4096, 1),
    }
