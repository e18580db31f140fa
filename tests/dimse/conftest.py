"""Peers for the DIMSE tests: DCMTK's tools, pynetdicom as SCU, and a bare socket that may misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pynetdicom import AE, build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from dicomhub.archive import Archive
from dicomhub.config import Config
from dicomhub.dimse.association import Node, Offer, Terms
from dicomhub.dimse.command import CommandField, Element, encode_command
from dicomhub.dimse.contexts import STORAGE_SOP_CLASSES, VERIFICATION
from dicomhub.dimse.echo import Echo
from dicomhub.dimse.listener import Listener
from dicomhub.dimse.operation import Operation, encode_p_data
from dicomhub.dimse.server import DimseServer
from dicomhub.dimse.upper_layer import Ended
from dicomhub.events import Actor, Peer, Source

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
A_ABORT_PDU = b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def dcmtk() -> Run:
    """``dcmtk("storescu", *arguments)`` runs a tool of DCMTK; skips where it is not installed."""

    def run(tool: str, *arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        program = shutil.which(tool)
        if program is None:
            pytest.skip(f"DCMTK's {tool} is missing: apt-get install dcmtk")
        return subprocess.run(
            [program, *map(str, arguments)], timeout=timeout, text=True, errors="replace", check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return run


def eventually(condition: Callable[[], bool], timeout_s: float = 5) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def data_set_bytes(part10: bytes) -> bytes:
    """What follows the file meta information, whose length is its first value (PS3.10 7.1)."""
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


class HashSink:
    """A C-STORE service that keeps the digest of each data set, and what happened to the others."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.syntaxes: dict[str, str] = {}
        self.sources: list[Source] = []
        self.largest_view = 0
        self.broken: list[str] = []
        self.started = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def serve(self, operation: Operation) -> None:
        digest = hashlib.sha256()
        size = 0
        uid = operation.command.sop_instance_uid
        self.sources.append(operation.source)
        self.started.set()
        try:
            for view in operation.data_set():
                digest.update(view)
                size += len(view)
                self.largest_view = max(self.largest_view, len(view))
        except Ended:
            self.broken.append(uid)
            raise
        assert self.may_answer.wait(20)
        self.digests[uid], self.sizes[uid] = digest.hexdigest(), size
        self.syntaxes[uid] = operation.transfer_syntax_uid
        operation.respond(0x0000)


@pytest.fixture
def sink() -> HashSink:
    return HashSink()


Listen = Callable[..., Listener]


@pytest.fixture
def listen(sink: HashSink) -> Iterator[Listen]:
    """``listen(**terms)`` starts a listener on a free port with C-ECHO and the hash sink."""
    listeners: list[Listener] = []

    def start(
        *,
        max_associations: int = 200,
        require_called: bool = False,
        acse_timeout_s: float = 10,
        idle_timeout_s: float = 60,
        network_timeout_s: float = 10,
        max_pdu: int = 131072,
        port: int = 0,
        reuse_port: bool = False,
        authenticate: Callable[[Peer], Actor] = lambda peer: Actor(f"ae:{peer.ae_title}"),
    ) -> Listener:
        ae = Node("DICOMHUB")
        ae.maximum_associations = max_associations
        ae.require_called_aet = require_called
        ae.acse_timeout = acse_timeout_s
        offers = {
            int(CommandField.C_STORE): Offer(frozenset(STORAGE_SOP_CLASSES), sink),
            int(CommandField.C_ECHO): Offer(frozenset({VERIFICATION}), Echo()),
        }
        terms = Terms(ae, offers, max_pdu, idle_timeout_s, network_timeout_s, authenticate)
        listener = Listener("127.0.0.1", port, terms, reuse_port=reuse_port)
        listener.start()
        listeners.append(listener)
        return listener

    yield start
    for listener in listeners:
        listener.stop(0.5)
        assert not listener.associations


