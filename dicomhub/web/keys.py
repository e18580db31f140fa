"""Typed keys of the aiohttp application and request."""

from __future__ import annotations

from aiohttp import web

from dicomhub.archive import Archive
from dicomhub.config import Config
from dicomhub.events import Actor

ARCHIVE = web.AppKey("archive", Archive)
CONFIG = web.AppKey("config", Config)
ACTOR = web.RequestKey("actor", Actor)
CORS_ORIGIN = web.RequestKey("cors_origin", str)
"""The allowed origin that a browser named."""
BASE_URL = web.RequestKey("base_url", str)
