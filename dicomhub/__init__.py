"""dicomhub: a DICOMweb and DIMSE server over a content-addressed, versioned store."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dicomhub")
except PackageNotFoundError:  # running from a bare checkout
    __version__ = "0.0.0"

IMPLEMENTATION_CLASS_UID = "1.2.826.0.1.3680043.10.1735.1"
"""Implementation Class UID (PS3.7 D.3.3.2); never changes, so that file meta made by us is reproducible."""

IMPLEMENTATION_VERSION_NAME = "DICOMHUB"
"""Implementation Version Name, at most 16 characters. No release number on purpose: it would change stored bytes."""
