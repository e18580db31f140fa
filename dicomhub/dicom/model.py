"""Names of things: levels, the identity of an instance, UID syntax."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_UID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
_LENIENT_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")


class Level(StrEnum):
    """Levels of the query/retrieve information models (PS3.4 C.6); IMAGE is called INSTANCE as in PS3.18."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    INSTANCE = "INSTANCE"


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """Identity of one instance: the three UIDs of PS3.18 ``/studies/{study}/series/{series}/instances/{instance}``."""

    study: str
    series: str
    instance: str


@dataclass(frozen=True, slots=True)
class Target:
    """A target resource of retrieve or delete: a study, a series of it, or an instance."""

    study: str
    series: str | None = None
    instance: str | None = None

    @property
    def level(self) -> Level:
        """The level the target names."""
        if self.instance is not None:
            return Level.INSTANCE
        return Level.STUDY if self.series is None else Level.SERIES


def is_uid(text: str, *, strict: bool = False) -> bool:
    """Whether ``text`` can name an object (PS3.5 9.1: digits and dots, at most 64 characters).

    Real files carry components with leading zeros; they are accepted unless ``strict``.
    """
    return 0 < len(text) <= 64 and (_UID if strict else _LENIENT_UID).fullmatch(text) is not None
