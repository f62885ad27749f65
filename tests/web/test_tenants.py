"""Two tenants on one front-end over a real Redis: what is one's does not exist for the other, at any route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from broadcaster.core.events import Finish, Start, TextDelta, encode_event
from broadcaster.log.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.front_end import listen, served

MINE, OTHERS = "the-key-of-mine-0", "the-key-of-others"
FEED = "build-42"


@dataclass(frozen=True)
class Door:
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
    keys = json.dumps({"mine": [MINE], "others": [OTHERS]})
    return Settings.model_validate({"redis_url": connection.url, "auth": "keys", "api_keys": keys, "retry_ms": 100})


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    async with open_services(settings) as opened:
        yield opened


@pytest.fixture
async def door(settings: Settings, services: Services) -> AsyncIterator[Door]:
    app = create_app(settings, services=services)
    async with served(app, services) as http:
        yield Door(http, app.openapi())


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
    "append_events": ("POST", "/v1/streams/{id}/events"),
    "close_stream": ("POST", "/v1/streams/{id}/close"),
    "delete_stream": ("DELETE", "/v1/streams/{id}"),
}
# Told in tests of their own: nothing of another tenant can be named there, or the id is asked for.
OTHER_CALLS = {"create_generation", "list_generations", "create_stream", "health", "readiness"} | {
    "ai_sdk_send",
    "ai_sdk_resume",
    "ai_sdk_stop",
    "create_chat_completion",
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
}


async def refused(door: Door, calls: dict[str, tuple[str, str]], id: str) -> None:
    """Each call of another tenant gets the 404 that an id of nobody gets, word for word."""
    for name, (method, url) in calls.items():
        body = {"type": "data-x", "data": 1} if name == "append_events" else {} if method == "POST" else None
        theirs = await door.call(OTHERS, method, url.format(id=id), json=body)
        nobodys = await door.call(OTHERS, method, url.format(id=f"{id[:4]}nobody-has-this"), json=body)
        assert (theirs.status_code, theirs.json()["code"]) == (404, "unknown_stream"), name
        assert (theirs.json(), theirs.status_code) == (nobodys.json(), nobodys.status_code), name


async def test_every_route_is_examined_here(door: Door) -> None:
    operations = {each["operationId"] for path in door.description["paths"].values() for each in path.values()}
    assert operations == {name.partition(",")[0] for name in (*GENERATION_CALLS, *STREAM_CALLS)} | OTHER_CALLS


async def test_a_generation_of_another_tenant_is_unknown_while_it_runs_and_after_it(
    door: Door, services: Services
) -> None:
    id = await door.start(MINE)
    await refused(door, {**GENERATION_CALLS, **STREAM_CALLS}, id)
    mine = (await door.call(MINE, "GET", f"/v1/generations/{id}")).json()
    assert (mine["status"], mine["stop_requested"]) == ("queued", False)
    assert (await door.call(MINE, "POST", f"/v1/generations/{id}/stop")).status_code == 202
    seen = await listen(door.http, f"/v1/streams/{id}/events", headers={"authorization": f"Bearer {MINE}"})
    assert json.loads(seen.entries[-1][1])["type"] == "abort"
    await refused(door, {**GENERATION_CALLS, **STREAM_CALLS}, id)


async def test_a_deleted_one_is_known_to_its_tenant_alone(door: Door) -> None:
    id = await door.start(MINE)
    assert (await door.call(MINE, "DELETE", f"/v1/generations/{id}")).status_code == 204
    assert (await door.call(OTHERS, "DELETE", f"/v1/generations/{id}")).status_code == 404
    assert (await door.call(MINE, "DELETE", f"/v1/generations/{id}")).status_code == 204


async def test_a_feed_of_another_tenant_is_unknown_and_takes_nothing_of_theirs(door: Door) -> None:
    assert (await door.call(MINE, "PUT", f"/v1/streams/{FEED}")).status_code == 201
    event = {"type": "data-x", "data": "mine"}
    key = {"idempotency-key": "k"}
    first = await door.call(MINE, "POST", f"/v1/streams/{FEED}/events", json=event, headers=key)
    await refused(door, STREAM_CALLS, FEED)
    replayed = await door.call(OTHERS, "POST", f"/v1/streams/{FEED}/events", json=event, headers=key)
    assert replayed.status_code == 404
    again = await door.call(MINE, "POST", f"/v1/streams/{FEED}/events", json=event, headers=key)
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    assert (await door.call(MINE, "GET", f"/v1/streams/{FEED}")).json()["last_seq"] == 1


async def test_lists_hold_ones_own_generations_alone(door: Door) -> None:
    mine = [await door.start(MINE) for _ in range(3)]
    theirs = await door.start(OTHERS)
    for query in ({}, {"status": "open"}):
        assert await door.listed(MINE, **query) == mine[::-1]
        assert await door.listed(OTHERS, **query) == [theirs]


async def test_an_idempotency_key_is_its_tenants(door: Door) -> None:
    key = {"idempotency-key": "the same"}
    mine, theirs = await door.start(MINE, headers=key), await door.start(OTHERS, headers=key)
    assert mine != theirs
    assert await door.start(MINE, headers=key) == mine
    other_body = await door.call(OTHERS, "POST", "/v1/generations", json={"prompt": "b"}, headers=key)
    assert other_body.json()["code"] == "idempotency_mismatch"


async def test_what_was_asked_for_without_keys_belongs_to_the_tenant_local(
    settings: Settings, services: Services
) -> None:
    open_settings = Settings.model_validate({"redis_url": settings.redis_url})
    async with served(create_app(open_settings, services=services), services) as http:
        id = (await http.post("/v1/generations", json={"prompt": "before keys"})).json()["id"]
    keys = json.dumps({"local": [MINE], "others": [OTHERS]})
    keyed = Settings.model_validate({"redis_url": settings.redis_url, "auth": "keys", "api_keys": keys})
    app = create_app(keyed, services=services)
    async with served(app, services) as http:
        door = Door(http, app.openapi())
        assert await door.listed(MINE) == [id]
        assert await door.listed(OTHERS) == []


async def test_a_room_that_is_open_for_one_tenant_is_no_way_in_for_another(door: Door, services: Services) -> None:
    await door.call(MINE, "PUT", f"/v1/streams/{FEED}")
    raw = [encode_event(Start(message_id="m")), encode_event(TextDelta(id="0", delta="secret"))]
    await services.feeds.append(FEED, raw, tenant="mine")
    headers = {"authorization": f"Bearer {MINE}"}
    assert len((await listen(door.http, f"/v1/streams/{FEED}/events", until=2, headers=headers)).entries) == 2
    await refused(door, STREAM_CALLS, FEED)
    await services.feeds.close(FEED, encode_event(Finish()), tenant="mine")
    assert (await door.call(OTHERS, "GET", f"/v1/streams/{FEED}/events?after=9-9")).status_code == 404
