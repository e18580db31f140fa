"""The contract in a folder, and what is special to one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from dicomhub.config import Config
from dicomhub.errors import ConfigurationError, OutOfResources
from dicomhub.store import INLINE_MAX, open_store
from tests.store.contract import *  # noqa: F403  the contract's tests
from tests.store.contract import put, stage


@pytest.fixture
def config(tmp_path) -> Config:
    return Config(data_dir=tmp_path, min_free_bytes=0)


@pytest.fixture
async def store(config):
    opened = await open_store(config)
    yield opened
    await opened.close()


async def test_blob_is_a_read_only_file_named_by_its_digest(store, tmp_path):
    digest = await put(store, b"x" * 100_000)
    path = tmp_path / "blobs" / digest.hex()[:2] / digest.hex()
    assert path.read_bytes() == b"x" * 100_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert store.path(digest) == path


async def test_small_blob_stays_in_memory(store):
    small, large = stage(store, b"x" * INLINE_MAX), stage(store, b"x" * (INLINE_MAX + 1))
    assert (small.data, small.path) == (b"x" * INLINE_MAX, None)
    assert large.data is None
    assert large.path.stat().st_size == INLINE_MAX + 1


async def test_slow_sender_does_not_shorten_the_grace_of_the_sweep(store):
    staged = stage(store, b"x" * 100_000)
    os.utime(staged.path, (0, 0))
    await store.put([staged])
    (info,) = [info async for info in store.list()]
    assert info.modified_at > 1e9


async def test_flush_comes_before_the_name_and_the_folder_after(store, monkeypatch):
    """The order of `put` is its promise: no crash leaves a name without its bytes."""
    seen = []
    fsync, replace = os.fsync, type(store._root).replace

    def spy_fsync(descriptor):
        seen.append(("flush", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def spy_replace(path, target):
        seen.append(("rename", str(target)))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(type(store._root), "replace", spy_replace)
    staged = stage(store, b"x" * 100_000)
    await store.put([staged])
    path = store.path(staged.digest)
    assert seen == [("flush", str(staged.path)), ("rename", str(path)), ("flush", str(path.parent))]


async def test_full_disk_is_out_of_resources(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    staged = stage(store, b"x" * 100_000)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutOfResources, match="No space left"):
        await store.put([staged])
    monkeypatch.undo()
    assert await store.stat(staged.digest) is None
    monkeypatch.setattr(os, "write", full)
    staging = store.stage()
    staging.write(b"x" * 65_536)
    with pytest.raises(OutOfResources):
        staging.write(b"x" * 2_000_000)
    staging.discard()


async def test_store_refuses_before_the_disk_is_full(config):
    opened = await open_store(config.model_copy(update={"min_free_bytes": 2**62}))
    with pytest.raises(OutOfResources, match="min_free_bytes"):
        opened.stage()
    await opened.close()


LEAVES_SOMETHING = """
import asyncio, sys
from dicomhub.config import Config
from dicomhub.store import open_store
async def main():
    store = await open_store(Config(data_dir=sys.argv[1], min_free_bytes=0))
    staging = store.stage()
    staging.write(b"x" * 2_000_000)
    print(store._area.folder, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture
def start_process(tmp_path):
    """Starts a process that stages a blob in the same folder; gives it and the folder it stages in."""
    with ExitStack() as stack:

        def start() -> tuple[subprocess.Popen[str], Path]:
            command = [sys.executable, "-c", LEAVES_SOMETHING, str(tmp_path)]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            return process, Path(process.stdout.readline().strip())

        yield start


async def test_start_clears_what_a_dead_process_staged_and_spares_the_living(config, start_process):
    (dead, its_folder), (_, living_folder) = start_process(), start_process()
    dead.kill()
    dead.wait(timeout=10)
    opened = await open_store(config)
    assert not its_folder.exists()
    assert (living_folder / "1").exists()
    await opened.close()


async def test_close_leaves_no_staging_folder(config, tmp_path):
    opened = await open_store(config)
    await opened.close()
    assert [path.name for path in (tmp_path / "blobs" / "staging").iterdir()] == ["lock"]


@pytest.mark.parametrize("url", ["ftp://somewhere", "file://host/folder", "s3://", "blobs"])
async def test_unusable_url_is_a_configuration_error(config, url):
    with pytest.raises(ConfigurationError, match="storage_url"):
        await open_store(config.model_copy(update={"storage_url": url}))
