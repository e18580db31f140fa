"""Documents that cannot rot: hooks, settings, errors and commands are all documented."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from dicomhub import errors
from dicomhub.config import Config
from dicomhub.hooks import Plugin

ROOT = Path(__file__).resolve().parents[1]


def test_plugin_page_lists_every_hook_with_its_arguments() -> None:
    page = (ROOT / "plugins" / "README.md").read_text()
    listed = dict(re.findall(r"^\| `(\w+)\(([\w, ]*)\)`", page, re.MULTILINE))
    real = {
        name: ", ".join(list(inspect.signature(method).parameters)[1:])
        for name, method in vars(Plugin).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    assert listed == real


def test_every_hook_says_what_it_is_for() -> None:
    for name, method in vars(Plugin).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            assert method.__doc__, name


@pytest.mark.parametrize("name", sorted(Config.model_fields))
def test_every_setting_has_a_docstring(name: str) -> None:
    assert Config.model_fields[name].description


def test_error_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = re.findall(r"([A-Z]\w+)\s+(\d{3})\s+0x([0-9A-F]{4})", errors.__doc__ or "")
    classes = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.DicomHubError)
    }
    assert {name for name, _, _ in drawn} == set(classes)
    for name, http_status, dimse_status in drawn:
        error = classes[name]("text")
        assert error.http_status == int(http_status), name
        assert error.dimse_status == int(dimse_status, 16), name


def test_every_plugin_folder_has_a_readme_and_a_row() -> None:
    page = (ROOT / "plugins" / "README.md").read_text()
    for folder in (ROOT / "plugins").iterdir():
        if folder.is_dir() and not folder.name.startswith(("_", ".")):
            assert (folder / "README.md").is_file()
            assert f"({folder.name}/README.md)" in page
