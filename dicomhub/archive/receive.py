"""From bytes on the wire to a staged instance: the synchronous half of ingest, for any thread."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import Any

import orjson
import zstandard

from dicomhub.config import Config
from dicomhub.dicom.frames import frame_table
from dicomhub.dicom.json_model import header_to_dict
from dicomhub.dicom.levels import split_levels
from dicomhub.dicom.model import InstanceRef, is_uid
from dicomhub.dicom.part10 import Split, Splitter, encode_recipe
from dicomhub.errors import MissingIdentifier, Refused
from dicomhub.index.records import BlobRow, InstanceRecord
from dicomhub.store import INLINE_MAX, BlobStore, Staged, Staging

METADATA_MAX = 4 * 1024**2
"""Bytes of header up to which DICOM JSON metadata is kept beside the instance; above, it is made on request."""

LARGE_MAX_ITEMS = 1000
"""Items above which a sequence of a larger header is left out of what is made of it at ingest."""


@dataclass(frozen=True, slots=True)
class Received:
    """A complete instance: its parts staged, nothing of it visible yet. Store it or discard it."""

    record: InstanceRecord
    split: Split
    metadata: dict[str, Any]
    """DICOM JSON of the data set, bulk values as BulkDataURI; without the largest sequences of a very large header."""
    parts: list[Staging]
    """All that was staged for this instance."""
    put: set[bytes] = field(default_factory=set)
    """Digests of those that are in the blob store already."""

    @property
    def ref(self) -> InstanceRef:
        """The three UIDs."""
        return self.record.ref

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID (0008,0016) of the data set."""
        return self.record.sop_class_uid

    @property
    def staged(self) -> list[Staged]:
        """The parts that still have to go to the blob store; the small ones travel inline in ``record.blobs``."""
        stored = {row.digest for row in self.record.blobs if row.data is None} - self.put
        return [part.staged for part in self.parts if part.staged.digest in stored]

    def discard(self) -> None:
        """Delete what is staged; harmless after the parts are stored."""
        for part in self.parts:
            part.discard()


class Receiver:
    """Takes one instance as a stream of bytes, in one pass.

    Memory is bounded by ``max_header_bytes``, for the header and for what goes inline, whatever the instance's size.
    Not thread-safe, but may move between threads.

    Parameters
    ----------
    own_file_meta
        Whether the sender chose the file meta information (STOW-RS, import). False for C-STORE, where we make it:
        then the data set alone decides whether an instance is the same as a stored one.
    """

    def __init__(self, store: BlobStore, config: Config, *, own_file_meta: bool = True) -> None:
        self._store = store
        self._own_file_meta = own_file_meta
        self._parts: list[Staging] = []
        self._open: list[Staging] = []
        self._inline = 0
        self._max_inline = config.max_header_bytes
        self._splitter = Splitter(
            self._new_part, max_header=config.max_header_bytes, max_inflated=config.max_inflated_bytes
        )

    def _new_part(self) -> Staging:
        self._check_inline()
        part = self._store.stage()
        self._parts.append(part)
        self._open.append(part)
        return part

    def _check_inline(self) -> None:
        """Parts that are small enough for the database wait for it in memory: very many of them are refused."""
        for part in [part for part in self._open if part.is_finished]:
            self._open.remove(part)
            self._inline += len(part.staged.data or b"")
        if self._inline > self._max_inline:
            raise Refused(f"values of less than {INLINE_MAX} bytes have more than {self._max_inline} together", 0xA700)

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises
        ------
        Refused
            As soon as the bytes cannot become an instance; nothing remains staged.
        """
        try:
            self._splitter.feed(chunk)
        except BaseException:
            self.discard()
            raise

    def finish(self) -> Received:
        """End of the bytes: check and describe the instance.

        Raises
        ------
        NotDicom, Truncated, MissingIdentifier
            Nothing remains staged.
        """
        try:
            split = self._splitter.finish()
            return describe(split, self._store, self._parts, own_file_meta=self._own_file_meta)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Delete everything staged."""
        for part in self._parts:
            part.discard()
        self._parts.clear()


