"""Associations over real sockets: what well-behaved, careless and hostile requestors experience."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pydicom
import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context

from dicomhub.dimse.command import CommandField, Element, parse_command
from dicomhub.dimse.contexts import VERIFICATION
from dicomhub.dimse.operation import encode_p_data
from dicomhub.dimse.transport import BUFFER_BYTES
from dicomhub.errors import Unauthenticated
from dicomhub.events import Actor, Peer, Source
from tests.dimse.conftest import (
    A_ABORT_PDU,
    CT_IMAGE_STORAGE,
    BarePeer,
    HashSink,
    Listen,
    Run,
    data_set_bytes,
    eventually,
)

A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_RELEASE_RP, A_ABORT = 2, 3, 6, 7
A_RELEASE_RQ_PDU = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"

Bare = Callable[..., BarePeer]


def status(pdu: bytes) -> int | None:
    assert pdu[0] == 4
    return parse_command(pdu[12:]).number(Element.STATUS)


# -- what works ----------------------------------------------------------------------------------------------------


def test_echoscu_succeeds(listen: Listen, dcmtk: Run) -> None:
    result = dcmtk("echoscu", "-v", "-aec", "DICOMHUB", "127.0.0.1", listen().port)
    assert result.returncode == 0, result.stdout
    assert "Received Echo Response (Success)" in result.stdout


@pytest.mark.parametrize("max_pdu", [4096, 16384, 131072])
def test_storescu_data_sets_arrive_bit_exact(
    listen: Listen, dcmtk: Run, sink: HashSink, ct_files: Callable[[int, int], list[Path]], max_pdu: int
) -> None:
    files = ct_files(5, 300_000)
    result = dcmtk("storescu", "--max-send-pdu", max_pdu, "127.0.0.1", listen().port, *files)
    assert result.returncode == 0, result.stdout
    assert sorted(sink.digests.values()) == sorted(
        hashlib.sha256(data_set_bytes(file.read_bytes())).hexdigest() for file in files
    )


def test_small_instances_do_not_stall(
    listen: Listen, dcmtk: Run, sink: HashSink, ct_files: Callable[[int, int], list[Path]]
) -> None:
    """A delayed acknowledgement costs 40 ms for each instance: 100 would take more than 4 s."""
    files = ct_files(100, 32_768)
    port = listen().port
    start = time.monotonic()
    assert dcmtk("storescu", "127.0.0.1", port, *files).returncode == 0
    assert time.monotonic() - start < 2
    assert len(sink.digests) == 100


def test_associations_are_served_at_the_same_time(
    listen: Listen, dcmtk: Run, sink: HashSink, ct_files: Callable[[int, int], list[Path]]
) -> None:
    files, port = ct_files(20, 100_000), listen().port
    threads = [
        threading.Thread(target=dcmtk, args=("storescu", "127.0.0.1", port, *files[start::5])) for start in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(sink.digests) == 20


def test_two_listeners_share_a_port(listen: Listen, scu: AE) -> None:
    """As worker processes do; the kernel spreads connections over them."""
    first = listen(reuse_port=True)
    second = listen(port=first.port, reuse_port=True)
    associations = [scu.associate("127.0.0.1", first.port, contexts=[build_context(VERIFICATION)]) for _ in range(32)]
    assert all(assoc.is_established for assoc in associations)
    assert len(first.associations) + len(second.associations) == 32
    assert first.associations
    assert second.associations
    for assoc in associations:
        assoc.release()


def test_port_is_not_shared_by_accident(listen: Listen) -> None:
    port = listen().port
    with pytest.raises(OSError, match="in use"):
        listen(port=port, reuse_port=True)


def test_release_is_answered_and_the_connection_closed(listen: Listen, bare: Bare) -> None:
    listener = listen()
    peer = bare(listener.port)
    assert peer.associate()[0] == A_ASSOCIATE_AC
    peer.send(A_RELEASE_RQ_PDU)
    assert peer.receive_pdu()[0] == A_RELEASE_RP
    peer.close()
    assert eventually(lambda: not listener.associations, 0.5)


def test_bytes_may_arrive_one_by_one(listen: Listen, bare: Bare, sink: HashSink) -> None:
    peer = bare(listen().port)
    peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.associate()
    peer.send_store_command("1.2.3")
    for byte in encode_p_data(3, b"0123456789" * 10, 40, is_command=False):
        peer.send(bytes((byte,)))
    assert status(peer.receive_pdu()) == 0
    assert sink.digests == {"1.2.3": hashlib.sha256(b"0123456789" * 10).hexdigest()}


def test_next_request_may_be_sent_before_the_response(listen: Listen, bare: Bare) -> None:
    peer = bare(listen().port)
    peer.associate()
    for number in range(1, 6):
        peer.send_store_command(f"1.2.{number}", message_id=number)
        peer.send(encode_p_data(3, b"data", 16384, is_command=False))
    answered = [parse_command(peer.receive_pdu()[12:]).message_id for _ in range(5)]
    assert answered == [1, 2, 3, 4, 5]


def test_command_and_data_set_may_share_a_pdu_and_command_may_be_split(
    listen: Listen, bare: Bare, sink: HashSink
) -> None:
    sent: list[bytes] = []
    peer = bare(listen().port)
    peer.associate()
    peer.send, send = sent.append, peer.send  # type: ignore[method-assign]
    peer.send_store_command("1.2.3")
    command = sent[0][12:]
    values = [
        struct.pack(">LBB", len(part) + 2, 3, control) + part
        for part, control in ((command[:30], 1), (command[30:], 3), (b"da", 0), (b"ta", 2))
    ]
    body = b"".join(values)
    send(b"\x04\x00" + len(body).to_bytes(4, "big") + body)
    assert status(peer.receive_pdu()) == 0
    assert sink.sizes == {"1.2.3": 4}


def test_memory_is_independent_of_pdu_and_data_set_size(listen: Listen, bare: Bare, sink: HashSink) -> None:
    """One PDU of 200 MB, far beyond the announced maximum, is taken in the buffer's portions."""
    size = 200_000_000
    peer = bare(listen().port)
    peer.associate()
    peer.send_store_command("1.2.3")
    before = psutil.Process().memory_info().rss
    peak = before
    peer.send(b"\x04\x00" + (size + 6).to_bytes(4, "big") + (size + 2).to_bytes(4, "big") + b"\x03\x02")
    chunk = bytes(1_000_000)
    for _ in range(size // len(chunk)):
        peer.send(chunk)
        peak = max(peak, psutil.Process().memory_info().rss)
    assert status(peer.receive_pdu()) == 0
    assert sink.sizes == {"1.2.3": size}
    assert sink.largest_view <= BUFFER_BYTES
    assert peak - before < 20_000_000


# -- limits --------------------------------------------------------------------------------------------------------


def test_idle_associations_use_no_processor_time(listen: Listen, bare: Bare) -> None:
    listener = listen()
    peers = [bare(listener.port) for _ in range(100)]
    for peer in peers:
        assert peer.associate()[0] == A_ASSOCIATE_AC
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(1.5)
    assert time.process_time() - before < 0.03  # 2 % of one processor for 100 associations, this test included
    assert len(listener.associations) == 100
    peers[50].send_echo()
    assert status(peers[50].receive_pdu()) == 0


def test_associations_beyond_the_limit_are_rejected_as_transient(listen: Listen, bare: Bare) -> None:
    listener = listen(max_associations=3)
    peers = [bare(listener.port) for _ in range(3)]
    assert [peer.associate()[0] for peer in peers] == [A_ASSOCIATE_AC] * 3
    one_more = bare(listener.port)
    assert one_more.associate() == bytes((A_ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, 2, 3, 2))  # PS3.8 9.3.4: local limit
    peers[0].close()
    assert eventually(lambda: len(listener.associations) <= 2)
    assert bare(listener.port).associate()[0] == A_ASSOCIATE_AC


def test_called_ae_title_is_checked_only_when_configured(listen: Listen, bare: Bare) -> None:
    assert bare(listen().port).associate("ANY")[0] == A_ASSOCIATE_AC
    strict = listen(require_called=True).port
    assert bare(strict).associate("OTHER") == bytes((A_ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, 1, 1, 7))  # not recognized
    assert bare(strict).associate("DICOMHUB")[0] == A_ASSOCIATE_AC


def test_requestor_is_authenticated_before_anything_is_accepted(listen: Listen, bare: Bare, sink: HashSink) -> None:
    asked: list[Peer] = []

    def refuse(peer: Peer) -> Actor:
        asked.append(peer)
        raise Unauthenticated("Nobody knows you")

    def break_down(peer: Peer) -> Actor:
        raise RuntimeError("no answer")

    assert bare(listen(authenticate=refuse).port).associate() == bytes((A_ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, 1, 1, 3))
    assert asked == [Peer("127.0.0.1", "BARE", "DICOMHUB")]
    assert bare(listen(authenticate=break_down).port).associate() == bytes((A_ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, 2, 1, 1))
    peer = bare(listen(authenticate=lambda peer: Actor("someone")).port)
    assert peer.associate()[0] == A_ASSOCIATE_AC
    peer.send_store_command()
    peer.send(encode_p_data(3, b"data", 16384, is_command=False))
    assert status(peer.receive_pdu()) == 0
    assert sink.sources == [Source(Actor("someone"), asked[0], via="dimse")]


def test_connection_without_association_request_is_closed_by_artim(listen: Listen, bare: Bare) -> None:
    listener = listen(acse_timeout_s=0.3)
    peer = bare(listener.port)
    assert peer.receive_pdu() == b""
    assert eventually(lambda: not listener.associations)


def test_silent_association_is_aborted_after_the_idle_timeout(listen: Listen, bare: Bare) -> None:
    peer = bare(listen(idle_timeout_s=0.3).port)
    peer.associate()
    start = time.monotonic()
    assert peer.receive_pdu()[0] == A_ABORT
    assert 0.2 < time.monotonic() - start < 2


def test_peer_silent_inside_a_data_set_is_aborted(listen: Listen, bare: Bare, sink: HashSink) -> None:
    peer = bare(listen(network_timeout_s=0.3).port)
    peer.associate()
    peer.send_store_command("1.2.3")
    peer.send(encode_p_data(3, bytes(100), 16384, is_command=False)[:-50])
    assert peer.receive_pdu()[0] == A_ABORT
    assert sink.broken == ["1.2.3"]


# -- stopping ------------------------------------------------------------------------------------------------------


def test_stop_aborts_idle_associations_and_frees_the_port(listen: Listen, bare: Bare) -> None:
    listener = listen()
    port = listener.port
    peer = bare(port)
    peer.associate()
    start = time.monotonic()
    listener.stop(10)
    assert time.monotonic() - start < 3
    assert peer.receive_pdu()[0] == A_ABORT
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_stop_lets_a_running_operation_finish(listen: Listen, bare: Bare, sink: HashSink) -> None:
    listener = listen()
    sink.may_answer.clear()
    peer = bare(listener.port)
    peer.associate()
    peer.send_store_command("1.2.3")
    peer.send(encode_p_data(3, b"data", 16384, is_command=False))
    assert sink.started.wait(5)
    stopping = threading.Thread(target=listener.stop, args=(10,))
    stopping.start()
    time.sleep(0.2)
    sink.may_answer.set()
    assert status(peer.receive_pdu()) == 0
    assert peer.receive_pdu()[0] == A_ABORT
    stopping.join(5)
    assert not stopping.is_alive()


def test_stop_lets_a_data_set_arrive_but_takes_no_further_one(listen: Listen, bare: Bare, sink: HashSink) -> None:
    listener = listen()
    peer = bare(listener.port)
    peer.associate()
    pdus = encode_p_data(3, bytes(100_000), 16384, is_command=False)
    peer.send_store_command("1.2.1")
    peer.send(pdus[:40_000])
    assert sink.started.wait(5)
    stopping = threading.Thread(target=listener.stop, args=(10,))
    stopping.start()
    time.sleep(0.2)
    sent: list[bytes] = []
    peer.send, send = sent.append, peer.send  # type: ignore[method-assign]
    peer.send_store_command("1.2.2")
    send(pdus[40_000:] + sent[0] + pdus)
    assert status(peer.receive_pdu()) == 0
    assert peer.receive_pdu()[0] == A_ABORT
    stopping.join(5)
    assert list(sink.sizes) == ["1.2.1"]


def test_stop_hangs_up_on_a_peer_that_does_not_finish(listen: Listen, bare: Bare, sink: HashSink) -> None:
    listener = listen()
    peer = bare(listener.port)
    peer.associate()
    peer.send_store_command("1.2.3")
    peer.send(encode_p_data(3, bytes(100), 16384, is_command=False)[:-50])
    assert sink.started.wait(5)
    start = time.monotonic()
    listener.stop(0.3)
    assert time.monotonic() - start < 3
    assert sink.broken == ["1.2.3"]
    assert not listener.associations


# -- broken and hostile peers --------------------------------------------------------------------------------------


def test_abort_inside_a_data_set_ends_the_operation(listen: Listen, bare: Bare, sink: HashSink) -> None:
    listener = listen()
    peer = bare(listener.port)
    peer.associate()
    peer.send_store_command("1.2.3")
    peer.send(struct.pack(">BBLLBB", 4, 0, 106, 102, 3, 0) + bytes(100))
    peer.send(A_ABORT_PDU)
    assert eventually(lambda: sink.broken == ["1.2.3"])
    assert eventually(lambda: not listener.associations)
    assert not sink.digests


@pytest.mark.parametrize("reset", [False, True])
def test_connection_lost_inside_a_data_set_ends_the_operation(
    listen: Listen, bare: Bare, sink: HashSink, reset: bool
) -> None:
    listener = listen()
    peer = bare(listener.port)
    peer.associate()
    peer.send_store_command("1.2.3")
    peer.send(struct.pack(">BBLLBB", 4, 0, 106, 102, 3, 0) + bytes(50))
    assert sink.started.wait(5)
    if reset:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    assert eventually(lambda: sink.broken == ["1.2.3"])
    assert eventually(lambda: not listener.associations)


def test_no_descriptor_is_left_behind(listen: Listen) -> None:
    listener = listen()
    before = len([*Path("/proc/self/fd").iterdir()])
    for number in range(20):
        peer = BarePeer(listener.port)
        if number % 4:
            peer.associate()
        if number % 4 == 2:
            peer.send(A_RELEASE_RQ_PDU)
            peer.receive_pdu()
        if number % 4 == 3:
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    assert eventually(lambda: not listener.associations)
    assert eventually(lambda: len([*Path("/proc/self/fd").iterdir()]) <= before)


COMMAND_OF_RESERVED_FIELD = struct.pack("<HHLH", 0, 0x0100, 2, 0x0001)


@pytest.mark.parametrize(
    "pdus",
    [
        pytest.param(encode_p_data(3, b"data", 100, is_command=False), id="data set without a command"),
        pytest.param(encode_p_data(1, COMMAND_OF_RESERVED_FIELD, 100, is_command=True), id="incomplete command"),
        pytest.param(encode_p_data(1, b"\xff" * 90, 100, is_command=True), id="garbage for a command"),
        pytest.param(struct.pack(">BBLLBB", 4, 0, 10, 100, 1, 3) + bytes(4), id="value longer than its PDU"),
        pytest.param(struct.pack(">BBLLBB", 4, 0, 10, 1, 1, 3) + bytes(4), id="value shorter than its header"),
        pytest.param(b"\x04\x00\x00\x00\x00\x03abc", id="PDU shorter than a value's header"),
        pytest.param(b"\x09\x00\x00\x00\x00\x04abcd", id="unknown PDU type"),
        pytest.param(b"\x02\x00\x00\x00\x00\x04abcd", id="acceptance from the requestor"),
        pytest.param(b"\x01\x00\xff\xff\xff\xff" + bytes(100), id="association request of 4 GB"),
        pytest.param(encode_p_data(1, bytes(70_000), 16384, is_command=True), id="command without end"),
    ],
)
def test_protocol_violation_is_aborted_and_others_are_served(listen: Listen, bare: Bare, pdus: bytes) -> None:
    listener = listen()
    peer, neighbour = bare(listener.port), bare(listener.port)
    peer.associate()
    neighbour.associate()
    peer.send(pdus)
    assert peer.receive_pdu()[0] == A_ABORT
    neighbour.send_echo()
    assert status(neighbour.receive_pdu()) == 0
    peer.close()
    assert eventually(lambda: len(listener.associations) == 1)


def test_context_that_was_not_accepted_is_aborted(listen: Listen, bare: Bare) -> None:
    peer = bare(listen().port, VERIFICATION, "1.2.826.0.1.999.1")
    peer.associate()
    peer.send_echo(context_id=3)
    assert peer.receive_pdu()[0] == A_ABORT


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n", b"\x00" * 200, b"\x04\x00\x00\x00\x00\x04abcd"]
)
def test_what_is_not_dicom_is_hung_up_on(listen: Listen, bare: Bare, first: bytes) -> None:
    listener = listen()
    peer = bare(listener.port)
    peer.send(first)
    while pdu := peer.receive_pdu():
        assert pdu[0] == A_ABORT
    peer.close()
    assert eventually(lambda: not listener.associations)


