"""Two tenants on one front-end over a real Redis: what is one's does not exist for the other, at any route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from broadcaster.core.events import Finish, Start, TextDelta, encode_event
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import listen, own_app, served

MINE, OTHERS = "the-key-of-mine-0", "the-key-of-others"
FEED = "build-42"


@dataclass(frozen=True)
class KeyedFrontEnd:
    """One front-end, as each of two tenants (and two keys) sees it."""

    http: httpx2.AsyncClient
    description: dict[str, Any]

    async def call(self, key: str, method: str, url: str, **given: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}", **given.pop("headers", {})}
        return await self.http.request(method, url, headers=headers, **given)

    async def start(self, key: str, **given: Any) -> str:
        response = await self.call(key, "POST", "/v1/generations", json={"prompt": "mine"}, **given)
        assert response.status_code == 202
        return str(response.json()["id"])

    async def listed(self, key: str, **query: str) -> list[str]:
        listed = (await self.call(key, "GET", "/v1/generations", params=query)).json()
        return [each["id"] for each in listed["generations"]]


@pytest.fixture
def settings(connection: LogConnection) -> Settings:
    """With a long lease: after a stand-still of a quarter of it "unknown" is not certain, and is not the answer."""
    keys = json.dumps({"mine": [MINE], "others": [OTHERS]})
    fields = {"auth": "keys", "api_keys": keys, "retry_ms": 100, "lease_ttl_s": 40}
    return Settings.model_validate({"redis_url": connection.url, **fields})


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    async with open_services(settings) as opened:
        yield opened


@pytest.fixture
async def front_end(settings: Settings, services: Services) -> AsyncIterator[KeyedFrontEnd]:
    app = own_app(services, settings)
    async with served(app, services) as http:
        yield KeyedFrontEnd(http, app.openapi())


GENERATION_CALLS = {
    "get_generation": ("GET", "/v1/generations/{id}"),
    "get_generation, waiting": ("GET", "/v1/generations/{id}?wait_s=5"),
    "get_generation, in short": ("GET", "/v1/generations/{id}?parts=false"),
    "stop_generation": ("POST", "/v1/generations/{id}/stop"),
    "delete_generation": ("DELETE", "/v1/generations/{id}"),
}
STREAM_CALLS = {
    "get_stream": ("GET", "/v1/streams/{id}"),
    "stream_events": ("GET", "/v1/streams/{id}/events"),
    "stream_events, waiting": ("GET", "/v1/streams/{id}/events?wait_s=0.3"),
    "stream_events, from a cursor": ("GET", "/v1/streams/{id}/events?after=1-1"),
    "stream_ws": ("GET", "/v1/streams/{id}/ws"),
    "append_events": ("POST", "/v1/streams/{id}/events"),
    "close_stream": ("POST", "/v1/streams/{id}/close"),
    "delete_stream": ("DELETE", "/v1/streams/{id}"),
}
# Covered by tests of their own: nothing of another tenant can be named there, or the id is requested.
# Operators alone (tests/web/routes): they belong to no tenant, or show what the caller may do.
OPERATORS_CALLS = {"get_caller", "get_front_end", "get_queue", "get_redis", "get_timeline"} | {
    "list_workers",
    "list_dead_letters",
    "requeue_dead_letter",
}
OTHER_CALLS = {"create_generation", "list_generations", "list_streams", "create_stream", "health", "readiness"} | {
    "ai_sdk_send",
    "ai_sdk_resume",
    "ai_sdk_stop",
    "create_chat_completion",
    "create_completion",
    "create_embeddings",
    "count_message_tokens",
    "count_response_tokens",
    "list_models",
    "get_model",
    "run_agent",
    "join_run",
    "create_message",
    "create_response",
    "get_response",
    "cancel_response",
    "delete_response",
    "list_response_input_items",
    "create_token",
    "get_usage",
    "revoke_tokens",
}


async def refused(front_end: KeyedFrontEnd, calls: dict[str, tuple[str, str]], id: str) -> None:
    """Each call of another tenant gets the same 404 as a call for an unknown id, byte for byte."""
    for name, (method, url) in calls.items():
        body = {"type": "data-x", "data": 1} if name == "append_events" else {} if method == "POST" else None
        theirs = await front_end.call(OTHERS, method, url.format(id=id), json=body)
        unowned = await front_end.call(OTHERS, method, url.format(id=f"{id[:4]}nobody-has-this"), json=body)
        assert (theirs.status_code, theirs.json()["code"]) == (404, "unknown_stream"), name
        assert (theirs.json(), theirs.status_code) == (unowned.json(), unowned.status_code), name


async def test_every_route_is_examined_here(front_end: KeyedFrontEnd) -> None:
    operations = {each["operationId"] for path in front_end.description["paths"].values() for each in path.values()}
    assert (
        operations
        == {name.partition(",")[0] for name in (*GENERATION_CALLS, *STREAM_CALLS)} | OTHER_CALLS | OPERATORS_CALLS
    )


async def test_a_list_of_streams_holds_those_of_its_tenant_alone(front_end: KeyedFrontEnd) -> None:
    generation = await front_end.start(MINE)
    for key in (MINE, OTHERS):
        assert (await front_end.call(key, "PUT", "/v1/streams/job", json={})).status_code == 201
    listed = {key: (await front_end.call(key, "GET", "/v1/streams")).json()["streams"] for key in (MINE, OTHERS)}
    assert {each["id"] for each in listed[MINE]} == {generation, "job"}
    assert [each["id"] for each in listed[OTHERS]] == ["job"]


async def test_a_generation_of_another_tenant_is_unknown_while_it_runs_and_after_it(
    front_end: KeyedFrontEnd, services: Services
) -> None:
    id = await front_end.start(MINE)
    await refused(front_end, {**GENERATION_CALLS, **STREAM_CALLS}, id)
    mine = (await front_end.call(MINE, "GET", f"/v1/generations/{id}")).json()
    assert (mine["status"], mine["stop_requested"]) == ("queued", False)
    assert (await front_end.call(MINE, "POST", f"/v1/generations/{id}/stop")).status_code == 202
    seen = await listen(front_end.http, f"/v1/streams/{id}/events", headers={"authorization": f"Bearer {MINE}"})
    assert json.loads(seen.entries[-1][1])["type"] == "abort"
    await refused(front_end, {**GENERATION_CALLS, **STREAM_CALLS}, id)


async def test_a_deleted_one_is_known_to_its_tenant_alone(front_end: KeyedFrontEnd) -> None:
    id = await front_end.start(MINE)
    assert (await front_end.call(MINE, "DELETE", f"/v1/generations/{id}")).status_code == 204
    assert (await front_end.call(OTHERS, "DELETE", f"/v1/generations/{id}")).status_code == 404
    assert (await front_end.call(MINE, "DELETE", f"/v1/generations/{id}")).status_code == 204


async def test_a_feed_of_another_tenant_is_unknown_and_takes_nothing_of_theirs(front_end: KeyedFrontEnd) -> None:
    assert (await front_end.call(MINE, "PUT", f"/v1/streams/{FEED}")).status_code == 201
    event = {"type": "data-x", "data": "mine"}
    key = {"idempotency-key": "k"}
    first = await front_end.call(MINE, "POST", f"/v1/streams/{FEED}/events", json=event, headers=key)
    await refused(front_end, STREAM_CALLS, FEED)
    replayed = await front_end.call(OTHERS, "POST", f"/v1/streams/{FEED}/events", json=event, headers=key)
    assert replayed.status_code == 404
    repeated = await front_end.call(MINE, "POST", f"/v1/streams/{FEED}/events", json=event, headers=key)
    assert (repeated.json(), repeated.headers["idempotent-replayed"]) == (first.json(), "true")
    assert (await front_end.call(MINE, "GET", f"/v1/streams/{FEED}")).json()["last_seq"] == 1


async def test_lists_hold_ones_own_generations_alone(front_end: KeyedFrontEnd) -> None:
    mine = [await front_end.start(MINE) for _ in range(3)]
    theirs = await front_end.start(OTHERS)
    for query in ({}, {"status": "open"}):
        assert await front_end.listed(MINE, **query) == mine[::-1]
        assert await front_end.listed(OTHERS, **query) == [theirs]


async def test_an_idempotency_key_is_its_tenants(front_end: KeyedFrontEnd) -> None:
    key = {"idempotency-key": "the same"}
    mine, theirs = await front_end.start(MINE, headers=key), await front_end.start(OTHERS, headers=key)
    assert mine != theirs
    assert await front_end.start(MINE, headers=key) == mine
    other_body = await front_end.call(OTHERS, "POST", "/v1/generations", json={"prompt": "b"}, headers=key)
    assert other_body.json()["code"] == "idempotency_mismatch"


async def test_a_generation_requested_without_keys_belongs_to_the_tenant_local(
    settings: Settings, services: Services
) -> None:
    open_settings = Settings.model_validate({"redis_url": settings.redis_url})
    async with served(own_app(services, open_settings), services) as http:
        id = (await http.post("/v1/generations", json={"prompt": "before keys"})).json()["id"]
    keys = json.dumps({"local": [MINE], "others": [OTHERS]})
    keyed = Settings.model_validate({"redis_url": settings.redis_url, "auth": "keys", "api_keys": keys})
    app = own_app(services, keyed)
    async with served(app, services) as http:
        front_end = KeyedFrontEnd(http, app.openapi())
        assert await front_end.listed(MINE) == [id]
        assert await front_end.listed(OTHERS) == []


async def test_a_room_that_is_open_for_one_tenant_is_no_way_in_for_another(
    front_end: KeyedFrontEnd, services: Services
) -> None:
    await front_end.call(MINE, "PUT", f"/v1/streams/{FEED}")
    raw = [encode_event(Start(message_id="m")), encode_event(TextDelta(id="0", delta="secret"))]
    await services.feeds.append(FEED, raw, tenant="mine")
    headers = {"authorization": f"Bearer {MINE}"}
    assert len((await listen(front_end.http, f"/v1/streams/{FEED}/events", until=2, headers=headers)).entries) == 2
    await refused(front_end, STREAM_CALLS, FEED)
    await services.feeds.close(FEED, encode_event(Finish()), tenant="mine")
    assert (await front_end.call(OTHERS, "GET", f"/v1/streams/{FEED}/events?after=9-9")).status_code == 404


RUN: dict[str, Any] = {
    "threadId": "their-thread",
    "runId": "their-run",
    "messages": [{"id": "u", "role": "user", "content": "secret"}],
}
RUN_CALLS: dict[str, tuple[str, str, dict[str, str]]] = {
    "joined": ("GET", "/agui?runId={run}", {}),
    "joined from the beginning": ("GET", "/agui?runId={run}&offset=-1", {}),
    "resumed by an offset": ("GET", "/agui?runId={run}&offset=1-1", {}),
    "resumed by a header": ("GET", "/agui?runId={run}", {"last-event-id": "1-1"}),
    "joined in its thread": ("GET", "/agui?runId={run}&threadId={thread}", {}),
    "joined by its thread": ("GET", "/agui?threadId={thread}", {"accept": "text/event-stream"}),
    "asked for by its thread": ("GET", "/agui?threadId={thread}", {}),
    "resumed": ("POST", "/agui", {"last-event-id": "1-1"}),
    "resumed behind the greeting": ("POST", "/agui", {"last-event-id": "0-0"}),
    "resumed within an entry": ("POST", "/agui", {"last-event-id": "1-2-1"}),
}


async def test_a_run_of_another_tenant_is_like_one_that_does_not_exist(front_end: KeyedFrontEnd) -> None:
    mine = {"authorization": f"Bearer {MINE}"}
    async with front_end.http.stream("POST", "/agui", json=RUN, headers=mine) as running:
        id = running.headers["broadcaster-generation-id"]
        for name, (method, url, headers) in RUN_CALLS.items():

            async def call(key: str, run: str, thread: str, call_of: tuple[Any, ...] = (method, url, headers)) -> Any:
                body = {**RUN, "runId": run, "threadId": thread} if call_of[0] == "POST" else None
                at = call_of[1].format(run=run, thread=thread)
                return await front_end.call(key, call_of[0], at, json=body, headers=dict(call_of[2]))

            theirs = await call(OTHERS, RUN["runId"], RUN["threadId"])
            unowned = await call(OTHERS, "no-run", "no-thread")
            assert (theirs.status_code, theirs.json()) == (unowned.status_code, unowned.json()), name
            if name == "asked for by its thread":
                assert theirs.json()["activeRun"] is None
            else:
                assert (theirs.status_code, theirs.json()["code"]) == (404, "unknown_stream"), name
        named = await front_end.call(MINE, "GET", f"/agui?threadId={RUN['threadId']}")
        assert named.json()["activeRun"] == {"runId": RUN["runId"]}
        assert (await front_end.call(MINE, "POST", f"/v1/generations/{id}/stop")).status_code == 202


async def test_a_run_of_the_same_name_is_each_tenants_own(front_end: KeyedFrontEnd) -> None:
    async def start(key: str) -> str:
        headers = {"authorization": f"Bearer {key}"}
        async with front_end.http.stream("POST", "/agui", json=RUN, headers=headers) as running:
            return running.headers["broadcaster-generation-id"]

    async def joined(key: str) -> str:
        headers = {"authorization": f"Bearer {key}"}
        async with front_end.http.stream("GET", f"/agui?runId={RUN['runId']}", headers=headers) as joined:
            return joined.headers["broadcaster-generation-id"]

    ids = [await start(MINE), await start(OTHERS)]
    assert [await joined(MINE), await joined(OTHERS)] == ids
    for key, id in zip((MINE, OTHERS), ids, strict=True):
        named = await front_end.call(key, "GET", f"/agui?threadId={RUN['threadId']}")
        assert named.json()["activeRun"] == {"runId": RUN["runId"]}
        assert (await front_end.call(key, "DELETE", f"/v1/generations/{id}")).status_code == 204
    assert (await front_end.call(MINE, "GET", f"/agui?threadId={RUN['threadId']}")).json()["activeRun"] is None
