"""The webhook plugin against a real receiver, through the public hooks alone."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from dicomhub_plugins.webhook import WebhookPlugin

from dicomhub.archive.changes import deliver
from dicomhub.errors import ConfigurationError
from dicomhub.hooks import Hooks


class Receiver:
    """Takes messages; answers with the statuses it was told, then 200."""

    def __init__(self) -> None:
        self.messages: list[dict] = []
        self.signatures: list[tuple[str, bytes]] = []
        self.statuses: list[int] = []
        self.arrived = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        self.signatures.append((request.headers.get("X-Dicomhub-Signature", ""), body))
        self.messages.append(await request.json())
        self.arrived.set()
        return web.Response()

    async def sequences(self, count: int) -> list[int]:
        async with asyncio.timeout(20):
            while sum(len(message["changes"]) for message in self.messages) < count:
                await asyncio.wait_for(self.arrived.wait(), 20)
                self.arrived.clear()
        return [change["sequence"] for message in self.messages for change in message["changes"]]


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
async def url(receiver):
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    async with TestServer(app) as server:
        yield str(server.make_url("/hook"))


@pytest.fixture
def hooks(url):
    return Hooks([WebhookPlugin({"url": url, "secret": "s3cret"})])


@pytest.fixture
async def delivering(archive):
    task = asyncio.create_task(deliver(archive))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_stored_instances_are_posted_in_order(receiver, delivering, store, make_instance):
    await store(*(make_instance() for _ in range(5)))
    assert await receiver.sequences(5) == [1, 2, 3, 4, 5]


async def test_message_is_signed(receiver, delivering, store, make_instance):
    await store(make_instance())
    await receiver.sequences(1)
    header, body = receiver.signatures[0]
    fields = dict(part.split("=") for part in header.split(","))
    expected = hmac.new(b"s3cret", fields["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert fields["sha256"] == expected


async def test_failing_receiver_gets_it_again_and_readyz_shows_why(receiver, delivering, client, store, make_instance):
    receiver.statuses = [500, 503]
    await store(make_instance())
    async with asyncio.timeout(10):
        while True:
            body = await (await client.get("/readyz")).json()
            if body["plugins"].get("webhook", {}).get("failures"):
                break
            await asyncio.sleep(0.02)
    assert "answered 50" in body["plugins"]["webhook"]["error"]
    assert await receiver.sequences(1) == [1]


@pytest.mark.parametrize("settings", [{}, {"url": "ftp://x/y"}, {"url": "http://x/", "actions": "exploded"}])
def test_wrong_settings_are_named(settings):
    with pytest.raises(ConfigurationError, match=r"plugin_settings\.webhook"):
        WebhookPlugin(settings)