def test_unknown_operation_and_wrong_sop_class_are_answered_and_the_association_goes_on(
    listen: Listen, bare: Bare, sink: HashSink
) -> None:
    peer = bare(listen().port)
    peer.associate()
    values: dict[Element, int | str] = {
        Element.COMMAND_FIELD: CommandField.N_GET,
        Element.MESSAGE_ID: 5,
        Element.REQUESTED_SOP_CLASS_UID: VERIFICATION,
    }
    peer.send_command(1, values)
    assert status(peer.receive_pdu()) == 0x0211
    peer.send_echo(sop_class=CT_IMAGE_STORAGE)
    assert status(peer.receive_pdu()) == 0x0122
    peer.send_store_command(sop_class="1.2.826.0.1.999.1")
    peer.send(encode_p_data(3, b"data", 16384, is_command=False))
    assert status(peer.receive_pdu()) == 0x0122
    peer.send_echo()
    assert status(peer.receive_pdu()) == 0
    assert not sink.digests


def test_late_cancel_and_stray_response_are_ignored(listen: Listen, bare: Bare) -> None:
    peer = bare(listen().port)
    peer.associate()
    for field in (CommandField.C_CANCEL, CommandField.C_ECHO | 0x8000):
        values: dict[Element, int | str] = {Element.COMMAND_FIELD: field, Element.MESSAGE_ID_BEING_RESPONDED_TO: 1}
        peer.send_command(1, values)
    peer.send_echo(message_id=2)
    assert parse_command(peer.receive_pdu()[12:]).message_id == 2


def test_pynetdicom_as_scu_stores_and_echoes(listen: Listen, scu: AE, sink: HashSink) -> None:
    contexts = [build_context(CT_IMAGE_STORAGE), build_context(VERIFICATION)]
    assoc = scu.associate("127.0.0.1", listen().port, contexts=contexts)
    ds = pydicom.Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT_IMAGE_STORAGE, generate_uid()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    for _ in range(3):
        assert assoc.send_c_store(ds).Status == 0x0000
        assert assoc.send_c_echo().Status == 0x0000
    assoc.release()
    assert assoc.is_released
    assert list(sink.digests) == [ds.SOPInstanceUID]
