"""``GET /v1/streams``: generations and feeds in one list; ``?parts=true``: the content. On the real app and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import DEADLINE_S, own_app, served


@pytest.fixture
async def services(connection: LogConnection) -> AsyncIterator[Services]:
    async with open_services(Settings(redis_url=connection.url, retry_ms=100)) as opened:
        yield opened


@pytest.fixture
async def client(connection: LogConnection, services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    app = own_app(services, Settings(redis_url=connection.url))
    async with served(app, services) as opened:
        yield opened


async def create(client: httpx2.AsyncClient, id: str, *events: dict[str, object], **config: object) -> None:
    assert (await client.put(f"/v1/streams/{id}", json=config)).status_code == 201
    if events:
        assert (await client.post(f"/v1/streams/{id}/events", json=events)).status_code == 200


async def test_feeds_are_listed_beside_generations(client: httpx2.AsyncClient) -> None:
    generation = (await client.post("/v1/generations", json={"prompt": "why?"})).json()
    await create(client, "nightly", {"type": "data-progress", "data": {"done": 1, "total": 2}})
    feed, listed = (await client.get("/v1/streams")).json()["streams"]
    assert (feed["id"], feed["kind"], feed["status"], feed["model"], feed["last_seq"]) == (
        *("nightly", "feed", "running"),
        *(None, 1),
    )
    assert feed["events_url"] == "/v1/streams/nightly/events"
    assert feed["active_at"] >= feed["created_at"] > 0
    assert (listed["id"], listed["kind"], listed["title"]) == (generation["id"], "generation", "why?")
    assert [each["id"] for each in (await client.get("/v1/generations")).json()["generations"]] == [generation["id"]]


async def test_a_running_feed_is_listed_with_its_progress(client: httpx2.AsyncClient) -> None:
    def step(done: int, job: str | None = None, **more: object) -> dict[str, object]:
        named = {} if job is None else {"id": job}
        return {"type": "data-progress", **named, "data": {"done": done, "total": 10, **more}}

    log: list[dict[str, object]] = [{"type": "data-log", "data": f"line {number}"} for number in range(30)]
    await create(client, "plain", step(1), step(4, message="copying"), *log)
    await create(client, "named", step(9, "a"), step(2, "b"), step(3, "b"), step(8, "a"))
    await create(client, "both", step(1, "a"), step(7), step(9, "a"))
    await create(client, "large", step(1), step(2, message="x" * 5000))
    await create(client, "far", step(1), *log, *log, *log)
    long: dict[str, object] = {"type": "data-log", "data": "x" * 9000}
    await create(client, "long", step(1), *[long] * 20)
    await create(client, "odd", {"type": "data-progress", "data": "half"}, {"type": "data-x", "data": "data-progress"})
    await create(client, "over", step(5))
    await client.post("/v1/streams/over/close")
    await client.put("/ds/bytes", content=b'{"type":"data-progress","data":{"done":1,"total":2}}')
    await client.post("/v1/generations", json={"prompt": "why?"})
    listed = (await client.get("/v1/streams")).json()["streams"]
    found = {each["id"]: each["progress"] for each in listed}
    assert (len(found), found["plain"]) == (10, {"job": "", "done": 4, "total": 10, "message": "copying"})
    shown = {id: (step["job"], step["done"]) for id, step in found.items() if step is not None}
    assert shown == {"plain": ("", 4), "named": ("b", 3), "both": ("", 7), "large": ("", 1)}


async def test_a_page_names_the_next_one_and_a_status_may_be_chosen(client: httpx2.AsyncClient) -> None:
    for id in "abc":
        await create(client, id)
    await client.post("/v1/streams/b/close", json={"type": "error", "errorText": "no disk", "code": "disk"})
    first = (await client.get("/v1/streams", params={"limit": 2})).json()
    assert [each["id"] for each in first["streams"]] == ["c", "b"]
    assert first["streams"][1]["error"] == {"code": "disk", "message": "no disk"}
    second = (await client.get("/v1/streams", params={"limit": 2, "before": first["next_before"]})).json()
    assert ([each["id"] for each in second["streams"]], second["next_before"]) == (["a"], None)
    over = (await client.get("/v1/streams", params={"status": "over"})).json()["streams"]
    assert [(each["id"], each["status"]) for each in over] == [("b", "failed")]
    for query in ({"limit": 0}, {"limit": 101}, {"before": "x"}, {"status": "odd"}):
        assert (await client.get("/v1/streams", params=query)).status_code == 400


async def test_a_feed_whose_writer_is_gone_is_not_running_in_a_list(client: httpx2.AsyncClient) -> None:
    await create(client, "nightly", {"type": "data-n", "data": 1}, lease_s=2)

    async def is_over() -> bool:
        (feed,) = (await client.get("/v1/streams")).json()["streams"]
        return feed["error"] is not None and (feed["status"], feed["error"]["code"]) == ("failed", "writer_lost")

    assert not await is_over()
    async with asyncio.timeout(DEADLINE_S):
        while not await is_over():
            await asyncio.sleep(0.1)


async def test_the_content_of_a_feed_is_folded_on_request(client: httpx2.AsyncClient) -> None:
    events: list[dict[str, object]] = [
        {"type": "data-progress", "id": "copy", "data": {"done": 1, "total": 2}},
        {"type": "text-start", "id": "0"},
        {"type": "text-delta", "id": "0", "delta": "half "},
        {"type": "text-delta", "id": "0", "delta": "done"},
        {"type": "data-progress", "id": "copy", "data": {"done": 2, "total": 2}},
    ]
    await create(client, "job", *events, metadata={"by": "me"})
    short = (await client.get("/v1/streams/job")).json()
    assert "text" not in short
    whole = (await client.get("/v1/streams/job", params={"parts": True})).json()
    content = ("error", "usage", "text", "reasoning", "parts", "truncated")
    assert whole == {**short, **{name: whole[name] for name in content}}
    assert (whole["text"], whole["metadata"], whole["truncated"]) == ("half done", {"by": "me"}, False)
    assert [part["type"] for part in whole["parts"]] == ["data-progress", "text"]
    assert (await client.get("/v1/streams/nothing", params={"parts": True})).status_code == 404


async def test_a_list_costs_little_however_large_the_newest_events_of_its_streams_are(
    client: httpx2.AsyncClient, connection: LogConnection
) -> None:
    large = {"type": "data-log", "data": "x" * 1_000_000}
    for at in range(12):
        await create(client, f"feed-{at}")
        for event in [large] * 7:
            assert (await client.post(f"/v1/streams/feed-{at}/events", json=event)).status_code == 200
    for path in ("/v1/streams", "/v1/streams?limit=100", "/v1/generations"):
        assert (await client.get(path)).status_code == 200  # its scripts are loaded

    await connection.redis.config_resetstat()
    assert len((await client.get("/v1/streams")).json()["streams"]) == 12
    network, scripts = await connection.redis.info("stats"), await connection.redis.info("commandstats")
    assert network["total_net_output_bytes"] < 1_000_000
    # 0.8 ms for the newest event of a stream; 5 to 30 ms when all seven were read.
    assert scripts["cmdstat_evalsha"]["usec_per_call"] < 3_000