def describe(
    split: Split, store: BlobStore, parts: list[Staging], *, own_file_meta: bool, put: set[bytes] | None = None
) -> Received:
    """Make the record of a split instance whose segments are among ``parts``; its headers and frame table join them.

    Raises
    ------
    MissingIdentifier
        When the data set does not name itself.
    """
    view = split.view or split
    # The per-frame sequence of a slide would take gigabytes as objects: it is left out here, and told from the header.
    is_large = len(view.header) > METADATA_MAX
    max_items = LARGE_MAX_ITEMS if is_large else None
    metadata = header_to_dict(view.header, view.segments, view.transfer_syntax_uid, max_items=max_items)
    metadata_json = None if is_large else orjson.dumps(metadata)
    ref, sop_class_uid = identify(metadata)
    table = frame_table(view, metadata)
    table_digest = _stage(store, parts, table.encode()) if table is not None else None
    header_digest = _stage(store, parts, split.header)
    recipe = encode_recipe(header_digest, len(split.header), split.segments)
    needed = {header_digest, *(segment.digest for segment in split.segments)}
    view_recipe = None
    if split.view is not None:
        view_header_digest = _stage(store, parts, view.header)
        view_recipe = encode_recipe(view_header_digest, len(view.header), view.segments)
        needed |= {view_header_digest, *(segment.digest for segment in view.segments)}
    if table_digest is not None:
        needed.add(table_digest)
    study, series, instance = split_levels(metadata)
    record = InstanceRecord(
        ref=ref,
        sop_class_uid=sop_class_uid,
        transfer_syntax_uid=split.transfer_syntax_uid,
        recipe=recipe,
        recipe_digest=hashlib.sha256(recipe).digest(),
        dataset_digest=dataset_digest(split),
        own_file_meta=own_file_meta,
        view_recipe=view_recipe,
        size=split.size,
        frame_table_digest=table_digest,
        pixel_segment=view.pixel_data.segment if table is not None and view.pixel_data is not None else None,
        number_of_frames=table.count if table is not None else 0,
        metadata=pack(metadata_json) if metadata_json is not None else None,
        study_attributes=study,
        series_attributes=series,
        instance_attributes=instance,
        blobs=tuple({part.staged.digest: _row(part.staged) for part in parts if part.staged.digest in needed}.values()),
    )
    return Received(record, split, metadata, parts, set() if put is None else put)


def identify(metadata: dict[str, Any]) -> tuple[InstanceRef, str]:
    """The UIDs that name an instance.

    Raises
    ------
    MissingIdentifier
        Naming the attribute that is absent or no UID (PS3.18 10.5.3, failure reason A900).
    """
    study = _uid(metadata, "0020000D", "Study Instance UID (0020,000D)")
    series = _uid(metadata, "0020000E", "Series Instance UID (0020,000E)")
    instance = _uid(metadata, "00080018", "SOP Instance UID (0008,0018)")
    sop_class_uid = _uid(metadata, "00080016", "SOP Class UID (0008,0016)")
    return InstanceRef(study, series, instance), sop_class_uid


def _uid(metadata: dict[str, Any], tag: str, label: str) -> str:
    values = metadata.get(tag, {}).get("Value") or [""]
    text = values[0] if isinstance(values[0], str) else ""
    if not is_uid(text):
        raise MissingIdentifier(f"{label} is {'no UID: ' + repr(text[:64]) if text else 'missing or empty'}")
    return text


def dataset_digest(split: Split) -> bytes:
    """SHA-256 that names a data set without its file meta: its header bytes, then each segment's place and digest."""
    digest = hashlib.sha256(memoryview(split.header)[split.dataset_offset :])
    for segment in split.segments:
        digest.update((segment.header_offset - split.dataset_offset).to_bytes(8, "big") + segment.digest)
    return digest.digest()


_packers = threading.local()


def pack(data: bytes) -> bytes:
    """zstd, with one compressor per thread: making one takes longer than compressing a header."""
    packer = getattr(_packers, "packer", None)
    if packer is None:
        packer = _packers.packer = zstandard.ZstdCompressor(level=3)
    packed: bytes = packer.compress(data)
    return packed


def _stage(store: BlobStore, parts: list[Staging], data: bytes) -> bytes:
    part = store.stage()
    parts.append(part)
    part.write(data)
    return part.finish()[0]


def _row(part: Staged) -> BlobRow:
    """Inline, compressed where that pays, or a reference to the blob store: the one rule, by size."""
    if part.data is None or part.size > INLINE_MAX:
        return BlobRow(part.digest, part.size, "raw", None)
    packed = pack(part.data)
    if len(packed) < 0.9 * part.size:
        return BlobRow(part.digest, part.size, "zstd", packed)
    return BlobRow(part.digest, part.size, "raw", bytes(part.data))
