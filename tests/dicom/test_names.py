"""The search form of person names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomhub.dicom.names import normalise_person_name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller^Hans", "MULLER^HANS"),
        ("Doe^Jane^^^", "doe^jane"),
        ("Doe ^ Jane ", "Doe^Jane"),
        ("Van  der Berg", "van der berg"),
        ("Straße", "STRASSE"),
        ("Νίκος", "ΝΙΚΟΣ"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ヤマダ^タロウ"),
        ("Mu\u0308ller", "Müller"),
        ("Йорданов", "йорданов"),
    ],
)
def test_names_that_match(one, other):
    assert normalise_person_name(one) == normalise_person_name(other)


@pytest.mark.parametrize(
    ("one", "other"), [("Doe^Jane", "Doe^John"), ("^Doe", "Doe"), ("ハ", "バ"), ("김", "긴"), ("Doe^Jane", "DoeJane")]
)
def test_names_that_do_not_match(one, other):
    assert normalise_person_name(one) != normalise_person_name(other)


def test_wildcards_stay():
    assert normalise_person_name("MÜL*^H?") == "mul*^h?"


@given(st.text(max_size=40))
def test_law_normal_form_is_its_own_normal_form(text):
    once = normalise_person_name(text)
    assert normalise_person_name(once) == once
