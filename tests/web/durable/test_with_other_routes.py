"""A Durable Stream at the other routes, and other streams at ``/ds/``; rights, tenants, the switch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import in_process, listen, own_app, served
from tests.web.durable.calls import CLOSED, ID, JSON, TEXT, DurableClient, controls, data, offset_of, refused

STREAM = f"/v1/streams/{ID}"


async def test_native_readers_see_the_content_as_events(client: DurableClient) -> None:
    await client.create(b"caf\xc3\xa9")
    await client.append(b"\xff")
    await client.append(headers=CLOSED)
    received = await listen(client.http, f"{STREAM}/events")
    assert [json.loads(event) for _, event in received.entries] == [
        {"type": "data-text", "data": "café"},
        {"type": "data-bytes", "data": "/w=="},
        {"type": "finish"},
    ]


async def test_it_is_listed_with_its_content_type(client: DurableClient) -> None:
    await client.create(b"{}", headers=JSON)
    (listed,) = (await client.http.get("/v1/streams")).json()["streams"]
    state = (await client.http.get(STREAM)).json()
    for document in (listed, state):
        assert (document["id"], document["kind"], document["content_type"]) == (ID, "feed", "application/json")


async def test_no_event_of_another_writer_comes_between_its_bytes(client: DurableClient) -> None:
    await client.create(b"x")
    response = await client.http.post(f"{STREAM}/events", json={"type": "data-text", "data": "y"})
    assert refused(response) == (400, "invalid_request")
    assert refused(await client.http.put(STREAM, json={})) == (409, "stream_exists")
    assert await client.read_all() == b"x"


async def test_an_end_that_another_route_writes_closes_it(client: DurableClient) -> None:
    tail = offset_of(await client.create(b"x"))
    await client.http.post(f"{STREAM}/close", json={"type": "error", "errorText": "lost"})
    read = await client.read(offset=tail)
    assert (read.headers["stream-closed"], offset_of(read), read.content) == ("true", tail, b"")
    assert offset_of(await client.head()) == tail


async def test_a_feed_is_read_as_messages_and_written_only_at_its_own_routes(client: DurableClient) -> None:
    http = client.http
    await http.put("/v1/streams/job", json={})
    events = [{"type": "data-n", "data": each} for each in range(3)]
    await http.post("/v1/streams/job/events", json=events)
    read = await client.read(path="job")
    assert (read.json(), read.headers["content-type"]) == (events, "application/json")
    for response in (await client.append(b"{}", path="job", headers=JSON), await client.delete("job")):
        assert refused(response) == (405, "method_not_allowed")
        assert response.headers["allow"] == "GET, HEAD"
    assert refused(await client.create(path="job", headers=JSON)) == (409, "stream_exists")
    await http.post("/v1/streams/job/close", json={})
    messages = await client.follow("streamClosed", path="job", offset=offset_of(read))
    assert json.loads(data(messages)[0]) == [{"type": "finish"}]
    end = controls(messages)[-1]["streamNextOffset"]
    for query in ({}, {"live": "long-poll"}):
        response = await client.read(path="job", offset=end, **query)
        assert (response.headers["stream-closed"], offset_of(response)) == ("true", end)
    assert "streamClosed" in controls(await client.follow("streamClosed", path="job", offset=end))[-1]


@pytest.fixture
async def keyed(connection: LogConnection) -> AsyncIterator[httpx2.AsyncClient]:
    watcher = {"key": "watcher-of-mine-0", "rights": ["watch"]}
    keys = {"mine": ["the-key-of-mine-0", watcher], "others": ["the-key-of-others"]}
    settings = Settings.model_validate({"redis_url": connection.url, "auth": "keys", "api_keys": json.dumps(keys)})
    async with open_services(settings) as services, served(own_app(services, settings), services) as http:
        yield http


async def test_a_key_needs_the_rights_of_the_other_routes(keyed: httpx2.AsyncClient) -> None:
    owner, watcher = ({"authorization": f"Bearer {key}"} for key in ("the-key-of-mine-0", "watcher-of-mine-0"))
    url = "/ds/chats/1"
    assert (await keyed.put(url, headers=TEXT)).status_code == 401
    assert refused(await keyed.put(url, headers={**watcher, **TEXT})) == (403, "forbidden")
    assert (await keyed.put(url, content=b"x", headers={**owner, **TEXT})).status_code == 201
    assert refused(await keyed.post(url, content=b"y", headers={**watcher, **TEXT})) == (403, "forbidden")
    assert refused(await keyed.delete(url, headers=watcher)) == (403, "forbidden")
    assert (await keyed.get(url, headers=watcher)).content == b"x"
    assert (await keyed.head(url, headers=watcher)).status_code == 200


async def test_a_stream_of_another_tenant_does_not_exist(keyed: httpx2.AsyncClient) -> None:
    mine, others = ({"authorization": f"Bearer {key}"} for key in ("the-key-of-mine-0", "the-key-of-others"))
    url = "/ds/chats/1"
    await keyed.put(url, content=b"mine", headers={**mine, **TEXT})
    for method in ("GET", "HEAD", "DELETE"):
        assert (await keyed.request(method, url, headers=others)).status_code == 404
    assert (await keyed.post(url, content=b"x", headers={**others, **TEXT})).status_code == 404
    assert (await keyed.put(url, content=b"theirs", headers={**others, **TEXT})).status_code == 201
    assert (await keyed.get(url, headers=mine)).content == b"mine"


async def test_a_page_of_another_origin_cannot_append(client: DurableClient) -> None:
    await client.create()
    for foreign in ({"sec-fetch-site": "same-site"}, {"origin": "http://127.0.0.1:1"}):
        assert refused(await client.append(b"x", headers={**TEXT, **foreign})) == (415, "unsupported_media_type")
    assert await client.read_all() == b""


async def test_the_routes_can_be_switched_off(services: Services, settings: Settings) -> None:
    off = settings.model_copy(update={"durable_streams": False})
    async with in_process(own_app(services, off)) as http:
        assert refused(await http.put("/ds/x", headers=TEXT)) == (404, "not_found")


async def test_live_events_of_a_trimmed_feed_begin_with_what_is_left(client: DurableClient) -> None:
    await client.http.put("/v1/streams/job", json={"max_events": 3, "on_full": "trim"})
    for number in range(6):
        await client.http.post("/v1/streams/job/events", json={"type": "data-step", "data": number})
    read = await client.read(path="job", offset="-1")
    messages = await client.follow("upToDate", path="job", offset="-1")
    followed = [event["data"] for text in data(messages) for event in json.loads(text)]
    assert followed == [event["data"] for event in read.json()] == [3, 4, 5]
    assert controls(messages)[-1]["streamNextOffset"] == offset_of(read)


@pytest.mark.parametrize("lasts", [{"stream-expires-at": ""}, {"stream-ttl": "100"}])
async def test_an_end_of_another_route_changes_nothing_of_how_long_it_is_kept(
    client: DurableClient, connection: LogConnection, lasts: dict[str, str]
) -> None:
    at = (datetime.now(UTC) + timedelta(seconds=100)).isoformat()
    await client.create(b"x", headers={**TEXT, **{name: value or at for name, value in lasts.items()}})
    await client.http.post(f"{STREAM}/close", json={})
    name = connection.keys
    left = [await connection.redis.pttl(key(ID)) for key in (name.meta, name.log)]
    assert all(90_000 < each <= 100_000 for each in left), left
