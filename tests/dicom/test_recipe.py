"""The recipe's bytes and the way from a range of the file to ranges of its parts."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomhub.dicom.part10 import Piece, Segment, clip, decode_recipe, encode_recipe, join, layout
from dicomhub.errors import Corrupt

DIGEST = hashlib.sha256(b"").digest()


def test_the_binary_form_is_as_documented() -> None:
    other = hashlib.sha256(b"x").digest()
    encoded = encode_recipe(DIGEST, 300, [Segment(132, 5, other)])
    assert encoded == (
        b"DHR1"
        + b"\0\0\0\1"
        + DIGEST
        + (300).to_bytes(8, "big")
        + (132).to_bytes(8, "big")
        + (5).to_bytes(8, "big")
        + other
    )
    assert decode_recipe(encoded).size == 305


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"DHR2" + encode_recipe(DIGEST, 1, [])[4:],
        encode_recipe(DIGEST, 1, []) + b"x",
        encode_recipe(DIGEST, 9, [Segment(5, 1, DIGEST), Segment(4, 1, DIGEST)]),
        encode_recipe(DIGEST, 9, [Segment(10, 1, DIGEST)]),
    ],
)
def test_damage_is_noticed(damaged: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_recipe(damaged)


def test_layout_names_every_byte_once() -> None:
    segments = [Segment(3, 10, DIGEST), Segment(3, 4, DIGEST), Segment(8, 1, DIGEST)]
    assert layout(8, segments) == [
        Piece(0, 3, None, 0),
        Piece(3, 10, 0, 0),
        Piece(13, 4, 1, 0),
        Piece(17, 5, None, 3),
        Piece(22, 1, 2, 0),
    ]


parts = st.lists(st.tuples(st.integers(0, 30), st.binary(min_size=1, max_size=9)), max_size=6)


@given(st.binary(min_size=30, max_size=60), parts, st.data())
def test_a_clipped_layout_is_that_range_of_the_file(
    header: bytes, cuts: list[tuple[int, bytes]], draw: st.DataObject
) -> None:
    cuts.sort(key=lambda cut: cut[0])
    segments = [Segment(offset, len(value), DIGEST) for offset, value in cuts]
    blobs = [value for _, value in cuts]
    values = iter(blobs)
    whole = b"".join(join(header, segments, lambda segment: [next(values)]))
    start = draw.draw(st.integers(0, len(whole)))
    stop = draw.draw(st.integers(0, len(whole) + 5))
    pieces = clip(layout(len(header), segments), start, stop)
    ranged = b"".join((header if p.segment is None else blobs[p.segment])[p.start : p.start + p.size] for p in pieces)
    assert ranged == whole[start:stop]
