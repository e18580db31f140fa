"""Real files, hand-made data sets, and a splitter that writes to memory."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import pydicom

from dicomhub.dicom.part10 import Split, Splitter, join, make_file_meta

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data" / "dicom"
WHEEL = Path(pydicom.__file__).parent / "data"
_NOT_DICOM = {".py", ".pyc", ".json", ".txt", ".dump", ".csv", ".gz", ".icc", ".md"}

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"

REFUSED = {
    "MR_truncated.dcm": "Truncated",
    "rtplan_truncated.dcm": "Truncated",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "Truncated",
    "no_meta.dcm": "NotDicom",  # begins with a stray byte
}
"""Real files that are no whole data set."""


def real_files() -> list[Path]:
    """DICOM files of the pydicom wheel, and the shared ones where they are."""
    found = [path for folder in (WHEEL, SHARED) if folder.is_dir() for path in sorted(folder.rglob("*"))]
    return [path for path in found if path.is_file() and path.suffix not in _NOT_DICOM and path.name != "README"]


def readable_files() -> list[Path]:
    """Those that are whole data sets."""
    return [path for path in real_files() if path.name not in REFUSED]


def name_of(path: Path) -> str:
    """Short name of a real file, for test ids."""
    return "/".join(path.parts[-2:])


class MemoryWriter:
    """A `BulkWriter` that keeps its bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_finished = False
        self.is_discarded = False

    def write(self, data: bytes | memoryview) -> None:
        self.data += data

    def finish(self) -> tuple[bytes, int]:
        self.is_finished = True
        return hashlib.sha256(self.data).digest(), len(self.data)

    def discard(self) -> None:
        self.is_discarded = True


class Memory:
    """Splits data and keeps what was cut out."""

    def __init__(self) -> None:
        self.writers: list[MemoryWriter] = []

    def new_bulk(self) -> MemoryWriter:
        self.writers.append(MemoryWriter())
        return self.writers[-1]

    def split(self, data: bytes, chunk_sizes: Iterable[int] = (), **options: int) -> Split:
        """Feed ``data`` in chunks of the given sizes, then the rest at once."""
        splitter = Splitter(self.new_bulk, **options)
        at = 0
        for size in chunk_sizes:
            splitter.feed(data[at : at + size])
            at += size
        splitter.feed(data[at:])
        return splitter.finish()

    def blob(self, digest: bytes) -> bytes:
        return next(bytes(w.data) for w in self.writers if hashlib.sha256(w.data).digest() == digest)

    def joined(self, split: Split) -> bytes:
        return b"".join(join(split.header, split.segments, lambda segment: [self.blob(segment.digest)]))


def split(data: bytes, **options: int) -> Split:
    """`Memory.split` where the blobs do not matter."""
    return Memory().split(data, **options)


LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}


def element(tag: int, vr: str, value: bytes, *, big: bool = False, length: int | None = None) -> bytes:
    """A data element in Explicit VR; in Implicit VR when ``vr`` is empty."""
    order = ">" if big else "<"
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    length = len(value) if length is None else length
    if not vr:
        return head + struct.pack(order + "I", length) + value
    if vr in LONG:
        return head + vr.encode() + struct.pack(order + "HI", 0, length) + value
    return head + vr.encode() + struct.pack(order + "H", length) + value


CHARSET = element(0x00080005, "CS", b"ISO_IR 192")
"""Specific Character Set UTF-8."""

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


def item(value: bytes, *, big: bool = False, undefined: bool = False) -> bytes:
    """An item, or a fragment."""
    if undefined:
        end = element(ITEM_END, "", b"", big=big)
        return element(ITEM, "", value, big=big, length=UNDEFINED) + end
    return element(ITEM, "", value, big=big)


def sequence(tag: int, items: Sequence[bytes], *, vr: str = "SQ", big: bool = False, undefined: bool = False) -> bytes:
    """A sequence of items."""
    if undefined:
        end = element(SEQUENCE_END, "", b"", big=big)
        return element(tag, vr, b"".join(items), big=big, length=UNDEFINED) + end
    return element(tag, vr, b"".join(items), big=big)


def encapsulated(fragments: Sequence[bytes], *, offset_table: bytes = b"", tag: int = 0x7FE00010) -> bytes:
    """Encapsulated pixel data."""
    return sequence(tag, [item(offset_table), *map(item, fragments)], vr="OB", undefined=True)


def part10(data_set: bytes, transfer_syntax_uid: str = EXPLICIT) -> bytes:
    """A file."""
    return make_file_meta("1.2.840.10008.5.1.4.1.1.7", "1.2.3", transfer_syntax_uid) + data_set
