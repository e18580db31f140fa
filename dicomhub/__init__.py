"""dicomhub: a DICOMweb and DIMSE server over a content-addressed, versioned store."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dicomhub")
except PackageNotFoundError:  # running from a bare checkout
    __version__ = "0.0.0"

IMPLEMENTATION_CLASS_UID = "2.25.131122264417662680166708092544213628784"
"""Implementation Class UID (PS3.7 D.3.3.2), derived from a UUID (PS3.5 B.2). Never changes: stored bytes hold it."""

IMPLEMENTATION_VERSION_NAME = "DICOMHUB"
"""Implementation Version Name, at most 16 characters. No release number on purpose: it would change stored bytes."""
