"""The architecture, held by its imports: each file imports only its own floor's package and lower floors."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dicomhub"

FLOORS = {"dicom": 0, "index": 1, "store": 1, "archive": 2, "web": 3, "dimse": 3, "commands": 4, "app": 4, "cli": 4}
LEAVES = {"errors", "config", "events", "hooks", "logs"}
"""Importable from everywhere; they import floor 0 and other leaves only."""
FACADE = "plugin"

ORIGINS = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__")


def room(parts: tuple[str, ...]) -> str:
    """The first name below ``dicomhub`` of a module or file path."""
    return parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Rooms of dicomhub that a file imports when it runs; imports for the type checker alone do not count."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(id(inner) for inner in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "dicomhub" else [node.module]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            head, *rest = name.split(".")
            if head == "dicomhub" and rest and (PACKAGE / rest[0]).exists() | (PACKAGE / f"{rest[0]}.py").exists():
                found.add(rest[0])
    return found


@pytest.mark.parametrize("path", ORIGINS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    here = room(path.relative_to(PACKAGE).parts)
    for there in imported(path) - {here}:
        if here == FACADE:
            assert there in LEAVES or FLOORS[there] <= 2
        elif here in LEAVES:
            assert there in LEAVES or FLOORS.get(there) == 0, f"the leaf {here} imports {there}"
        elif there not in LEAVES:
            assert there != FACADE, f"{here} imports the plugins' facade"
            same_floor_commands = FLOORS[here] == 4 and FLOORS[there] == 4
            assert FLOORS[there] < FLOORS[here] or same_floor_commands, f"{here} imports {there}"


def test_index_and_store_do_not_know_each_other() -> None:
    for one, other in (("index", "store"), ("store", "index")):
        assert not any(other in imported(path) for path in (PACKAGE / one).rglob("*.py"))


@pytest.mark.parametrize("path", sorted((PACKAGE / "dicom").glob("*.py")), ids=lambda path: path.name)
def test_floor_zero_does_no_io(path: Path) -> None:
    modules = {
        alias.name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        (node.module or "").split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert not modules & {"asyncio", "socket", "threading", "aiohttp", "sqlalchemy", "sqlite3", "os", "pathlib"}


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_import_the_facade_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        module = node.module if isinstance(node, ast.ImportFrom) else ""
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [module or ""]
        for name in names:
            assert not name.startswith("dicomhub.") or name == "dicomhub.plugin", f"{path}: {name}"
            assert name != "dicomhub", f"{path} imports dicomhub itself"


def test_core_names_no_plugin() -> None:
    names = [path.name for path in (ROOT / "plugins").iterdir() if path.is_dir() and not path.name.startswith("_")]
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text().lower()
        for name in (*names, "dicomhub_plugins"):
            allowed = path.name in {"config.py"}  # one example of a settings table
            assert allowed or name not in text, f"{path} knows {name}"


def test_no_file_is_too_long() -> None:
    long = {
        str(path.relative_to(ROOT)): n
        for path in ROOT.glob("*/**/*.py")
        if ".venv" not in path.parts
        and "node_modules" not in path.parts
        and (n := len(path.read_text().splitlines())) > 600
    }
    assert not long


@pytest.mark.parametrize(
    "module", ["dicomhub.plugin", "dicomhub.hooks", "dicomhub.cli", "dicomhub.web", "dicomhub.dimse.server"]
)
def test_every_door_imports_alone(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=60)
