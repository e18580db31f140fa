"""Storage (PS3.4 B): C-STORE into ingest, fragment by fragment."""

from __future__ import annotations

from dicomhub.archive import Archive, ingest
from dicomhub.archive.receive import Received, Receiver
from dicomhub.dicom.model import is_uid
from dicomhub.dicom.part10 import make_file_meta
from dicomhub.dimse.bridge import Bridge
from dicomhub.dimse.command import Command
from dicomhub.dimse.operation import Operation
from dicomhub.errors import MissingIdentifier, NotDicom, Refused

DATA_SET_DOES_NOT_MATCH = 0xA900
"""C-STORE status A9xx (PS3.4 B.2.3)."""


class Store:
    """C-STORE as SCP, level 2 (full): every attribute received is kept.

    Parameters
    ----------
    timeout_s
        Seconds from an instance's last byte to its commit; then the sender is told to try later.
    """

    def __init__(self, archive: Archive, bridge: Bridge, timeout_s: float) -> None:
        self._archive = archive
        self._bridge = bridge
        self._timeout_s = timeout_s

    def serve(self, operation: Operation) -> None:
        """PS3.4 B.2, PS3.7 9.1.1: success is answered when the instance is durable and visible.

        Statuses: 0000; B000 coerced; A700 out of resources; A900 the data set does not match the SOP class or has no
        usable UIDs; C000 cannot understand; 0110 processing failure; 0124 refused: not authorized.
        """
        received = self._receive(operation)
        try:
            receipt = self._bridge.call(ingest.store(self._archive, received, operation.source), self._timeout_s)
        except BaseException:
            received.discard()
            raise
        operation.respond(receipt.status)

    def _receive(self, operation: Operation) -> Received:
        """Feed the data set to a receiver as it arrives; nothing remains when it fails or the association ends."""
        command = operation.command
        _check_command(command)
        receiver = ingest.receiver(self._archive, own_file_meta=False)
        try:
            self._feed(receiver, operation)
            received = receiver.finish()
            _check_agreement(command, received)
            ingest.persist(self._archive, received)
        except BaseException:
            receiver.discard()
            raise
        return received

    def _feed(self, receiver: Receiver, operation: Operation) -> None:
        command = operation.command
        receiver.feed(make_file_meta(command.sop_class_uid, command.sop_instance_uid, operation.transfer_syntax_uid))
        for view in operation.data_set():
            receiver.feed(view)


def _check_command(command: Command) -> None:
    if not command.has_data_set:
        raise NotDicom("C-STORE-RQ without a data set")
    if not is_uid(command.sop_instance_uid):
        raise MissingIdentifier("Affected SOP Instance UID (0000,1000) is missing or no UID")


def _check_agreement(command: Command, received: Received) -> None:
    """The command names the instance that the data set contains (PS3.4 B.2.3)."""
    if received.sop_class_uid != command.sop_class_uid:
        raise Refused("SOP Class UID (0008,0016) differs from the command's", DATA_SET_DOES_NOT_MATCH)
    if received.ref.instance != command.sop_instance_uid:
        raise Refused("SOP Instance UID (0008,0018) differs from the command's", DATA_SET_DOES_NOT_MATCH)
