from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dicomhub.dimse.operation import encode_p_data


@given(st.binary(min_size=1, max_size=2000), st.integers(64, 600), st.booleans())
def test_law_fragments_join_to_the_message(data: bytes, max_pdu: int, is_command: bool) -> None:
    """PS3.8 9.3.5, E.2: each PDU holds one value, none is longer than announced, only the last says so."""
    pdus = encode_p_data(5, data, max_pdu, is_command=is_command)
    parts, controls, at = [], [], 0
    while at < len(pdus):
        pdu_length = int.from_bytes(pdus[at + 2 : at + 6], "big")
        assert pdus[at] == 4
        assert pdu_length <= max_pdu
        assert int.from_bytes(pdus[at + 6 : at + 10], "big") == pdu_length - 4
        assert pdus[at + 10] == 5
        controls.append(pdus[at + 11])
        parts.append(pdus[at + 12 : at + 6 + pdu_length])
        at += 6 + pdu_length
    assert b"".join(parts) == data
    assert controls == [is_command] * (len(controls) - 1) + [is_command | 2]
