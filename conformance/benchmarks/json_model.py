"""DICOM JSON beside pydicom's ``to_json_dict``, and the splitter, on the header of a CT image.

Run ``python -m conformance.benchmarks.json_model``; ends with 1 when the ratio is below `REQUIRED_RATIO`. Each is the
best of `ROUNDS`, the two sides in turn: what else the machine does only ever adds.
"""

from __future__ import annotations

import hashlib
import io
import logging
import sys
import time
import warnings
from collections.abc import Callable

import pydicom
from pydicom.data import get_testdata_file

from dicomhub.dicom.json_model import header_to_json
from dicomhub.dicom.part10 import BulkWriter, Split, Splitter

REQUIRED_RATIO = 6.0
ROUNDS = 60
PIXELS = bytes(range(256)) * 2048
"""512 x 512 pixels of 16 bits."""


class Discarding:
    """A writer that counts."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self.size += len(data)

    def finish(self) -> tuple[bytes, int]:
        return bytes(32), self.size

    def discard(self) -> None:
        """Nothing was kept."""


class Hashing(Discarding):
    """A writer that counts and hashes."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        super().write(data)
        self.digest.update(data)


def ct_image() -> bytes:
    """pydicom's CT image, enlarged to 512 x 512."""
    ds = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    ds.Rows = ds.Columns = 512
    ds.PixelData = PIXELS
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def split(data: bytes, chunk_size: int, writer: Callable[[], BulkWriter]) -> Split:
    """Feed in chunks as a connection would."""
    splitter = Splitter(writer)
    view = memoryview(data)
    for at in range(0, len(data), chunk_size):
        splitter.feed(view[at : at + chunk_size])
    return splitter.finish()


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def compare(data: bytes) -> tuple[float, float]:
    """Best milliseconds of pydicom (whose reading of the file does not count) and of ours."""
    parts = split(data, len(data), Discarding)
    theirs, ours = [], []
    for _ in range(ROUNDS):
        ds = pydicom.dcmread(io.BytesIO(data))
        theirs.append(timed(lambda: ds.to_json_dict(32 * 1024, lambda element: "@bulk")))  # noqa: B023
        ours.append(timed(lambda: header_to_json(parts.header, parts.segments, parts.transfer_syntax_uid)))
    return min(theirs), min(ours)


def main() -> int:
    """Print the figures."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    data = ct_image()
    count = len(pydicom.dcmread(io.BytesIO(data)))
    theirs, ours = compare(data)
    ratio = theirs / ours
    print(f"JSON of a CT header, {count} elements: pydicom to_json_dict {theirs:.3f} ms, header_to_json {ours:.3f} ms")
    print(f"ratio {ratio:.1f} (required {REQUIRED_RATIO:.0f})")
    for chunk_size in (16 * 1024, 64 * 1024, 128 * 1024):
        plain = min(timed(lambda: split(data, chunk_size, Discarding)) for _ in range(ROUNDS))  # noqa: B023
        hashed = min(timed(lambda: split(data, chunk_size, Hashing)) for _ in range(ROUNDS))  # noqa: B023
        print(
            f"split of {len(data) // 1024} KiB in chunks of {chunk_size // 1024} KiB: "
            f"{plain:.3f} ms, with SHA-256 {hashed:.3f} ms"
        )
    return 0 if ratio >= REQUIRED_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
