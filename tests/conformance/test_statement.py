"""The committed conformance statement is what the code says now."""

from __future__ import annotations

import difflib

from conformance import statement
from dicomhub.config import Config
from dicomhub.dimse.contexts import STORAGE_SOP_CLASSES
from dicomhub.web.routes import DICOMWEB


def test_committed_statement_is_up_to_date() -> None:
    committed = statement.TARGET.read_text("utf-8").splitlines()
    difference = "\n".join(difflib.unified_diff(committed, statement.statement().splitlines(), lineterm="", n=0))
    assert not difference, f"run `make statement` and commit the result:\n{difference}"


def test_statement_names_every_route_sop_class_and_setting() -> None:
    text = statement.statement()
    assert [template for _, template, _ in DICOMWEB if f"`{template}`" not in text] == []
    assert [uid for uid in STORAGE_SOP_CLASSES if f"`{uid}`" not in text] == []
    assert [name for name in Config.model_fields if f"`{name}`" not in text] == []


def test_every_dicomweb_route_has_its_clause() -> None:
    without = [template for _, template, handler in DICOMWEB if not statement._clause(handler)[0]]
    assert without == []
