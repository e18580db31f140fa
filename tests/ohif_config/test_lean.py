"""The lean copy: complete, moved below ``/ohif/``, silent towards other hosts, and never half there."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

OHIF_CONFIG = Path(__file__).resolve().parents[2] / "ohif_config"


@pytest.fixture(scope="module")
def lean() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lean", OHIF_CONFIG / "lean.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The published package in small."""
    files = {
        "LICENSE": "MIT",
        "dist/index.html": '<title>OHIF</title><script>window.PUBLIC_URL="/"</script>'
        '<script src="/app.bundle.js"></script>'
        '<script type="module" src="/init-service-worker.js"></script><meta content="//kept">',
        "dist/app.bundle.js": "__webpack_require__.p = \"/\";\nload('/dicom-microscopy-viewer/v.min.js');" + " " * 500,
        "dist/app.bundle.js.map": "{}",
        "dist/app.bundle.css": "a{src:url(/font.woff2)} b{src:url(data:x)}",
        "dist/manifest.json": '{"icons": [{"src": "/assets/a.png"}]}',
        "dist/assets/a.png": "png",
        "dist/init-service-worker.js": "",
        "dist/sw.js": "",
        "dist/app-config.js": "theirs",
        "dist/ort/ort.min.js": "ort",
    }
    for name, text in files.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "package"


def test_copy_is_moved_below_ohif(lean: ModuleType, package: Path, tmp_path: Path) -> None:
    lean.make_lean(package, tmp_path / "lean")
    page = (tmp_path / "lean/index.html").read_text()
    assert 'window.PUBLIC_URL="/ohif/"' in page
    assert 'src="/ohif/app.bundle.js"' in page
    assert 'content="//kept"' in page
    script = (tmp_path / "lean/app.bundle.js").read_text()
    assert '__webpack_require__.p = "/ohif/"' in script
    assert "'/ohif/dicom-microscopy-viewer/v.min.js'" in script
    assert (tmp_path / "lean/app.bundle.css").read_text() == "a{src:url(/ohif/font.woff2)} b{src:url(data:x)}"
    assert json.loads((tmp_path / "lean/manifest.json").read_text())["icons"][0]["src"] == "/ohif/assets/a.png"


def test_copy_leaves_out_what_is_large_or_calls_other_hosts(lean: ModuleType, package: Path, tmp_path: Path) -> None:
    lean.make_lean(package, tmp_path / "lean")
    names = {
        path.relative_to(tmp_path / "lean").as_posix() for path in (tmp_path / "lean").rglob("*") if path.is_file()
    }
    plain = {name for name in names if not name.endswith(".gz")}
    ours = {"app-config.js", "assets/dicomhub.svg", "LICENSE.ohif.txt"}
    theirs = {"index.html", "app.bundle.js", "app.bundle.css", "manifest.json", "assets/a.png"}
    assert plain == ours | theirs
    assert "init-service-worker" not in (tmp_path / "lean/index.html").read_text()


def test_configuration_is_ours(lean: ModuleType, package: Path, tmp_path: Path) -> None:
    lean.make_lean(package, tmp_path / "lean")
    assert (tmp_path / "lean/app-config.js").read_bytes() == (OHIF_CONFIG / "app-config.js").read_bytes()


def test_ort_is_kept_when_asked_for(lean: ModuleType, package: Path, tmp_path: Path) -> None:
    lean.make_lean(package, tmp_path / "lean", with_ort=True)
    assert (tmp_path / "lean/ort/ort.min.js").is_file()


def test_compressed_sibling_holds_the_rewritten_text(lean: ModuleType, package: Path, tmp_path: Path) -> None:
    lean.make_lean(package, tmp_path / "lean")
    plain = (tmp_path / "lean/app.bundle.js").read_bytes()
    assert gzip.decompress((tmp_path / "lean/app.bundle.js.gz").read_bytes()) == plain


def test_release_that_is_built_differently_is_refused_and_the_old_copy_stays(
    lean: ModuleType, package: Path, tmp_path: Path
) -> None:
    lean.make_lean(package, tmp_path / "lean")
    before = (tmp_path / "lean/index.html").read_bytes()
    (package / "dist/app.bundle.js").write_text("something else")
    with pytest.raises(ValueError, match="adapt REWRITES"):
        lean.make_lean(package, tmp_path / "lean")
    assert (tmp_path / "lean/index.html").read_bytes() == before


def test_missing_package_says_what_to_type(lean: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="npm ci"):
        lean.make_lean(tmp_path / "none", tmp_path / "lean")
