"""The one way in: what is the same, what is a version, and what remains of a failure."""

from __future__ import annotations

import asyncio
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from dicomhub.app import open_archive
from dicomhub.archive import ingest, retrieve
from dicomhub.archive.receive import Receiver
from dicomhub.archive.verify import verify
from dicomhub.dicom.model import InstanceRef, Target
from dicomhub.dicom.part10 import make_file_meta
from dicomhub.errors import NotFound, OutOfResources, Refused, Truncated, Unavailable
from dicomhub.events import ANONYMOUS, Source
from dicomhub.hooks import Hooks, Plugin
from dicomhub.index import history
from tests.conftest import staged_files


@pytest.fixture(params=["embedded", "cluster"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def put(archive, data: bytes, *, step: int = 65536, own_file_meta: bool = True):
    receiver = ingest.receiver(archive, own_file_meta=own_file_meta)
    for start in range(0, len(data), step):
        receiver.feed(data[start : start + step])
    return await ingest.store(archive, receiver.finish(), Source())


def receive(archive, data: bytes) -> None:
    receiver = ingest.receiver(archive)
    receiver.feed(data)
    receiver.finish()


async def read(
    archive, ref: InstanceRef, snapshot: int | None = None, start: int = 0, stop: int | None = None
) -> bytes:
    stored = await retrieve.instance(archive, ref, ANONYMOUS, snapshot)
    return b"".join([chunk async for chunk in retrieve.open_instance(archive, stored, start, stop)])


def as_c_store_sends(part10: bytes) -> bytes:
    """The same data set with the file meta information that we make for data sets that arrive without."""
    ds = dcmread(BytesIO(part10))
    dataset = part10[part10.index(b"\x08\x00\x05\x00CS", 132) :]
    return make_file_meta(ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID) + dataset


async def test_same_bytes_again_are_a_duplicate(archive, make_instance):
    data = make_instance()
    first, second = await put(archive, data), await put(archive, data)
    assert (first.kind, second.kind) == ("created", "duplicate")
    assert second.version == first.version
    assert second.sequence is None
    assert await archive.database.read(history.latest) == 1


async def test_data_set_sent_by_c_store_that_is_stored_with_other_file_meta_is_a_duplicate(archive, make_instance):
    data = make_instance()
    await put(archive, data)
    assert (await put(archive, as_c_store_sends(data), own_file_meta=False)).kind == "duplicate"


async def test_file_with_other_file_meta_is_a_version(archive, make_instance):
    data = make_instance()
    receipt = await put(archive, as_c_store_sends(data), own_file_meta=False)
    assert (await put(archive, data)).kind == "replaced"
    assert await read(archive, receipt.ref) == data


async def test_every_past_version_is_read_back(archive, make_instance):
    uid = generate_uid()
    versions = [make_instance(SOPInstanceUID=uid, PatientID=f"P{n}", rows=200, columns=200) for n in range(4)]
    receipts = [await put(archive, version) for version in versions]
    for receipt, version in zip(receipts, versions, strict=True):
        assert await read(archive, receipt.ref, snapshot=receipt.sequence) == version
    assert await read(archive, receipts[0].ref) == versions[-1]


async def test_versions_share_their_pixels(archive, make_instance):
    uid = generate_uid()
    for number in range(4):
        await put(archive, make_instance(SOPInstanceUID=uid, PatientID=f"P{number}", rows=400, columns=400))
    blobs = [info async for info in archive.store.list()]
    assert [info.size for info in blobs] == [400 * 400 * 2]


async def test_same_uid_in_another_study_does_not_hide_the_first(archive, make_instance):
    one = await put(archive, make_instance(SOPInstanceUID="1.1"))
    other = await put(archive, make_instance(SOPInstanceUID="1.1", StudyInstanceUID="9.9", SeriesInstanceUID="9.8"))
    assert one.ref != other.ref
    assert (await retrieve.instance(archive, one.ref, ANONYMOUS)).ref == one.ref
    assert (await retrieve.instance(archive, other.ref, ANONYMOUS)).ref == other.ref


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (100, 140), (131, None), (5000, 90_000), (0, 10**9)])
async def test_any_range_of_an_instance(archive, make_instance, start, stop):
    data = make_instance(rows=300, columns=300)
    receipt = await put(archive, data)
    assert await read(archive, receipt.ref, start=start, stop=stop) == data[start:stop]


