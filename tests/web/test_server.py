"""What holds for every resource: errors, origins, proxies, compression, probes, the change feed."""

from __future__ import annotations

import asyncio

import pytest

from dicomhub.config import Config


@pytest.mark.parametrize("path", ["/dicom-web/studies/", "/dicom-web/instances/", "/healthz/", "/api/v1/changes/"])
async def test_trailing_slash_means_the_same(client, path):
    assert (await client.get(path)).status == (await client.get(path.rstrip("/"))).status == 200


async def test_every_error_has_one_shape(client):
    answers = [
        await client.get("/nowhere"),
        await client.delete("/dicom-web/studies"),
        await client.get("/dicom-web/studies/1.2/metadata"),
        await client.get("/dicom-web/studies?limit=x"),
        await client.get("/dicom-web/studies/1.2/series/3/instances/4/frames/0"),
        await client.get("/api/v1/changes?after=-1"),
        await client.get("/dicom-web/studies/1.2/metadata", headers={"Accept": "image/png"}),
    ]
    assert [answer.status for answer in answers] == [404, 405, 404, 400, 400, 400, 406]
    for answer in answers:
        error = (await answer.json())["error"]
        assert set(error) == {"status", "code", "message"}
        assert error["status"] == answer.status
        assert error["message"]


async def test_unknown_error_tells_nothing_of_our_insides(client, archive):
    await archive.database.close()
    answer = await client.get("/dicom-web/studies")
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert "Traceback" not in await answer.text()


async def test_probes(client):
    assert (await (await client.get("/healthz")).json())["status"] == "ok"
    ready = await (await client.get("/readyz")).json()
    assert ready["status"] == "ok"
    assert ready["sequence"] == 0
    figures = await (await client.get("/metrics")).text()
    assert "dicomhub_change_sequence 0.0" in figures
    assert "python_info" in figures


async def test_json_is_compressed_for_those_who_take_it(client, store, make_instance):
    await store(*(make_instance() for _ in range(10)))
    path = "/dicom-web/studies/1.2.3.4/metadata"
    packed = await client.get(path, headers={"Accept-Encoding": "gzip"})
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 3
    assert await packed.json(content_type=None) == await plain.json(content_type=None)


async def test_without_configured_origins_no_page_of_another_may_read(client):
    answer = await client.get("/dicom-web/studies", headers={"Origin": "https://viewer.example.org"})
    assert "Access-Control-Allow-Origin" not in answer.headers


class TestConfiguredOrigin:
    @pytest.fixture
    def config(self, tmp_path):
        return Config(data_dir=tmp_path / "data", cors_origins=("https://viewer.example.org",))

    async def test_preflight_needs_no_credentials(self, client):
        headers = {"Origin": "https://viewer.example.org", "Access-Control-Request-Method": "GET"}
        answer = await client.options("/dicom-web/studies", headers=headers)
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "https://viewer.example.org"
        assert {"Authorization", "Accept", "Range"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))

    async def test_what_viewers_need_is_exposed(self, client, store, make_instance):
        await store(make_instance(SOPInstanceUID="1.1"))
        for path in ("", "/series/1.2.3.4.5/instances/1.1/frames/1", "/nowhere"):
            url = f"/dicom-web/studies/1.2.3.4{path}"
            answer = await client.get(url, headers={"Origin": "https://viewer.example.org"})
            assert answer.headers["Access-Control-Allow-Origin"] == "https://viewer.example.org", path
            exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
            assert {"Content-Range", "Content-Type", "Warning", "ETag"} <= exposed

    async def test_other_origins_stay_out(self, client):
        answer = await client.get("/dicom-web/studies", headers={"Origin": "https://evil.example.org"})
        assert "Access-Control-Allow-Origin" not in answer.headers


FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "pacs.example.org",
    "X-Forwarded-Prefix": "/archive",
}


async def retrieve_url(client, **headers: str) -> str:
    rows = await (await client.get("/dicom-web/studies", headers=headers)).json(content_type=None)
    return rows[0]["00081190"]["Value"][0]


