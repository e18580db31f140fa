"""Who sends this request, and from where."""

from __future__ import annotations

from aiohttp import web

from dicomhub.events import ANONYMOUS, Actor, Peer, Source
from dicomhub.web.keys import ACTOR


def actor(request: web.Request) -> Actor:
    """The authenticated actor, or the anonymous one where nobody has to log in."""
    known: Actor = request.get(ACTOR, ANONYMOUS)
    return known


def peer(request: web.Request) -> Peer:
    """The other end of the connection."""
    return Peer(address=request.remote or "")


def source(request: web.Request) -> Source:
    """Provenance of what this request stores."""
    return Source(actor=actor(request), peer=peer(request), via="dicomweb")
