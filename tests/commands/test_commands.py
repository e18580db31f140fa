"""The command line as its user runs it: real processes, real ports, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.servers import free_ports

DICOMHUB = [sys.executable, "-m", "dicomhub.cli"]


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DICOMHUB_")}
    return {**kept, "NO_COLOR": "1", "TERM": "dumb", **extra}


def run(*arguments: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DICOMHUB, *arguments], cwd=cwd, env=environment(**extra), capture_output=True, text=True, timeout=90
    )


@contextmanager
def server(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    (port,) = free_ports(1)
    command = [*DICOMHUB, "serve", "--data-dir", str(folder / "data"), "--http-port", str(port), "--dimse-port", "0"]
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_ready(process, port)
        yield process, port
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def wait_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not become ready")


def get_json(port: int, path: str) -> list[dict]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize("command", ["serve", "import", "verify", "doctor", "version"])
def test_help_teaches(command, tmp_path):
    result = run(command, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "Usage" in result.stdout
    assert len(result.stdout) > 150


def test_version(tmp_path):
    result = run("version", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith("dicomhub ")


def test_doctor_says_that_the_server_will_run(tmp_path):
    result = run("doctor", cwd=tmp_path, DICOMHUB_HTTP_PORT="0", DICOMHUB_DIMSE_PORT="0")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "The server will run" in result.stdout


def test_doctor_finds_an_unsafe_address(tmp_path):
    result = run("doctor", cwd=tmp_path, DICOMHUB_HOST="0.0.0.0")
    assert result.returncode == 1
    assert "DICOMHUB_ALLOW_INSECURE" in result.stdout


def test_wrong_setting_is_named_with_exit_status_2(tmp_path):
    result = run("doctor", cwd=tmp_path, DICOMHUB_HTTP_PORT="99999")
    assert result.returncode == 2
    assert "http_port" in result.stderr


def test_unknown_key_in_the_file_is_named(tmp_path):
    (tmp_path / "dicomhub.toml").write_text("http_prot = 1\n")
    result = run("doctor", cwd=tmp_path)
    assert result.returncode == 2
    assert "http_prot" in result.stderr


def test_file_variable_and_option_have_their_precedence(tmp_path):
    (tmp_path / "dicomhub.toml").write_text(
        'ae_title = "FILE"\ndata_dir = "from-file"\nhttp_port = 0\ndimse_port = 0\n'
    )
    result = run("doctor", "--data-dir", "from-option", cwd=tmp_path, DICOMHUB_DATA_DIR="from-variable")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "from-option" in result.stdout


def test_open_address_without_login_refuses_to_start(tmp_path):
    result = run("serve", "--host", "0.0.0.0", "--http-port", "0", "--dimse-port", "0", cwd=tmp_path)
    assert result.returncode == 2
    assert "DICOMHUB_ALLOW_INSECURE" in result.stderr


def test_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "--http-port", str(port), "--dimse-port", "0", cwd=tmp_path)
    assert result.returncode == 2
    assert str(port) in result.stderr
    assert "http-port" in result.stderr


def test_serve_announces_and_stops_on_sigterm(tmp_path):
    with server(tmp_path) as (process, port):
        pass
    output = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0, output
    assert f"http://127.0.0.1:{port}/dicom-web" in output
    assert "DICOMHUB" in output


def test_workers_share_the_port_and_a_dead_one_is_replaced(tmp_path):
    with server(tmp_path, "--workers", "2") as (process, port):
        children = {int(pid) for pid in subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True).split()}
        workers = [pid for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            now = set(subprocess.check_output(["pgrep", "-f", "-P", str(process.pid), "spawn_main"], text=True).split())
            if len(now) == 2 and str(workers[0]) not in now:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("no new worker")
        assert get_json(port, "/dicom-web/studies") == []
    assert process.returncode == 0


def test_import_stores_folders_and_counts(tmp_path, make_instance):
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"{number}").write_bytes(make_instance(InstanceNumber=number))
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.dcm").write_bytes(make_instance()[:-30])
    result = run("import", str(tmp_path / "in"), cwd=tmp_path)
    assert result.returncode == 1
    assert "6 stored" in result.stdout
    assert "1 not DICOM" in result.stdout
    assert "broken.dcm" in result.stdout
    (folder / "broken.dcm").unlink()
    again = run("import", str(tmp_path / "in"), cwd=tmp_path)
    assert again.returncode == 0
    assert "0 stored" in again.stdout
    assert "6 were there already" in again.stdout
    assert run("verify", cwd=tmp_path).returncode == 0


def test_import_of_a_missing_path_is_wrong_usage(tmp_path):
    result = run("import", "nowhere", cwd=tmp_path)
    assert result.returncode == 2
    assert "nowhere" in result.stderr


def test_import_beside_a_running_server_is_seen_by_it(tmp_path, make_instance):
    (tmp_path / "a.dcm").write_bytes(make_instance())
    with server(tmp_path) as (_, port):
        result = run("import", "a.dcm", "--data-dir", str(tmp_path / "data"), cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
        assert len(get_json(port, "/dicom-web/studies")) == 1


def test_verify_finds_and_names_a_changed_byte(tmp_path, make_instance):
    (tmp_path / "a.dcm").write_bytes(make_instance(rows=512, columns=512))
    assert run("import", "a.dcm", cwd=tmp_path).returncode == 0
    (blob,) = [
        path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 99999
    ]
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff\xff\xff")
    result = run("verify", cwd=tmp_path)
    assert result.returncode == 1
    assert blob.name in result.stdout


def test_workers_live_where_their_parent_is_process_1(tmp_path):
    """As in a container whose first process is the server."""
    child = "from dicomhub.commands.serve import _die_with_parent as target"
    start = "p = get_context('spawn').Process(target=target); p.start(); p.join(); raise SystemExit(p.exitcode)"
    namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip("no process namespaces here")
    script = f"from multiprocessing import get_context; {child}; {start}"
    command = [*namespace, sys.executable, "-c", script]
    assert subprocess.run(command, cwd=tmp_path, timeout=60, check=False).returncode == 0
