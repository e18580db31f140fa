"""Every hook, called by the real server, with plugins that use the facade alone."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dicomhub.app import open_archive
from dicomhub.config import Config
from dicomhub.errors import ConfigurationError
from dicomhub.hooks import Hooks, load
from dicomhub.index import history
from dicomhub.plugin import Actor, Coercion, Forbidden, Match, Plugin, Refused, Unauthenticated, parse_criterion
from dicomhub.web import make_app

URL = "/dicom-web/studies"


class Everything(Plugin):
    """Uses every hook; what it does is switched by the data it sees."""

    name = "everything"

    def __init__(self, settings=None):
        super().__init__(settings or {})
        self.life: list[str] = []

    def routes(self):
        async def hello(request: web.Request) -> web.Response:
            return web.Response(text="hello")

        return (web.get("/api/v1/everything", hello),)

    async def startup(self, archive):
        self.life.append("startup")
        await archive.database.write(
            lambda conn: conn.execute(text("create table if not exists everything_rows (sequence integer)"))
        )

    async def shutdown(self):
        self.life.append("shutdown")

    async def authenticate(self, credentials):
        if credentials.token == "wrong":
            raise Unauthenticated("this token is wrong")
        return Actor(credentials.token) if credentials.scheme == "bearer" else None

    async def restrict(self, actor, access):
        if actor.name == "nobody":
            raise Forbidden("nobody may see anything")
        if actor.name == "ct-only":
            return (Match((0x00080060,), "CS", parse_criterion("CS", "CT")),)
        return ()

    async def coerce(self, incoming):
        assert "PixelData" not in incoming.dataset or not incoming.dataset["PixelData"].value
        if incoming.dataset.get("PatientID") == "REFUSE":
            raise Refused("no such patient", 0xC123)
        if incoming.dataset.get("PatientID") == "COERCE":
            replace = Dataset()
            replace.PatientID = "COERCED"
            replace.InstitutionName = "General"
            incoming.dataset.PatientID = "COERCED"  # a copy: changing it has no effect
            return Coercion(replace, remove=frozenset({0x00101010}))
        return None

    def commit(self, tx, changes):
        for change in changes:
            if change.ref.series == "6.6.6":
                raise RuntimeError("this plugin cannot take it")
            tx.execute(text("insert into everything_rows values (:n)"), {"n": change.sequence})


@pytest.fixture
def plugin():
    return Everything()


@pytest.fixture
def hooks(plugin):
    return Hooks([plugin])


def headers(token: str, content_type: str = "application/dicom") -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Content-Type": content_type}


async def post(client, data: bytes, token: str = "alice"):
    return await client.post(URL, data=data, headers=headers(token))


async def test_life_and_routes(client, plugin):
    assert plugin.life == ["startup"]
    response = await client.get("/api/v1/everything", headers=headers("alice"))
    assert await response.text() == "hello"


@pytest.mark.parametrize(("token", "status"), [("alice", 200), ("wrong", 401)])
async def test_authenticate_decides(client, token, status):
    assert (await client.get(URL, headers=headers(token))).status == status


async def test_without_credentials_401_with_a_challenge_but_probes_answer(client):
    response = await client.get(URL)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await client.get("/healthz")).status == 200


async def test_restrict_hides_from_search_and_retrieve(client, make_instance):
    await post(client, make_instance(SOPInstanceUID="1.1"))
    await post(
        client, make_instance(SOPInstanceUID="2.1", StudyInstanceUID="7.7", SeriesInstanceUID="7.8", Modality="MR")
    )
    found = await (await client.get("/dicom-web/instances", headers=headers("ct-only"))).json(content_type=None)
    assert [row["00080018"]["Value"] for row in found] == [["1.1"]]
    path = f"{URL}/7.7/series/7.8/instances/2.1"
    assert (await client.get(path, headers=headers("ct-only"))).status == 404
    assert (await client.get(f"{URL}/7.7/metadata", headers=headers("ct-only"))).status == 404
    assert (await client.get(path + "/frames/1", headers=headers("ct-only"))).status == 404
    assert (await client.get(path, headers=headers("alice"))).status == 200
    assert (await client.get(URL, headers=headers("nobody"))).status == 403


async def test_coerce_changes_attributes_and_leaves_a_trace(client, make_instance):
    uid = generate_uid()
    sent = make_instance(SOPInstanceUID=uid, PatientID="COERCE", PatientAge="030Y", rows=300, columns=300)
    response = await post(client, sent)
    assert response.status == 202
    body = await response.json(content_type=None)
    assert body["00081199"]["Value"][0]["00081196"]["Value"] == [0xB000]
    path = f"{URL}/1.2.3.4/series/1.2.3.4.5/instances/{uid}"
    answer = await client.get(path, headers={**headers("alice"), "Accept": "application/dicom; transfer-syntax=*"})
    ds = dcmread(BytesIO(await answer.read()))
    assert (ds.PatientID, ds.InstitutionName) == ("COERCED", "General")
    assert "PatientAge" not in ds
    assert ds.PixelData == dcmread(BytesIO(sent)).PixelData
    original = ds.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert (original.PatientID, original.PatientAge) == ("COERCE", "030Y")
    assert "InstitutionName" not in original


async def test_same_bytes_coerced_again_add_no_version(client, make_instance):
    sent = make_instance(PatientID="COERCE")
    assert (await post(client, sent)).status == 202
    assert (await post(client, sent)).status == 202
    changes = (await (await client.get("/api/v1/changes", headers=headers("alice"))).json())["changes"]
    assert [change["action"] for change in changes] == ["created"]


async def test_refusal_reaches_the_sender_with_its_reason(client, make_instance):
    response = await post(client, make_instance(PatientID="REFUSE"))
    assert response.status == 409
    body = await response.json(content_type=None)
    assert body["00081198"]["Value"][0]["00081197"]["Value"] == [0xC123]


async def test_commit_lives_and_dies_with_the_change(client, archive, make_instance):
    assert (await post(client, make_instance())).status == 200
    assert (await post(client, make_instance(SeriesInstanceUID="6.6.6"))).status == 500
    assert (await post(client, make_instance())).status == 200
    rows = await archive.database.read(
        lambda conn: conn.execute(text("select sequence from everything_rows")).fetchall()
    )
    changes = (await (await client.get("/api/v1/changes", headers=headers("alice"))).json())["changes"]
    assert [row[0] for row in rows] == [change["sequence"] for change in changes] == [1, 2]
    found = await (await client.get(URL, headers=headers("alice"))).json(content_type=None)
    assert found[0]["00201208"]["Value"] == [2]


class Careless(Plugin):
    """Catches errors of the database, which on PostgreSQL end the transaction."""

    name = "careless"

    def commit(self, tx, changes):
        with suppress(DBAPIError):
            tx.execute(text("insert into a_table_that_is_missing values (1)"))


@pytest.mark.parametrize("backend", ["embedded", "cluster"])
async def test_plugin_that_swallows_an_error_has_nothing_acknowledged_that_is_not_stored(config, make_instance):
    hooks = Hooks([Careless({})])
    async with open_archive(config, hooks) as archive, TestClient(TestServer(make_app(archive))) as client:
        response = await client.post(URL, data=make_instance(), headers={"Content-Type": "application/dicom"})
        stored = await archive.database.read(history.changes, 0, 10)
    assert (response.status, len(stored)) in ((200, 1), (500, 0))


def test_unknown_plugin_is_named():
    with pytest.raises(ConfigurationError, match="nosuch"):
        load(Config(plugins=("nosuch",)))


def test_plugins_of_the_folder_are_loaded(tmp_path):
    (tmp_path / "mine.py").write_text("from dicomhub.plugin import Plugin\nclass Mine(Plugin):\n    name = 'mine'\n")
    assert [plugin.name for plugin in load(Config(plugin_dir=tmp_path)).plugins] == ["mine"]


def test_broken_plugin_file_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("1/0")
    with pytest.raises(ConfigurationError, match=r"broken\.py"):
        load(Config(plugin_dir=tmp_path))
