"""Probes and figures for those who run the server."""

from __future__ import annotations

import asyncio
import time

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from dicomhub import __version__
from dicomhub.errors import DicomHubError
from dicomhub.index import history
from dicomhub.web.keys import ARCHIVE

READY_TIMEOUT_S = 5.0
"""Seconds the database gets to answer a probe."""


async def healthz(request: web.Request) -> web.Response:
    """Liveness: the process answers."""
    return web.json_response({"status": "ok", "version": __version__})


async def readyz(request: web.Request) -> web.Response:
    """Readiness: the database answers; shows plugins whose notifications fail (they do not make us unready)."""
    archive = request.app[ARCHIVE]
    began = time.perf_counter()
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            sequence = await archive.database.read(history.latest)
            cursors = await archive.database.read(history.cursors)
    except (DicomHubError, TimeoutError) as error:
        return web.json_response({"status": "unavailable", "database": str(error)}, status=503)
    plugins = {
        cursor.plugin: {"behind": sequence - cursor.sequence, "failures": cursor.failures, "error": cursor.last_error}
        for cursor in cursors
    }
    milliseconds = round(1000 * (time.perf_counter() - began), 2)
    body = {"status": "ok", "sequence": sequence, "database_ms": milliseconds, "plugins": plugins}
    return web.Response(body=orjson.dumps(body), content_type="application/json")


async def metrics(request: web.Request) -> web.Response:
    """Figures in Prometheus' text form: of the archive (the same from every process) and of this process."""
    archive = request.app[ARCHIVE]
    sequence = await archive.database.read(history.latest)
    cursors = await archive.database.read(history.cursors)
    registry = CollectorRegistry()
    Gauge("dicomhub_change_sequence", "Number of the last change.", registry=registry).set(sequence)
    behind = Gauge("dicomhub_plugin_behind", "Changes that a plugin was not told.", ["plugin"], registry=registry)
    failures = Gauge("dicomhub_plugin_failures", "Failed notifications in a row.", ["plugin"], registry=registry)
    for cursor in cursors:
        behind.labels(cursor.plugin).set(sequence - cursor.sequence)
        failures.labels(cursor.plugin).set(cursor.failures)
    body = generate_latest(registry) + generate_latest()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
