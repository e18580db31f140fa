"""``dicomhub verify``: prove that everything in the index can be read back."""

from __future__ import annotations

import sys

import orjson

from dicomhub.app import open_archive
from dicomhub.archive.verify import verify
from dicomhub.config import Config
from dicomhub.hooks import Hooks
