"""The receiving end of a transport connection: few system calls, no copies, no stall.

pynetdicom reads a PDU in pieces of 4 KiB into a growing array and decodes it whole. Here bytes are received into one
buffer per association and handed on as views of it, so that memory does not grow with the PDU or the data set.
"""

from __future__ import annotations

import os
import select
import socket

BUFFER_BYTES = 256 * 1024
"""Size of an association's buffer: two PDUs of the size that DCMTK sends at most. Pages are not touched until used."""


class ConnectionClosed(ConnectionError):
    """The peer closed the connection, or it broke."""


class PeerSilent(TimeoutError):
    """No byte arrived in the allowed time."""


class SocketReader:
    """Buffered reading from a connected socket; used by one thread.

    Views that it returns are valid until its next call.
    """

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self._socket = sock
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = 0
        self._end = 0
        sock.settimeout(timeout_s)
        # Our answers are small and final: never wait for more to send with them.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def buffered(self) -> int:
        """Bytes received and not yet taken."""
        return self._end - self._start

    def peek(self, count: int) -> memoryview:
        """The next ``count`` bytes, at most `BUFFER_BYTES`, without taking them.

        Raises
        ------
        ConnectionClosed, PeerSilent
        """
        if self._start + count > len(self._buffer):
            self._move_to_front()
        while self.buffered < count:
            self._receive()
        return self._buffer[self._start : self._start + count]

    def take(self, count: int) -> memoryview:
        """Exactly ``count`` bytes, at most `BUFFER_BYTES`.

        Raises
        ------
        ConnectionClosed, PeerSilent
        """
        view = self.peek(count)
        self._start += count
        return view

    def some(self, limit: int) -> memoryview:
        """At least one byte, at most ``limit``: what is there; waits only when nothing is.

        Raises
        ------
        ConnectionClosed, PeerSilent
        """
        if not self.buffered:
            self._start = self._end = 0
            self._receive()
        count = min(limit, self.buffered)
        self._start += count
        return self._buffer[self._start - count : self._start]

    def close(self) -> None:
        """Let go of the buffer (an association is part of reference cycles and would keep it)."""
        self._buffer = memoryview(b"")
        self._start = self._end = 0

    def _receive(self) -> None:
        try:
            quick_ack(self._socket)
            count = self._socket.recv_into(self._buffer[self._end :])
        except TimeoutError as error:
            raise PeerSilent(f"No byte for {self._socket.gettimeout()} s") from error
        except OSError as error:
            raise ConnectionClosed(str(error)) from error
        if count == 0:
            raise ConnectionClosed("Connection closed by the peer")
        self._end += count

    def _move_to_front(self) -> None:
        rest = self._buffer[self._start : self._end].tobytes()
        self._buffer[: len(rest)] = rest
        self._start, self._end = 0, len(rest)


def quick_ack(sock: socket.socket) -> None:
    """Have what arrives next acknowledged at once, instead of 40 ms later.

    Senders write the end of a data set in small pieces with Nagle's algorithm on: they wait for our acknowledgement,
    and we, having nothing to send yet, delay it. This ends the stall for every sender. Linux forgets the option after
    each use, so it is set before each receive.
    """
    if hasattr(socket, "TCP_QUICKACK"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class StopSignal:
    """Tells any number of waiting threads, once, that the server stops."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._is_set = False

    @property
    def is_set(self) -> bool:
        """Whether the server stops."""
        return self._is_set

    def set(self) -> None:
        """Wake all who wait, now and later."""
        self._is_set = True
        os.write(self._write, b"\0")

    def fileno(self) -> int:
        """Descriptor that is readable once the signal is set."""
        return self._read

    def close(self) -> None:
        """Give the descriptors back; nobody may wait any more."""
        os.close(self._read)
        os.close(self._write)


class Readiness:
    """Waits until a socket is readable, or until the server stops."""

    def __init__(self, sock: socket.socket, stop: StopSignal) -> None:
        self._socket_fd = sock.fileno()
        self._socket = select.poll()
        self._socket.register(sock, select.POLLIN)
        self._either = select.poll()
        self._either.register(sock, select.POLLIN)
        self._either.register(stop, select.POLLIN)

    def wait(self, timeout_s: float, *, may_stop: bool) -> bool:
        """Whether the socket is readable within ``timeout_s`` seconds; with ``may_stop``, returns early at a stop."""
        poll = self._either if may_stop else self._socket
        return any(fd == self._socket_fd for fd, _ in poll.poll(max(0.0, timeout_s) * 1000))


def listening_socket(host: str, port: int, *, reuse_port: bool = False, backlog: int = 128) -> socket.socket:
    """A bound, listening TCP socket; with ``reuse_port`` other processes of this user may share its port.

    Raises
    ------
    OSError
        The address is not ours, or the port is taken by a process that does not share it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock
