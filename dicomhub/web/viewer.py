"""The OHIF viewer below ``/ohif/``: files of the lean copy (``ohif_config/lean.py``) and a generated configuration.

Pages may load from, and talk to, this server only: the Content-Security-Policy makes the browser hold that promise.
No cross-origin isolation headers: this release uses SharedArrayBuffer where it finds it and copies where it does not,
and they would break log-in windows.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import orjson
from aiohttp import web

from dicomhub.config import Config
from dicomhub.errors import NotFound
from dicomhub.web.urls import DICOMWEB_ROOT

VIEWER_ROOT = "/ohif/"
"""Where the viewer is served; fixed, because the lean copy is built for it."""

INSTALLED_VIEWER = Path("/usr/share/dicomhub/viewer")
"""Where packages and the container image put the lean copy."""

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
HASHED_NAME = re.compile(r"(^|\.)[0-9a-f]{16}\.\w+$")
"""File names that change when the content does."""

ASSET_SUFFIXES = frozenset({".js", ".css", ".map", ".wasm", ".woff2", ".png", ".svg", ".ico", ".json", ".jsonc", ".gz"})
"""What is a file if it is anything; other paths are pages of the viewer, UIDs with their dots included."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'self' blob:",
        "frame-src 'self' blob:",
        "base-uri 'self'",
        "frame-ancestors 'self'",
    )
)
"""Own origin only. The viewer compiles shaders and WebAssembly from text and starts workers from blobs."""

HEADERS = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
"""Referrer: the address of a page names a study."""

MISSING_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>dicomhub: no viewer yet</title>
<body style="font: 16px/1.5 sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em">
<h1>The viewer is not installed</h1>
<p>The server itself is running: DICOMweb is at <code>{dicomweb}</code>.</p>
<p>To bring the viewer, type <code>make viewer</code> in the checkout (it needs npm and, once, a network),
then load this page again. Or set <code>DICOMHUB_VIEWER_DIR</code> to a folder that has it.</p>
</body></html>
"""


class Viewer:
    """Serves one lean copy by a list of its files made once: a path that is not on it reaches no file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: Mapping[str, Path] = {}

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Answer a path below ``/ohif/``: its file, or the page, which does its own routing."""
        name = request.match_info["path"]
        available = await self._available()
        if not available:
            return self._missing()
        path = available.get(name)
        if path is None and Path(name).suffix in ASSET_SUFFIXES:
            raise NotFound(f"the viewer has no file {name!r}")
        if path is None:
            name, path = "index.html", available["index.html"]
        cache_control = IMMUTABLE if HASHED_NAME.search(Path(name).name) else REVALIDATE
        return web.FileResponse(path, headers={**HEADERS, "Cache-Control": cache_control})

    async def app_config(self, request: web.Request) -> web.StreamResponse:
        """Answer the configuration, generated from the template in the lean copy."""
        template = (await self._available()).get("app-config.js")
        if template is None:
            return self._missing()
        body = render_app_config(await asyncio.to_thread(template.read_text, "utf-8"), DICOMWEB_ROOT).encode()
        etag = hashlib.sha256(body).hexdigest()[:32]
        response = web.Response(body=body, content_type="text/javascript", charset="utf-8", headers=HEADERS)
        response.headers["Cache-Control"] = REVALIDATE
        response.etag = etag
        if any(known.value in (etag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers={"ETag": f'"{etag}"', "Cache-Control": REVALIDATE})
        return response

    async def _available(self) -> Mapping[str, Path]:
        """Files by URL path. Empty until the copy is there, so a viewer that is built later needs no restart."""
        if not self._files:
            self._files = await asyncio.to_thread(list_files, self._folder)
        return self._files

    @staticmethod
    def _missing() -> web.Response:
        text = MISSING_PAGE.format(dicomweb=DICOMWEB_ROOT)
        return web.Response(status=503, text=text, content_type="text/html", headers={"Cache-Control": "no-store"})


def viewer_routes(config: Config) -> list[web.RouteDef]:
    """Routes of the viewer: ``/`` and ``/ohif`` lead to the study list, everything below ``/ohif/`` is the viewer's."""
    viewer = Viewer(viewer_folder(config))
    return [
        web.get("/", to_study_list),
        web.get(VIEWER_ROOT.rstrip("/"), to_study_list),
        web.get(VIEWER_ROOT + "app-config.js", viewer.app_config),
        web.get(VIEWER_ROOT + "{path:.*}", viewer.page),
    ]


async def to_study_list(request: web.Request) -> web.StreamResponse:
    """Redirect to the study list. The target is relative, so it is right behind any proxy."""
    return web.Response(status=302, headers={"Location": VIEWER_ROOT, "Cache-Control": REVALIDATE})


def viewer_folder(config: Config) -> Path:
    """Where the lean copy is: the setting, else the checkout's, else where packages put it."""
    if config.viewer_dir is not None:
        return config.viewer_dir
    checkout = Path(__file__).resolve().parents[2] / "ohif_config"
    return checkout / "lean" if checkout.is_dir() else INSTALLED_VIEWER


def list_files(folder: Path) -> Mapping[str, Path]:
    """Files of a complete lean copy by their path relative to it; empty when there is none."""
    if not (folder / "index.html").is_file():
        return {}
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def render_app_config(template: str, dicomweb_root: str) -> str:
    """Put the path of the DICOMweb root into the template, as a JavaScript string.

    Raises
    ------
    ValueError
        When the template has no place for it.
    """
    placeholder = "'%DICOMWEB_ROOT%'"
    if placeholder not in template:
        raise ValueError(f"app-config.js has no {placeholder}: make the lean copy again (`make viewer`)")
    return template.replace(placeholder, orjson.dumps(dicomweb_root).decode())
