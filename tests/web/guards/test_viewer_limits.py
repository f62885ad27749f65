"""Viewers of one key and of one address, as clients see the bounds; and connections that are closed for their age."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from broadcaster.client.client import AsyncClient
from broadcaster.client.stream import EntryReceived
from broadcaster.core.events import Finish, TextDelta
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, listen, served, until_watched

MINE, MORE = "the-key-of-mine-0", "another-key-of-mine"
KEYED = Settings.model_validate({"auth": "keys", "api_keys": json.dumps({"mine": [MINE, MORE]})})
EVENTS = "/v1/streams/gen_1/events"
CHAT: dict[str, Any] = {"model": "gpt-1", "messages": [{"role": "user", "content": "x"}], "stream": True}


@asynccontextmanager
async def front_end(
    world: MemoryWorld, limits: HubLimits, **changes: Any
) -> AsyncIterator[tuple[Services, httpx2.AsyncClient]]:
    world.add("gen_1", tenant="mine")
    async with memory_services(world, limits=limits, **changes) as services:
        async with served(create_app(KEYED, services=services), services) as client:
            yield services, client


def key(value: str, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {value}", **headers}


async def test_a_key_with_all_its_viewers_gets_a_closed_stream_and_the_sdks_a_429(world: MemoryWorld) -> None:
    async with front_end(world, HubLimits(credential_viewers=1, retry_ms=100)) as (services, client):
        async with client.stream("GET", EVENTS, headers=key(MINE)):
            await until_watched(services, "gen_1")
            refused = await listen(client, EVENTS, headers=key(MINE))
            assert (refused.status, refused.names) == (200, ["hub.bye"])
            assert json.loads(refused.messages[0].data) == {"reason": "limit", "reconnect": True}
            raw = await client.get(EVENTS, headers=key(MINE))
            assert "\nretry: " in raw.text
            before = len(world.streams)
            for path, shape in (("/v1/chat/completions", "error"), ("/v1/generations", "code")):
                body = CHAT if "chat" in path else {"prompt": "x", "stream": True}
                response = await client.post(path, json=body, headers=key(MINE))
                assert (response.status_code, int(response.headers["retry-after"]) >= 1) == (429, True)
                assert shape in response.json()
                assert "BROADCASTER_CREDENTIAL_VIEWERS" in response.text
            assert len(world.streams) == before
            other = await listen(client, EVENTS, headers=key(MORE), until="hub.live")
            assert other.status == 200
        await until_watched(services, "gen_1", 0)
        later = await listen(client, EVENTS, headers=key(MINE), until="hub.live")
        assert "hub.live" in later.names


@pytest.mark.parametrize(("trusted", "second"), [(0, "203.0.113.9"), (1, "198.51.100.1, 203.0.113.7")])
async def test_an_address_with_all_its_viewers_is_refused_whatever_it_claims_to_be(
    world: MemoryWorld, trusted: int, second: str
) -> None:
    limits = HubLimits(address_viewers=1, retry_ms=100)
    async with front_end(world, limits, trusted_proxies=trusted) as (services, client):
        async with client.stream("GET", EVENTS, headers=key(MINE, **{"x-forwarded-for": "203.0.113.7"})):
            await until_watched(services, "gen_1")
            refused = await listen(client, EVENTS, headers=key(MORE, **{"x-forwarded-for": second}))
            assert refused.names == ["hub.bye"]
            if trusted:
                neighbour = key(MORE, **{"x-forwarded-for": "203.0.113.8"})
                assert (await listen(client, EVENTS, headers=neighbour, until="hub.live")).status == 200


async def test_a_client_whose_connection_is_closed_for_its_age_receives_every_entry_once(world: MemoryWorld) -> None:
    limits = HubLimits(lifetime_s=0.3, heartbeat_s=0.4, retry_ms=1)
    async with front_end(world, limits) as (services, http):

        def closed() -> int:
            return services.hub.statistics().stopped.get(StopReason.LIFETIME, 0)

        async def write() -> None:
            for round in range(3):
                world.append("gen_1", TextDelta(id="0", delta=str(round)))
                async with asyncio.timeout(DEADLINE_S):
                    while closed() <= round:
                        await asyncio.sleep(0.005)
            world.append("gen_1", Finish(finish_reason="stop"))

        async with AsyncClient(str(http.base_url), api_key=MINE) as client, asyncio.TaskGroup() as group:
            group.create_task(write())
            events = [event async for event in client.events("gen_1")]
        assert [event.cursor.seq for event in events if isinstance(event, EntryReceived)] == [1, 2, 3, 4]
        assert closed() >= 3
