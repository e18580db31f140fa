"""What is declared about the distribution is true: packages, entry points, pins, licences, files of the container."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.licenses import canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGE_DIR: dict[str, str] = PYPROJECT["tool"]["setuptools"]["package-dir"]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "docker/constraints.txt").read_text("utf-8"), re.M)
}
LOCK = json.loads((ROOT / "ohif_config/package-lock.json").read_text("utf-8"))
DELIVERED = [
    *("Makefile", "pyproject.toml", ".ci/run", "docker/constraints.txt", "docker/Dockerfile", "docker/compose.yaml"),
    *("ohif_config/.npmrc", "ohif_config/package.json", "ohif_config/package-lock.json"),
]


def folders_with_code(top: Path) -> set[str]:
    return {path.parent.relative_to(ROOT).as_posix() for path in top.rglob("*.py") if "__pycache__" not in path.parts}


def folder_of(package: str) -> str:
    """Where setuptools takes a package from: its own entry of package-dir or that of the nearest parent."""
    for depth in range(package.count(".") + 1):
        parent, *rest = package.rsplit(".", depth) if depth else (package,)
        if parent in PACKAGE_DIR:
            return "/".join((PACKAGE_DIR[parent], *rest))
    raise AssertionError(f"{package} has no folder in package-dir")


def test_every_folder_with_code_is_installed() -> None:
    declared = {folder_of(package) for package in PYPROJECT["tool"]["setuptools"]["packages"]}
    assert declared == folders_with_code(ROOT / "dicomhub") | folders_with_code(ROOT / "plugins")


def test_every_plugin_folder_has_its_entry_point() -> None:
    plugins = {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}
    entry_points = PROJECT["entry-points"]["dicomhub.plugins"]
    assert set(entry_points) == plugins
    for name, target in entry_points.items():
        assert target.startswith(f"dicomhub_plugins.{name}:")


def declared_requirements() -> list[Requirement]:
    return [Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]


@pytest.mark.parametrize("requirement", declared_requirements(), ids=lambda requirement: requirement.name)
def test_every_requirement_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    version = PINS.get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in docker/constraints.txt: make constraints"
    assert requirement.specifier.contains(version)


def runtime_closure() -> set[str]:
    """Names of all packages that an installation without extras brings."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in PROJECT["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        environments = [{"extra": extra} for extra in (requirement.extras or {""})]
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not wanted or name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or []:
            child = Requirement(text)
            if child.marker is None or any(child.marker.evaluate(environment) for environment in environments):
                waiting.append(Requirement(str(child).split(";")[0]))
    return found


def test_runtime_closure_is_pinned() -> None:
    assert runtime_closure() <= set(PINS)


def license_of(name: str) -> str:
    metadata = distribution(name).metadata
    classifiers = [text for text in metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    return " ".join([metadata.get("License-Expression") or metadata.get("License") or "", *classifiers])


def test_no_runtime_dependency_is_under_the_gpl() -> None:
    """(L)GPL and AGPL cannot be shipped with an Apache-2.0 image without conditions that its users do not expect."""
    offending = {name for name in runtime_closure() if re.search(r"\b[AL]?GPL|GNU ", license_of(name))}
    assert offending == set()


def test_project_licence_is_apache() -> None:
    assert canonicalize_license_expression(PROJECT["license"]) == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


def test_viewer_is_pinned_by_version_and_digest() -> None:
    wanted = json.loads((ROOT / "ohif_config/package.json").read_text("utf-8"))["dependencies"]
    locked = {name.removeprefix("node_modules/"): entry for name, entry in LOCK["packages"].items() if name}
    assert {name: entry["version"] for name, entry in locked.items()} == wanted
    assert all(entry["integrity"].startswith("sha512-") for entry in locked.values())
    assert LOCK["packages"][""]["dependencies"] == wanted


@pytest.mark.parametrize("name", DELIVERED)
def test_no_delivered_file_names_a_package_server(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert not re.search(r"https?://(?!127\.0\.0\.1|localhost)", text)
    text = text.replace("omit-lockfile-registry-resolved", "")
    assert not re.search(r"resolved|registry\s*[=]|index[-]url|find[-]links", text)


def test_compose_publishes_on_loopback_only_because_nobody_logs_in() -> None:
    text = (ROOT / "docker/compose.yaml").read_text("utf-8")
    ports = re.search(r"^    ports:\n((?:      - .*\n)+)", text, re.M)
    assert 'DICOMHUB_ALLOW_INSECURE: "true"' in text
    assert ports is not None
    assert all(line.strip().startswith('- "127.0.0.1:') for line in ports[1].splitlines())


def test_image_runs_as_nobody_special_and_does_not_switch_off_safety() -> None:
    text = (ROOT / "docker/Dockerfile").read_text("utf-8")
    last_stage = text[text.rindex("\nFROM ") :]
    assert "\nUSER dicomhub\n" in last_stage
    assert not re.search(r"^ *(ENV )?.*DICOMHUB_ALLOW_INSECURE=", re.sub(r"^#.*$", "", last_stage, flags=re.M), re.M)


def test_everything_that_the_image_copies_is_let_through_and_exists() -> None:
    text = (ROOT / "docker/Dockerfile").read_text("utf-8")
    allowed = re.findall(r"^!(\S+)$", (ROOT / "docker/Dockerfile.dockerignore").read_text("utf-8"), re.M)
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert any(source == entry or source.startswith(f"{entry}/") for entry in allowed), source
