"""C-STORE into a real archive: what is answered, and what is there afterwards."""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)
from pynetdicom import AE, build_context

from dicomhub.archive import Archive, retrieve, search
from dicomhub.config import Config
from dicomhub.dicom.levels import Attributes
from dicomhub.dicom.matching import Query
from dicomhub.dicom.model import Level
from dicomhub.dimse.command import Element, parse_command
from dicomhub.dimse.operation import encode_p_data
from dicomhub.dimse.upper_layer import MAX_CONTROL_PDU
from dicomhub.errors import Refused
from dicomhub.events import SYSTEM, Actor
from dicomhub.hooks import Coercion, Credentials, Hooks, Incoming, Plugin
from tests.conftest import staged_files
from tests.dimse.conftest import A_ABORT_PDU, CT_IMAGE_STORAGE, BarePeer, Run, data_set_bytes, eventually

PDU = 16390
"""Bytes of a full P-DATA-TF PDU with its header."""


async def stored(archive: Archive) -> list[Attributes]:
    query = Query(Level.INSTANCE, include="all")
    result = await search.search(archive, query, SYSTEM)
    return [row async for page in result.pages for row in page]


async def read_back(archive: Archive) -> dict[str, bytes]:
    """All stored instances as Part 10 bytes, by SOP Instance UID."""
    result = {}
    for row in await stored(archive):
        ref = retrieve.InstanceRef(*(row[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")))
        instance = await retrieve.instance(archive, ref, SYSTEM)
        result[ref.instance] = b"".join([piece async for piece in retrieve.open_instance(archive, instance)])
    return result


async def send(peer: BarePeer, data: bytes, uid: str, **command: Any) -> tuple[int | None, str]:
    """Status and Error Comment of a C-STORE."""
    peer.send_store_command(uid, **command)
    peer.send(encode_p_data(3, data, 16384, is_command=False))
    response = parse_command((await asyncio.to_thread(peer.receive_pdu))[12:])
    return response.number(Element.STATUS), response.text(Element.ERROR_COMMENT)


Bare = Callable[..., BarePeer]
MakeInstance = Callable[..., bytes]


async def associated(bare: Bare, port: int) -> BarePeer:
    peer = bare(port)
    await asyncio.to_thread(peer.associate)
    return peer


# -- success -------------------------------------------------------------------------------------------------------


async def test_storescu_instances_are_kept_bit_exact(
    archive: Archive, port: int, dcmtk: Run, ct_files: Callable[[int, int], list[Path]]
) -> None:
    files = ct_files(4, 200_000)
    result = await asyncio.to_thread(dcmtk, "storescu", "127.0.0.1", port, *files)
    assert result.returncode == 0, result.stdout
    kept = await read_back(archive)
    for file in files:
        sent = pydicom.dcmread(file)
        part10 = kept[sent.SOPInstanceUID]
        assert data_set_bytes(part10) == data_set_bytes(file.read_bytes())
        received = pydicom.dcmread(BytesIO(part10))
        assert received.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert received.file_meta.MediaStorageSOPInstanceUID == sent.SOPInstanceUID
        assert received == sent


async def test_dcmsend_stores_real_files_of_every_transfer_syntax(
    archive: Archive, port: int, dcmtk: Run, shared_data: Path
) -> None:
    folder = shared_data / "dicom"
    with (folder / "index.csv").open() as rows:
        files = [folder / row["path"] for row in csv.DictReader(rows) if not row["path"].startswith("malformed")]
    largest = 3_000_000  # bytes; the larger ones bring no other syntax, only time
    files = [file for file in files if file.is_file() and file.stat().st_size < largest]
    result = await asyncio.to_thread(dcmtk, "dcmsend", "-v", "-nh", "-nuc", "-dn", "127.0.0.1", port, *files)
    kept = {row["00080018"]["Value"][0]: row["00083002"]["Value"] for row in await stored(archive)}
    wanted = transfer_syntaxes_by_uid(files)
    not_sent = int(re.findall(r"NOT sent to the peer +: (\d+)", result.stdout)[0])
    assert len(wanted.keys() - kept.keys()) <= not_sent < 10, result.stdout[-1000:]  # what DCMTK itself cannot read
    compressed = {uid: [syntax] for uid, syntax in wanted.items() if uid in kept and UID(syntax).is_compressed}
    assert {uid: kept[uid] for uid in compressed} == compressed  # native ones may be sent in another native syntax
    assert len({syntax for syntaxes in kept.values() for syntax in syntaxes}) >= 7


def transfer_syntaxes_by_uid(files: list[Path]) -> dict[str, str]:
    """Of the files that name all their UIDs, each SOP instance once."""
    found: dict[str, set[str]] = {}
    for file in files:
        ds = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        uids = [
            ds.get(keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
        ]
        if all(uids) and "TransferSyntaxUID" in ds.file_meta:
            found.setdefault(str(ds.SOPInstanceUID), set()).add(str(ds.file_meta.TransferSyntaxUID))
    return {uid: syntaxes.pop() for uid, syntaxes in found.items() if len(syntaxes) == 1}


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
async def test_data_set_is_stored_in_the_negotiated_transfer_syntax(
    archive: Archive, port: int, scu: AE, make_instance: MakeInstance, syntax: UID
) -> None:
    ds = Dataset(pydicom.dcmread(BytesIO(make_instance())))  # without the encoding that it was read in
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    del ds.PixelData  # pydicom would not swap it

    def store() -> Dataset:
        assoc = scu.associate("127.0.0.1", port, contexts=[build_context(CT_IMAGE_STORAGE, syntax)])
        status = assoc.send_c_store(ds)
        assoc.release()
        return status

    assert (await asyncio.to_thread(store)).Status == 0x0000
    (part10,) = (await read_back(archive)).values()
    received = pydicom.dcmread(BytesIO(part10))
    assert received.file_meta.TransferSyntaxUID == syntax
    assert received.PatientName == "Doe^Jane"
    assert received.SOPInstanceUID == ds.SOPInstanceUID


async def test_same_instance_twice_is_success_without_a_second_version(
    archive: Archive, port: int, bare: Bare, make_instance: MakeInstance
) -> None:
    peer = await associated(bare, port)
    data = data_set_bytes(make_instance(SOPInstanceUID="1.2.3.9"))
    other = data_set_bytes(make_instance(SOPInstanceUID="1.2.3.9", PatientID="P2"))
    assert await send(peer, data, "1.2.3.9") == (0x0000, "")
    assert await send(peer, data, "1.2.3.9") == (0x0000, "")
    assert len(await stored(archive)) == 1
    assert await send(peer, other, "1.2.3.9") == (0x0000, "")
    (row,) = await stored(archive)
    assert row["00100020"]["Value"] == ["P2"]


async def test_associations_store_at_the_same_time(
    archive: Archive, port: int, dcmtk: Run, ct_files: Callable[[int, int], list[Path]]
) -> None:
    files = ct_files(40, 20_000)
    results = await asyncio.gather(
        *(asyncio.to_thread(dcmtk, "storescu", "127.0.0.1", port, *files[start::4]) for start in range(4))
    )
    assert [result.returncode for result in results] == [0] * 4
    assert len(await stored(archive)) == 40


# -- refusals: the association goes on -------------------------------------------------------------------------------


async def test_refusals_name_their_reason_and_leave_the_association_usable(
    archive: Archive, config: Config, port: int, bare: Bare, make_instance: MakeInstance
) -> None:
    peer = await associated(bare, port)
    good = data_set_bytes(make_instance(SOPInstanceUID="1.2.3.1"))
    large = bytes(5 * MAX_CONTROL_PDU)
    cases: list[tuple[bytes, dict[str, Any], int]] = [
        (good, {"uid": "1.2.3.2"}, 0xA900),  # not the instance that the command names
        (good, {"uid": "not a uid"}, 0xA900),
        (good, {"uid": ""}, 0xA900),
        (data_set_bytes(make_instance(SOPInstanceUID="1.2.3.1", StudyInstanceUID=None)), {"uid": "1.2.3.1"}, 0xA900),
        (data_set_bytes(make_instance(SOPInstanceUID="1.2.3.1", SeriesInstanceUID="x")), {"uid": "1.2.3.1"}, 0xA900),
        (
            data_set_bytes(make_instance(SOPInstanceUID="1.2.3.1", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")),
            {"uid": "1.2.3.1"},
            0xA900,
        ),
        (good[:-5], {"uid": "1.2.3.1"}, 0xC000),  # ends inside the pixel data
        (good[:100], {"uid": "1.2.3.1"}, 0xC000),
        (b"GET / HTTP/1.1\r\n\r\n", {"uid": "1.2.3.1"}, 0xC000),
        (b"\xff" * 100 + large, {"uid": "1.2.3.1"}, 0xC000),  # refused long before its end
    ]
    for data, command, wanted in cases:
        status, comment = await send(peer, data, **command)
        assert (status, bool(comment)) == (wanted, True), (data[:20], command, comment)
    assert not await stored(archive)
    assert not staged_files(config.data_dir)
    assert await send(peer, good, "1.2.3.1") == (0x0000, "")
    assert len(await stored(archive)) == 1


async def test_request_without_data_set_is_refused(port: int, bare: Bare) -> None:
    peer = await associated(bare, port)
    values: dict[Element, int | str] = {
        Element.COMMAND_FIELD: 0x0001,
        Element.MESSAGE_ID: 1,
        Element.AFFECTED_SOP_CLASS_UID: CT_IMAGE_STORAGE,
        Element.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
    }
    peer.send_command(3, values)
    response = parse_command((await asyncio.to_thread(peer.receive_pdu))[12:])
    assert response.number(Element.STATUS) == 0xC000


@pytest.mark.parametrize("end", ["abort", "close"])
async def test_association_lost_inside_a_data_set_leaves_nothing(
    archive: Archive, config: Config, port: int, bare: Bare, make_instance: MakeInstance, end: str
) -> None:
    peer = await associated(bare, port)
    data = data_set_bytes(make_instance(SOPInstanceUID="1.2.3.1", rows=2000, columns=2000))
    pdus = encode_p_data(3, data, PDU - 6, is_command=False)
    peer.send_store_command("1.2.3.1")
    complete = 200 * PDU
    await asyncio.to_thread(peer.send, pdus[:complete])
    assert await asyncio.to_thread(eventually, lambda: bool(staged_files(config.data_dir)))
    if end == "abort":
        await asyncio.to_thread(peer.send, pdus[complete : complete + PDU] + A_ABORT_PDU)
    else:
        peer.close()
    assert await asyncio.to_thread(eventually, lambda: not staged_files(config.data_dir))
    assert not await stored(archive)


# -- plugins and time-outs -------------------------------------------------------------------------------------------


class Policy(Plugin):
    """Does with an instance what its Patient ID says; knows who may associate."""

    name = "policy"

    async def coerce(self, incoming: Incoming) -> Coercion | None:
        patient_id = incoming.dataset.PatientID
        if patient_id == "REFUSE":
            raise Refused("Not on a Sunday", 0x0124)
        if patient_id == "BREAK":
            raise RuntimeError("secret detail")
        if patient_id == "WAIT":
            await asyncio.sleep(30)
        if patient_id == "CHANGE":
            changed = Dataset()
            changed.PatientID = "CHANGED"
            return Coercion(changed)
        return None

    async def authenticate(self, credentials: Credentials) -> Actor | None:
        assert credentials.scheme == "ae"
        return Actor("modality") if credentials.token == "BARE" else None


@pytest.fixture
def hooks(request: pytest.FixtureRequest) -> Hooks:
    return Hooks([Policy({})] if "policy" in request.node.name else [])


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    timeout_s = 0.5 if "policy" in request.node.name else 60
    return Config(data_dir=tmp_path / "data", dimse_port=0, dimse_store_timeout_s=timeout_s)


async def test_policy_of_a_plugin_decides_the_status(
    archive: Archive, config: Config, port: int, bare: Bare, make_instance: MakeInstance
) -> None:
    peer = await associated(bare, port)

    async def send_of(patient_id: str) -> tuple[int | None, str]:
        uid = str(generate_uid())
        return await send(peer, data_set_bytes(make_instance(SOPInstanceUID=uid, PatientID=patient_id)), uid)

    assert await send_of("REFUSE") == (0x0124, "Not on a Sunday")
    status, comment = await send_of("BREAK")
    assert status == 0x0110
    assert "secret" not in comment
    status, comment = await send_of("WAIT")
    assert status == 0xA700
    assert "0.5 s" in comment
    assert not await stored(archive)
    assert not staged_files(config.data_dir)
    assert await send_of("CHANGE") == (0xB000, "")
    (row,) = await stored(archive)
    assert row["00100020"]["Value"] == ["CHANGED"]


async def test_policy_of_a_plugin_decides_who_may_associate(port: int, bare: Bare) -> None:
    known, unknown = bare(port), bare(port)
    assert (await asyncio.to_thread(known.associate))[0] == 2  # A-ASSOCIATE-AC
    unknown.calling_ae_title = "STRANGER"
    assert (await asyncio.to_thread(unknown.associate))[0] == 3  # A-ASSOCIATE-RJ
