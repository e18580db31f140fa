"""The contract over HTTP against a real server, and what is special to a bucket."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from itertools import count

import pytest
import pytest_asyncio

from dicomhub.config import Config
from dicomhub.errors import ConfigurationError, Unavailable
from dicomhub.store import open_store, s3
from tests.store.contract import *  # noqa: F403  the contract's tests
from tests.store.contract import LARGE, infos, put, stage

pytestmark = [pytest.mark.s3, pytest.mark.asyncio(loop_scope="module")]
PREFIXES = count()


@pytest.fixture(scope="module")
def config(s3_credentials, tmp_path_factory) -> Config:
    return Config(
        data_dir=tmp_path_factory.mktemp("data"),
        storage_url="s3://archive/some",
        s3_endpoint_url=s3_credentials.endpoint_url,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(config):
    """One client for all tests: making one takes a second."""
    store = await open_store(config)
    yield store
    await store.close()


@pytest.fixture
def store(opened):
    """The store below a prefix of its own."""
    return s3.S3Store(opened._client, "archive", f"some/prefix{next(PREFIXES)}", opened._area, AsyncExitStack())


async def test_objects_lie_below_the_prefix(opened, s3_credentials):
    digest = await put(opened, b"x")
    assert (s3_credentials.folder / "archive" / "some" / "blobs" / digest.hex()).read_bytes() == b"x"


async def test_damaged_upload_is_refused(store, monkeypatch):
    """What a byte that flips on the way amounts to: the checksum is not that of the body."""

    async def other_md5(body: bytes) -> str:
        return s3._base64(b"0" * 16)

    staged = stage(store, b"x" * 100_000)
    staged.path.write_bytes(b"y" * 100_000)
    monkeypatch.setattr(s3, "_md5", other_md5)
    with pytest.raises(Unavailable):
        await store.put([staged])


async def test_server_that_cannot_copy_in_parts_loses_nothing(store, monkeypatch):
    """rclone's cannot, which only matters to the sweep of blobs of more than 5 GiB."""
    monkeypatch.setattr(s3, "COPY_MAX", 8 * 1024 * 1024)
    data = os.urandom(LARGE)
    digest = await put(store, data)
    with pytest.raises(Unavailable, match="in parts"):
        await store.delete(digest)
    assert list(await infos(store.list())) == [digest]
    assert await store.read_range(digest, 0, LARGE) == data


async def test_missing_bucket_is_a_configuration_error(config):
    with pytest.raises(ConfigurationError, match="storage_url"):
        await open_store(config.model_copy(update={"storage_url": "s3://nowhere"}))


async def test_wrong_key_is_a_configuration_error(config, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(ConfigurationError, match="AWS_"):
        await open_store(config)


async def test_silent_server_is_unavailable_in_time(config):
    silent = config.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(Unavailable):
        await open_store(silent)
