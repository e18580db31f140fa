"""The web face: parse the wire, call one archive function, write the wire."""

from __future__ import annotations

from aiohttp import web

from dicomhub.archive import Archive
from dicomhub.web.errors import errors
from dicomhub.web.keys import ARCHIVE, CONFIG
from dicomhub.web.middleware import access_log, authenticate, compress, cors, known_host, on_prepare
from dicomhub.web.routes import routes

READ_BUFFER = 512 * 1024
"""Bytes that one connection may read ahead: larger chunks mean fewer turns of the loop on uploads."""


def make_app(archive: Archive) -> web.Application:
    """The web application over an archive; the caller starts and stops the archive itself."""
    app = web.Application(
        middlewares=[access_log, cors, errors, known_host, authenticate, compress], client_max_size=1024**2
    )
    app[ARCHIVE] = archive
    app[CONFIG] = archive.config
    app.on_response_prepare.append(on_prepare)
    app.add_routes(routes(archive))
    return app


async def start(app: web.Application, host: str, port: int, *, reuse_port: bool) -> tuple[web.AppRunner, int]:
    """Serve ``app``; returns the runner to clean up and the port that was bound.

    Raises
    ------
    OSError
        When the address is taken.
    """
    runner = web.AppRunner(app, access_log=None, handle_signals=False, read_bufsize=READ_BUFFER, keepalive_timeout=75)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_port=reuse_port or None, backlog=512, shutdown_timeout=10)
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner, runner.addresses[0][1]
