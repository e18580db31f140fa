"""Every attribute of real files is found by its own value, also in sequences and private blocks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicomhub.archive import Archive, ingest, retrieve
from dicomhub.archive.search import search
from dicomhub.dicom.attributes import vr_of
from dicomhub.dicom.levels import COMPUTED, Attributes
from dicomhub.dicom.matching import Match, Query, SingleValue, Universal, matches, parse_criterion
from dicomhub.dicom.model import InstanceRef, Level
from dicomhub.errors import Refused
from dicomhub.events import SYSTEM, Source

ATTRIBUTES_PER_FILE = 6
SIZE_MAX = 2 * 1024**2
SPECIFIC_CHARACTER_SET = 0x00080005


def files_in(folder: Path) -> Iterator[bytes]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix not in (".csv", ".md", ".txt") and file.stat().st_size < SIZE_MAX:
            yield file.read_bytes()


async def put_all(archive: Archive, folder: Path) -> list[InstanceRef]:
    found = []
    for data in files_in(folder):
        receiver = ingest.receiver(archive)
        try:
            receiver.feed(data)
            found.append((await ingest.store(archive, receiver.finish(), Source())).ref)
        except Refused:
            continue
    return found


def matches_of(attributes: Attributes) -> Iterator[Match]:
    """A condition for each attribute, and for each attribute of first items, that has a value in words or numbers."""
    for tag, element in attributes.items():
        first = next(iter(element.get("Value") or ()), None)
        if isinstance(first, dict) and element["vr"] == "SQ":
            for inner in matches_of(first):
                yield Match((int(tag, 16), *inner.path), inner.vr, inner.criterion)
        elif first is not None and int(tag, 16) not in (SPECIFIC_CHARACTER_SET, *COMPUTED):
            vr = vr_of(int(tag, 16))
            criterion = parse_criterion(vr, "" if vr == "SQ" else as_key(first))
            if not isinstance(criterion, Universal):
                yield Match((int(tag, 16),), vr, criterion)


def as_key(value: Any) -> str:
    if isinstance(value, dict):
        return "=".join(value.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
    return str(value)


async def test_attributes_of_real_files_are_found_by_their_values(archive: Archive, shared_data: Path) -> None:
    chance = random.Random(1)
    refs = await put_all(archive, shared_data / "dicom")
    # Instances of one study may disagree on it; the study is found by the newest word only.
    studies = Counter(ref.study for ref in refs)
    alone = [ref for ref in refs if studies[ref.study] == 1]
    assert len(alone) > 50
    for ref in alone:
        stored = await retrieve.instance(archive, ref, SYSTEM)
        attributes = await retrieve.attributes(archive, stored)
        possible = list(matches_of(attributes))
        for match in chance.sample(possible, min(ATTRIBUTES_PER_FILE, len(possible))):
            assert matches([match], attributes), (ref, match)
            this = Match((0x00080018,), "UI", SingleValue(ref.instance))
            for level, uid in ((Level.INSTANCE, ref.instance), (Level.STUDY, ref.study)):
                tag = 0x00080018 if level is Level.INSTANCE else 0x0020000D
                result = await search(archive, Query(level, (match, this), frozenset({(tag,)})), SYSTEM)
                found = [row[f"{tag:08X}"]["Value"] async for row in result.rows]
                assert found == [[uid]], (ref, match)
