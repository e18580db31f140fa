"""Memory of immutable things by their digest; they never go stale, so nothing has to be invalidated."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """The values used last, as many as fit into ``max_bytes``. For one thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._values: OrderedDict[bytes, tuple[T, int]] = OrderedDict()

    def get(self, digest: bytes) -> T | None:
        """The value of ``digest``, if it is remembered."""
        found = self._values.get(digest)
        if found is None:
            return None
        self._values.move_to_end(digest)
        return found[0]

    def put(self, digest: bytes, value: T, size: int) -> None:
        """Remember ``value``, which takes about ``size`` bytes; what is larger than the whole cache is not kept."""
        if size > self._max_bytes or digest in self._values:
            return
        self._values[digest] = (value, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, dropped) = self._values.popitem(last=False)
            self._bytes -= dropped
