"""Whether the configured ports can be had."""

from __future__ import annotations

import socket


def probe(host: str, port: int) -> int:
    """Bind a TCP port and let go of it; returns its number, which is chosen for port 0.

    Raises
    ------
    OSError
        When it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        return int(sock.getsockname()[1])
