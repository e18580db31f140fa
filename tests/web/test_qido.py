"""QIDO-RS as clients meet it (PS3.18 10.6, 8.3.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pydicom import Dataset
from pydicom.sequence import Sequence

from dicomhub.config import Config
from dicomhub.index import search as index_search
from dicomhub.web.dicomweb import qido

Client = TestClient[web.Request, web.Application]
Search = Callable[..., Awaitable[list[dict[str, Any]]]]

ROOT = "/dicom-web"
NAMES = ("Müller^Anna", "Doe^John", "Гусева^Ольга")


@pytest.fixture
def config(config: Config) -> Config:
    return config.model_copy(update={"query_max_results": 10})


@pytest.fixture
async def filled(store: Any, make_instance: Callable[..., bytes]) -> None:
    """Three studies of two series (CT, MR) of three instances."""
    instances = []
    for s, name in enumerate(NAMES, 1):
        for e, modality in enumerate(("CT", "MR"), 1):
            for i in range(1, 4):
                request = Dataset()
                request.ScheduledProcedureStepID, request.RequestedProcedureID = f"S{e}", f"R{s}"
                attributes = {
                    "StudyInstanceUID": f"1.2.{s}",
                    "SeriesInstanceUID": f"1.2.{s}.{e}",
                    "SOPInstanceUID": f"1.2.{s}.{e}.{i}",
                    "StudyDate": f"2024010{s}",
                    "PatientName": name,
                    "PatientID": f"P{s}",
                    "Modality": modality,
                    "SeriesNumber": e,
                    "InstanceNumber": i,
                    "KVP": str(100 + i),
                    "RequestAttributesSequence": Sequence([request]),
                }
                instances.append(make_instance(**attributes))
    await store(*instances)


@pytest.fixture
def search(client: Client, filled: None) -> Search:
    """``await search("/studies?...")``: the results."""

    async def get(resource: str, status: int = 200) -> list[dict[str, Any]]:
        response = await client.get(ROOT + resource)
        assert response.status == status, await response.text()
        assert response.headers["Content-Type"] == "application/dicom+json"
        found: list[dict[str, Any]] = await response.json(content_type="application/dicom+json")
        return found

    return get


def values(found: list[dict[str, Any]], tag: str) -> list[Any]:
    return [row[tag]["Value"][0] for row in found]


def studies_of(found: list[dict[str, Any]]) -> list[str]:
    return values(found, "0020000D")


async def test_nothing_found_is_an_empty_array(client: Client) -> None:
    for resource in ("/studies", "/series", "/instances", "/studies/1.2/series", "/studies/1.2/series/1.3/instances"):
        response = await client.get(ROOT + resource)
        assert (response.status, await response.read()) == (200, b"[]")
        assert response.headers["Content-Type"] == "application/dicom+json"


async def test_study_results_are_those_of_table_10_6_3_3(search: Search) -> None:
    newest = (await search("/studies"))[0]
    assert newest["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Гусева^Ольга"}]}
    assert newest["00080061"] == {"vr": "CS", "Value": ["CT", "MR"]}
    assert newest["00201206"] == {"vr": "IS", "Value": [2]}
    assert newest["00201208"] == {"vr": "IS", "Value": [6]}
    assert newest["00080056"] == {"vr": "CS", "Value": ["ONLINE"]}
    assert newest["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert {"00080020", "00080030", "00080050", "00080090", "00100020", "00100030", "00100040", "00200010"} <= set(
        newest
    )
    assert list(newest) == sorted(newest)  # PS3.18 F.2.2


async def test_studies_come_newest_first(search: Search) -> None:
    assert studies_of(await search("/studies")) == ["1.2.3", "1.2.2", "1.2.1"]


async def test_retrieve_urls_lead_back_here(search: Search, client: Client) -> None:
    root = str(client.make_url(ROOT))
    for resource, url in (
        ("/studies?PatientID=P1", "/studies/1.2.1"),
        ("/studies/1.2.1/series", "/studies/1.2.1/series/1.2.1.1"),
        ("/studies/1.2.1/instances", "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"),
    ):
        assert values(await search(resource), "00081190")[0] == root + url


async def test_the_study_list_of_ohif(search: Search) -> None:
    common = "limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060%2C00080090%2C00100030"
    assert len(await search(f"/studies?{common}")) == 3
    for parameter in (
        "PatientName=*dOE*",
        "00100020=*P2*",
        "StudyDate=20240102-20240102",
        "StudyInstanceUID=1.2.2%5C1.9",
    ):
        assert studies_of(await search(f"/studies?{common}&{parameter}")) == ["1.2.2"]
    assert len(await search(f"/studies?{common}&AccessionNumber=*A*&ModalitiesInStudy=CT")) == 3
    row = (await search(f"/studies?{common}"))[0]
    assert row["00081030"]["Value"] == ["Thorax"]
    assert "00080060" not in row  # of the series, so it is not returned, nor is it an error


async def test_weasis_sends_an_empty_key(search: Search) -> None:
    assert len(await search("/studies?&includefield=00081030")) == 3


@pytest.mark.parametrize(
    "parameter",
    [
        "PatientName=muller*",
        "PatientName=%D0%B3%D1%83%D1%81%D0%B5%D0%B2%D0%B0*",
        "00100010=DOE%5EJOHN",
        "0020000d=1.2.1",
        "PatientID=P?&StudyDate=-20240101",
        "RequestAttributesSequence.RequestedProcedureID=R3",
        "00400275.00401001=R3&00400275.00400009=S2",
        "Modality=CT&PatientID=P1",
        "SOPInstanceUID=1.2.2.1.3",
        "KVP=102&PatientID=P2",
    ],
)
async def test_keys_of_every_form_and_level_find_a_study(search: Search, parameter: str) -> None:
    assert len(await search(f"/studies?{parameter}")) == 1


async def test_conditions_on_lower_levels_must_be_met_together(search: Search) -> None:
    assert await search("/studies?00400275.00401001=R3&00400275.00400009=S9") == []
    assert await search("/studies?Modality=CT&SOPInstanceUID=1.2.2.2.3") == []


async def test_nested_resources_are_searched_within_their_parents(search: Search) -> None:
    assert values(await search("/studies/1.2.2/series"), "0020000E") == ["1.2.2.1", "1.2.2.2"]
    assert len(await search("/studies/1.2.2/instances")) == 6
    assert values(await search("/studies/1.2.2/series/1.2.2.2/instances"), "00200013") == [1, 2, 3]
    assert await search("/studies/1.2.1/series/1.2.2.2/instances") == []
    assert values(await search("/studies/1.2.2/series?Modality=MR"), "0020000E") == ["1.2.2.2"]


async def test_parents_are_returned_only_where_the_request_does_not_name_them(search: Search) -> None:
    patient_name, modality = "00100010", "00080060"
    assert patient_name in (await search("/series"))[0]
    assert patient_name not in (await search("/series?0020000D=1.2.1"))[0]
    assert patient_name not in (await search("/studies/1.2.1/series"))[0]
    assert patient_name in (await search("/studies/1.2.1/series?includefield=PatientName"))[0]
    flat, within_study = (await search("/instances"))[0], (await search("/studies/1.2.1/instances"))[0]
    assert {patient_name, modality} <= set(flat)
    assert modality in within_study
    assert patient_name not in within_study
    assert modality not in (await search("/studies/1.2.1/series/1.2.1.1/instances"))[0]


async def test_instances_tell_what_viewers_choose_by(search: Search) -> None:
    row = (await search("/studies/1.2.1/series/1.2.1.1/instances"))[0]
    assert (row["00280010"]["Value"], row["00280011"]["Value"], row["00280100"]["Value"]) == ([8], [8], [16])
    assert row["00083002"] == {"vr": "UI", "Value": ["1.2.840.10008.1.2.1"]}


async def test_includefield_reaches_any_attribute(search: Search) -> None:
    series = "/studies/1.2.1/series/1.2.1.1/instances"
    assert values(await search(f"{series}?includefield=KVP"), "00180060") == [101, 102, 103]
    assert values(await search(f"{series}?includefield=KVP,PatientID&includefield=Modality"), "00100020") == ["P1"] * 3
    everything = (await search(f"{series}?includefield=all"))[0]
    assert {"00180060", "00281052"} <= set(everything)
    assert "7FE00010" not in everything
    part = (await search("/studies/1.2.1/series?includefield=00400275.00401001"))[0]
    assert part["00400275"]["Value"][0]["00401001"]["Value"] == ["R1"]


async def test_keys_are_returned_and_empty_keys_too(search: Search) -> None:
    row = (await search("/studies/1.2.1/series/1.2.1.1/instances?KVP=102&WindowCenter="))[0]
    assert row["00180060"]["Value"] == [102]
    assert row["00281050"]["Value"] == [40]


async def test_attributes_without_value_are_empty_where_the_table_requires_them(
    store: Any, make_instance: Callable[..., bytes], client: Client
) -> None:
    await store(make_instance(AccessionNumber="", StudyID=None))
    (row,) = await (await client.get(f"{ROOT}/studies")).json(content_type="application/dicom+json")
    assert (row["00080050"], row["00200010"]) == ({"vr": "SH"}, {"vr": "SH"})
    found = await client.get(f"{ROOT}/studies", params={"AccessionNumber": '""', "emptyvaluematching": "true"})
    assert len(await found.json(content_type="application/dicom+json")) == 1


async def test_pages(search: Search) -> None:
    whole = values(await search("/instances?limit=10"), "00080018")
    assert len(whole) == 10
    paged = [
        uid
        for offset in range(0, 10, 3)
        for uid in values(await search(f"/instances?limit=3&offset={offset}"), "00080018")
    ]
    assert paged[:10] == whole
    assert await search("/instances?offset=18") == []
    assert await search("/instances?offset=1000000&limit=5") == []
    assert await search("/instances?limit=0") == []


async def test_a_cut_result_says_so(client: Client, filled: None) -> None:
    for resource, is_cut in (("/instances", True), ("/instances?limit=11", True), ("/instances?limit=10", False)):
        response = await client.get(ROOT + resource)
        assert len(await response.json(content_type="application/dicom+json")) == 10
        assert ("Warning" in response.headers) is is_cut
    assert (await client.get(f"{ROOT}/instances?offset=8")).headers.get("Warning") is None
    warning = (await client.get(f"{ROOT}/instances")).headers["Warning"]
    assert warning.startswith(f"299 {client.make_url(ROOT)}: ")


async def test_a_result_too_large_for_memory_is_cut_aloud(
    client: Client, filled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qido, "BODY_MAX", 100)
    monkeypatch.setattr(index_search, "METADATA_ROWS_MAX", 2)
    response = await client.get(f"{ROOT}/instances?includefield=all&limit=6")
    assert len(await response.json(content_type="application/dicom+json")) == 2
    assert "Warning" in response.headers


async def test_as_many_conditions_as_a_database_takes(client: Client, filled: None) -> None:
    wildcards = "&".join(
        ["PatientName=*=*=*o*", "StudyDescription=Tho*", "Modality=C?", "ModalitiesInStudy=CT,MR"] * 49
    )
    assert (await client.get(f"{ROOT}/studies?{wildcards}")).status == 200
    assert (await client.get(f"{ROOT}/instances?{wildcards}")).status == 200
    assert (await client.get(f"{ROOT}/studies?PatientID=P&{wildcards}&{'&'.join(['PatientID=P'] * 5)}")).status == 400


async def test_lists_longer_than_a_database_takes(client: Client, filled: None) -> None:
    codes = ",".join(f"C{number}" for number in range(500))
    assert await (await client.get(f"{ROOT}/studies?ModalitiesInStudy={codes}")).read() == b"[]"
    response = await client.get(f"{ROOT}/studies?ModalitiesInStudy={codes},CT")
    assert len(await response.json(content_type="application/dicom+json")) == 3


async def test_unknown_parameters_are_ignored_aloud(client: Client, filled: None) -> None:
    response = await client.get(f"{ROOT}/studies?PatientNane=x&_=123&includefield=Foo")
    assert len(await response.json(content_type="application/dicom+json")) == 3
    warnings = response.headers.getall("Warning")
    assert ["PatientNane" in warnings[0], "Foo" in warnings[1], len(warnings)] == [True, True, 2]


async def test_names_of_unknown_parameters_cannot_forge_headers(client: Client, filled: None) -> None:
    response = await client.get(f"{ROOT}/studies", params={'a"\r\nX-Evil: 1\u00e9': "x"})
    assert response.status == 200
    assert "X-Evil" not in response.headers


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("offset=1.5", "offset"),
        ("fuzzymatching=yes", "fuzzymatching"),
        ("StudyDate=yesterday", "StudyDate"),
        ("StudyInstanceUID=1.2.*", "StudyInstanceUID"),
        ("PatientName.PatientID=x", "PatientName"),
        ("PixelData=x", "PixelData"),
        ("RequestAttributesSequence=x", "RequestAttributesSequence"),
    ],
)
async def test_what_cannot_be_understood_is_refused_by_name(client: Client, query: str, named: str) -> None:
    response = await client.get(f"{ROOT}/studies?{query}")
    assert response.status == 400
    assert named in (await response.json())["error"]["message"]


async def test_a_path_that_is_no_uid_is_refused(client: Client) -> None:
    assert (await client.get(f"{ROOT}/studies/abc/series")).status == 400


async def test_fuzzy_matching(search: Search) -> None:
    assert studies_of(await search("/studies?PatientName=john%20do&fuzzymatching=true")) == ["1.2.2"]
    assert await search("/studies?PatientName=john%20do&fuzzymatching=false") == []


async def test_multiple_value_matching(search: Search) -> None:
    assert len(await search("/studies?ModalitiesInStudy=CT%5CMR&multiplevaluematching=true")) == 3
    assert await search("/studies?ModalitiesInStudy=CT%5CUS&multiplevaluematching=true") == []
    assert len(await search("/studies?ModalitiesInStudy=CT%5CUS")) == 3
    assert len(await search("/studies?ModalitiesInStudy=CT,US")) == 3


async def test_only_json_is_offered(client: Client) -> None:
    assert (await client.get(f"{ROOT}/studies", headers={"Accept": "application/json"})).status == 200
    assert (await client.get(f"{ROOT}/studies", headers={"Accept": "image/png"})).status == 406


async def test_what_was_replaced_is_found_as_it_is_now(
    search: Search, store: Any, make_instance: Callable[..., bytes]
) -> None:
    instance = {"StudyInstanceUID": "1.2.9", "SeriesInstanceUID": "1.2.9.1", "SOPInstanceUID": "1.2.9.1.1"}
    await store(make_instance(**instance, PatientName="Before^A"))
    await store(make_instance(**instance, PatientName="After^B"))
    assert await search("/studies?PatientName=before*") == []
    assert studies_of(await search("/studies?PatientName=after*")) == ["1.2.9"]
    assert len(await search("/studies/1.2.9/instances")) == 1
