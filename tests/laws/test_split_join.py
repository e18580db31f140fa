"""Splitting and joining is identity, whatever the file and however it is cut into chunks."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomhub.dicom.file_meta import prologue_of
from dicomhub.dicom.part10 import decode_recipe, encode_recipe
from dicomhub.dicom.structure import ENDLESS, Container
from dicomhub.dicom.walk import BULK, walk
from dicomhub.errors import NotDicom, Refused, Truncated
from tests.dicom.parts import (
    EXPLICIT,
    IMPLICIT,
    Memory,
    element,
    encapsulated,
    item,
    name_of,
    part10,
    readable_files,
    sequence,
)


def chunk_sizes(seed: int, total: int) -> list[int]:
    """A few hundred chunks of all sizes, single bytes among them."""
    rng = random.Random(seed)
    largest = max(2, total // 50)
    return [rng.choice((1, 1, 2, 7, 12, 133, rng.randrange(1, largest))) for _ in range(300)]


@pytest.mark.parametrize("path", readable_files(), ids=name_of)
def test_law_split_then_join_is_identity(path: Path) -> None:
    data = path.read_bytes()
    for seed, threshold in ((1, 32 * 1024), (2, 100)):
        memory = Memory()
        split = memory.split(data, chunk_sizes(seed, len(data)), bulk_threshold=threshold)
        joined = memory.joined(split)
        assert hashlib.sha256(joined).digest() == hashlib.sha256(data).digest()
        assert split.size == len(data)
        digest = hashlib.sha256(split.header).digest()
        recipe = decode_recipe(encode_recipe(digest, len(split.header), split.segments))
        assert (recipe.segments, recipe.size) == (split.segments, len(data))


@pytest.mark.parametrize("path", readable_files(), ids=name_of)
def test_law_chunking_does_not_change_the_split(path: Path) -> None:
    data = path.read_bytes()
    whole = Memory().split(data)
    pieces = Memory().split(data, chunk_sizes(len(data), len(data)))
    for left, right in ((whole, pieces), (whole.view, pieces.view)):
        if left is None or right is None:
            assert left is right
            continue
        assert (left.header, left.segments) == (right.header, right.segments)
        assert (left.dataset_offset, left.transfer_syntax_uid) == (right.dataset_offset, right.transfer_syntax_uid)


def bulk_events(header: bytes, segments: tuple[object, ...]) -> int:
    prologue = prologue_of(header)
    box = Container(False, False, prologue.dataset_offset, ENDLESS, prologue.implicit, prologue.little)
    return sum(event[0] == BULK for event in walk(header, box, segments))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", readable_files(), ids=name_of)
def test_law_a_walk_over_the_header_meets_every_segment(path: Path) -> None:
    for threshold in (32 * 1024, 64):
        split = Memory().split(path.read_bytes(), bulk_threshold=threshold)
        view = split.view or split
        assert bulk_events(view.header, view.segments) == len(view.segments)


values = st.binary(max_size=40).map(lambda raw: raw + bytes(len(raw) % 2))


def data_sets(explicit: bool) -> st.SearchStrategy[bytes]:
    """Elements, nested in sequences of all encodings, with encapsulated values among them."""
    vrs = ["OB", "UN", "LO", "DS", "UT", "US", "PN", "OW"] if explicit else [""]
    plain = st.builds(element, st.integers(0x00090010, 0x60000000), st.sampled_from(vrs), values)
    sq = "SQ" if explicit else ""
    parent = 0x00081140  # Referenced Image Sequence: the dictionary knows it in Implicit VR

    def nest(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        items = st.builds(
            lambda parts, undefined: item(b"".join(parts), undefined=undefined),
            st.lists(inner, max_size=3),
            st.booleans(),
        )
        return st.builds(
            lambda parts, undefined: sequence(parent, parts, vr=sq, undefined=undefined),
            st.lists(items, max_size=3),
            st.booleans(),
        )

    icon = st.builds(lambda fragments: encapsulated(fragments, tag=0x00091010), st.lists(values, max_size=3))
    leaf = st.one_of(plain, icon) if explicit else plain
    return st.lists(st.recursive(leaf, nest, max_leaves=8), min_size=1, max_size=5).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(st.booleans().flatmap(lambda explicit: st.tuples(st.just(explicit), data_sets(explicit))), st.data())
def test_law_generated_data_sets_survive(generated: tuple[bool, bytes], draw: st.DataObject) -> None:
    explicit, body = generated
    first = element(0x00080005, "CS" if explicit else "", b"ISO_IR 192")
    data = part10(first + body, EXPLICIT if explicit else IMPLICIT)
    threshold = draw.draw(st.sampled_from((1, 8, 30, 1000)))
    sizes = draw.draw(st.lists(st.integers(1, 60), max_size=40))
    memory = Memory()
    split = memory.split(data, sizes, bulk_threshold=threshold)
    assert memory.joined(split) == data
    assert split == Memory().split(data, bulk_threshold=threshold)
    assert bulk_events(split.header, split.segments) == len(split.segments)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([path for path in readable_files() if path.stat().st_size < 12_000]), st.data())
def test_law_damaged_files_are_read_whole_or_refused(path: Path, draw: st.DataObject) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(draw.draw(st.integers(1, 6))):
        at = draw.draw(st.integers(0, len(data)))
        damage = draw.draw(
            st.sampled_from([b"", b"\xff\xff\xff\xff", b"\xfe\xff\x00\xe0", b"\0" * 8]) | st.binary(max_size=4)
        )
        data[at : at + draw.draw(st.integers(0, 8))] = damage
    memory = Memory()
    try:
        split = memory.split(bytes(data), [200, 1, 1, 500], bulk_threshold=256)
    except Refused:
        assert all(writer.is_discarded for writer in memory.writers)
        return
    assert memory.joined(split) == data
    view = split.view or split
    assert bulk_events(view.header, view.segments) == len(view.segments)


def test_law_a_truncated_file_is_refused_but_between_elements() -> None:
    """Cut at every byte: what is accepted ends where an element ends."""
    nested = sequence(0x00081140, [item(element(0x00081150, "UI", b"1.2\0"))], undefined=True)
    elements = [
        element(0x00080005, "CS", b"ISO_IR 192"),
        element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
        nested,
        sequence(0x00082112, [item(element(0x00081150, "UI", b"1.2\0"), undefined=True)]),
        element(0x00091001, "OB", b"\1" * 40),
        encapsulated([b"\xff\xd8\1\xff\xd9\0", b"\2" * 30]),
        element(0xFFFCFFFC, "OB", b"\1" * 10),
    ]
    start = len(part10(b""))
    ends = {start + len(b"".join(elements[:count])) for count in range(1, len(elements) + 1)}
    data = part10(b"".join(elements))
    for stop in range(len(data) + 1):
        memory = Memory()
        if stop in ends:
            assert memory.joined(memory.split(data[:stop], bulk_threshold=32)) == data[:stop]
            continue
        with pytest.raises((Truncated, NotDicom)):
            memory.split(data[:stop], bulk_threshold=32)
        assert all(writer.is_discarded for writer in memory.writers)
