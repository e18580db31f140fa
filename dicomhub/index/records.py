"""What the index is told of an instance, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dicomhub.dicom.model import InstanceRef
from dicomhub.events import Change


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A blob as the index knows it."""

    digest: bytes
    """SHA-256 of the decoded bytes."""
    size: int
    """Bytes when decoded."""
    encoding: str
    """Of ``data``: ``raw`` or ``zstd``."""
    data: bytes | None
    """The bytes, encoded, when they are kept inline; None when they are in the blob store."""


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """Everything the index keeps of one received instance."""

    ref: InstanceRef
    sop_class_uid: str
    transfer_syntax_uid: str
    """As received."""
    recipe: bytes
    """Encoded recipe: header and bulk segments by digest."""
    recipe_digest: bytes
    """SHA-256 of ``recipe``; equal for equal files."""
    dataset_digest: bytes
    """Digest of the data set without file meta information."""
    own_file_meta: bool
    """Whether the sender chose the file meta information; if not, ``dataset_digest`` decides what is the same."""
    view_recipe: bytes | None
    """Recipe of the inflated form, for a deflated file."""
    size: int
    """Bytes of the Part 10 file."""
    frame_table_digest: bytes | None
    number_of_frames: int
    """0 without pixel data."""
    metadata: bytes | None
    """zstd of the DICOM JSON; None when it is too long to be kept."""
    study_attributes: dict[str, Any]
    """DICOM JSON object of patient and study level."""
    series_attributes: dict[str, Any]
    instance_attributes: dict[str, Any]
    blobs: tuple[BlobRow, ...]
    """Every blob that the recipes and the frame table need, inline or not."""
    received_digest: bytes | None = None
    """What ``recipe_digest`` was before plugins coerced; None when they did not. Equal for equal files sent again."""
    pixel_segment: int | None = None
    """Place of the pixel data among the segments of the view recipe (or the recipe); None when there is none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a commit did."""

    kind: str
    """``created``, ``replaced`` or ``duplicate``."""
    change: Change | None
    """None for a duplicate."""
    version_id: int
    """The version that is current now."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where one version of an instance is."""

    version_id: int
    ref: InstanceRef
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    number_of_frames: int
    pixel_segment: int | None
    size: int
    """Bytes of the Part 10 file."""
    stored_at: float
    """Seconds since the epoch."""
    recipe_digest: bytes
    frame_table_digest: bytes | None
    recipe: bytes
    view_recipe: bytes | None

    @property
    def cursor(self) -> tuple[str, str]:
        """Where the next page begins after this one: series and instance."""
        return self.ref.series, self.ref.instance


@dataclass(frozen=True, slots=True)
class MetadataRow:
    """Stored metadata of one version."""

    version_id: int
    ref: InstanceRef
    metadata: bytes | None
    """zstd of the DICOM JSON; None when it has to be made from the header."""

    @property
    def cursor(self) -> tuple[str, str]:
        """Where the next page begins after this one: series and instance."""
        return self.ref.series, self.ref.instance


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a plugin has been told of changes."""

    plugin: str
    sequence: int
    failures: int
    """Failed notifications in a row."""
    last_error: str
    retry_at: float
    """Seconds since the epoch before which nothing is tried; 0 for at once."""
