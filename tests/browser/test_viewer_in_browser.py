"""The main job as a person sees it: push by C-STORE, find in the study list, open, and the right pixels show."""

from __future__ import annotations

import base64
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
import phantom  # beside this file; tests are no packages

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
START_TIMEOUT_S = 60
SHOW_TIMEOUT_MS = 60_000
GREY_TOLERANCE = 2.0
"""Grey levels of 255: rounding in the viewer's window."""


FIRST_SHOWN = phantom.SLICES - 1
"""The viewer begins with the slice nearest to the head."""


@dataclass
class Server:
    http_port: int
    dimse_port: int

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"


@dataclass
class Watched:
    """What must not happen on the page."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not CHROMIUM:
        pytest.skip("chromium is missing (Debian package chromium)")
    if shutil.which("storescu") is None:
        pytest.skip("storescu is missing (Debian package dcmtk)")
    if not (ROOT / "ohif_config" / "lean" / "index.html").is_file():
        pytest.skip("the viewer is not built (make viewer)")
    folder = tmp_path_factory.mktemp("browser")
    started = Server(free_port(), free_port())
    command = [sys.executable, "-m", "dicomhub.cli", "serve", "--data-dir", str(folder / "data")]
    command += ["--http-port", str(started.http_port), "--dimse-port", str(started.dimse_port)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DICOMHUB_")}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=kept, stdout=log, stderr=log)
    try:
        wait_ready(started, process, folder / "server.log")
        yield started
    finally:
        process.terminate()
        process.wait(30)


def wait_ready(started: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{started.origin}/readyz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"the server does not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def pushed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("phantom")
    for index, instance in enumerate(phantom.series()):
        (folder / f"{index}.dcm").write_bytes(instance)
    command = ["storescu", "-aec", "DICOMHUB", "+sd", "127.0.0.1", str(server.dimse_port), str(folder)]
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
    return not url.startswith((server.origin + "/", "blob:", "data:"))


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
    page.goto(server.origin + "/")
    row = page.get_by_text("Phantom, Ellipses", exact=True).first
    row.wait_for(timeout=SHOW_TIMEOUT_MS)
    assert page.url.startswith(f"{server.origin}/ohif/")
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
