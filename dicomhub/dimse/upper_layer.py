"""The DICOM upper layer (PS3.8) of one accepted association, run by the association's own thread.

pynetdicom gives an association two threads: one polls the socket and runs the state machine, the other polls queues
and serves requests; both sleep a millisecond per turn, and every PDU crosses from one to the other. Here the serving
thread itself blocks on the socket, so nothing polls and nothing crosses. States, events, actions and the decoding of
everything but P-DATA-TF stay pynetdicom's. P-DATA-TF in state Sta6 is taken apart here as it arrives (Evt10 with action
DT-2, which stays in Sta6): its fragments are handed out as views of the receive buffer, whatever the length of PDU or
data set.

Upstream could take this as: `Association.__init__` creating its provider by a class attribute ``dul_class``, and
`DULServiceProvider` offering one turn of `run_reactor` as a method with a time-out.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket

from dicomhub.dimse.transport import BUFFER_BYTES, ConnectionClosed, PeerSilent, Readiness, SocketReader, StopSignal

if TYPE_CHECKING:
    from pynetdicom.association import Association

LOGGER = logging.getLogger(__name__)

P_DATA_TF = 0x04
DATA_TRANSFER = "Sta6"
AWAITING_RELEASE_RESPONSE_OF_USER = "Sta8"
AWAITING_CLOSE = "Sta13"
ARTIM_STATES = frozenset({"Sta2", AWAITING_CLOSE})
"""States in which the ARTIM timer runs (PS3.8 9.1.5)."""

MAX_CONTROL_PDU = 1024**2
"""Bytes of a PDU that is read whole. 128 presentation contexts with all transfer syntaxes stay below 200 KiB."""

LINGER_S = 1.0
"""Seconds that the peer has for closing the connection after a release or an abort, before we do."""
STOP_LINGER_S = 0.2
"""The same when the server stops."""


class Ended(Exception):
    """The association is over or called off; whoever serves an operation lets go of what it has."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """Header of one presentation data value (PS3.8 9.3.5.1, E.2); its bytes follow in the stream."""

    context_id: int
    is_command: bool
    is_last: bool
    length: int


class BufferedSocket(AssociationSocket):
    """pynetdicom's socket, reading through our buffer."""

    reader: SocketReader

    def recv(self, nr_bytes: int) -> bytearray:
        """Exactly ``nr_bytes``, in portions that the buffer can hold."""
        data = bytearray()
        while len(data) < nr_bytes:
            data += self.reader.some(nr_bytes - len(data))
        return data

    def _shutdown_socket(self) -> None:
        # pynetdicom does not close the descriptor when the connection is broken already.
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


