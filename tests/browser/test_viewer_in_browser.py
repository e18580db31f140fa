"""The main job as a person sees it: push by C-STORE, find in the study list, open, and the right pixels show."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from conformance.servers import HOST, Server, dicomhub
from tests.browser import phantom

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing (pip install playwright)")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "test-artifacts"
CHROMIUM = shutil.which("chromium") or ""
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]
SHOW_TIMEOUT_MS = 60_000
GREY_TOLERANCE = 2.0
"""Grey levels of 255: rounding in the viewer's window."""


FIRST_SHOWN = phantom.SLICES - 1
"""The viewer begins with the slice nearest to the head."""


@dataclass
class Watched:
    """What must not happen on the page."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not CHROMIUM:
        pytest.skip("chromium is missing (Debian package chromium)")
    if shutil.which("storescu") is None:
        pytest.skip("storescu is missing (Debian package dcmtk)")
    if not (ROOT / "ohif_config" / "lean" / "index.html").is_file():
        pytest.skip("the viewer is not built (make viewer)")
    with dicomhub(tmp_path_factory.mktemp("browser") / "data") as started:
        yield started


def origin(server: Server) -> str:
    return f"http://{HOST}:{server.http_port}"


@pytest.fixture(scope="module")
def pushed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("phantom")
    for index, instance in enumerate(phantom.series()):
        (folder / f"{index}.dcm").write_bytes(instance)
    command = ["storescu", "-aec", "DICOMHUB", "+sd", HOST, str(server.dimse_port), str(folder)]
    subprocess.run(command, check=True, timeout=60)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def page(server: Server, watched: Watched) -> Iterator[sync_api.Page]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        shown = browser.new_page(viewport={"width": 1280, "height": 800})
        shown.on("pageerror", lambda error: watched.errors.append(str(error)))
        shown.on("console", lambda message: message.type == "error" and watched.errors.append(message.text))
        shown.on("request", lambda request: is_foreign(server, request.url) and watched.foreign.append(request.url))
        shown.on(
            "response", lambda answer: answer.status >= 400 and watched.failed.append(f"{answer.status} {answer.url}")
        )
        try:
            yield shown
        finally:
            ARTIFACTS.mkdir(exist_ok=True)
            shown.screenshot(path=str(ARTIFACTS / "viewer-last.png"))
            browser.close()


def is_foreign(server: Server, url: str) -> bool:
    return not url.startswith((origin(server) + "/", "blob:", "data:"))


def dismiss(page: sync_api.Page, name: str) -> None:
    """Click away what a first visit shows; it comes a little after the page."""
    button = page.get_by_text(name, exact=True)
    button.wait_for(timeout=SHOW_TIMEOUT_MS)
    button.click()
    button.wait_for(state="hidden", timeout=SHOW_TIMEOUT_MS)


def canvas_pixels(page: sync_api.Page) -> NDArray[np.float64]:
    url = page.evaluate("document.querySelector('canvas.cornerstone-canvas').toDataURL('image/png')")
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L")
    return np.asarray(picture, dtype=np.float64)


def image_part(canvas: NDArray[np.float64]) -> NDArray[np.float64]:
    """The square that the image fills, fitted into the canvas and centred."""
    height, width = canvas.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return canvas[top : top + side, left : left + side]


def wait_for_image(page: sync_api.Page) -> NDArray[np.float64]:
    """The image once it is there and does not change any more."""
    page.locator("canvas.cornerstone-canvas").first.wait_for(timeout=SHOW_TIMEOUT_MS)
    deadline, last = time.monotonic() + SHOW_TIMEOUT_MS / 1000, np.zeros((1, 1))
    while time.monotonic() < deadline:
        page.wait_for_timeout(500)
        now = image_part(canvas_pixels(page))
        if now.std() > 10 and now.shape == last.shape and np.array_equal(now, last):
            return now
        last = now
    raise AssertionError("no image appeared on the canvas")


def assert_shows(image: NDArray[np.float64], slice_index: int) -> None:
    """The picture is the phantom's section: in its flat places to the grey level, and everywhere on average."""
    scale = image.shape[0] / phantom.SIZE
    for name, (x, y, hounsfield) in phantom.FLAT_PLACES.items():
        row, column = round(y * scale), round(x * scale)
        patch = image[row - 4 : row + 5, column - 4 : column + 5]
        assert abs(patch.mean() - phantom.grey_of(hounsfield)) <= GREY_TOLERANCE, name
        assert patch.std() <= 1, name
    difference = np.abs(image - phantom.displayed(slice_index, image.shape[0]))
    assert difference.mean() < 3
    assert np.mean(difference > 40) < 0.02, "edges are elsewhere"


def test_pushed_study_is_listed_opens_and_shows_its_pixels(
    server: Server, pushed: None, page: sync_api.Page, watched: Watched
) -> None:
    page.goto(origin(server) + "/")
    row = page.get_by_text("Phantom, Ellipses", exact=True).first
    row.wait_for(timeout=SHOW_TIMEOUT_MS)
    assert page.url.startswith(f"{origin(server)}/ohif/")
    dismiss(page, "Confirm and hide")
    row.click()
    page.get_by_text("Basic Viewer", exact=True).first.click()
    first = wait_for_image(page)
    dismiss(page, "Skip all")
    assert_shows(first, FIRST_SHOWN)
    ARTIFACTS.mkdir(exist_ok=True)
    page.wait_for_timeout(1000)
    page.screenshot(path=str(ARTIFACTS / "viewer.png"))

    box = page.locator("canvas.cornerstone-canvas").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for _ in range(3):
        page.mouse.wheel(0, 120)
        page.wait_for_timeout(400)
    assert_shows(wait_for_image(page), FIRST_SHOWN - 3)

    assert not watched.errors
    assert not watched.foreign
    assert not watched.failed
