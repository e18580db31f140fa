"""Verification (PS3.4 A)."""

from __future__ import annotations

from dicomhub.dimse.operation import SUCCESS, Operation


class Echo:
    """C-ECHO as SCP."""

    def serve(self, operation: Operation) -> None:
        """PS3.4 A.4, PS3.7 9.3.5: answer success."""
        operation.drain()
        operation.respond(SUCCESS)
