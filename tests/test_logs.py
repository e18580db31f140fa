"""What is logged, and what must never be."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import structlog, logging
from dicomhub.config import Config
from dicomhub.logs import configure_logging
from aiohttp.http_exceptions import BadHttpMessage
configure_logging(Config(log_format={form!r}))
log = structlog.get_logger("test")
def fail():
    patient = "Doe^Secret"
    raise ValueError("broken")
try:
    fail()
except ValueError:
    log.exception("it failed", study="1.2")
try:
    raise BadHttpMessage("garbage")
except BadHttpMessage:
    logging.getLogger("aiohttp.server").exception("Error handling request")
"""


def logged(form: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(form=form)], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_tracebacks_show_no_values(form):
    text = logged(form)
    assert "ValueError: broken" in text
    assert "Doe^Secret" not in text.replace('patient = "Doe^Secret"', "")


def test_json_form_is_one_object_a_line():
    first, *rest = [json.loads(line) for line in logged("json").splitlines()]
    assert (first["event"], first["study"], first["level"]) == ("it failed", "1.2", "error")
    assert "ValueError" in first["exception"]
    assert len(rest) == 1


def test_garbage_from_the_network_is_one_line_without_traceback():
    line = logged("json").splitlines()[-1]
    assert "garbage" in line
    assert "Traceback" not in line
