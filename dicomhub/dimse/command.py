"""Command sets of DIMSE messages (PS3.7 6.3.1): read and written as bytes, without a data set library.

A command set is a handful of short elements in Implicit VR Little Endian. One passes per stored instance in each
direction, so this path is kept to a few microseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

MAX_COMMAND_SET = 65536
"""Bytes; real ones have about 200, offending elements and attribute lists make them longer."""

NO_DATA_SET = 0x0101
RESPONSE = 0x8000
ERROR_COMMENT_MAX = 64
"""Characters of an LO (PS3.5 6.2)."""


class CommandField(IntEnum):
    """Command Field (0000,0100) of requests; a response adds 0x8000 (PS3.7 E.1)."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF


class Element(IntEnum):
    """Element numbers of group 0000 (PS3.7 E.1)."""

    GROUP_LENGTH = 0x0000
    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    MOVE_DESTINATION = 0x0600
    PRIORITY = 0x0700
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    OFFENDING_ELEMENT = 0x0901
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    MOVE_ORIGINATOR_AE_TITLE = 0x1030
    MOVE_ORIGINATOR_MESSAGE_ID = 0x1031


_UID = frozenset({Element.AFFECTED_SOP_CLASS_UID, Element.REQUESTED_SOP_CLASS_UID, Element.AFFECTED_SOP_INSTANCE_UID})


@dataclass(frozen=True, slots=True)
class Command:
    """One received command set."""

    field: int
    message_id: int
    """Message ID (0000,0110) of a request, Message ID Being Responded To (0000,0120) of a response or C-CANCEL."""
    has_data_set: bool
    elements: Mapping[int, bytes]
    """Raw values by element number."""

    def text(self, element: Element) -> str:
        """Value of a UI, AE or LO element without its padding; empty when absent."""
        return self.elements.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace").strip()

    def number(self, element: Element) -> int | None:
        """Value of a US element; None when absent."""
        return _unsigned_short(self.elements, element)

    @property
    def sop_class_uid(self) -> str:
        """Affected or Requested SOP Class UID."""
        return self.text(Element.AFFECTED_SOP_CLASS_UID) or self.text(Element.REQUESTED_SOP_CLASS_UID)

    @property
    def sop_instance_uid(self) -> str:
        """Affected SOP Instance UID."""
        return self.text(Element.AFFECTED_SOP_INSTANCE_UID)


def parse_command(data: bytes) -> Command:
    """Read an encoded command set.

    Raises
    ------
    ValueError
        An element is cut off, or Command Field, Command Data Set Type or the message ID is missing.
    """
    elements: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        group, number, length = _element_header(data, offset)
        offset += 8 + length
        if group == 0 and offset <= len(data):
            elements[number] = data[offset - length : offset]
        elif group or offset > len(data):
            raise ValueError(f"({group:04X},{number:04X}) does not belong in this command set or is cut off")
    field = _required(elements, Element.COMMAND_FIELD)
    is_answer = field & RESPONSE or field == CommandField.C_CANCEL
    message_id = _required(elements, Element.MESSAGE_ID_BEING_RESPONDED_TO if is_answer else Element.MESSAGE_ID)
    return Command(field, message_id, _required(elements, Element.COMMAND_DATA_SET_TYPE) != NO_DATA_SET, elements)


def _element_header(data: bytes, offset: int) -> tuple[int, int, int]:
    try:
        return struct.unpack_from("<HHL", data, offset)
    except struct.error as error:
        raise ValueError("The command set ends inside an element") from error


def _required(elements: Mapping[int, bytes], element: Element) -> int:
    value = _unsigned_short(elements, element)
    if value is None:
        raise ValueError(f"(0000,{element:04X}) is missing in the command set")
    return value


def _unsigned_short(elements: Mapping[int, bytes], element: Element) -> int | None:
    raw = elements.get(element, b"")
    return int.from_bytes(raw[:2], "little") if len(raw) >= 2 else None


def encode_command(values: Mapping[Element, int | str]) -> bytes:
    """Write a command set with its group length; elements in ascending order, UIDs padded with NUL, text with space."""
    body = b"".join(_encode_element(element, values[element]) for element in sorted(values))
    return struct.pack("<HHLL", 0, Element.GROUP_LENGTH, 4, len(body)) + body


def _encode_element(element: Element, value: int | str) -> bytes:
    if isinstance(value, int):
        return struct.pack("<HHLH", 0, element, 2, value)
    raw = value.encode("ascii", "replace")
    if len(raw) % 2:
        raw += b"\0" if element in _UID else b" "
    return struct.pack("<HHL", 0, element, len(raw)) + raw


def encode_response(request: Command, status: int, comment: str = "", *, has_data_set: bool = False) -> bytes:
    """The response to ``request``: the same message ID and SOP UIDs, with ``status`` (PS3.7 9.3, 10.3).

    Parameters
    ----------
    comment
        Error Comment (0000,0902); cut to 64 characters of the default repertoire.
    """
    values: dict[Element, int | str] = {
        Element.COMMAND_FIELD: request.field | RESPONSE,
        Element.MESSAGE_ID_BEING_RESPONDED_TO: request.message_id,
        Element.COMMAND_DATA_SET_TYPE: 0x0001 if has_data_set else NO_DATA_SET,
        Element.STATUS: status,
    }
    if request.sop_class_uid:
        values[Element.AFFECTED_SOP_CLASS_UID] = request.sop_class_uid
    if request.sop_instance_uid:
        values[Element.AFFECTED_SOP_INSTANCE_UID] = request.sop_instance_uid
    if comment:
        values[Element.ERROR_COMMENT] = " ".join(comment.split()).replace("\\", "/")[:ERROR_COMMENT_MAX]
    return encode_command(values)
