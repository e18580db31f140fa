"""C-FIND over a real archive, asked by DCMTK's findscu, pynetdicom and a bare socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.dsutils import encode

from dicomhub.archive import Archive, ingest
from dicomhub.dimse.command import CommandField, Element, parse_command
from dicomhub.dimse.contexts import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from dicomhub.dimse.identifier import MAX_IDENTIFIER
from dicomhub.dimse.operation import encode_p_data
from dicomhub.events import Source
from tests.dimse.conftest import A_ABORT_PDU, EXPLICIT_VR_LITTLE_ENDIAN, BarePeer, Run

MakeInstance = Callable[..., bytes]
Found = tuple[list[Dataset], list[int]]
"""Response identifiers and all statuses, the final one last."""
Find = Callable[..., Any]


async def keep(archive: Archive, *instances: bytes) -> None:
    for part10 in instances:
        receiver = ingest.receiver(archive)
        receiver.feed(part10)
        await ingest.store(archive, receiver.finish(), Source())


@pytest.fixture
async def patients(archive: Archive, make_instance: MakeInstance) -> None:
    """Three patients, four studies, five series, seven instances."""

    def of(study: str, series: str, instance: str, **attributes: Any) -> bytes:
        return make_instance(
            StudyInstanceUID=f"1.2.{study}", SeriesInstanceUID=f"1.2.{study}.{series}",
            SOPInstanceUID=f"1.2.{study}.{series}.{instance}", InstanceNumber=instance, SeriesNumber=series,
            **attributes,
        )  # fmt: skip

    jane = {"PatientID": "P1", "PatientName": "Doe^Jane"}
    maria = {"PatientID": "P2", "PatientName": "Müller^Maria", "PatientBirthDate": None}
    galina = {"PatientID": "P3", "PatientName": "Гусева^Галина"}
    await keep(
        archive,
        of("1", "1", "1", **jane, StudyDate="20240101", Rows=8, columns=8),
        of("1", "1", "2", **jane, StudyDate="20240101"),
        of("1", "2", "1", **jane, StudyDate="20240101", Modality="SEG"),
        of("2", "1", "1", **jane, StudyDate="20240215", AccessionNumber="A2"),
        of("3", "1", "1", **maria, StudyDate="20230731", StudyDescription="Schädel", StudyTime="081500"),
        of("3", "1", "2", **maria, StudyDate="20230731", StudyDescription="Schädel", StudyTime="081500"),
        of("4", "1", "1", **galina, StudyDate="20240301", Modality="MR"),
    )


@pytest.fixture
def find(port: int, scu: AE) -> Find:
    """``await find(level, root=..., syntax=..., template=..., **keys)`` by pynetdicom."""

    def ask(level: str | None, root: UID, syntax: UID, template: Dataset, keys: dict[str, Any]) -> Found:
        request = Dataset(template)
        if level is not None:
            request.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(request, keyword, value)
        assoc = scu.associate("127.0.0.1", port, contexts=[build_context(root, syntax)])
        assert assoc.is_established
        responses = list(assoc.send_c_find(request, root))
        assoc.release()
        assert assoc.is_released
        return [ds for _, ds in responses if ds is not None], [status.Status for status, _ in responses]

    async def asynchronously(
        level: str | None,
        root: UID = STUDY_ROOT_FIND,
        syntax: str = EXPLICIT_VR_LITTLE_ENDIAN,
        template: Dataset | None = None,
        **keys: Any,
    ) -> Found:
        return await asyncio.to_thread(ask, level, root, UID(syntax), template or Dataset(), keys)

    return asynchronously


def values(found: Found, keyword: str) -> list[str]:
    datasets, statuses = found
    assert statuses[-1] == 0x0000, [hex(status) for status in statuses]
    return sorted(str(ds[keyword].value) for ds in datasets)


# -- levels and matching ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patients")
async def test_every_level_of_both_models(find: Find) -> None:
    root = PATIENT_ROOT_FIND
    assert values(await find("PATIENT", root, PatientID=""), "PatientID") == ["P1", "P2", "P3"]
    assert values(await find("STUDY", root, PatientID="P1", StudyInstanceUID=""), "StudyInstanceUID") == [
        "1.2.1",
        "1.2.2",
    ]
    for model in (PATIENT_ROOT_FIND, STUDY_ROOT_FIND):
        keys = {"PatientID": "P1", "StudyInstanceUID": "1.2.1"}
        series = await find("SERIES", model, **keys, SeriesInstanceUID="", Modality="")
        assert values(series, "SeriesInstanceUID") == ["1.2.1.1", "1.2.1.2"]
        assert values(series, "Modality") == ["CT", "SEG"]
        images = await find("IMAGE", model, **keys, SeriesInstanceUID="1.2.1.1", SOPInstanceUID="", Rows=None)
        assert values(images, "SOPInstanceUID") == ["1.2.1.1.1", "1.2.1.1.2"]
        assert values(images, "Rows") == ["8", "8"]


@pytest.mark.usefixtures("patients")
@pytest.mark.parametrize(
    ("keys", "studies"),
    [
        ({}, "1 2 3 4"),
        ({"PatientName": "*"}, "1 2 3 4"),
        ({"PatientName": "doe^jane"}, "1 2"),
        ({"PatientName": "D?e*"}, "1 2"),
        ({"PatientName": "MULLER*", "SpecificCharacterSet": "ISO_IR 192"}, "3"),
        ({"PatientName": "гусева*", "SpecificCharacterSet": "ISO_IR 192"}, "4"),
        ({"PatientName": "Гусева*", "SpecificCharacterSet": "ISO_IR 144"}, "4"),
        ({"StudyDate": "20240101-20240228"}, "1 2"),
        ({"StudyDate": "20240215-"}, "2 4"),
        ({"StudyDate": "-20231231"}, "3"),
        ({"StudyTime": "0800-0900"}, "3"),
        ({"AccessionNumber": "A2"}, "2"),
        ({"StudyInstanceUID": ["1.2.1", "1.2.4", "1.2.99"]}, "1 4"),
        ({"ModalitiesInStudy": "SEG"}, "1"),
        ({"StudyDescription": "Sch*", "SpecificCharacterSet": "ISO_IR 100"}, "3"),
        ({"PatientID": "nobody"}, ""),
        ({"PatientID": "P1", "StudyDate": "20240101"}, "1"),
        ({"NumberOfStudyRelatedInstances": "3"}, "1"),
    ],
)
async def test_matching(find: Find, keys: dict[str, Any], studies: str) -> None:
    found = await find("STUDY", **{"StudyInstanceUID": "", **keys})
    assert values(found, "StudyInstanceUID") == [f"1.2.{number}" for number in studies.split()]


@pytest.mark.usefixtures("patients")
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
async def test_other_transfer_syntaxes(find: Find, syntax: UID) -> None:
    found = await find("STUDY", syntax=syntax, PatientID="P1", StudyInstanceUID="", NumberOfStudyRelatedInstances="")
    assert values(found, "StudyInstanceUID") == ["1.2.1", "1.2.2"]
    assert values(found, "NumberOfStudyRelatedInstances") == ["1", "3"]


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patients")
async def test_every_key_comes_back_and_nothing_else(find: Find) -> None:
    keys = {
        "StudyInstanceUID": "1.2.1", "PatientName": "", "StudyTime": "", "ModalitiesInStudy": "", "PatientComments": "",
        "NumberOfStudyRelatedSeries": "", "NumberOfStudyRelatedInstances": "", "InstanceAvailability": "",
    }  # fmt: skip
    (ds,), statuses = await find("STUDY", **keys)
    assert statuses == [0xFF00, 0x0000]
    assert {element.keyword for element in ds} == {*keys, "QueryRetrieveLevel", "RetrieveAETitle"}
    assert (ds.QueryRetrieveLevel, ds.RetrieveAETitle, ds.InstanceAvailability) == ("STUDY", "DICOMHUB", "ONLINE")
    assert (ds.PatientName, ds.StudyTime) == ("Doe^Jane", "120000")
    assert sorted(ds.ModalitiesInStudy) == ["CT", "SEG"]
    assert (ds.NumberOfStudyRelatedSeries, ds.NumberOfStudyRelatedInstances) == (2, 3)
    assert ds["PatientComments"].is_empty


@pytest.mark.usefixtures("patients")
async def test_answers_are_in_a_character_set_that_the_requestor_reads(find: Find) -> None:
    (ds,), _ = await find("STUDY", StudyInstanceUID="1.2.3", PatientName="", StudyDescription="")
    assert (ds.SpecificCharacterSet, str(ds.PatientName), ds.StudyDescription) == (
        "ISO_IR 192",
        "Müller^Maria",
        "Schädel",
    )
    (ds,), _ = await find("STUDY", StudyInstanceUID="1.2.3", PatientName="", SpecificCharacterSet="ISO_IR 100")
    assert (ds.SpecificCharacterSet, str(ds.PatientName)) == ("ISO_IR 100", "Müller^Maria")
    (ds,), _ = await find("STUDY", StudyInstanceUID="1.2.4", PatientName="", SpecificCharacterSet="ISO_IR 100")
    assert (ds.SpecificCharacterSet, str(ds.PatientName)) == ("ISO_IR 192", "Гусева^Галина")
    (ds,), _ = await find("STUDY", StudyInstanceUID="1.2.1", PatientName="")
    assert "SpecificCharacterSet" not in ds


async def test_sequences_are_matched_and_returned(find: Find, archive: Archive, make_instance: MakeInstance) -> None:
    def with_code(uid: str, code: str) -> bytes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", "Meaning"
        return make_instance(StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1", ProcedureCodeSequence=[item])

    await keep(archive, with_code("1.5.1", "ONE"), with_code("1.5.2", "TWO"))
    asked = Dataset()
    asked.CodeValue, asked.CodeMeaning = "TWO", ""
    (ds,), statuses = await find("STUDY", StudyInstanceUID="", ProcedureCodeSequence=[asked])
    assert statuses == [0xFF00, 0x0000]
    assert ds.StudyInstanceUID == "1.5.2"
    (item,) = ds.ProcedureCodeSequence
    assert (item.CodeValue, item.CodeMeaning) == ("TWO", "Meaning")
    assert "CodingSchemeDesignator" not in item
    found = await find("STUDY", StudyInstanceUID="", ProcedureCodeSequence=[])
    assert sorted(ds.ProcedureCodeSequence[0].CodeValue for ds in found[0]) == ["ONE", "TWO"]


async def test_private_attributes_are_returned_at_image_level(
    find: Find, archive: Archive, make_instance: MakeInstance
) -> None:
    instance = dcmread(BytesIO(make_instance(SOPInstanceUID="1.6.1")))
    instance.private_block(0x0029, "OTHER", create=True).add_new(0x10, "LO", "not this one")
    instance.private_block(0x0029, "ACME", create=True).add_new(0x10, "LO", "private value")
    buffer = BytesIO()
    instance.save_as(buffer)
    await keep(archive, buffer.getvalue())
    request = Dataset()
    request.private_block(0x0029, "ACME", create=True).add_new(0x10, "LO", "")
    (ds,), statuses = await find("IMAGE", template=request, SOPInstanceUID="1.6.1")
    assert statuses == [0xFF00, 0x0000]
    assert ds.private_block(0x0029, "ACME")[0x10].value == "private value"


@pytest.mark.usefixtures("patients")
async def test_keys_of_lower_levels_are_answered_with_a_warning(find: Find) -> None:
    found, statuses = await find("STUDY", PatientID="P2", StudyInstanceUID="", InstanceNumber="")
    assert statuses == [0xFF01, 0x0000]
    assert found[0]["InstanceNumber"].is_empty


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patients")
@pytest.mark.parametrize(
    ("level", "keys", "status"),
    [
        (None, {"PatientID": "P1"}, 0xA900),
        ("PATIENT", {"PatientID": "P1"}, 0xA900),  # the study root model has no such level
        ("FRAME", {"PatientID": "P1"}, 0xA900),
        ("STUDY", {"StudyDate": "yesterday"}, 0xA900),
        ("STUDY", {"StudyInstanceUID": "1.2.*"}, 0xA900),
    ],
)
async def test_wrong_identifiers_are_refused(find: Find, level: str | None, keys: dict[str, Any], status: int) -> None:
    found, statuses = await find(level, **keys)
    assert (found, statuses) == ([], [status])


def request(peer: BarePeer, identifier: bytes, message_id: int = 1) -> None:
    values: dict[Element, int | str] = {
        Element.COMMAND_FIELD: CommandField.C_FIND,
        Element.MESSAGE_ID: message_id,
        Element.AFFECTED_SOP_CLASS_UID: STUDY_ROOT_FIND,
        Element.PRIORITY: 0,
    }
    peer.send_command(1, values, data_set=True)
    peer.send(encode_p_data(1, identifier, 16384, is_command=False))


def answers(peer: BarePeer) -> list[int | None]:
    """Statuses up to the final one."""
    statuses: list[int | None] = []
    while not statuses or statuses[-1] in (0xFF00, 0xFF01):
        pdu = peer.receive_pdu()
        if pdu[11] & 1:
            statuses.append(parse_command(pdu[12:]).number(Element.STATUS))
    return statuses


def encoded(level: str, **keys: Any) -> bytes:
    """An identifier as it is sent, in Implicit VR."""
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    data = encode(ds, False, True)
    assert data is not None
    return data


@pytest.mark.usefixtures("patients")
async def test_unreadable_and_oversized_identifiers_leave_the_association_usable(
    port: int, bare: Callable[..., BarePeer]
) -> None:
    peer = bare(port, STUDY_ROOT_FIND)
    await asyncio.to_thread(peer.associate)
    for identifier, status in (
        (encoded("STUDY", StudyInstanceUID="")[:-3], 0xC001),
        (b"GET / HTTP/1.1\r\n\r\n", 0xC001),
        (b"\xff" * 40, 0xC001),
        (bytes(MAX_IDENTIFIER + 2), 0xA700),
    ):
        await asyncio.to_thread(request, peer, identifier)
        assert await asyncio.to_thread(answers, peer) == [status]
    request(peer, encoded("STUDY", StudyInstanceUID=""))
    assert await asyncio.to_thread(answers, peer) == [0xFF00] * 4 + [0x0000]


# -- many results ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def many(archive: Archive, make_instance: MakeInstance) -> int:
    """One series of more instances than a page of the index."""
    count = 620
    for start in range(0, count, 62):
        parts = [make_instance(SOPInstanceUID=f"1.7.{n}", InstanceNumber=n, rows=1) for n in range(start, start + 62)]
        await asyncio.gather(*(keep(archive, part) for part in parts))
    return count


async def test_all_pages_of_a_result_are_sent_in_order(find: Find, many: int) -> None:
    found, statuses = await find("IMAGE", SeriesInstanceUID="1.2.3.4.5", InstanceNumber="", SOPInstanceUID="")
    assert statuses == [0xFF00] * many + [0x0000]
    assert [int(ds.InstanceNumber) for ds in found] == list(range(many))


async def test_cancel_ends_the_responses(port: int, many: int, bare: Callable[..., BarePeer]) -> None:
    peer = bare(port, STUDY_ROOT_FIND)
    await asyncio.to_thread(peer.associate)
    cancel: dict[Element, int | str] = {
        Element.COMMAND_FIELD: CommandField.C_CANCEL,
        Element.MESSAGE_ID_BEING_RESPONDED_TO: 7,
    }
    request(peer, encoded("IMAGE", SOPInstanceUID=""), message_id=7)
    peer.send_command(1, cancel)
    statuses = await asyncio.to_thread(answers, peer)
    assert statuses[-1] == 0xFE00
    assert len(statuses) < many
    request(peer, encoded("IMAGE", SOPInstanceUID=""), message_id=8)
    peer.send_command(1, cancel)  # of an operation that is over: no concern of this one
    assert len(await asyncio.to_thread(answers, peer)) == many + 1


async def test_abort_ends_the_responses(port: int, many: int, bare: Callable[..., BarePeer]) -> None:
    peer = bare(port, STUDY_ROOT_FIND)
    await asyncio.to_thread(peer.associate)
    request(peer, encoded("IMAGE", SOPInstanceUID=""))
    peer.send(A_ABORT_PDU)

    def drain() -> int:
        count = 0
        while peer.receive_pdu():
            count += 1
        return count

    assert await asyncio.to_thread(drain) < 2 * many


async def test_results_larger_than_the_peers_pdu_are_fragmented(
    port: int, archive: Archive, make_instance: MakeInstance, bare: Callable[..., BarePeer]
) -> None:
    await keep(
        archive, make_instance(StudyInstanceUID="1.8", PatientComments="c" * 10_000, ReasonForStudy="r" * 10_000)
    )
    peer = bare(port, STUDY_ROOT_FIND)
    await asyncio.to_thread(peer.associate)
    request(peer, encoded("STUDY", StudyInstanceUID="", PatientComments="", ReasonForStudy=""))
    data, sizes = b"", []
    while pdu := await asyncio.to_thread(peer.receive_pdu):
        sizes.append(len(pdu) - 6)
        if pdu[11] & 1:
            if parse_command(pdu[12:]).number(Element.STATUS) == 0x0000:
                break
        else:
            data += pdu[12:]
    assert max(sizes) == 16384  # what the bare peer announced
    ds = read_dataset(BytesIO(data), False, True)
    assert (len(ds.PatientComments), len(ds.ReasonForStudy)) == (10_000, 10_000)


# -- DCMTK -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patients")
@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"], 4),
        (["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=Doe*", "-k", "StudyInstanceUID"], 2),
        (["-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=P?", "-k", "PatientName"], 3),
        (["-S", "-k", "QueryRetrieveLevel=SERIES", "-k", "StudyInstanceUID=1.2.1", "-k", "SeriesInstanceUID"], 2),
        (["-S", "-k", "QueryRetrieveLevel=IMAGE", "-k", "StudyInstanceUID=1.2.1", "-k", "SOPInstanceUID"], 3),
        (["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "0008,0000=10", "-k", "PatientID=P1"], 2),
    ],
)
async def test_findscu(port: int, dcmtk: Run, arguments: list[str], count: int) -> None:
    result = await asyncio.to_thread(dcmtk, "findscu", "-v", *arguments, "127.0.0.1", port)
    assert result.returncode == 0, result.stdout
    assert len(re.findall(r"Find Response: \d+ \(Pending\)", result.stdout)) == count, result.stdout
    assert "Received Final Find Response (Success)" in result.stdout


@pytest.mark.usefixtures("patients")
async def test_findscu_cancels_after_the_first_response(port: int, dcmtk: Run) -> None:
    arguments = ["-v", "-S", "--cancel", "1", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"]
    result = await asyncio.to_thread(dcmtk, "findscu", *arguments, "127.0.0.1", port)
    assert result.returncode == 0, result.stdout
    assert "Sending Cancel Request" in result.stdout
