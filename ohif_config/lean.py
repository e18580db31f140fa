"""Make the lean copy of the viewer: what a browser asks for, moved below ``/ohif/``, and compressed once.

Usage: ``python ohif_config/lean.py [--source DIR] [--target DIR] [--with-ort]``, after ``npm ci`` in this folder.
It needs the standard library only, so that any stage of a container build can run it.

The published build is 204 MB and assumes that it is served at ``/``. Left out are the source maps (38 MB), the ONNX
run time in ``ort/`` (136 MB, AI-assisted segmentation), and the files that load code from other hosts: the service
worker and the silent-refresh page of OpenID Connect.
"""

from __future__ import annotations

import argparse
import gzip
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
BASE = "/ohif/"

LEFT_OUT = frozenset(
    {
        *("_headers", "_redirects", "serve.json"),  # configuration of other servers
        *("app-config.js", "google.js"),  # configuration of other data sources
        *("init-service-worker.js", "sw.js"),  # loads its library from another host
        *("silent-refresh.html", "es6-shim.min.js", "oidc-client.min.js", "polyfill.min.js"),  # the same
        "customizations/index.html",  # documentation
    }
)
"""Paths, relative to the build, that no browser of ours may or need ask for."""

COMPRESSED = frozenset({".js", ".css", ".html", ".json", ".jsonc", ".svg", ".wasm"})
"""Suffixes of what shrinks; images and fonts are compressed already."""


class Rewrite(NamedTuple):
    """Text of the build that assumes ``/``, and what takes its place."""

    files: str
    pattern: re.Pattern[str]
    replacement: str


REWRITES = (
    Rewrite("*.js", re.compile(r'(__webpack_require__\.p\s*=\s*")/"'), rf'\g<1>{BASE}"'),
    Rewrite("*.js", re.compile(r"(['\"])/(dicom-microscopy-viewer/)"), rf"\g<1>{BASE}\g<2>"),
    Rewrite("*.css", re.compile(r"url\(/(?!/)"), f"url({BASE}"),
    Rewrite("*.html", re.compile(r'((?:href|src|content)=")/(?!/)'), rf"\g<1>{BASE}"),
    Rewrite("*.html", re.compile(r'(window\.PUBLIC_URL=")/"'), rf'\g<1>{BASE}"'),
    Rewrite("*.html", re.compile(r"<script[^>]*init-service-worker\.js[^>]*></script>"), ""),
    Rewrite("*.html", re.compile(r"<title>[^<]*</title>"), "<title>dicomhub</title>"),
    Rewrite("manifest.json", re.compile(r'("src":\s*")/(?!/)'), rf"\g<1>{BASE}"),
)
"""File names carry a hash of the text before its rewrite; `BASE` is fixed, so name and text still belong together."""


def make_lean(source: Path, target: Path, *, with_ort: bool = False) -> int:
    """Replace ``target`` by the lean copy of the package in ``source``; returns its size in bytes.

    The copy is built beside ``target`` and renamed, so that an interrupted run leaves the old one or none.

    Raises
    ------
    FileNotFoundError
        When ``source`` holds no build.
    ValueError
        When a rewrite finds nothing: this release of the viewer is built differently.
    """
    dist = source / "dist"
    if not (dist / "index.html").is_file():
        raise FileNotFoundError(f"no viewer in {source}: run `npm ci` in {HERE.name}/ first")
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for path in _wanted(dist, with_ort):
        copy = part / path.relative_to(dist)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    _rewrite_all(part)
    _add_our_own(source, part)
    _compress_all(part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def _wanted(dist: Path, with_ort: bool) -> Iterator[Path]:
    for path in sorted(dist.rglob("*")):
        relative = path.relative_to(dist)
        is_ort = relative.parts[0] == "ort"
        if (
            path.is_file()
            and path.suffix != ".map"
            and relative.as_posix() not in LEFT_OUT
            and (with_ort or not is_ort)
        ):
            yield path


def _rewrite_all(folder: Path) -> None:
    for rewrite in REWRITES:
        if not sum(_rewrite(path, rewrite) for path in folder.rglob(rewrite.files)):
            raise ValueError(f"{rewrite.pattern.pattern!r} is in no {rewrite.files}: adapt REWRITES to this release")


def _rewrite(path: Path, rewrite: Rewrite) -> int:
    text, count = rewrite.pattern.subn(rewrite.replacement, path.read_text("utf-8"))
    if count:
        path.write_text(text, "utf-8")
    return count


def _add_our_own(source: Path, folder: Path) -> None:
    shutil.copyfile(HERE / "app-config.js", folder / "app-config.js")
    shutil.copyfile(HERE / "branding" / "dicomhub.svg", folder / "assets" / "dicomhub.svg")
    shutil.copyfile(source / "LICENSE", folder / "LICENSE.ohif.txt")


def _compress_all(folder: Path) -> None:
    """Add a ``.gz`` beside each file: seconds here, nothing later; without a time stamp, so that runs compare equal."""
    for path in folder.rglob("*"):
        if path.suffix in COMPRESSED and path.name != "app-config.js":
            data = path.read_bytes()
            packed = gzip.compress(data, 9, mtime=0)
            if len(packed) < 0.95 * len(data):
                path.with_name(path.name + ".gz").write_bytes(packed)


def main() -> None:
    """Parse the command line and make the copy."""
    parser = argparse.ArgumentParser(description="Make the lean copy of the OHIF viewer that dicomhub serves.")
    parser.add_argument("--source", type=Path, default=HERE / "node_modules/@ohif/app", help="the unpacked package")
    parser.add_argument("--target", type=Path, default=HERE / "lean", help="the folder to (re)place")
    parser.add_argument("--with-ort", action="store_true", help="keep ort/ (136 MB): AI-assisted segmentation")
    options = parser.parse_args()
    try:
        size_bytes = make_lean(options.source, options.target, with_ort=options.with_ort)
    except (FileNotFoundError, ValueError) as error:
        parser.exit(1, f"lean.py: {error}\n")
    print(f"viewer: {options.target} ({size_bytes / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