async def test_deflated_file_comes_back_deflated_and_is_read_inflated(archive, make_instance):
    data = make_instance(transfer_syntax=DeflatedExplicitVRLittleEndian, rows=300, columns=300)
    receipt = await put(archive, data)
    assert await read(archive, receipt.ref) == data
    stored = await retrieve.instance(archive, receipt.ref, ANONYMOUS)
    assert await retrieve.frame(archive, stored, 1) == dcmread(BytesIO(data)).PixelData
    assert (await retrieve.attributes(archive, stored))["00280010"]["Value"] == [300]


async def test_cut_at_any_place_nothing_remains(archive, make_instance, config):
    data = make_instance(rows=300, columns=300)
    for size in (0, 100, 131, 200, 600, len(data) // 2, len(data) - 1):
        with pytest.raises(Refused):
            receive(archive, data[:size])
    assert await archive.database.read(history.latest) == 0
    assert not staged_files(config.data_dir)


async def test_sender_that_goes_away_leaves_nothing(archive, make_instance, config):
    receiver = ingest.receiver(archive)
    receiver.feed(make_instance(rows=600, columns=600)[:-5])
    receiver.discard()
    with pytest.raises(Truncated):
        receive(archive, make_instance()[:-5])
    assert not staged_files(config.data_dir)


async def test_store_without_space_refuses_and_recovers(archive, make_instance, monkeypatch):
    async def full(*_: object) -> None:
        raise OutOfResources("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(type(archive.store), "put", full)
        with pytest.raises(OutOfResources):
            await put(archive, make_instance(SOPInstanceUID="1.1", rows=300, columns=300))
    with pytest.raises(NotFound):
        await retrieve.instance(archive, InstanceRef("1.2.3.4", "1.2.3.4.5", "1.1"), ANONYMOUS)
    assert (await put(archive, make_instance(SOPInstanceUID="1.1", rows=300, columns=300))).kind == "created"


async def test_many_writers_at_once_lose_nothing(archive, make_instance):
    data = [make_instance(InstanceNumber=number, rows=200, columns=200) for number in range(40)]
    receipts = await asyncio.gather(*(put(archive, one) for one in data))
    assert sorted(receipt.sequence for receipt in receipts) == list(range(1, 41))
    for receipt, one in zip(receipts, data, strict=True):
        assert await read(archive, receipt.ref) == one
    found = [stored async for stored in retrieve.instances(archive, Target("1.2.3.4"), ANONYMOUS)]
    assert len(found) == 40
    report = await verify(archive, quick=False)
    assert report.is_clean, report.findings
    assert report.versions == 40
    assert report.unreferenced == 0


async def test_real_files_come_back_bit_for_bit(archive, shared_data, backend):
    if backend == "cluster":
        pytest.skip("once is enough: the parts' stores have their own tests")
    for path in sorted((shared_data / "dicom").rglob("*")):
        if path.is_file() and path.suffix != ".csv":
            data = path.read_bytes()
            try:
                receipt = await put(archive, data, step=4096)
            except Refused:
                continue
            assert await read(archive, receipt.ref) == data, path.name
    report = await verify(archive, quick=False)
    assert report.is_clean, report.findings


class Hanging(Plugin):
    """Never says whether to change an instance."""

    name = "hanging"

    async def coerce(self, incoming):
        await asyncio.Event().wait()


async def test_plugin_that_hangs_does_not_hold_an_instance_for_ever(config, make_instance, monkeypatch):
    """What `persist` has put must be committed before a sweep could take it for left over."""
    monkeypatch.setattr(ingest, "COERCE_TIMEOUT_S", 0.2)
    async with open_archive(config, Hooks([Hanging({})])) as archive:
        receiver = ingest.receiver(archive)
        receiver.feed(make_instance())
        with pytest.raises(Unavailable, match="did not coerce"):
            await ingest.store(archive, receiver.finish(), Source())


async def test_very_many_small_bulk_values_are_refused_before_they_fill_the_memory(archive, make_instance, config):
    head = make_instance()
    receiver = Receiver(archive.store, config.model_copy(update={"max_header_bytes": 1024**2}))
    receiver.feed(head[: head.rindex(b"\xe0\x7f\x10\x00OW")])
    receiver.feed(b"\xdf\x7f\x10\x10SQ\0\0\xff\xff\xff\xff")
    value = b"\xe1\x7f\x10\x10OB\0\0" + (60_000).to_bytes(4, "little") + bytes(60_000)
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + value + b"\xfe\xff\x0d\xe0\0\0\0\0"
    with pytest.raises(Refused, match="together") as refused:
        receiver.feed(30 * item)
    assert refused.value.failure_reason == 0xA700