class BarePeer:
    """A requestor made of a socket: sends what it is told to, well-formed or not."""

    calling_ae_title = "BARE"

    def __init__(self, port: int, *abstract_syntaxes: str, timeout_s: float = 10) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.abstract_syntaxes = abstract_syntaxes or (VERIFICATION, CT_IMAGE_STORAGE)

    def associate(self, called_ae_title: str = "DICOMHUB") -> bytes:
        """Request an association; contexts are numbered 1, 3, 5...; the answer's PDU."""
        request = A_ASSOCIATE()
        request.application_context_name = "1.2.840.10008.3.1.1.1"
        request.calling_ae_title, request.called_ae_title = self.calling_ae_title, called_ae_title
        contexts = []
        for number, uid in enumerate(self.abstract_syntaxes):
            context = build_context(uid, EXPLICIT_VR_LITTLE_ENDIAN)
            context.context_id = 2 * number + 1
            contexts.append(context)
        request.presentation_context_definition_list = contexts
        length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
        length.maximum_length_received = 16384
        implementation.implementation_class_uid = "1.2.3.4"
        request.user_information = [length, implementation]
        self.send(A_ASSOCIATE_RQ(request).encode())
        return self.receive_pdu()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_command(self, context_id: int, values: dict[Element, int | str], *, data_set: bool = False) -> None:
        values = {Element.COMMAND_DATA_SET_TYPE: 1 if data_set else 0x0101, **values}
        self.send(encode_p_data(context_id, encode_command(values), 16384, is_command=True))

    def send_store_command(self, uid: str = "1.2.3", message_id: int = 1, sop_class: str = CT_IMAGE_STORAGE) -> None:
        values: dict[Element, int | str] = {
            Element.COMMAND_FIELD: CommandField.C_STORE,
            Element.MESSAGE_ID: message_id,
            Element.AFFECTED_SOP_CLASS_UID: sop_class,
            Element.AFFECTED_SOP_INSTANCE_UID: uid,
            Element.PRIORITY: 0,
        }
        self.send_command(3, values, data_set=True)

    def send_echo(self, context_id: int = 1, message_id: int = 1, sop_class: str = VERIFICATION) -> None:
        values: dict[Element, int | str] = {
            Element.COMMAND_FIELD: CommandField.C_ECHO,
            Element.MESSAGE_ID: message_id,
            Element.AFFECTED_SOP_CLASS_UID: sop_class,
        }
        self.send_command(context_id, values)

    def receive_pdu(self) -> bytes:
        """One PDU with its header; empty when the connection is closed."""
        header = self._exactly(6)
        return header + self._exactly(int.from_bytes(header[2:6], "big")) if header else b""

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                return b""
            data += more
        return data

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def bare() -> Iterator[Callable[..., BarePeer]]:
    """``bare(port)`` connects; closed at the end."""
    peers: list[BarePeer] = []

    def connect(port: int, *abstract_syntaxes: str) -> BarePeer:
        peers.append(BarePeer(port, *abstract_syntaxes))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close()


@pytest.fixture
async def port(archive: Archive, config: Config) -> AsyncIterator[int]:
    """Of a DIMSE server over `archive`."""
    server = DimseServer(archive, config, asyncio.get_running_loop())
    server.start()
    yield server.port
    await asyncio.to_thread(server.stop, 1)


@pytest.fixture
def scu() -> AE:
    """pynetdicom as requestor."""
    ae = AE("SCU")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    return ae


@pytest.fixture
def ct_files(tmp_path: Path, make_instance: Callable[..., bytes]) -> Callable[[int, int], list[Path]]:
    """``ct_files(count, size_bytes)`` writes CT images with explicit VR."""

    def write(count: int, size_bytes: int) -> list[Path]:
        side = int((size_bytes / 2) ** 0.5)
        pixels = np.random.default_rng(7).integers(0, 4096, side * side, dtype="<u2").tobytes()
        files = [tmp_path / f"ct{number}.dcm" for number in range(count)]
        for number, file in enumerate(files, 1):
            file.write_bytes(make_instance(rows=side, columns=side, pixels=pixels, InstanceNumber=number))
        return files

    return write
