"""Rendered resources and thumbnails over HTTP (PS3.18 10.4.1.1.3, 10.4.1.1.4)."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from PIL import Image

Client = TestClient[web.Request, web.Application]
Store = Callable[..., Awaitable[dict[str, Any]]]
Make = Callable[..., bytes]
SERIES = "/dicom-web/studies/1.2.3.4/series/1.2.3.4.5"


def path_of(instance: bytes) -> str:
    ds = pydicom.dcmread(io.BytesIO(instance), force=True)
    return f"/dicom-web/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


async def image(client: Client, url: str, accept: str = "image/png") -> Image.Image:
    response = await client.get(url, headers={"Accept": accept})
    assert response.status == 200, await response.text()
    opened = Image.open(io.BytesIO(await response.read()))
    assert opened.get_format_mimetype() == response.headers["Content-Type"]
    return opened


async def test_window_and_viewport_of_the_query(client: Client, store: Store, make_instance: Make) -> None:
    instance = make_instance(rows=10, columns=20, pixels=np.arange(200, dtype="<u2").tobytes())
    await store(instance)
    url = path_of(instance) + "/rendered?window=-974.5,99,linear-exact&viewport=40,40"
    rendered = await image(client, url)
    assert rendered.size == (40, 20)
    assert np.asarray(rendered)[0, 0] == 0
    assert np.asarray(rendered)[-1, -1] == 255


@pytest.mark.parametrize("accept", ["image/jpeg", "image/png", "image/gif", "image/avif,image/webp,*/*;q=0.8"])
async def test_every_level_has_a_rendered_image_and_a_thumbnail(
    client: Client, store: Store, make_instance: Make, accept: str
) -> None:
    report = make_instance(PixelData=None, SOPInstanceUID="1.2.1")
    picture = make_instance(rows=512, columns=256, frames=2, SOPInstanceUID="1.2.2")
    await store(report, picture)
    for path in ("/dicom-web/studies/1.2.3.4", SERIES, path_of(picture), path_of(picture) + "/frames/2"):
        assert (await image(client, path + "/rendered", accept)).size == (256, 512)
        assert (await image(client, path + "/thumbnail", accept)).size == (128, 256)


async def test_frames_differ_and_missing_ones_are_not_found(client: Client, store: Store, make_instance: Make) -> None:
    pixels = np.repeat(np.array([1024, 1264], "<u2"), 64).tobytes()
    instance = make_instance(frames=2, pixels=pixels)
    await store(instance)
    first, second = [np.asarray(await image(client, f"{path_of(instance)}/frames/{n}/rendered")) for n in (1, 2)]
    assert first.mean() < second.mean()
    default = np.asarray(await image(client, path_of(instance) + "/rendered"))
    np.testing.assert_array_equal(default, first)
    for number, status in (("3", 404), ("0", 400), ("1,2", 400)):
        assert (await client.get(f"{path_of(instance)}/frames/{number}/rendered")).status == status


@pytest.mark.parametrize("name", ["pydicom/OBXXXX1A_expb.dcm", "pydicom/OBXXXX1A_rle.dcm"])
async def test_palette_from_bulk_data_in_either_byte_order(
    client: Client, store: Store, shared_data: Path, name: str
) -> None:
    instance = (shared_data / "dicom" / name).read_bytes()
    await store(instance)
    pixels = np.asarray(await image(client, path_of(instance) + "/rendered"))
    assert pixels.shape == (600, 800, 3)
    assert pixels.mean() == pytest.approx(12.44, abs=0.01)


@pytest.mark.parametrize("query", ["window=1", "viewport=a,b", "quality=0", "viewport=10,10,99,99"])
async def test_malformed_query_is_named(client: Client, store: Store, make_instance: Make, query: str) -> None:
    instance = make_instance()
    await store(instance)
    response = await client.get(f"{path_of(instance)}/rendered?{query}")
    assert response.status == 400
    assert query.split("=")[0] in (await response.json())["error"]["message"]


async def test_types_that_are_not_made(client: Client, store: Store, make_instance: Make) -> None:
    instance = make_instance()
    await store(instance)
    response = await client.get(path_of(instance) + "/rendered", headers={"Accept": "video/mp4"})
    assert response.status == 406
    mixed = await client.get(path_of(instance) + "/rendered", headers={"Accept": "image/png, application/dicom"})
    assert mixed.status == 400


async def test_unchanged_image_is_not_rendered_again(client: Client, store: Store, make_instance: Make) -> None:
    instance = make_instance()
    await store(instance)
    url = path_of(instance) + "/rendered"
    tag = (await client.get(url)).headers["ETag"]
    assert (await client.get(url, headers={"If-None-Match": tag})).status == 304
    assert (await client.get(url + "?quality=20", headers={"If-None-Match": tag})).status == 200
