"""One DIMSE operation as its service sees it: a command, a stream of data set bytes, a way to answer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from dicomhub.dimse.command import MAX_COMMAND_SET, Command, CommandField, encode_response, parse_command
from dicomhub.dimse.upper_layer import UpperLayer
from dicomhub.errors import DicomHubError, PayloadTooLarge
from dicomhub.events import Source

if TYPE_CHECKING:
    from pynetdicom.presentation import PresentationContext

LOGGER = logging.getLogger(__name__)

SUCCESS = 0x0000
PENDING = 0xFF00
PENDING_WITH_WARNING = 0xFF01
CANCELLED = 0xFE00
PROCESSING_FAILURE = 0x0110

MAX_FRAGMENT = 128 * 1024
"""Bytes of the largest PDU that we send, whatever the peer accepts."""
MIN_FRAGMENT = 64
"""Bytes of a PDU that we send to a peer that announces less than makes sense."""


class Messages:
    """Command sets and data sets over an upper layer (PS3.7 6.3), one at a time.

    Parameters
    ----------
    max_pdu
        Maximum length that the peer announced for the variable field of P-DATA-TF PDUs (PS3.8 D.1); 0 is unlimited.
    """

    def __init__(self, upper_layer: UpperLayer, max_pdu: int, idle_timeout_s: float, network_timeout_s: float) -> None:
        self._upper_layer = upper_layer
        self._max_pdu = max(MIN_FRAGMENT, min(max_pdu or MAX_FRAGMENT, MAX_FRAGMENT))
        self._idle_timeout_s = idle_timeout_s
        self._network_timeout_s = network_timeout_s
        self._waiting: tuple[int, Command] | None = None

    def next_command(self) -> tuple[int, Command]:
        """Wait for the next message: its presentation context ID and command set.

        Raises
        ------
        Ended
        """
        if self._waiting is not None:
            received, self._waiting = self._waiting, None
            return received
        return self._read_command(self._idle_timeout_s, may_stop=True)

    def data_set(self, context_id: int) -> Iterator[memoryview]:
        """Bytes of the data set that follows a command set, as they arrive; each view is valid until the next.

        Raises
        ------
        Ended
            Before the last fragment has arrived.
        """
        is_last = False
        while not is_last:
            fragment = self._upper_layer.next_fragment(self._network_timeout_s)
            if fragment.is_command or fragment.context_id != context_id:
                self._upper_layer.violation("A data set is interrupted by another message")
            while view := self._upper_layer.read():
                yield view
            is_last = fragment.is_last

    def is_cancelled(self, message_id: int) -> bool:
        """Whether a C-CANCEL for ``message_id`` has arrived, without waiting for it.

        Another message that has arrived instead is kept until this operation is over.

        Raises
        ------
        Ended
        """
        while self._waiting is None and self._upper_layer.has_p_data():
            context_id, command = self._read_command(self._network_timeout_s, may_stop=False)
            if command.field != CommandField.C_CANCEL:
                self._waiting = context_id, command
            elif command.message_id == message_id:
                return True
        return False

    def send(self, context_id: int, command_set: bytes, data_set: bytes = b"") -> None:
        """Send one message.

        Raises
        ------
        Ended
        """
        pdus = encode_p_data(context_id, command_set, self._max_pdu, is_command=True)
        if data_set:
            pdus += encode_p_data(context_id, data_set, self._max_pdu, is_command=False)
        self._upper_layer.send_p_data(pdus)

    def _read_command(self, timeout_s: float, *, may_stop: bool) -> tuple[int, Command]:
        data = bytearray()
        is_last = False
        while not is_last:
            fragment = self._upper_layer.next_fragment(timeout_s, may_stop=may_stop)
            timeout_s, may_stop = self._network_timeout_s, False
            if not fragment.is_command:
                self._upper_layer.violation("A data set without a command set")
            if len(data) + fragment.length > MAX_COMMAND_SET:
                self._upper_layer.violation(f"A command set of more than {MAX_COMMAND_SET} bytes")
            while view := self._upper_layer.read():
                data += view
            is_last = fragment.is_last
        try:
            return fragment.context_id, parse_command(bytes(data))
        except ValueError as error:
            self._upper_layer.violation(str(error))


def encode_p_data(context_id: int, data: bytes, max_pdu: int, *, is_command: bool) -> bytes:
    """P-DATA-TF PDUs with one presentation data value each (PS3.8 9.3.5)."""
    size = max_pdu - 6
    pdus = bytearray()
    for start in range(0, len(data), size):
        part = data[start : start + size]
        control = is_command | (start + size >= len(data)) << 1
        pdus += b"\x04\x00" + (len(part) + 6).to_bytes(4, "big")
        pdus += (len(part) + 2).to_bytes(4, "big") + bytes((context_id, control)) + part
    return bytes(pdus)


class Operation:
    """A request being served."""

    def __init__(self, messages: Messages, context: PresentationContext, command: Command, source: Source) -> None:
        self.context_id = context.context_id or 0
        self.command = command
        self.transfer_syntax_uid = str(context.transfer_syntax[0])
        self.source = source
        self._messages = messages
        self._unread = messages.data_set(self.context_id) if command.has_data_set else iter(())

    def data_set(self) -> Iterator[memoryview]:
        """Bytes of the request's data set as they arrive; each view is valid until the next. Empty the second time.

        Raises
        ------
        Ended
            The association ended before the data set did.
        """
        return self._unread

    def read(self, limit: int) -> bytes:
        """The whole data set of a request that is small by nature.

        Raises
        ------
        PayloadTooLarge
            After the data set was read to its end, without keeping it.
        Ended
        """
        data = bytearray()
        for view in self._unread:
            if len(data) + len(view) > limit:
                self.drain()
                raise PayloadTooLarge(f"The data set is larger than {limit} bytes")
            data += view
        return bytes(data)

    def drain(self) -> None:
        """Read what is left of the data set: the association is usable only behind it."""
        for _ in self._unread:
            pass

    def is_cancelled(self) -> bool:
        """Whether the requestor has sent a C-CANCEL for this operation by now (PS3.7 9.3.2.3).

        Raises
        ------
        Ended
        """
        return self._messages.is_cancelled(self.command.message_id)

    def respond(self, status: int, comment: str = "", data_set: bytes = b"") -> None:
        """Send a response, pending or final.

        Raises
        ------
        Ended
        """
        response = encode_response(self.command, status, comment, has_data_set=bool(data_set))
        self._messages.send(self.context_id, response, data_set)

    def fail(self, error: Exception) -> None:
        """Send the failure that ``error`` stands for; what nobody foresaw is logged and hidden."""
        if isinstance(error, DicomHubError):
            status, field = error.dimse_status, self.command.field
            LOGGER.info("Command %04X of %s is answered %04X: %s", field, self.source.actor.name, status, error.message)
            self.respond(status, error.message)
        else:
            LOGGER.error("Command %04X of %s failed", self.command.field, self.source.actor.name, exc_info=error)
            self.respond(PROCESSING_FAILURE, "Internal error, see the server's log")


class Service(Protocol):
    """Serves one kind of operation."""

    def serve(self, operation: Operation) -> None:
        """Read the request's data set and send all responses, in the association's thread.

        Raises
        ------
        Ended
            The association is over; nothing of the operation remains.
        DicomHubError
            Becomes the final response's status and Error Comment.
        """
