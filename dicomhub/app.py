"""Build the parts, start them in order, stop them in reverse. Nobody imports this but the command line and tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from dicomhub import hooks as hooks_module
from dicomhub.archive import Archive
from dicomhub.archive.changes import deliver
from dicomhub.archive.sweep import sweep_forever
from dicomhub.config import Config, is_loopback
from dicomhub.dimse.server import DimseServer
from dicomhub.errors import ConfigurationError
from dicomhub.hooks import Hooks
from dicomhub.index.database import open_database
from dicomhub.index.migrations import migrate
from dicomhub.store import open_store
from dicomhub.web import make_app, start

log = structlog.get_logger(__name__)

STOP_GRACE_S = 10.0
"""Seconds that running associations and requests get to end when the server stops."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that takes requests."""

    archive: Archive
    http_port: int
    dimse_port: int


def check(config: Config, hooks: Hooks) -> None:
    """Refuse an unsafe start.

    Raises
    ------
    ConfigurationError
        When the address is reachable from elsewhere although nobody has to log in.
    """
    if not is_loopback(config.host) and not hooks.authenticates and not config.allow_insecure:
        raise ConfigurationError(
            f"host is {config.host}, which other machines reach, and no plugin authenticates. "
            "Load one that does (plugins), or set DICOMHUB_ALLOW_INSECURE=true where the network itself is trusted"
        )


@asynccontextmanager
async def open_archive(config: Config, hooks: Hooks | None = None) -> AsyncIterator[Archive]:
    """The archive without its faces: for the command line, tests and the server itself.

    Raises
    ------
    ConfigurationError, Unavailable
        When the database or the store cannot be opened.
    """
    hooks = hooks if hooks is not None else hooks_module.load(config)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    plugin_migrations = {p.name: path for p in hooks.plugins if (path := p.migrations()) is not None}
    await asyncio.to_thread(migrate, config.effective_database_url, plugin_migrations)
    async with AsyncExitStack() as stack:
        store = await open_store(config)
        stack.push_async_callback(store.close)
        database = await open_database(config)
        stack.push_async_callback(database.close)
        archive = Archive(config, store, database, hooks)
        await hooks.startup(archive)
        stack.push_async_callback(hooks.shutdown)
        yield archive


@asynccontextmanager
async def running(config: Config, hooks: Hooks | None = None) -> AsyncIterator[Running]:
    """A whole server in this process: archive, notifications, sweep, HTTP, DIMSE."""
    hooks = hooks if hooks is not None else hooks_module.load(config)
    check(config, hooks)
    share = config.workers > 1
    async with AsyncExitStack() as stack:
        archive = await stack.enter_async_context(open_archive(config, hooks))
        for name, work in (("notify", deliver(archive)), ("sweep", sweep_forever(archive))):
            task = asyncio.create_task(work, name=name)
            stack.push_async_callback(_cancel, task)
        dimse = DimseServer(archive, config, asyncio.get_running_loop(), reuse_port=share)
        dimse.start()
        stack.push_async_callback(asyncio.to_thread, dimse.stop, STOP_GRACE_S)
        runner, http_port = await start(make_app(archive), config.host, config.http_port, reuse_port=share)
        stack.push_async_callback(runner.cleanup)
        yield Running(archive, http_port, dimse.port)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    except Exception:
        log.exception("background task failed", task=task.get_name())
