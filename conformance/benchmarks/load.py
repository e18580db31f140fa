"""The clients of the benchmark, the same for every server.

- C-STORE: DCMTK's ``storescu``, timed from start to end of the processes.
- STOW-RS: requests from memory over kept-alive connections, one thread each (sockets release the interpreter lock).
- Latency: one kept-alive connection, one request after the other; the whole body is read.
- Requests per second: Debian's ``wrk`` (C, LuaJIT), which takes several times what any of the servers gives, so that
  it is not the bound; ``random_urls.lua`` makes it ask for random resources.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.servers import CALLING_AE_TITLE, HOST, Server
from conformance.synthetic import Image

CLIENT_TIMEOUT_S = 300.0
LUA = Path(__file__).with_name("random_urls.lua")
BOUNDARY = "conformance-benchmark-boundary"
STOW_CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'
REFERENCED_SOP_SEQUENCE, REFERENCED_SOP_INSTANCE_UID = "00081199", "00081155"


class LoadFailed(Exception):
    """A request was answered with something else than success: the figure would mean nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a client saw."""

    count: int
    """Instances or requests."""
    seconds: float
    median_s: float = 0.0
    """Median time of one request, where measured one by one."""

    @property
    def per_second(self) -> float:
        """Instances or requests per second."""
        return self.count / self.seconds


def storescu(server: Server, images: Sequence[Image], associations: int = 1) -> Measured:
    """C-STORE of ``images`` shared among ``associations`` at once."""
    command = ["storescu", "-aet", CALLING_AE_TITLE, "-aec", server.ae_title, HOST, str(server.dimse_port)]
    shares = [[str(image.path) for image in images[start::associations]] for start in range(associations)]
    started = time.perf_counter()
    running = [subprocess.Popen([*command, *share], stderr=subprocess.PIPE) for share in shares]
    try:
        errors = [process.communicate(timeout=CLIENT_TIMEOUT_S)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    seconds = time.perf_counter() - started
    if any(process.returncode for process in running):
        raise LoadFailed(f"storescu: {b' '.join(errors).decode(errors='replace')[-500:]}")
    return Measured(len(images), seconds)


def stow_bodies(images: Sequence[Image], per_request: int) -> list[bytes]:
    """Multipart bodies of ``per_request`` instances each."""
    opening = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    closing = f"--{BOUNDARY}--\r\n".encode()
    bodies = []
    for start in range(0, len(images), per_request):
        parts = [
            part
            for image in images[start : start + per_request]
            for part in (opening, image.path.read_bytes(), b"\r\n")
        ]
        bodies.append(b"".join([*parts, closing]))
    return bodies


def stow(server: Server, bodies: Sequence[bytes], connections: int) -> Measured:
    """STOW-RS of all bodies over ``connections`` at once; counts what the responses list as stored."""
    stored: list[int] = []
    failures: list[BaseException] = []

    def client(share: Sequence[bytes]) -> None:
        try:
            connection = server.connection()
            for body in share:
                stored.append(len(stow_once(server, connection, body)))
            connection.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=client, args=(bodies[start::connections],)) for start in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if failures:
        raise LoadFailed(f"STOW-RS: {failures[0]!r}")
    return Measured(sum(stored), seconds)


def stow_once(server: Server, connection: http.client.HTTPConnection, body: bytes) -> list[str]:
    """One store request; the SOP Instance UIDs that the response lists as stored."""
    headers = {"Content-Type": STOW_CONTENT_TYPE, "Accept": "application/dicom+json"}
    connection.request("POST", f"{server.root}/studies", body=body, headers=headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise LoadFailed(f"{response.status} {answer[:500]!r}")
    items = json.loads(answer)[REFERENCED_SOP_SEQUENCE]["Value"]
    return [item[REFERENCED_SOP_INSTANCE_UID]["Value"][0] for item in items]


def latency(server: Server, paths: Sequence[str], accept: str, requests: int, expected_items: int) -> Measured:
    """GET ``paths`` in turn; each response must be a JSON array of ``expected_items``."""
    connection = server.connection()
    times = []
    started = time.perf_counter()
    for number in range(requests):
        begin = time.perf_counter()
        connection.request("GET", server.root + paths[number % len(paths)], headers={"Accept": accept})
        response = connection.getresponse()
        body = response.read()
        times.append(time.perf_counter() - begin)
        if response.status != 200 or len(json.loads(body)) != expected_items:
            raise LoadFailed(f"GET {paths[number % len(paths)]}: {response.status}, {len(body)} bytes")
    seconds = time.perf_counter() - started
    connection.close()
    return Measured(requests, seconds, statistics.median(times))


def wrk(server: Server, paths: Sequence[str], accept: str, *, connections: int, duration_s: int) -> Measured:
    """GET random ones of ``paths`` as fast as the server answers, over ``connections`` for ``duration_s``."""
    threads = min(2, connections)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as urls:
        urls.write("\n".join(server.root + path for path in paths))
        urls.flush()
        command = ["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{duration_s}s", "--timeout", "60s"]
        command += ["-s", str(LUA), f"http://{HOST}:{server.http_port}"]
        environment = {**os.environ, "BENCH_URLS": urls.name, "BENCH_ACCEPT": accept}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=duration_s + 90)
    return _parse_wrk(done.stdout + done.stderr)


def _parse_wrk(output: str) -> Measured:
    totals = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", output)
    if totals is None or "Non-2xx" in output or "Socket errors" in output:
        raise LoadFailed(f"wrk: {output}")
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[totals[3]]
    return Measured(int(totals[1]), float(totals[2]) * unit)