async def test_forwarded_headers_of_strangers_are_not_believed(client, store, make_instance):
    await store(make_instance())
    assert (await retrieve_url(client, **FORWARDED)).startswith(str(client.make_url("/dicom-web")))


async def test_host_without_its_port_gets_it_back(client, store, make_instance):
    await store(make_instance())
    assert (await retrieve_url(client, Host="127.0.0.1")).startswith(f"http://127.0.0.1:{client.port}/")


class TestBehindProxy:
    @pytest.fixture
    def config(self, tmp_path):
        return Config(data_dir=tmp_path / "data", trust_forwarded=True)

    @pytest.mark.parametrize(
        ("headers", "root"),
        [
            (FORWARDED, "https://pacs.example.org/archive"),
            ({"Forwarded": "for=1.2.3.4;proto=https;host=pacs.example.org"}, "https://pacs.example.org"),
            ({"X-Forwarded-Host": "a.example.org, b.example.org"}, "http://a.example.org"),
            ({"X-Forwarded-Host": "a.example.org", "X-Forwarded-Port": "8443"}, "http://a.example.org:8443"),
        ],
    )
    async def test_absolute_urls_are_those_the_user_agent_can_reach(self, client, store, make_instance, headers, root):
        await store(make_instance(rows=300, columns=300))
        assert await retrieve_url(client, **headers) == f"{root}/dicom-web/studies/1.2.3.4"
        answer = await client.get("/dicom-web/studies/1.2.3.4/metadata", headers=headers)
        (instance,) = await answer.json(content_type=None)
        assert instance["7FE00010"]["BulkDataURI"].startswith(f"{root}/dicom-web/studies/1.2.3.4/series/")


class TestPublicUrl:
    @pytest.fixture
    def config(self, tmp_path):
        return Config(data_dir=tmp_path / "data", public_url="https://pacs.example.org/")

    async def test_its_name_is_known(self, client):
        assert (await client.get("/dicom-web/studies", headers={"Host": "pacs.example.org"})).status == 200

    async def test_it_wins_over_everything(self, client, store, make_instance):
        await store(make_instance())
        assert await retrieve_url(client, **FORWARDED) == "https://pacs.example.org/dicom-web/studies/1.2.3.4"


async def test_change_feed_is_gapless_and_pages(client, store, make_instance):
    await store(*(make_instance() for _ in range(7)))
    seen, after = [], 0
    while True:
        page = await (await client.get(f"/api/v1/changes?after={after}&limit=3")).json()
        if not page["changes"]:
            break
        seen += [change["sequence"] for change in page["changes"]]
        after = page["next"]
    assert seen == [1, 2, 3, 4, 5, 6, 7]


async def test_change_feed_waits_for_news(client, store, make_instance):
    waiting = asyncio.create_task(client.get("/api/v1/changes?after=0&wait=20"))
    await asyncio.sleep(0.1)
    await store(make_instance(SOPInstanceUID="1.1"))
    page = await (await asyncio.wait_for(waiting, 5)).json()
    (change,) = page["changes"]
    assert (change["action"], change["instance"], change["via"]) == ("created", "1.1", "dicomweb")


async def test_name_that_is_not_this_machines_is_refused(client):
    answer = await client.get("/dicom-web/studies", headers={"Host": "evil.example.org"})
    assert answer.status == 403
    assert "public_url" in await answer.text()
    for name in ("localhost:8080", "127.0.0.1", "[::1]:8080"):
        assert (await client.get("/dicom-web/studies", headers={"Host": name})).status == 200


class TestSmallLimit:
    @pytest.fixture
    def config(self, tmp_path):
        return Config(data_dir=tmp_path / "data", max_request_bytes=100)

    async def test_larger_body_is_413(self, client, make_instance):
        headers = {"Content-Type": "application/dicom"}
        answer = await client.post("/dicom-web/studies", data=make_instance(), headers=headers)
        assert answer.status == 413
        assert "max_request_bytes" in await answer.text()
