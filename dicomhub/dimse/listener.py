"""Accepts connections on a port that several processes may share, and keeps account of its associations."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

from dicomhub.dimse.association import AcceptedAssociation, Terms
from dicomhub.dimse.transport import Readiness, StopSignal, listening_socket

LOGGER = logging.getLogger(__name__)

UNNEGOTIATED_MAX = 64
"""Connections beyond the limit of associations that may wait for their rejection; further ones are closed at once."""

ACCEPT_RETRY_S = 0.05
"""Pause after a failed accept: a process without free descriptors would otherwise spin."""


class Listener:
    """Listens in a thread of its own; each association runs in another.

    Parameters
    ----------
    terms
        What the associations need.
    reuse_port
        Whether other processes listen on the same port; the kernel spreads connections over them.
    """

    def __init__(self, host: str, port: int, terms: Terms, *, reuse_port: bool = False) -> None:
        self._host = host
        self._port = port
        self._reuse_port = reuse_port
        self._terms = terms
        self._associations: set[AcceptedAssociation] = set()
        self._socket: socket.socket | None = None
        self._stop: StopSignal
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port in use, also when 0 was asked for."""
        return int(self._socket.getsockname()[1]) if self._socket else self._port

    def start(self) -> None:
        """Bind and begin to accept; returns at once.

        Raises
        ------
        OSError
            The address cannot be bound.
        """
        self._socket = listening_socket(self._host, self._port, reuse_port=self._reuse_port)
        self._stop = StopSignal()
        self._thread = threading.Thread(target=self._accept, name=f"dimse-listener:{self.port}", daemon=True)
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Stop accepting; abort idle associations now, busy ones after their operation or after ``grace_s`` seconds.

        Blocks until they have ended: not for the event loop's thread, which the operations need.
        """
        if self._socket is None or self._thread is None:
            return
        deadline = time.monotonic() + grace_s
        self._stop.set()
        self._thread.join()
        self._join(deadline)
        for association in self.associations:
            association.hang_up()
        self._join(time.monotonic() + ACCEPT_RETRY_S + grace_s)
        self._socket.close()
        self._socket = None
        if not self.associations:  # one that still hangs would wait for another file under the signal's number
            self._stop.close()

    @property
    def associations(self) -> list[AcceptedAssociation]:
        """Those that run now."""
        return [association for association in self._associations.copy() if association.is_alive()]

    def _join(self, deadline: float) -> None:
        for association in self.associations:
            association.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        assert self._socket is not None
        readiness = Readiness(self._socket, self._stop)
        self._socket.setblocking(False)
        while not self._stop.is_set:
            if readiness.wait(60.0, may_stop=True):
                self._accept_one(self._socket)

    def _accept_one(self, listening: socket.socket) -> None:
        try:
            sock, address = listening.accept()
        except BlockingIOError:
            return  # another process was faster, or the peer has gone
        except OSError:
            LOGGER.exception("Cannot accept a connection")
            time.sleep(ACCEPT_RETRY_S)
            return
        self._associations = set(self.associations)
        if len(self._associations) >= self._terms.ae.maximum_associations + UNNEGOTIATED_MAX:
            LOGGER.warning("Too many connections, %s is turned away", address[0])
            sock.close()
            return
        self._begin(sock, address)

    def _begin(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        try:
            association = AcceptedAssociation(self._terms, self._stop, sock, address)
            self._associations.add(association)
            association.start()
        except Exception:  # out of threads or memory: this one is lost, not the listener
            LOGGER.exception("Cannot serve %s", address[0])
            sock.close()