class UpperLayer(DULServiceProvider):
    """An upper layer service provider without a thread: its methods run in the caller's.

    Parameters
    ----------
    stop
        Calls off every wait between messages.
    network_timeout_s
        Seconds the peer may be silent inside a message, or not take what we send.
    """

    def __init__(self, assoc: Association, stop: StopSignal, network_timeout_s: float) -> None:
        super().__init__(assoc)
        self._stop_signal = stop
        self._network_timeout_s = network_timeout_s
        self._pdu_left = 0
        self._fragment_left = 0
        self._reader: SocketReader
        self._readiness: Readiness
        self._transport: BufferedSocket

    def attach(self, sock: socket.socket) -> None:
        """Take over an accepted connection (Evt5)."""
        self._reader = SocketReader(sock, self._network_timeout_s)
        self._readiness = Readiness(sock, self._stop_signal)
        self._transport = BufferedSocket(self.assoc, client_socket=sock)
        self._transport.reader = self._reader
        self.assoc.set_socket(self._transport)

    # -- what pynetdicom's association and ACSE call ---------------------------------------------------------------

    def start(self) -> None:
        """Nothing to start: tell the association that we are ready."""
        self.assoc._dul_ready.set()

    def is_alive(self) -> bool:
        """Whether the state machine has not come to rest."""
        return not self._kill_thread

    def send_pdu(self, primitive: Any) -> None:
        """Send a primitive of association control at once."""
        super().send_pdu(primitive)
        self._run_pending()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """The next primitive for the service user; with ``wait``, block up to ``timeout`` seconds for it."""
        deadline = time.monotonic() + (timeout if timeout is not None else self._network_timeout_s)
        while wait and self.to_user_queue.empty() and self._may_receive and not self._stop_signal.is_set:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            self._turn(remaining, may_stop=True)
        return super().receive_pdu(wait=False)

    def stop_dul(self) -> bool:
        """Bring the state machine to rest: the peer may close the connection within `LINGER_S`, then we do."""
        if self.is_alive() and self.state_machine.current_state == AWAITING_CLOSE:
            self._linger()
        self._kill_thread = True
        self._transport._shutdown_socket()
        self._reader.close()
        return True

    def hang_up(self) -> None:
        """Break the connection; the only method for other threads."""
        sock = self._transport.socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # -- data transfer ---------------------------------------------------------------------------------------------

    def next_fragment(self, timeout_s: float, *, may_stop: bool = False) -> Fragment:
        """Header of the next presentation data value; what is left of the previous one is skipped.

        Parameters
        ----------
        timeout_s
            Seconds to wait for its PDU.
        may_stop
            Between messages: a server that stops calls it off.

        Raises
        ------
        Ended
            There is none: release requested, aborted, connection lost, time is up, or the server stops.
        """
        self.skip()
        while not self._pdu_left:
            self._await_p_data(timeout_s, may_stop=may_stop)
        if self._pdu_left < 6:
            self.violation("A PDU ends inside the header of a presentation data value")
        try:
            header = self._reader.take(6)
        except (ConnectionClosed, PeerSilent) as error:
            self._lost(error)
        length = int.from_bytes(header[:4], "big") - 2
        if length < 0 or length + 6 > self._pdu_left:
            self.violation(f"A presentation data value of {length} bytes does not fit its PDU")
        self._pdu_left -= 6 + length
        self._fragment_left = length
        return Fragment(header[4], bool(header[5] & 1), bool(header[5] & 2), length)

    def read(self) -> memoryview:
        """Some bytes of the current fragment; empty at its end. Valid until the next call.

        Raises
        ------
        Ended
        """
        if not self._fragment_left:
            return memoryview(b"")
        try:
            view = self._reader.some(self._fragment_left)
        except (ConnectionClosed, PeerSilent) as error:
            self._lost(error)
        self._fragment_left -= len(view)
        return view

    def skip(self) -> None:
        """Read the rest of the current fragment and forget it."""
        while self._fragment_left:
            self.read()

    def has_p_data(self) -> bool:
        """Whether more of a message is there, without waiting for it.

        Raises
        ------
        Ended
            The association ended instead.
        """
        if self._pdu_left or self._reader.buffered or self._readiness.wait(0, may_stop=False):
            if not self._pdu_left:
                self._await_p_data(self._network_timeout_s, may_stop=False)
            return True
        return False

    def send_p_data(self, pdus: bytes) -> None:
        """Send encoded P-DATA-TF PDUs (DT-1, AR-7).

        Raises
        ------
        Ended
            The association does not allow it any more, or the peer does not take it.
        """
        if self.state_machine.current_state not in (DATA_TRANSFER, AWAITING_RELEASE_RESPONSE_OF_USER):
            raise Ended("No association to send data on")
        sock = self._transport.socket
        try:
            if sock is None:
                raise ConnectionClosed("Connection closed")
            sock.sendall(pdus)
        except OSError as error:
            self._lost(ConnectionClosed(str(error)))

    def violation(self, reason: str) -> NoReturn:
        """The peer broke the protocol: abort as the service provider (Evt19, AA-8).

        Raises
        ------
        Ended
            Always.
        """
        LOGGER.warning("Protocol violation: %s", reason)
        self.event_queue.put("Evt19")
        self._run_pending()
        raise Ended(reason)

    # -- the reactor -----------------------------------------------------------------------------------------------

    def _turn(self, timeout_s: float, *, may_stop: bool) -> bool:
        """Run what is pending; then wait for the peer and read one PDU. True: P-DATA-TF, whose header is consumed."""
        self._run_pending()
        if not self.is_alive() or not self.to_user_queue.empty():
            return False
        if self._reader.buffered or self._wait_readable(timeout_s, may_stop):
            is_p_data = self._receive_header()
            self._run_pending()
            return is_p_data
        return False

    def _run_pending(self) -> None:
        """Feed the state machine with events and the user's primitives until there are none.

        Events go first: pynetdicom leaves a primitive in its queue until its action takes it, and would otherwise queue
        a second event for it.
        """
        while self.is_alive():
            if self.state_machine.current_state in ARTIM_STATES and self.artim_timer.expired:
                self.event_queue.put("Evt18")
            if self.event_queue.empty() and not self._process_recv_primitive():
                return
            try:
                self.state_machine.do_action(self.event_queue.get_nowait())
            except Exception as error:
                # An action failed, or an event has no place in this state: nothing can be sent in good order.
                self._kill_thread = True
                self._transport._shutdown_socket()
                raise Ended("The upper layer's state machine failed") from error

    @property
    def _may_receive(self) -> bool:
        """Whether the peer may still send anything that matters."""
        return self.is_alive() and self.state_machine.current_state != AWAITING_CLOSE

    def _await_p_data(self, timeout_s: float, *, may_stop: bool) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            if may_stop and self._stop_signal.is_set:
                raise Ended("The server stops")
            if self._turn(deadline - time.monotonic(), may_stop=may_stop):
                return
            if not self._may_receive or not self.to_user_queue.empty():
                raise Ended("Released, aborted or lost")
            if time.monotonic() >= deadline:
                raise Ended(f"The peer was silent for {timeout_s:g} s")

    def _wait_readable(self, timeout_s: float, may_stop: bool) -> bool:
        if self.state_machine.current_state in ARTIM_STATES:
            timeout_s = min(timeout_s, max(0.0, self.artim_timer.remaining))
        return self._readiness.wait(timeout_s, may_stop=may_stop)

    def _receive_header(self) -> bool:
        try:
            header = self._reader.peek(6)
        except (ConnectionClosed, PeerSilent):
            self.event_queue.put("Evt17")
            return False
        length = int.from_bytes(header[2:6], "big")
        if header[0] == P_DATA_TF and self.state_machine.current_state == DATA_TRANSFER:
            self._reader.take(6)
            self._pdu_left = length
            return length > 0
        if length > MAX_CONTROL_PDU:
            LOGGER.warning("PDU of type %02X with %d bytes", header[0], length)
            self.event_queue.put("Evt19")
        else:
            self._read_pdu_data()
        return False

    def _lost(self, error: ConnectionClosed | PeerSilent) -> NoReturn:
        """The connection broke (Evt17, AA-4), or the peer is silent inside a message (the user will abort)."""
        if isinstance(error, ConnectionClosed):
            self.event_queue.put("Evt17")
            self._run_pending()
        raise Ended(str(error)) from error

    def _linger(self) -> None:
        """Discard what still arrives, so that closing does not destroy our last PDU on its way (a TCP reset would)."""
        deadline = time.monotonic() + (STOP_LINGER_S if self._stop_signal.is_set else LINGER_S)
        with contextlib.suppress(OSError):  # closed or silent: both mean that we are done
            while (remaining := deadline - time.monotonic()) > 0 and self._readiness.wait(remaining, may_stop=False):
                self._reader.some(BUFFER_BYTES)
        self._transport.close()
        self._run_pending()
