"""The facade: all that a plugin may import of dicomhub. It defines nothing; its names are kept stable."""

from dicomhub.archive import Archive
from dicomhub.config import Config
from dicomhub.dicom.matching import Match, Query, parse_criterion
from dicomhub.dicom.model import InstanceRef, Level, Target
from dicomhub.errors import (
    ConfigurationError,
    DicomHubError,
    Forbidden,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)
from dicomhub.events import (
    ANONYMOUS,
    SYSTEM,
    Action,
    Actor,
    Change,
    Event,
    InstancesChanged,
    Peer,
    Source,
)
from dicomhub.hooks import Access, Coercion, Credentials, Incoming, Plugin

__all__ = [
    "ANONYMOUS",
    "SYSTEM",
    "Access",
    "Action",
    "Actor",
    "Archive",
    "Change",
    "Coercion",
    "Config",
    "ConfigurationError",
    "Credentials",
    "DicomHubError",
    "Event",
    "Forbidden",
    "Incoming",
    "InstanceRef",
    "InstancesChanged",
    "Level",
    "Match",
    "NotFound",
    "Peer",
    "Plugin",
    "Query",
    "Refused",
    "Source",
    "Target",
    "Unauthenticated",
    "Unavailable",
    "parse_criterion",
]
