"""Real server processes on loopback: dicomhub, the peer Orthanc, nginx as a yardstick. Stopped also after an error."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

HOST = "127.0.0.1"
PROJECT = Path(__file__).resolve().parents[1]
ORTHANC = Path("/usr/sbin/Orthanc")
ORTHANC_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
NGINX = Path("/usr/sbin/nginx")
CALLING_AE_TITLE = "BENCH"
PORTS = (20000, 32000)
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class ServerFailed(Exception):
    """A server did not start or did not stop; the end of its log is in the message."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, leader of its own process group."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    http_port: int
    dimse_port: int = 0
    ae_title: str = ""
    root: str = "/dicom-web"
    """Path of the DICOMweb root."""

    @property
    def url(self) -> str:
        """DICOMweb root as a URL."""
        return f"http://{HOST}:{self.http_port}{self.root}"

    def connection(self, timeout_s: float = 120.0) -> http.client.HTTPConnection:
        """A new HTTP connection."""
        return http.client.HTTPConnection(HOST, self.http_port, timeout=timeout_s)

    def processes(self) -> list[psutil.Process]:
        """The server's processes that still run (zombies do not)."""
        found = []
        for process in psutil.process_iter(["pid", "status"]):
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if os.getpgid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def cpu_s(self) -> float:
        """CPU seconds that the server's processes have used, user and system."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def kill(self) -> None:
        """SIGKILL to every process of the server at once; returns when none runs any more."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_S)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.processes():
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name}: processes are left after SIGKILL")
            time.sleep(0.01)

    def stop(self) -> None:
        """SIGTERM to the leader, as a service manager does; SIGKILL to what is left."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT_S)
        self.kill()


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on now, below those that the kernel gives to outgoing connections.

    So they are still free when a server that was killed starts again.
    """
    found: list[int] = []
    for port in random.sample(range(*PORTS), len(range(*PORTS))):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            break
    return found


@contextlib.contextmanager
def dicomhub(data_dir: Path, *, workers: int = 1, ports: tuple[int, int] | None = None) -> Iterator[Server]:
    """``dicomhub serve`` on ``data_dir``."""
    http_port, dimse_port = ports or free_ports(2)
    command = [sys.executable, "-m", "dicomhub.cli", "serve", "--data-dir", str(data_dir)]
    command += ["--http-port", str(http_port), "--dimse-port", str(dimse_port), "--workers", str(workers)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DICOMHUB_")}
    environment |= {"PYTHONPATH": str(PROJECT), "DICOMHUB_LOG_LEVEL": "warning"}
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    log = data_dir.parent / f"{data_dir.name}.log"
    process = _spawn(command, log, environment, data_dir.parent)
    name = f"dicomhub, {workers} worker{'s' if workers > 1 else ''}"
    server = Server(name, process, log, http_port, dimse_port, "DICOMHUB")
    with _stopping(server):
        _wait(server, "/readyz", listeners=workers)
        yield server


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[Server]:
    """Debian's Orthanc with its DICOMweb plugin; defaults, except that only loopback may speak to it."""
    http_port, dimse_port = free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "Name": "peer",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": http_port,
        "DicomPort": dimse_port,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {"bench": [CALLING_AE_TITLE, HOST, 4]},
        "StorageCompression": False,
        "SyncStorageArea": True,
        "Plugins": [str(ORTHANC_DICOMWEB)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    log = folder / "orthanc.log"
    process = _spawn([str(ORTHANC), str(config)], log, dict(os.environ), folder)
    server = Server("Orthanc", process, log, http_port, dimse_port, "ORTHANC")
    with _stopping(server):
        _wait(server, "/system")
        yield server


@contextlib.contextmanager
def nginx(folder: Path, document_root: Path) -> Iterator[Server]:
    """nginx with two processes and sendfile, serving ``document_root``."""
    (http_port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    user = "user root; " if os.geteuid() == 0 else ""
    config.write_text(
        f"{user}worker_processes 2; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; {temporary}\n"
        f"server {{ listen {HOST}:{http_port}; root {document_root}; }} }}\n"
    )
    log = folder / "nginx.log"
    process = _spawn([str(NGINX), "-c", str(config), "-p", str(folder)], log, dict(os.environ), folder)
    server = Server("nginx", process, log, http_port, root="")
    with _stopping(server):
        _wait(server, "/", accepted=range(200, 500))
        yield server


def _spawn(command: list[str], log: Path, environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=folder,
            start_new_session=True,
        )  # fmt: skip


@contextlib.contextmanager
def _stopping(server: Server) -> Iterator[None]:
    try:
        yield
    finally:
        if server.process.poll() is None:
            server.stop()
        else:
            server.kill()


def _wait(server: Server, path: str, accepted: range = range(200, 300), listeners: int = 0) -> None:
    """Wait until HTTP and DIMSE take connections, in so many processes: one that still starts would be measured too."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (_answers(server, path, accepted) and _listens(server.dimse_port) and _workers(server) >= listeners):
        if server.process.poll() is not None or time.monotonic() > deadline:
            tail = server.log.read_text(errors="replace")[-2000:]
            raise ServerFailed(f"{server.name} did not start:\n{tail}")
        time.sleep(0.05)


def _answers(server: Server, path: str, accepted: range) -> bool:
    connection = server.connection(timeout_s=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status in accepted
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _workers(server: Server) -> int:
    """Processes that listen on both ports."""
    found = 0
    for process in server.processes():
        with contextlib.suppress(psutil.Error):
            ports = {each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
            found += {server.http_port, server.dimse_port} <= ports
    return found


def _listens(port: int) -> bool:
    if port == 0:
        return True
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5):
        return True
    return False
