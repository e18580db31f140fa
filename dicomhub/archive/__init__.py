"""The domain: every policy, and the only caller of hooks. Both faces and every plugin go through here."""

from __future__ import annotations

from dataclasses import dataclass, field

from dicomhub.archive.wake import Wake
from dicomhub.config import Config
from dicomhub.hooks import Hooks
from dicomhub.index.database import Database
from dicomhub.store import BlobStore


@dataclass(frozen=True, slots=True)
class Archive:
    """The parts that every archive function needs; built once by `dicomhub.app`."""

    config: Config
    store: BlobStore
    database: Database
    hooks: Hooks
    changed: Wake = field(default_factory=Wake)
    """Tells waiting readers of the change feed that there is more."""
