"""Laws of content negotiation (PS3.18 8.7, RFC 9110 12.5.1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomhub.dicom.media_types import (
    Representation,
    choose_bulkdata,
    choose_frames,
    choose_instances,
    choose_metadata,
    choose_rendered,
    parse_accept,
)
from dicomhub.errors import DicomHubError

essences = st.sampled_from(
    [
        *("*/*", "application/*", "image/*", "multipart/related", "junk", "text/html"),
        *("application/dicom", "application/dicom+json", "application/octet-stream", "application/pdf"),
        *("image/jpeg", "image/png", "image/dicom-rle", "video/mp4"),
    ]
)
transfer_syntaxes = st.sampled_from(
    [
        *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.3.4"),
        *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.102"),
    ]
)


@st.composite
def members(draw: st.DrawFn) -> str:
    parameters = []
    if draw(st.booleans()):
        parameters.append(f"transfer-syntax={draw(transfer_syntaxes | st.just('*'))}")
    if draw(st.booleans()):
        parameters.append(f'type="{draw(essences)}"')
    if draw(st.booleans()):
        parameters.append(f"q={draw(st.sampled_from(['0', '0.1', '0.5', '1']))}")
    return "; ".join([draw(essences), *draw(st.permutations(parameters))])


Chooser = Callable[[str], Representation]


def choosers(stored: str) -> dict[str, Chooser]:
    return {
        "instances": lambda accept: choose_instances(parse_accept(accept), stored, single=False),
        "instance": lambda accept: choose_instances(parse_accept(accept), stored, single=True),
        "frame": lambda accept: choose_frames(parse_accept(accept), stored, single=True),
        "frames": lambda accept: choose_frames(parse_accept(accept), stored, single=False),
        "bulkdata": lambda accept: choose_bulkdata(parse_accept(accept), "application/pdf"),
        "metadata": lambda accept: choose_metadata(parse_accept(accept)),
        "rendered": lambda accept: choose_rendered(parse_accept(accept)),
    }


def outcome(chooser: Chooser, accept: list[str]) -> Representation | type[DicomHubError]:
    try:
        return chooser(", ".join(accept))
    except DicomHubError as error:
        return type(error)


@given(data=st.data(), accept=st.lists(members(), max_size=6), stored=transfer_syntaxes)
@pytest.mark.parametrize("kind", list(choosers("")))
def test_law_choice_does_not_depend_on_the_order_of_the_list(
    kind: str, data: st.DataObject, accept: list[str], stored: str
) -> None:
    chooser = choosers(stored)[kind]
    assert outcome(chooser, accept) == outcome(chooser, data.draw(st.permutations(accept)))


@given(accept=st.lists(members(), min_size=1, max_size=4), stored=transfer_syntaxes, junk=st.text(max_size=30))
@pytest.mark.parametrize("kind", ["instances", "frame", "frames", "bulkdata"])
def test_law_members_that_mean_nothing_change_nothing(kind: str, accept: list[str], stored: str, junk: str) -> None:
    chooser = choosers(stored)[kind]
    meaningless = "x-unknown/" + "".join(c for c in junk if c.isalnum())
    assert outcome(chooser, accept) == outcome(chooser, [*accept, meaningless])


@given(text=st.text(max_size=200))
def test_law_any_text_is_parsed(text: str) -> None:
    parse_accept(text)


@given(accept=st.lists(members(), min_size=1, max_size=6), stored=transfer_syntaxes)
@pytest.mark.parametrize("kind", ["instances", "instance", "frame", "frames"])
def test_law_what_is_decoded_is_explicit_vr_little_endian_and_never_video(
    kind: str, accept: list[str], stored: str
) -> None:
    chosen = outcome(choosers(stored)[kind], accept)
    if isinstance(chosen, Representation):
        assert chosen.transfer_syntax_uid in (stored, "1.2.840.10008.1.2.1")
        assert not (chosen.is_decoded and stored in ("1.2.840.10008.1.2.4.102", "1.2.3.4"))
