"""``/api/v1/changes``: the change feed."""

from __future__ import annotations

import orjson
from aiohttp import web

from dicomhub.archive.changes import feed
from dicomhub.errors import BadRequest
from dicomhub.web.keys import ARCHIVE

LIMIT_MAX = 1000
WAIT_MAX_S = 30


async def changes(request: web.Request) -> web.Response:
    """Changes after ``after``, oldest first, gapless: ``?after=N&limit=M&wait=S`` (long poll of S seconds)."""
    after = _number(request, "after", 0, 2**63 - 1)
    limit = _number(request, "limit", 100, LIMIT_MAX)
    wait_s = _number(request, "wait", 0, WAIT_MAX_S)
    found = await feed(request.app[ARCHIVE], after, max(1, limit), wait_s)
    latest = found[-1].sequence if found else after
    body = orjson.dumps({"changes": [change.as_json() for change in found], "next": latest})
    return web.Response(body=body, content_type="application/json")


def _number(request: web.Request, name: str, default: int, maximum: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > maximum:
        raise BadRequest(f"{name}={text!r}: a whole number from 0 to {maximum} is needed")
    return int(text)
