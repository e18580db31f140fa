"""From an association's thread into the event loop and back."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any, TypeVar

from dicomhub.errors import OutOfResources, Unavailable

T = TypeVar("T")


class Bridge:
    """Runs coroutines of the archive on its event loop for threads outside of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run ``coroutine`` on the loop; block this thread until its result.

        Raises
        ------
        OutOfResources
            No result within ``timeout_s`` seconds: the coroutine is cancelled.
        Unavailable
            The loop is closed, or something on it cancelled the coroutine: the server is going down.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:
            coroutine.close()
            raise Unavailable("The server is shutting down, try again later") from error
        try:
            return future.result(timeout_s)
        except concurrent.futures.CancelledError as error:
            raise Unavailable("The server is shutting down, try again later") from error
        except concurrent.futures.TimeoutError as error:
            if future.done():  # the coroutine's own TimeoutError, not our wait
                raise
            future.cancel()
            raise OutOfResources(f"No result within {timeout_s:g} s, try again later") from error
