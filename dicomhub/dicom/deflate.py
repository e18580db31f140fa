"""Inflating a Deflated Explicit VR Little Endian data set (PS3.5 A.5) while it passes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from dicomhub.errors import NotDicom, Refused

_STEP: Final = 256 * 1024
"""Bytes inflated at once; deflate expands up to 1032 times, so a chunk is never inflated whole."""


class Inflater:
    """Raw deflate (RFC 1951) with a limit.

    Parameters
    ----------
    max_size
        Bytes it may inflate to: what protects from a few KB that inflate to terabytes.
    """

    def __init__(self, max_size: int) -> None:
        self._decompress = zlib.decompressobj(-zlib.MAX_WBITS)
        self._max_size = max_size
        self._size = 0

    @property
    def is_complete(self) -> bool:
        """Whether the end of the compressed stream has passed; bytes after it are padding."""
        return self._decompress.eof

    def inflate(self, data: bytes | memoryview) -> Iterator[bytes]:
        """What ``data`` inflates to, in pieces.

        Raises
        ------
        NotDicom
            When it is not deflated.
        Refused
            When it inflates to more than the limit.
        """
        while not self._decompress.eof:
            try:
                piece = self._decompress.decompress(data, _STEP)
            except zlib.error as error:
                raise NotDicom(f"the data set is not deflated as its transfer syntax says: {error}") from error
            data = self._decompress.unconsumed_tail
            self._size += len(piece)
            if self._size > self._max_size:
                raise Refused(f"the deflated data set inflates to more than {self._max_size} bytes", 0xA700)
            if piece:
                yield piece
            elif not data:
                return
