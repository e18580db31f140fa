"""Every URL of the server on one page."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web
from aiohttp.typedefs import Handler

from dicomhub.archive import Archive
from dicomhub.web.dicomweb import bulkdata, qido, rendered, stow, wado
from dicomhub.web.rest import changes, health
from dicomhub.web.urls import DICOMWEB_ROOT
from dicomhub.web.viewer import viewer_routes

STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"

DICOMWEB: tuple[tuple[str, str, Handler], ...] = (
    # Retrieve, PS3.18 10.4: frames first, because routes are tried in this order and a viewer asks for thousands
    ("GET", INSTANCE + "/frames/{frames}", wado.frames),
    # Store, PS3.18 10.5
    ("POST", "/studies", stow.store),
    ("POST", STUDY, stow.store),
    # Search, PS3.18 10.6
    ("GET", "/studies", qido.studies),
    ("GET", "/series", qido.series),
    ("GET", "/instances", qido.instances),
    ("GET", STUDY + "/series", qido.series),
    ("GET", STUDY + "/instances", qido.instances),
    ("GET", SERIES + "/instances", qido.instances),
    # Retrieve, PS3.18 10.4
    ("GET", STUDY, wado.instances),
    ("GET", SERIES, wado.instances),
    ("GET", INSTANCE, wado.instances),
    ("GET", STUDY + "/metadata", wado.metadata),
    ("GET", SERIES + "/metadata", wado.metadata),
    ("GET", INSTANCE + "/metadata", wado.metadata),
    ("GET", INSTANCE + "/bulkdata/{path:.+}", bulkdata.bulkdata),
    ("GET", STUDY + "/rendered", rendered.rendered),
    ("GET", SERIES + "/rendered", rendered.rendered),
    ("GET", INSTANCE + "/rendered", rendered.rendered),
    ("GET", INSTANCE + "/frames/{frames}/rendered", rendered.rendered),
    ("GET", STUDY + "/thumbnail", rendered.thumbnail),
    ("GET", SERIES + "/thumbnail", rendered.thumbnail),
    ("GET", INSTANCE + "/thumbnail", rendered.thumbnail),
    ("GET", INSTANCE + "/frames/{frames}/thumbnail", rendered.thumbnail),
)
"""DICOMweb resources below `DICOMWEB_ROOT`: method, URL template, handler."""

REST: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/api/v1/changes", changes.changes),
    ("GET", "/healthz", health.healthz),
    ("GET", "/readyz", health.readyz),
    ("GET", "/metrics", health.metrics),
)
"""Our own resources."""


def routes(archive: Archive) -> Iterator[web.RouteDef]:
    """All routes: DICOMweb, REST, viewer, plugins'. A trailing slash means the same as none."""
    ours = [(method, DICOMWEB_ROOT + template, handler) for method, template, handler in DICOMWEB] + list(REST)
    for method, path, handler in ours:
        yield _route(method, path, handler)
    for method, path, handler in ours:
        if not path.endswith(":.+}"):
            yield _route(method, path + "/", handler)
    yield from viewer_routes(archive.config)
    for plugin in archive.hooks.plugins:
        yield from plugin.routes()


def _route(method: str, path: str, handler: Handler) -> web.RouteDef:
    return web.get(path, handler) if method == "GET" else web.route(method, path, handler)
