"""Search as policy: what an actor may see, how much work a search may make, what lies outside the index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement

from dicomhub.archive import Archive, ingest
from dicomhub.archive import search as archive_search
from dicomhub.archive.search import search
from dicomhub.dicom.attributes import nest, parse_path, vr_of
from dicomhub.dicom.matching import Match, Query, Range, SingleValue, parse_criterion
from dicomhub.dicom.model import Level
from dicomhub.errors import Forbidden, InvalidQuery, PayloadTooLarge
from dicomhub.events import SYSTEM, Actor, Source
from dicomhub.hooks import Access, Hooks, Plugin
from dicomhub.index.locate import metadata_of

NURSE = Actor("nurse")


def key(name: str, text: str) -> Match:
    path = parse_path(name)
    return Match(path, vr_of(path[-1]), parse_criterion(vr_of(path[-1]), text))


def query(level: Level, *keys: tuple[str, str], include: Sequence[str] = (), **options: Any) -> Query:
    uid = {Level.STUDY: 0x0020000D, Level.SERIES: 0x0020000E, Level.INSTANCE: 0x00080018}[level]
    wanted = frozenset({(uid,), *map(parse_path, include)})
    return Query(level, nest(key(*pair) for pair in keys), wanted, **options)


async def put(archive: Archive, *instances: bytes) -> None:
    for instance in instances:
        receiver = ingest.receiver(archive)
        receiver.feed(instance)
        await ingest.store(archive, receiver.finish(), Source())


async def find(archive: Archive, asked: Query, actor: Actor = SYSTEM, snapshot: int | None = None) -> list[str]:
    uid = {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.INSTANCE: "00080018"}[asked.level]
    result = await search(archive, asked, actor, snapshot)
    return [row[uid]["Value"][0] async for row in result.rows]


class OwnWard(Plugin):
    """Nurses see Doe's CT series only; nobody called nobody may search."""

    name = "own_ward"

    async def restrict(self, actor: Actor, access: Access) -> Sequence[Match]:
        if actor.name == "nobody":
            raise Forbidden("not you")
        return [key("PatientName", "Doe*"), key("Modality", "CT")] if actor == NURSE else []


class TestRestrict:
    @pytest.fixture
    def hooks(self) -> Hooks:
        return Hooks([OwnWard({})])

    @pytest.fixture(autouse=True)
    async def stored(self, archive: Archive, make_instance: Callable[..., bytes]) -> None:
        for number, (name, modality) in enumerate(
            (("Doe^A", "CT"), ("Doe^B", "MR"), ("Roe^C", "CT"), ("Doee^D", "CT"))
        ):
            uid = f"1.2.{number}"
            uids = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "SOPInstanceUID": f"{uid}.1.1"}
            await put(archive, make_instance(**uids, PatientName=name, Modality=modality))

    async def test_conditions_of_plugins_narrow_every_search(self, archive: Archive) -> None:
        for level, uid in ((Level.STUDY, "{}"), (Level.SERIES, "{}.1"), (Level.INSTANCE, "{}.1.1")):
            visible = {uid.format("1.2.0"), uid.format("1.2.3")}
            assert set(await find(archive, query(level), NURSE)) == visible
            assert len(await find(archive, query(level), SYSTEM)) == 4

    async def test_nothing_in_a_query_widens_them(self, archive: Archive) -> None:
        asked = query(Level.STUDY, ("PatientName", "C"), fuzzy=True)
        assert await find(archive, asked) == ["1.2.2"]
        assert await find(archive, asked, NURSE) == []
        assert await find(archive, query(Level.STUDY, ("Modality", "MR")), NURSE) == []

    async def test_who_may_not_search_is_told_so(self, archive: Archive) -> None:
        with pytest.raises(Forbidden):
            await search(archive, query(Level.STUDY), Actor("nobody"))


async def test_attributes_of_any_kind_can_be_searched_and_returned(
    archive: Archive, make_instance: Callable[..., bytes]
) -> None:
    for number in (1, 2):
        item = Dataset()
        item.ReferencedSOPInstanceUID = f"1.9.{number}"
        await put(archive, make_instance(SOPInstanceUID=f"1.2.3.{number}", SourceImageSequence=[item], EchoTime="1.50"))
    by_item = query(Level.INSTANCE, ("SourceImageSequence.ReferencedSOPInstanceUID", "1.9.2"))
    assert await find(archive, by_item) == ["1.2.3.2"]
    assert len(await find(archive, query(Level.INSTANCE, ("EchoTime", "1.5")))) == 2
    result = await search(archive, query(Level.INSTANCE, include=["SourceImageSequence"]), SYSTEM)
    rows = [row async for row in result.rows]
    assert rows[0]["00082112"]["Value"][0]["00081155"]["Value"] == ["1.9.1"]


