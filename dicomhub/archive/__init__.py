"""The domain: every policy, and the hooks that decide or record. Both faces and every plugin go through here."""

from __future__ import annotations

from dataclasses import dataclass, field

from dicomhub.archive.cache import Cache
from dicomhub.archive.wake import Wake
from dicomhub.config import Config
from dicomhub.dicom.frames import FrameTable
from dicomhub.hooks import Hooks
from dicomhub.index.database import Database
from dicomhub.store import BlobStore

FRAME_TABLES_BYTES = 64 * 1024**2
"""Memory of one process for frame tables; that of a slide with 200,000 frames takes about 3 MB."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The parts that every archive function needs; built once by `dicomhub.app`."""

    config: Config
    store: BlobStore
    database: Database
    hooks: Hooks
    frame_tables: Cache[FrameTable] = field(default_factory=lambda: Cache(FRAME_TABLES_BYTES))
    """Frame tables by their digest: the slices of a series share one, and a slide's is asked for with every tile."""
    changed: Wake = field(default_factory=Wake)
    """Tells waiting readers of the change feed that there is more."""
