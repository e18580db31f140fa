"""What happened, to whom it is told: frozen values that hooks receive and the change feed keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dicomhub.dicom.model import InstanceRef


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or system that asks for something (PS3.15 A.5 active participant)."""

    name: str
    """Stable identifier: a user name, a token's name, ``ae:STORESCU``, ``system``."""
    roles: frozenset[str] = field(default_factory=frozenset)


ANONYMOUS = Actor("anonymous")
SYSTEM = Actor("system", frozenset({"administer"}))


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a request came from."""

    address: str = ""
    """IP address, or empty for a request from this machine's command line."""
    ae_title: str = ""
    """Calling AE title, DIMSE only."""
    called_ae_title: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Who sends an instance, from where, through which door."""

    actor: Actor = ANONYMOUS
    peer: Peer = Peer()
    via: str = "import"
    """``dicomweb``, ``dimse``, ``import`` or a plugin's name."""
    reason: str = ""


class Action(StrEnum):
    """What a change did to an instance."""

    CREATED = "created"
    REPLACED = "replaced"
    DELETED = "deleted"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the change sequence: gapless, ordered, never altered."""

    sequence: int
    action: Action
    ref: InstanceRef
    version: int | None
    """Row of the version that is current after the change; None after a deletion."""
    previous_version: int | None
    at: float
    """Seconds since the epoch, UTC."""
    source: Source
    sop_class_uid: str = ""

    def as_json(self) -> dict[str, Any]:
        """The change as the change feed and plugins tell it to others."""
        return {
            "sequence": self.sequence,
            "action": self.action.value,
            "study": self.ref.study,
            "series": self.ref.series,
            "instance": self.ref.instance,
            "sop_class_uid": self.sop_class_uid,
            "version": self.version,
            "previous_version": self.previous_version,
            "at": self.at,
            "actor": self.source.actor.name,
            "via": self.source.via,
            "peer": {"address": self.source.peer.address, "ae_title": self.source.peer.ae_title},
            "reason": self.source.reason,
        }


@dataclass(frozen=True, slots=True)
class InstancesChanged:
    """Consecutive changes, oldest first; at-least-once, in order, per plugin."""

    changes: tuple[Change, ...]


Event = InstancesChanged
"""Everything `Plugin.notify` may receive. More kinds will join: ignore what you do not know."""
