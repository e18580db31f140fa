"""``dicomhub verify``: prove that everything in the index can be read back."""

from __future__ import annotations
