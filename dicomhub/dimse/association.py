"""An accepted association: negotiated by pynetdicom, then served by one thread until it ends."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from dicomhub.dimse.command import RESPONSE, Command, CommandField
from dicomhub.dimse.contexts import extended_negotiation, supported_among
from dicomhub.dimse.operation import Messages, Operation, Service
from dicomhub.dimse.transport import StopSignal
from dicomhub.dimse.upper_layer import Ended, UpperLayer
from dicomhub.errors import Forbidden, Unauthenticated
from dicomhub.events import Actor, Peer, Source

LOGGER = logging.getLogger(__name__)

SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNIZED_OPERATION = 0x0211

# Result, source and reason of A-ASSOCIATE-RJ (PS3.8 9.3.4)
CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 1, 3)
NO_REASON_FOR_NOW = (2, 1, 1)


@dataclass(frozen=True, slots=True)
class Offer:
    """A service and the abstract syntaxes that it serves."""

    sop_classes: frozenset[str]
    service: Service


@dataclass(frozen=True, slots=True)
class Terms:
    """What all associations of a server have in common."""

    ae: Node
    offers: Mapping[int, Offer]
    """By Command Field (0000,0100) of the request."""
    max_pdu: int
    idle_timeout_s: float
    network_timeout_s: float
    authenticate: Callable[[Peer], Actor]
    """Who a requestor is; raises `Unauthenticated` or `Forbidden` to refuse it."""


class Node(ApplicationEntity):
    """Our application entity: its limit of associations counts those that are served or may become so."""

    @property
    def active_associations(self) -> list[Association]:
        """Without those that only wait for their peer to close the connection."""
        return [a for a in super().active_associations if not (a.is_rejected or a.is_aborted or a.is_released)]


class AcceptedAssociation(Association):
    """One association as acceptor.

    pynetdicom's `Association` names its upper layer and its request handler's association class in its own code, so the
    provider is exchanged after construction. Upstream could take this as class attributes (``dul_class``,
    ``association_class``) that the constructors use.
    """

    def __init__(self, terms: Terms, stop: StopSignal, sock: socket.socket, address: tuple[Any, ...]) -> None:
        super().__init__(terms.ae, MODE_ACCEPTOR)
        self._terms = terms
        self.upper_layer = UpperLayer(self, stop, terms.network_timeout_s)
        self.dul = self.upper_layer
        self.acse_timeout = terms.ae.acse_timeout  # once more: it sets the ARTIM timer of the upper layer
        self.upper_layer.attach(sock)
        self.name = f"dimse-{address[0]}:{address[1]}"
        self.requestor.address_info = AddressInformation.from_tuple(address)
        self.acceptor.address_info = AddressInformation.from_tuple(sock.getsockname())
        self.acceptor.maximum_length = terms.max_pdu
        self.acceptor.ae_title = terms.ae.ae_title
        self.acceptor.implementation_class_uid = terms.ae.implementation_class_uid
        self.acceptor.implementation_version_name = terms.ae.implementation_version_name
        self.bind(evt.EVT_REQUESTED, self._negotiate)
        self.bind(evt.EVT_SOP_EXTENDED, lambda event: extended_negotiation(event.app_info))
        self._source = Source(via="dimse")

    def _bind_defaults(self) -> None:
        # Without the handlers that format every PDU for pynetdicom's debug log.
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def _negotiate(self, event: evt.Event) -> None:
        """Ask who the requestor is; then set our side of the negotiation, now that the requestor's is known.

        Without our side nothing is accepted: an error in here, which pynetdicom only logs, lets nobody in.
        """
        request = self._request
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        address = self.requestor.address_info
        peer = Peer(address.address if address else "", calling, called)
        try:
            self._source = Source(self._terms.authenticate(peer), peer, via="dimse")
        except (Unauthenticated, Forbidden) as error:
            LOGGER.warning("%s: %s is rejected: %s", self.name, calling, error.message)
            self.acse.send_reject(*CALLING_AE_TITLE_NOT_RECOGNIZED)
        except Exception:
            LOGGER.exception("%s: cannot tell who %s is", self.name, calling)
            self.acse.send_reject(*NO_REASON_FOR_NOW)
        else:
            self.acceptor.supported_contexts = supported_among(request.presentation_context_definition_list)

    @property
    def _request(self) -> A_ASSOCIATE:
        request = self.requestor.primitive
        assert request is not None
        return request

    def run(self) -> None:
        """Negotiate and serve; nothing leaves this thread as an exception, and the connection is closed at its end."""
        try:
            self.run_reactor()
        except Ended as ended:
            LOGGER.info("%s: %s", self.name, ended)
        except Exception:
            LOGGER.exception("%s failed", self.name)
        finally:
            self.upper_layer.stop_dul()

    def hang_up(self) -> None:
        """Break the connection, from any thread: whatever waits for the peer ends."""
        self.upper_layer.hang_up()

    # -- serving ---------------------------------------------------------------------------------------------------

    def _run_reactor(self) -> None:
        """Serve requests until release, abort, loss, silence or stop; called by pynetdicom after negotiation."""
        LOGGER.info("%s: association of %s", self.name, self._source.actor.name)
        messages = Messages(
            self.upper_layer,
            self.requestor.maximum_length or 0,
            self._terms.idle_timeout_s,
            self._terms.network_timeout_s,
        )
        try:
            while True:
                self._serve(messages, *messages.next_command())
        except Ended as ended:
            self._leave(str(ended))

    def _serve(self, messages: Messages, context_id: int, command: Command) -> None:
        context = self._accepted_cx.get(context_id)
        if context is None:
            self.upper_layer.violation(f"Presentation context {context_id} was not accepted")
        if command.field == CommandField.C_CANCEL:
            return  # of an operation that is over (PS3.7 9.3.2.3.3)
        operation = Operation(messages, context, command, self._source)
        if command.field & RESPONSE:
            operation.drain()  # nobody asked
            return
        service = self._service(context, operation)
        if service is None:
            return
        try:
            service.serve(operation)
        except Ended:
            raise
        except Exception as error:
            operation.drain()
            operation.fail(error)
        operation.drain()

    def _service(self, context: PresentationContext, operation: Operation) -> Service | None:
        """The service for a request, or a refusal sent.

        The SOP class may be another one of the same service than the context's: senders choose the context by a file
        meta information that contradicts the data set, and nothing that we do depends on it.
        """
        offer = self._terms.offers.get(operation.command.field)
        if offer is None or context.abstract_syntax not in offer.sop_classes:
            operation.drain()
            operation.respond(UNRECOGNIZED_OPERATION, "No such operation for the SOP class")
        elif operation.command.sop_class_uid not in offer.sop_classes:
            operation.drain()
            operation.respond(SOP_CLASS_NOT_SUPPORTED, "The SOP class is not one of the presentation context's service")
        else:
            return offer.service
        return None

    def _leave(self, reason: str) -> None:
        """Answer a release, take note of an abort, or abort ourselves."""
        if self.acse.is_release_requested():
            LOGGER.info("%s: released", self.name)
            self.acse.send_release(is_response=True)
            self.is_released = True
            self.is_established = False
            self.kill()
        elif self.acse.is_aborted() or not self.upper_layer.is_alive():
            LOGGER.info("%s: aborted", self.name)
            self.is_aborted = True
            self.is_established = False
            self.kill()
        else:
            LOGGER.info("%s: we abort: %s", self.name, reason)
            self.abort()
