"""A real PostgreSQL server for the tests: started once, in a temporary folder, on a free loopback port.

Loaded by ``pytest_plugins`` in ``tests/conftest.py``; needs the server's binaries (Debian: ``postgresql``), no running
server and no rights. Tests that need it are skipped where it is missing.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from conformance.servers import free_ports

START_TIMEOUT_S = 60.0


def _binaries() -> Path | None:
    candidates = [Path(found).resolve().parent for name in ("initdb",) if (found := shutil.which(name))]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in candidates if (folder / "postgres").exists()), None)


def _as_somebody_else() -> list[str]:
    """What to put before a command: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of a server without the name of a database."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    before = _as_somebody_else()
    # Not pytest's folder: that is closed to other users.
    with tempfile.TemporaryDirectory(prefix="dicomhub-postgresql-") as name:
        folder = Path(name)
        if before:
            shutil.chown(folder, "postgres")
        data = folder / "data"
        (port,) = free_ports(1)
        initdb = ["-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(
            [*before, str(binaries / "initdb"), *initdb], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120
        )
        settings = ["fsync=off", "listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*before, str(binaries / "postgres"), "-D", str(data), *(f"--{setting}" for setting in settings)],
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        url = f"postgresql://postgres@127.0.0.1:{port}"
        try:
            _wait(url, server, folder / "log")
            yield url
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            asyncio.run(_execute(f"{url}/postgres", "SELECT 1"))
        except (OSError, asyncpg.PostgresError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"PostgreSQL does not start: {log.read_text(errors='replace')[-2000:]}")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


_numbers = count(1)


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """URL of a new, empty database of `postgresql_server`, deleted afterwards."""
    name = f"test_{next(_numbers)}"
    asyncio.run(_execute(f"{server}/postgres", f"CREATE DATABASE {name}"))
    try:
        yield f"{server}/{name}"
    finally:
        asyncio.run(_execute(f"{server}/postgres", f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """URL of a `new_database`."""
    with new_database(postgresql_server) as url:
        yield url


@pytest.fixture
def postgresql_url_2(postgresql_server: str) -> Iterator[str]:
    """Another one, for tests that need two."""
    with new_database(postgresql_server) as url:
        yield url
