"""A caller that may stop or close a stream, and may not watch it, gets the outcome without the stream's state."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.client import AsyncClient
from broadcaster.web.services import Services
from tests.support.access import token_kit as kit
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import own_app, served

RIGHTS: tuple[tuple[str, ...], ...] = (("stop",), ("stop", "watch"), ("append",), ("append", "watch"))
KEYS = {rights: f"{'-'.join(rights)}-key-0123456789" for rights in RIGHTS}
SETTING = json.dumps({"web": [{"key": key, "rights": rights} for rights, key in KEYS.items()]})
SECRET = "my diagnosis is a secret"
METADATA = {"patient": SECRET}


def credential_of(kind: str, *rights: str) -> str:
    if kind == "key":
        return KEYS[rights]
    grants = [{"prefix": prefix, "actions": list(rights)} for prefix in ("gen_", "job:")]
    return kit.own_token(time.time(), grants=grants)


@pytest.fixture
async def http(services: Services, world: MemoryWorld) -> AsyncIterator[httpx2.AsyncClient]:
    request: Any = {"messages": [{"role": "user", "content": SECRET}], "metadata": METADATA}
    world.add("gen_1", tenant="web", request=request)
    app = own_app(services, host="0.0.0.0", auth="keys", api_keys=SETTING, token_keys=kit.TOKEN_KEYS)
    async with served(app, services) as client:
        for feed in ("job:1", "job:2"):
            headers = {"x-api-key": KEYS["append",]}
            created = await client.put(f"/v1/streams/{feed}", headers=headers, json={"metadata": METADATA})
            assert created.status_code == 201
        yield client


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_a_stop_shows_the_state_to_those_who_may_watch_alone(http: httpx2.AsyncClient, kind: str) -> None:
    url = "/v1/generations/gen_1/stop"
    stopped = await http.post(url, headers={"x-api-key": credential_of(kind, "stop")})
    assert stopped.status_code == 202
    links = {"events_url": "/v1/streams/gen_1/events"}
    assert stopped.json() == {"id": "gen_1", "status": "aborted", "stop_requested": True, **links}
    shown = await http.post(url, headers={"x-api-key": credential_of(kind, "stop", "watch")})
    assert (shown.status_code, shown.json()["title"], shown.json()["metadata"]) == (202, SECRET, METADATA)


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_the_end_of_a_feed_shows_its_state_to_those_who_may_watch_alone(
    http: httpx2.AsyncClient, kind: str
) -> None:
    headers = {"x-api-key": credential_of(kind, "append")}
    closed = await http.post("/v1/streams/job:1/close", headers=headers, json={})
    assert closed.status_code == 200
    links = {"events_url": "/v1/streams/job:1/events"}
    assert closed.json() == {"id": "job:1", "kind": "feed", "status": "finished", **links}
    headers = {"x-api-key": credential_of(kind, "append", "watch")}
    shown = await http.post("/v1/streams/job:2/close", headers=headers, json={})
    assert (shown.status_code, shown.json()["metadata"]) == (200, METADATA)


async def test_our_client_stops_and_closes_what_it_may_not_watch(http: httpx2.AsyncClient) -> None:
    async with AsyncClient(str(http.base_url), api_key=KEYS["stop",]) as client:
        generation = await client.stop("gen_1")
    assert (generation.id, generation.is_over, generation.metadata) == ("gen_1", True, {})
    async with AsyncClient(str(http.base_url), api_key=KEYS["append",]) as client:
        feed = await client.close("job:1")
    assert (feed.id, feed.kind, feed.status, feed.metadata) == ("job:1", "feed", "finished", {})
