"""The viewer's routes: what is cached for how long, what a path below ``/ohif/`` answers, and life without a viewer."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient
from yarl import URL

from dicomhub.config import Config
from dicomhub.errors import NotFound
from dicomhub.web.viewer import render_app_config, viewer_folder, viewer_routes

TEMPLATE = (Path(__file__).parents[2] / "ohif_config" / "app-config.js").read_text("utf-8")
PAGE = "<!doctype html><title>dicomhub</title>"
BUNDLE = "app.bundle.0f6159c501addfe9.js"

Client = TestClient[web.Request, web.Application]


@web.middleware
async def not_found(request: web.Request, handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except NotFound as error:
        return web.Response(status=error.http_status, text=error.message)


async def client_for(folder: Path, aiohttp_client: AiohttpClient) -> Client:
    app = web.Application(middlewares=[not_found])
    app.add_routes(viewer_routes(Config(viewer_dir=folder)))
    return await aiohttp_client(app)


def build(folder: Path) -> None:
    """A lean copy in small: the kinds of files that the real one has."""
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    (folder / "app-config.js").write_text(TEMPLATE)
    (folder / BUNDLE).write_text("run();" * 1000)
    (folder / f"{BUNDLE}.gz").write_bytes(gzip.compress(b"run();" * 1000))
    (folder / "app.bundle.css").write_text("body{}")
    (folder / "5130ccb17e3f3f5b.wasm").write_bytes(b"\0asm")
    (folder / "assets" / "dicomhub.svg").write_text("<svg/>")


@pytest.fixture
async def viewer(tmp_path: Path, aiohttp_client: AiohttpClient) -> Client:
    build(tmp_path / "lean")
    (tmp_path / "secret.txt").write_text("outside")
    return await client_for(tmp_path / "lean", aiohttp_client)


@pytest.mark.parametrize("path", ["/", "/ohif"])
async def test_root_leads_to_the_study_list(viewer: Client, path: str) -> None:
    response = await viewer.get(path, allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (302, "/ohif/")


@pytest.mark.parametrize("path", ["", "viewer?StudyInstanceUIDs=1.2.3", "viewer/dicomhub", "local/1.2.840.10008.5.1"])
async def test_pages_answer_index_html(viewer: Client, path: str) -> None:
    response = await viewer.get(f"/ohif/{path}")
    assert response.status == 200
    assert response.content_type == "text/html"
    assert await response.text() == PAGE


@pytest.mark.parametrize("name", ["ort/ort.min.js", "app.bundle.0f6159c501addfe9.js.map", "assets/none.png"])
async def test_missing_file_is_not_found_rather_than_a_page(viewer: Client, name: str) -> None:
    assert (await viewer.get(f"/ohif/{name}")).status == 404


@pytest.mark.parametrize("name", [BUNDLE, "5130ccb17e3f3f5b.wasm"])
async def test_hashed_names_are_immutable(viewer: Client, name: str) -> None:
    response = await viewer.get(f"/ohif/{name}")
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("name", ["", "index.html", "app-config.js", "app.bundle.css", "assets/dicomhub.svg"])
async def test_other_names_are_revalidated_and_answered_304(viewer: Client, name: str) -> None:
    first = await viewer.get(f"/ohif/{name}")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await viewer.get(f"/ohif/{name}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")


async def test_compressed_sibling_is_sent_to_those_who_take_it(viewer: Client) -> None:
    packed = await viewer.get(f"/ohif/{BUNDLE}", headers={"Accept-Encoding": "gzip"})
    plain = await viewer.get(f"/ohif/{BUNDLE}", headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert "javascript" in packed.headers["Content-Type"]
    assert "Content-Encoding" not in plain.headers
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"])
    assert await packed.text() == await plain.text()


async def test_wasm_has_the_type_that_browsers_need_to_stream_it(viewer: Client) -> None:
    assert (await viewer.get("/ohif/5130ccb17e3f3f5b.wasm")).content_type == "application/wasm"


async def test_pages_may_only_talk_to_this_server(viewer: Client) -> None:
    policy = (await viewer.get("/ohif/")).headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/ohif/../secret.txt",
        "/ohif/%2e%2e/secret.txt",
        "/ohif/..%2fsecret.txt",
        "/ohif/assets/..%2f..%2fsecret.txt",
        "/ohif//etc/passwd",
        "/ohif/%00",
    ],
)
async def test_paths_outside_the_copy_are_not_served(viewer: Client, path: str) -> None:
    response = await viewer.get(URL(path, encoded=True))
    assert "outside" not in await response.text()
    assert "root:" not in await response.text()


async def test_app_config_names_the_dicomweb_root_of_this_server(viewer: Client) -> None:
    response = await viewer.get("/ohif/app-config.js")
    text = await response.text()
    assert response.content_type == "text/javascript"
    assert 'new URL("/dicom-web", window.location.origin)' in text
    assert "%DICOMWEB_ROOT%" not in text


async def test_without_a_viewer_the_page_says_what_to_type(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    client = await client_for(tmp_path / "lean", aiohttp_client)
    response = await client.get("/ohif/")
    assert response.status == 503
    assert response.headers["Cache-Control"] == "no-store"
    assert "make viewer" in await response.text()
    assert (await client.get("/ohif/app-config.js")).status == 503


async def test_viewer_that_is_built_later_needs_no_restart(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    client = await client_for(tmp_path / "lean", aiohttp_client)
    assert (await client.get("/ohif/")).status == 503
    build(tmp_path / "lean")
    assert (await client.get("/ohif/")).status == 200


def test_root_is_a_javascript_string_whatever_it_contains() -> None:
    rendered = render_app_config("root = '%DICOMWEB_ROOT%';", """/a"b'c\\d</e""")
    assert json.loads(rendered.removeprefix("root = ").removesuffix(";")) == """/a"b'c\\d</e"""


def test_template_without_a_place_for_the_root_is_an_error() -> None:
    with pytest.raises(ValueError, match="make viewer"):
        render_app_config("window.config = {};", "/dicom-web")


def test_folder_is_the_setting_or_the_checkouts(tmp_path: Path) -> None:
    assert viewer_folder(Config(viewer_dir=tmp_path)) == tmp_path
    assert viewer_folder(Config()) == Path(__file__).parents[2] / "ohif_config" / "lean"
