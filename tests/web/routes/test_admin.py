"""``/v1/admin`` over a real Redis: what an operator sees and does, and what all others do not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.core.events import Finish, KnownEvent, StartStep, TextDelta, ToolInputAvailable, encode_event
from broadcaster.log.inspection.worker_reports import RunningAttempt, WorkerReport, WorkerReports
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.log.log_world import World
from tests.support.servers.front_end import in_process

OPERATOR, TENANT = "the-key-of-operators", "a-key-of-one-tenant"
SECRET = "text-of-a-customer-4711"
KEYS = json.dumps({"ops": [{"key": OPERATOR, "rights": ["admin"], "name": "night"}], "web": [TENANT]})
READS = ["workers", "queue", "front-end", "redis", "dead-letters", "generations/gen_1/timeline"]


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection, max_attempts=1)
    await world.queue.create_group()
    return world


@pytest.fixture
async def services(connection: LogConnection) -> AsyncIterator[Services]:
    async with open_services(_settings(connection)) as opened:
        yield opened


@pytest.fixture
async def client(connection: LogConnection, services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(create_app(_settings(connection), services=services)) as opened:
        opened.headers["x-api-key"] = OPERATOR
        yield opened


def _settings(connection: LogConnection) -> Settings:
    return Settings.model_validate({"redis_url": connection.url, "auth": "keys", "api_keys": KEYS, "host": "0.0.0.0"})


async def get(client: httpx2.AsyncClient, path: str, **params: Any) -> Any:
    response = await client.get(f"/v1/admin/{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def report(*attempts: RunningAttempt, **changes: Any) -> WorkerReport:
    fields = {"uptime_s": 60.0, "slots": 8, "free": 7, "running": len(attempts), "is_draining": False}
    return WorkerReport(**{**fields, **changes}, attempts=list(attempts))


async def test_a_tenants_key_sees_nothing_and_learns_nothing(client: httpx2.AsyncClient, world: World) -> None:
    letter = await world.die()
    (entry_id,) = [row[0].decode() for row in await world.redis.xrange(world.keys.dead)]
    tenant = {"x-api-key": TENANT, "x-request-id": "same"}
    paths = [*READS, f"generations/{letter}/timeline"]
    refusals = [await client.get(f"/v1/admin/{path}", headers=tenant) for path in paths]
    requeues = [f"/v1/admin/dead-letters/{known}/requeue" for known in (entry_id, "1-0")]
    refusals += [await client.post(path, headers=tenant) for path in requeues]
    assert {response.status_code for response in refusals} == {403}
    assert len({response.content for response in refusals}) == 1
    assert refusals[0].json()["code"] == "forbidden"
    assert "admin" in refusals[0].json()["detail"]
    assert await world.redis.xlen(world.keys.dead) == 1


async def test_a_key_learns_its_rights(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/v1/caller")).json() == {"tenant": "ops", "name": "night", "rights": ["admin"]}
    found = (await client.get("/v1/caller", headers={"x-api-key": TENANT})).json()
    assert found == {"tenant": "web", "name": "", "rights": ["start", "watch", "append", "stop"]}


async def test_workers_are_listed_with_what_they_run_and_silent_ones_with_their_silence(
    client: httpx2.AsyncClient, world: World, connection: LogConnection
) -> None:
    now_ms = (await world.redis.time())[0] * 1000
    await world.redis.zadd(world.keys.workers, {"busy": now_ms + 60_000, "gone": now_ms - 5000, "old": now_ms + 60_000})
    attempt = RunningAttempt("gen_a", "m", 2, now_ms)
    await WorkerReports(connection).put("busy", report(attempt), keep_ms=60_000)
    found = await get(client, "workers")
    assert (found["alive"], found["silent"], found["next_after"]) == (2, 1, None)
    busy, gone, old = found["workers"]
    assert (busy["id"], busy["slots"], busy["free"], busy["running"], busy["draining"]) == ("busy", 8, 7, 1, False)
    assert busy["generations"] == [{"id": "gen_a", "model": "m", "attempt": 2, "granted_at": now_ms / 1000}]
    assert (gone["alive"], gone["slots"]) == (False, None)
    assert 5 <= gone["silent_s"] < 60
    assert (old["alive"], old["slots"], old["generations"]) == (True, None, [])


async def test_workers_come_in_pages(client: httpx2.AsyncClient, world: World) -> None:
    now_ms = (await world.redis.time())[0] * 1000
    names = [f"w{number:02}" for number in range(7)]
    await world.redis.zadd(world.keys.workers, dict.fromkeys(names, now_ms + 60_000))
    seen, after = [], ""
    while after is not None:
        page = await get(client, "workers", limit=3, after=after)
        assert (len(page["workers"]) <= 3, page["alive"]) == (True, 7)
        seen += [each["id"] for each in page["workers"]]
        after = page["next_after"]
    assert seen == names


async def test_a_report_of_a_later_version_leaves_its_worker_without_facts(
    client: httpx2.AsyncClient, world: World
) -> None:
    now_ms = (await world.redis.time())[0] * 1000
    await world.redis.zadd(world.keys.workers, {"newer": now_ms + 60_000})
    await world.redis.set(world.keys.worker_report("newer"), b'{"slots": "many"}')
    (worker,) = (await get(client, "workers"))["workers"]
    assert (worker["alive"], worker["slots"]) == (True, None)


async def test_the_queue_is_counted_by_tenant_with_the_oldest_wait(client: httpx2.AsyncClient, world: World) -> None:
    assert (await get(client, "queue"))["oldest_wait_s"] is None
    for tenant in ("a", "b", "a", "c"):
        await world.create(tenant=tenant)
    await world.redis.zadd(world.keys.delayed, {"gen_later": 1})
    found = await get(client, "queue")
    assert [(each["tenant"], each["waiting"]) for each in found["tenants"]] == [("a", 2), ("b", 1), ("c", 1)]
    assert (found["waiting"], found["delayed"], found["running"], found["open"]) == (4, 1, 0, 4)
    assert 0 <= found["oldest_wait_s"] < 60
    assert found["oldest_wait_s"] == max(each["oldest_wait_s"] for each in found["tenants"])
    first = await get(client, "queue", limit=2)
    assert ([each["tenant"] for each in first["tenants"]], first["next_after"]) == (["a", "b"], "b")
    rest = await get(client, "queue", limit=2, after="b")
    assert ([each["tenant"] for each in rest["tenants"]], rest["next_after"], rest["waiting"]) == (["c"], None, 4)


async def test_the_front_end_shows_its_refusals(client: httpx2.AsyncClient) -> None:
    await client.get("/v1/admin/queue", headers={"x-api-key": TENANT})
    found = await get(client, "front-end")
    assert {"name": "forbidden", "count": 1} in found["refused"]
    assert (found["viewers"], found["streams"], found["draining"]) == (0, [], False)
    assert found["max_viewers"] > 0


async def test_redis_is_shown_without_its_password(client: httpx2.AsyncClient) -> None:
    found = await get(client, "redis")
    (server,) = found["servers"]
    assert (found["kind"], found["primaries"], server["fault"]) == ("single", 1, None)
    assert server["used_bytes"] > 0
    assert server["round_trip_ms"] > 0
    assert server["engine"] in ("valkey", "redis")


async def test_dead_letters_come_in_pages_and_one_is_requeued_once(client: httpx2.AsyncClient, world: World) -> None:
    dead = [await world.die() for _ in range(3)]
    first = await get(client, "dead-letters", limit=2)
    rest = await get(client, "dead-letters", limit=2, before=first["next_before"])
    letters = first["dead_letters"] + rest["dead_letters"]
    assert ([each["generation_id"] for each in letters], rest["next_before"]) == (dead[::-1], None)
    assert {(each["reason"], each["model"], each["can_requeue"]) for each in letters} == {("attempts_spent", "m", True)}
    path = f"/v1/admin/dead-letters/{letters[0]['id']}/requeue"
    requeued = (await client.post(path)).json()
    assert (requeued["generation_id"], requeued["created"]) == (dead[2], True)
    assert await world.queue.newest_open(10) == [requeued["new_id"]]
    repeated = await client.post(path)
    assert (repeated.status_code, repeated.json()["code"]) == (404, "unknown_stream")
    assert [each["generation_id"] for each in (await get(client, "dead-letters"))["dead_letters"]] == dead[1::-1]


async def test_a_letter_whose_request_has_expired_stays(client: httpx2.AsyncClient, world: World) -> None:
    await world.redis.delete(world.keys.meta(await world.die()))
    (letter,) = (await get(client, "dead-letters"))["dead_letters"]
    assert (letter["can_requeue"], letter["model"]) == (False, None)
    refused = await client.post(f"/v1/admin/dead-letters/{letter['id']}/requeue")
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_stream")
    assert len((await get(client, "dead-letters"))["dead_letters"]) == 1


async def test_a_timeline_shows_the_course_without_the_content(client: httpx2.AsyncClient, world: World) -> None:
    stream_id, claim = await world.granted()
    events: list[KnownEvent] = [
        StartStep(),
        *(TextDelta(id="0", delta=SECRET) for _ in range(5)),
        ToolInputAvailable(tool_call_id="c1", tool_name="search", input={"query": SECRET}),
        TextDelta(id="0", delta=SECRET),
        Finish(finish_reason="stop"),
    ]
    await world.append(stream_id, claim.epoch, 1, [encode_event(event) for event in events])
    response = await client.get(f"/v1/admin/generations/{stream_id}/timeline")
    found = response.json()
    assert SECRET not in response.text
    assert [(row["kind"], row["events"]) for row in found["rows"]] == [
        ("attempt", 0), ("step", 0), ("text", 5), ("tool-call", 0), ("text", 1), ("end", 0),
    ]  # fmt: skip
    assert [row["at"] for row in found["rows"]] == [claim.epoch / 1000, *[None] * 5]
    assert (found["rows"][3]["tool"], found["rows"][5]["reason"]) == ("search", "stop")
    assert (found["status"], found["worker"], found["is_last"]) == ("finished", world.worker, True)
    assert found["created_at"] <= found["started_at"] <= found["ended_at"]


async def test_a_timeline_comes_in_pages(client: httpx2.AsyncClient, world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [encode_event(TextDelta(id="0", delta="x")) for _ in range(9)])
    path, counts, params, is_last = f"generations/{stream_id}/timeline", [], {"limit": "4"}, False
    while not is_last:
        page = await get(client, path, **params)
        counts += [row["events"] for row in page["rows"] if row["kind"] == "text"]
        params, is_last = {"limit": "4", "after": page["next_after"]}, page["is_last"]
    assert counts == [4, 4, 1]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("workers?limit=51", 400, "invalid_request"),
        ("queue?limit=51", 400, "invalid_request"),
        ("queue?after=a%20b", 400, "invalid_request"),
        ("front-end?limit=101", 400, "invalid_request"),
        ("front-end?order=name", 400, "invalid_request"),
        ("dead-letters?limit=101", 400, "invalid_request"),
        ("dead-letters?before=newest", 400, "invalid_request"),
        ("generations/gen_1/timeline", 404, "unknown_stream"),
        ("generations/gen_1/timeline?after=x", 400, "bad_cursor"),
        ("generations/gen_1/timeline?limit=1001", 400, "invalid_request"),
    ],
)
async def test_what_is_out_of_bounds_is_refused(client: httpx2.AsyncClient, path: str, status: int, code: str) -> None:
    response = await client.get(f"/v1/admin/{path}")
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_without_keys_the_machines_callers_are_the_operators(
    connection: LogConnection, services: Services
) -> None:
    settings = Settings.model_validate({"redis_url": connection.url})
    async with in_process(create_app(settings, services=services)) as client:
        assert "admin" in (await client.get("/v1/caller")).json()["rights"]
        assert (await client.get("/v1/admin/queue")).status_code == 200
        foreign = await client.get("/v1/admin/queue", headers={"host": "example.com"})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "forbidden_host")