async def test_private_attributes_are_found_in_whatever_block(
    archive: Archive, make_instance: Callable[..., bytes]
) -> None:
    for number, others in ((1, ()), (2, ("OTHER",))):
        ds = Dataset()
        for creator in (*others, "ACME"):
            ds.private_block(0x0009, creator, create=True).add_new(0x02, "LO", f"of {creator}")
        elements = {str(element.tag): element for element in ds}
        await put(archive, with_elements(make_instance(SOPInstanceUID=f"1.2.3.{number}"), elements.values()))
    asked = query(Level.INSTANCE, ("00091002", "of ACME"), ("00090010", "ACME"), include=["00091002"])
    assert await find(archive, asked) == ["1.2.3.1", "1.2.3.2"]
    rows = [row async for row in (await search(archive, asked, SYSTEM)).rows]
    assert rows[1]["00091102"]["Value"] == ["of ACME"]
    assert rows[1]["00090011"]["Value"] == ["ACME"]


def with_elements(part10: bytes, elements: Any) -> bytes:
    ds = dcmread(BytesIO(part10))
    for element in elements:
        ds.add(element)
    buffer = BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def huge(part10: bytes) -> bytes:
    """An instance with more small values than the index keeps metadata of: 5 MiB of text."""
    return with_elements(part10, [DataElement(0x00090010, "LO", "ACME"), *_texts()])


def _texts() -> list[DataElement]:
    return [DataElement(0x00091000 + number, "UT", f"{number:08}" * 3900) for number in range(0xB0)]


async def test_instances_whose_metadata_is_not_kept_are_read_from_the_store(
    archive: Archive, make_instance: Callable[..., bytes]
) -> None:
    await put(archive, huge(make_instance(SOPInstanceUID="1.2.3.1", KVP="80")), make_instance(SOPInstanceUID="1.2.3.2"))
    assert await archive.database.read(metadata_of, 1) is None
    for snapshot in (None, 2):
        assert await find(archive, query(Level.INSTANCE, ("KVP", "80")), snapshot=snapshot) == ["1.2.3.1"]
        assert await find(archive, query(Level.STUDY, ("KVP", "80")), snapshot=snapshot) == ["1.2.3.4"]
        assert await find(archive, query(Level.STUDY, ("KVP", "81")), snapshot=snapshot) == []
    rows = [row async for row in (await search(archive, query(Level.INSTANCE, include=["KVP"]), SYSTEM)).rows]
    assert [row.get("00180060") for row in rows] == [{"vr": "DS", "Value": [80.0]}, None]


async def test_a_search_that_looks_at_too_much_in_vain_is_stopped(
    archive: Archive, make_instance: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        await put(archive, make_instance(SOPInstanceUID=f"1.2.3.{number}"))
    monkeypatch.setattr(archive_search, "EXAMINED_MAX", 40)
    with pytest.raises(PayloadTooLarge, match="StudyDate"):
        await find(archive, query(Level.INSTANCE, ("KVP", "80")))
    assert len(await find(archive, query(Level.INSTANCE))) == 60


async def test_a_criterion_that_cannot_apply_is_refused_before_anything_is_read(archive: Archive) -> None:
    for match in (Match((0x00200013,), "IS", Range("1", "2")), Match((0x00100010,), "PN", Range("a", "b"))):
        with pytest.raises(InvalidQuery):
            await search(archive, Query(Level.STUDY, (match,)), SYSTEM)


async def test_pages_are_bounded_and_a_limit_is_told(archive: Archive, make_instance: Callable[..., bytes]) -> None:
    for number in range(5):
        await put(archive, make_instance(SOPInstanceUID=f"1.2.3.{number}", InstanceNumber=number))
    for limit, cut in ((3, True), (5, False), (None, False)):
        result = await search(archive, query(Level.INSTANCE, limit=limit), SYSTEM)
        pages = [page async for page in result.pages]
        assert sum(map(len, pages)) == (limit or 5)
        assert result.is_truncated is cut


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
async def test_a_single_value_given_by_a_plugin_need_not_be_parsed(
    archive: Archive, make_instance: Callable[..., bytes]
) -> None:
    await put(
        archive, make_instance(PatientID="P*1"), make_instance(PatientID="P*1", StudyInstanceUID="1.9", Modality="C*")
    )
    literal = Query(Level.STUDY, (Match((0x00080061,), "CS", SingleValue("C*")),), frozenset({(0x0020000D,)}))
    assert await find(archive, literal) == ["1.9"]
