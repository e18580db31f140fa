"""Other people's clients work with the server: the interoperability suite, each check a test."""

from __future__ import annotations

import pytest

from conformance.suites import clients
from conformance.suites.clients import CHECKS, FAILED, MISSING, Result
from conformance.suites.subject import Check


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[Check, Result]:
    return {result.check: result for result in clients.run(tmp_path_factory.mktemp("clients"))}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.program}: {check.service}")
def test_client_does_its_work(check: Check, results: dict[Check, Result]) -> None:
    result = results[check]
    if result.outcome == MISSING:
        pytest.skip(f"{check.program} is not installed")
    assert result.outcome != FAILED, result.detail


def test_every_program_of_the_issue_is_tried() -> None:
    programs = {check.program for check in CHECKS}
    assert programs >= {"echoscu", "storescu", "dcmsend", "findscu", "dicomweb-client", "curl"}


def test_matrix_names_what_failed() -> None:
    def fail(subject: object) -> str:
        raise AssertionError("seen | something else")

    result = clients._run_check(Check("program", "service", fail), subject=None)  # type: ignore[arg-type]
    assert "| program | service | FAILED | AssertionError: seen \\| something else |" in clients.table([result])
