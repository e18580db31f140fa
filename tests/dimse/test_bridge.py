from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from dicomhub.dimse.bridge import Bridge
from dicomhub.errors import NotFound, OutOfResources, Unavailable


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop running in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


async def add(one: int, other: int) -> int:
    await asyncio.sleep(0)
    return one + other


def test_result_and_error_cross_the_bridge(loop: asyncio.AbstractEventLoop) -> None:
    async def fail() -> None:
        raise NotFound("No such thing")

    bridge = Bridge(loop)
    assert bridge.call(add(1, 2), 5) == 3
    with pytest.raises(NotFound, match="No such thing"):
        bridge.call(fail(), 5)


def test_coroutine_is_cancelled_when_time_is_up(loop: asyncio.AbstractEventLoop) -> None:
    cancelled = threading.Event()

    async def linger() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(OutOfResources, match=r"0\.1 s") as raised:
        Bridge(loop).call(linger(), 0.1)
    assert raised.value.dimse_status == 0xA700
    assert cancelled.wait(5)


def test_time_out_inside_the_coroutine_is_not_mistaken_for_ours(loop: asyncio.AbstractEventLoop) -> None:
    async def time_out() -> None:
        raise TimeoutError("from inside")

    with pytest.raises(TimeoutError, match="from inside"):
        Bridge(loop).call(time_out(), 5)


def test_closed_loop_is_unavailable() -> None:
    other = asyncio.new_event_loop()
    other.close()
    with pytest.raises(Unavailable):
        Bridge(other).call(add(1, 2), 1)


def test_cancellation_from_the_loop_is_unavailable(loop: asyncio.AbstractEventLoop) -> None:
    async def cancel_self() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)

    with pytest.raises(Unavailable):
        Bridge(loop).call(cancel_self(), 5)
