"""The instructions for a bad day work: recover every instance by the README's script alone."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from dicomhub.archive.ingest import store_stream
from dicomhub.events import Source

README = Path(__file__).resolve().parents[2] / "dicomhub" / "store" / "README.md"


async def portions(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the zstd command is missing (Debian: apt install zstd)")
async def test_script_recovers_every_instance_bit_for_bit(archive, make_instance, tmp_path):
    sent = {}
    for size in (8, 300):  # pixel data in the header; in a blob of its own
        uid = generate_uid()
        sent[f"{uid}.dcm"] = make_instance(SOPInstanceUID=uid, rows=size, columns=size)
    for data in sent.values():
        await store_stream(archive, portions(data), Source())

    (script,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", script, str(archive.config.data_dir), cwd=tmp_path
    )
    assert await process.wait() == 0
    recovered = {path.name: path.read_bytes() for path in (tmp_path / "recovered").iterdir()}
    assert recovered == sent
