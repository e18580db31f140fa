"""The DIMSE node: which services it offers, with which limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from dicomhub import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomhub.archive import Archive
from dicomhub.config import Config
from dicomhub.dimse.association import Node, Offer, Terms
from dicomhub.dimse.bridge import Bridge
from dicomhub.dimse.command import CommandField
from dicomhub.dimse.contexts import PATIENT_ROOT_FIND, STORAGE_SOP_CLASSES, STUDY_ROOT_FIND, VERIFICATION
from dicomhub.dimse.echo import Echo
from dicomhub.dimse.find import Find
from dicomhub.dimse.listener import Listener
from dicomhub.dimse.store import Store
from dicomhub.errors import Unauthenticated
from dicomhub.events import Actor, Peer
from dicomhub.hooks import Credentials, Hooks

AUTHENTICATION_TIMEOUT_S = 10.0
"""Seconds that plugins have to say who a requestor is; requestors wait 30 s at most as a rule."""


class DimseServer:
    """One process's share of the DIMSE node; all workers listen on the same port.

    Parameters
    ----------
    loop
        Event loop that the archive runs on.
    reuse_port
        Whether other workers listen on the same port.
    """

    def __init__(
        self, archive: Archive, config: Config, loop: asyncio.AbstractEventLoop, *, reuse_port: bool = False
    ) -> None:
        bridge = Bridge(loop)
        store = Store(archive, bridge, config.dimse_store_timeout_s)
        find = Find(archive, bridge, config.ae_title)
        offers: dict[int, Offer] = {
            CommandField.C_ECHO: Offer(frozenset({VERIFICATION}), Echo()),
            CommandField.C_STORE: Offer(frozenset(STORAGE_SOP_CLASSES), store),
            CommandField.C_FIND: Offer(frozenset({PATIENT_ROOT_FIND, STUDY_ROOT_FIND}), find),
        }
        self._listener = Listener(
            config.host,
            config.dimse_port,
            terms(config, offers, Doorkeeper(archive.hooks, bridge)),
            reuse_port=reuse_port,
        )

    @property
    def port(self) -> int:
        """TCP port in use."""
        return self._listener.port

    def start(self) -> None:
        """Bind and begin to accept; returns at once.

        Raises
        ------
        OSError
            The address cannot be bound.
        """
        self._listener.start()

    def stop(self, grace_s: float) -> None:
        """Stop accepting; let running operations finish for ``grace_s`` seconds, then abort what is left.

        Blocks, and the operations need the event loop: call it from another thread (`asyncio.to_thread`).
        """
        self._listener.stop(grace_s)


class Doorkeeper:
    """Says who a requestor is: by the plugins when one authenticates, else by its AE title alone."""

    def __init__(self, hooks: Hooks, bridge: Bridge) -> None:
        self._hooks = hooks
        self._bridge = bridge

    def __call__(self, peer: Peer) -> Actor:
        """The actor behind an association request.

        Raises
        ------
        Unauthenticated, Forbidden
            It may not come in.
        """
        if not self._hooks.authenticates:
            return Actor(f"ae:{peer.ae_title}")
        credentials = Credentials(peer, "ae", peer.ae_title)
        actor = self._bridge.call(self._hooks.authenticate(credentials), AUTHENTICATION_TIMEOUT_S)
        if actor is None:
            raise Unauthenticated(f"No plugin knows the AE title {peer.ae_title}")
        return actor


def terms(config: Config, offers: Mapping[int, Offer], authenticate: Callable[[Peer], Actor]) -> Terms:
    """What associations need to know of the configuration."""
    ae = Node(config.ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.require_called_aet = config.dimse_require_called_ae_title
    ae.maximum_associations = config.dimse_max_associations
    ae.acse_timeout = config.dimse_acse_timeout_s
    return Terms(
        ae=ae,
        offers=offers,
        max_pdu=config.dimse_max_pdu,
        idle_timeout_s=config.dimse_idle_timeout_s,
        network_timeout_s=config.dimse_network_timeout_s,
        authenticate=authenticate,
    )
