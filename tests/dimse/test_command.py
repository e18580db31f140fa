from __future__ import annotations

import contextlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dsutils import decode

from dicomhub.dimse.command import Command, CommandField, Element, encode_command, encode_response, parse_command

STORE = {
    Element.COMMAND_FIELD: 0x0001,
    Element.MESSAGE_ID: 7,
    Element.AFFECTED_SOP_CLASS_UID: "1.2.840.10008.5.1.4.1.1.2",
    Element.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
    Element.PRIORITY: 0,
    Element.COMMAND_DATA_SET_TYPE: 0x0001,
}


def test_command_set_is_read_as_pydicom_reads_it() -> None:
    data = encode_command({**STORE, Element.MOVE_ORIGINATOR_AE_TITLE: "MOVER", Element.MOVE_ORIGINATOR_MESSAGE_ID: 3})
    ds = decode(BytesIO(data), True, True)
    command = parse_command(data)
    assert ds.CommandGroupLength == len(data) - 12
    assert (command.field, command.message_id) == (ds.CommandField, ds.MessageID)
    assert (command.sop_class_uid, command.sop_instance_uid) == (ds.AffectedSOPClassUID, ds.AffectedSOPInstanceUID)
    assert command.text(Element.MOVE_ORIGINATOR_AE_TITLE) == ds.MoveOriginatorApplicationEntityTitle == "MOVER"
    assert command.number(Element.MOVE_ORIGINATOR_MESSAGE_ID) == 3
    assert command.has_data_set


uids = st.from_regex(r"[1-9][0-9]{0,9}(\.[1-9][0-9]{0,9}){1,4}", fullmatch=True)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), uids, uids)
def test_law_encode_then_parse_is_identity(message_id: int, priority: int, sop_class: str, instance: str) -> None:
    command = parse_command(
        encode_command(
            {
                **STORE,
                Element.MESSAGE_ID: message_id,
                Element.PRIORITY: priority,
                Element.AFFECTED_SOP_CLASS_UID: sop_class,
                Element.AFFECTED_SOP_INSTANCE_UID: instance,
            }
        )
    )
    assert (command.message_id, command.number(Element.PRIORITY)) == (message_id, priority)
    assert (command.sop_class_uid, command.sop_instance_uid) == (sop_class, instance)


@given(st.binary(max_size=200))
def test_law_any_bytes_parse_or_raise_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_command(data), Command)


def test_cut_off_command_set_is_an_error() -> None:
    data = encode_command(STORE)
    boundary = len(data) - 8 - len("1.2.3\0")  # before the last element, which is not mandatory for reading
    for end in {*range(len(data))} - {boundary}:
        with pytest.raises(ValueError):
            parse_command(data[:end])


@pytest.mark.parametrize("missing", [Element.COMMAND_FIELD, Element.MESSAGE_ID, Element.COMMAND_DATA_SET_TYPE])
def test_missing_mandatory_element_is_an_error(missing: Element) -> None:
    with pytest.raises(ValueError, match=f"0000,{missing:04X}"):
        parse_command(encode_command({element: value for element, value in STORE.items() if element != missing}))


def test_data_set_elements_do_not_belong_in_a_command_set() -> None:
    with pytest.raises(ValueError, match="0008,0018"):
        parse_command(encode_command(STORE) + b"\x08\x00\x18\x00\x02\x00\x00\x001\x00")


def test_response_repeats_the_request_and_cuts_the_comment() -> None:
    response = encode_response(parse_command(encode_command(STORE)), 0xA900, "Größe\nzu\\klein " * 20)
    ds = decode(BytesIO(response), True, True)
    assert (ds.CommandField, ds.MessageIDBeingRespondedTo, ds.Status) == (0x8001, 7, 0xA900)
    assert (ds.AffectedSOPClassUID, ds.AffectedSOPInstanceUID) == ("1.2.840.10008.5.1.4.1.1.2", "1.2.3")
    assert ds.ErrorComment.startswith("Gr??e zu/klein Gr??e")
    assert len(ds.ErrorComment) <= 64
    assert ds.CommandDataSetType == 0x0101


def test_response_and_cancel_name_the_message_they_answer() -> None:
    cancel = {Element.COMMAND_FIELD: int(CommandField.C_CANCEL), Element.COMMAND_DATA_SET_TYPE: 0x0101}
    assert parse_command(encode_command({**cancel, Element.MESSAGE_ID_BEING_RESPONDED_TO: 9})).message_id == 9
    with pytest.raises(ValueError, match="0000,0120"):
        parse_command(encode_command({**cancel, Element.MESSAGE_ID: 9}))
