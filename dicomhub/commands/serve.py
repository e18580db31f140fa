"""``dicomhub serve``: one process, or a parent that keeps N alike workers running on shared ports."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import time
from multiprocessing.process import BaseProcess

import structlog
import uvloop

from dicomhub import __version__, hooks
from dicomhub.app import check, open_archive, running
from dicomhub.commands.ports import probe
from dicomhub.config import Config
from dicomhub.errors import ConfigurationError
from dicomhub.logs import configure_logging

log = structlog.get_logger(__name__)

RESTARTS_MAX = 5
"""Workers that may die within `RESTART_WINDOW_S` seconds before the parent gives up."""
RESTART_WINDOW_S = 60.0
START_TIMEOUT_S = 60.0
"""Seconds the workers get to start before the parent gives up telling where they are."""
STOP_TIMEOUT_S = 30.0
"""Seconds the workers get to end after a signal."""


def serve_forever(config: Config) -> int:
    """Run until SIGINT or SIGTERM; returns the exit status.

    Raises
    ------
    ConfigurationError
        When a port is taken or the configuration is unsafe.
    """
    configure_logging(config)
    check(config, hooks.load(config))
    config = _with_ports(config)
    if config.workers == 1:
        return _run_one(config, announce=True)
    asyncio.run(_prepare(config))
    return _supervise(config)


def _with_ports(config: Config) -> Config:
    """Reserve the ports: 0 becomes a number, and a taken one is said at once, naming the setting to change."""
    chosen = {}
    for name in ("http_port", "dimse_port"):
        port = getattr(config, name)
        try:
            chosen[name] = probe(config.host, port)
        except OSError as error:
            option = "--" + name.replace("_", "-")
            raise ConfigurationError(
                f"{name}: {config.host}:{port} cannot be bound ({error.strerror}); set {option}"
            ) from error
    return config.model_copy(update=chosen)


async def _prepare(config: Config) -> None:
    """Migrate once, before the workers start."""
    async with open_archive(config, hooks.Hooks()):
        pass


def _run_one(config: Config, *, announce: bool) -> int:
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(config, announce=announce))
    return 0


async def _serve(config: Config, *, announce: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running(config):
        if announce:
            _announce(config)
        await stop.wait()
        log.info("stopping")


def _announce(config: Config) -> None:
    """Where everything is, in one short block."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    root = config.public_url.rstrip("/") or f"http://{host}:{config.http_port}"
    print(  # noqa: T201 - this is what the person at the terminal came for
        f"\n  dicomhub {__version__}\n"
        f"  Study list   {root}/\n"
        f"  DICOMweb     {root}/dicom-web\n"
        f"  DIMSE        {config.ae_title} at {host}:{config.dimse_port}\n"
        f"  Data         {config.database_url.rpartition('@')[2] or config.data_dir.resolve()}\n"
        f"  Stop with Ctrl-C\n",
        flush=True,
    )


def _worker(config: Config) -> None:
    configure_logging(config)
    _die_with_parent()
    _run_one(config, announce=False)


def _die_with_parent() -> None:
    """Ask Linux to end this worker when its parent is gone: no orphan keeps the ports after a kill -9."""
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # not "is 1": in a container the parent is process 1
        raise SystemExit(1)


def _supervise(config: Config) -> int:
    context = multiprocessing.get_context("spawn")

    def spawn() -> BaseProcess:
        process = context.Process(target=_worker, args=(config,), name="dicomhub-worker")
        process.start()
        return process

    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    workers = [spawn() for _ in range(config.workers)]
    if _is_listening(config):
        _announce(config)
    deaths: list[float] = []
    status = 0
    while not stopping:
        time.sleep(0.2)
        for index, process in enumerate(workers):
            if process.is_alive() or stopping:
                continue
            now = time.monotonic()
            deaths = [death for death in deaths if now - death < RESTART_WINDOW_S] + [now]
            log.error("worker died", pid=process.pid, exit_code=process.exitcode)
            if len(deaths) > RESTARTS_MAX:
                log.error("workers die too often, giving up", deaths=len(deaths), window_s=RESTART_WINDOW_S)
                status, stopping = 1, True
                break
            workers[index] = spawn()
    _stop(workers)
    return status


def _is_listening(config: Config) -> bool:
    """Wait until a worker takes connections; False when none does in `START_TIMEOUT_S` seconds."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((config.host, config.http_port), timeout=1):
            return True
        time.sleep(0.05)
    return False


def _stop(workers: list[BaseProcess]) -> None:
    for process in workers:
        if process.is_alive():
            process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for process in workers:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
