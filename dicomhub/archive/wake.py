"""A bell: whoever waits is woken by the next ring; rings without a listener are forgotten."""

from __future__ import annotations

import asyncio
import contextlib


class Wake:
    """Lossy on purpose: waiters look at the database anyway, after each ring and after each time-out."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Return at the next ring, or after ``timeout_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)
