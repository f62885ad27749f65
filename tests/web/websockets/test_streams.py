"""A stream over a WebSocket: whole, resumable at every place, with the notices and the ends of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from broadcaster.core.events import Finish, TextDelta
from broadcaster.core.notices import StallReason
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.server.runner import MAX_INCOMING_BYTES
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import listen, own_app, served, until_watched
from tests.support.servers.websocket_client import conversation, follow_over_websocket, refusal_of

WORDS = [f"word{at} " for at in range(12)]
LARGE = "0123456789abcdef" * 2**14


@asynccontextmanager
async def front_end(
    world: MemoryWorld, limits: HubLimits | None = None, **changes: Any
) -> AsyncIterator[tuple[Services, str, httpx2.AsyncClient]]:
    """The services, the URL of the stream ``gen_1``, and a client of the front-end."""
    if "gen_1" not in world.streams:
        world.add("gen_1")
    async with memory_services(world, limits=limits, **changes) as services:
        async with served(own_app(services), services) as client:
            yield services, f"{client.base_url}".rstrip("/") + "/v1/streams/gen_1", client


def answer(world: MemoryWorld) -> None:
    world.add("gen_1")
    world.append("gen_1", *(TextDelta(id="0", delta=word) for word in WORDS), Finish())


async def test_the_messages_are_the_events_of_the_sse_route_one_each(world: MemoryWorld) -> None:
    answer(world)
    async with front_end(world) as (_, stream, client):
        talk = await follow_over_websocket(f"{stream}/ws")
        sse = await listen(client, "/v1/streams/gen_1/events")
    assert talk.entries == [(id, json.loads(data)) for id, data in sse.entries]
    assert (talk.names, talk.code, talk.reason) == (sse.names, 1000, "terminal")
    hello = talk.messages[0]
    assert hello.keys() == {"event", "retry", "data"}
    assert (hello["event"], hello["data"]) == ("hub.hello", {"id": "gen_1", "status": "finished"})


async def test_replay_becomes_live_and_the_end_closes_with_1000(world: MemoryWorld) -> None:
    world.add("gen_1")
    world.append("gen_1", TextDelta(id="0", delta="past, "))
    async with front_end(world) as (_, stream, _client):
        async with conversation(f"{stream}/ws") as talk:
            await talk.until_live()
            world.append("gen_1", TextDelta(id="0", delta="liv\u00e9\u2028"), Finish())
            await talk.until_over()
    assert (talk.text, talk.code) == ("past, liv\u00e9\u2028", 1000)


@pytest.mark.parametrize("by_header", [False, True], ids=["after", "last-event-id"])
async def test_a_cursor_continues_at_every_place(world: MemoryWorld, by_header: bool) -> None:
    answer(world)
    async with front_end(world) as (_, stream, _client):
        whole = (await follow_over_websocket(f"{stream}/ws")).entries
        for seen in range(1, len(whole)):
            cursor = whole[seen - 1][0]
            query, headers = ("", {"last-event-id": cursor}) if by_header else (f"?after={cursor}", {})
            talk = await follow_over_websocket(f"{stream}/ws{query}", additional_headers=headers)
            assert talk.entries == whole[seen:]


async def test_behind_the_terminal_event_the_connection_closes_with_1000_and_without_a_message(
    world: MemoryWorld,
) -> None:
    answer(world)
    async with front_end(world) as (_, stream, _client):
        talk = await follow_over_websocket(f"{stream}/ws?after=7-13")
    assert (talk.messages, talk.code) == ([], 1000)


async def test_a_snapshot_stands_for_the_past(world: MemoryWorld) -> None:
    world.add("gen_1")
    world.append("gen_1", *(TextDelta(id="0", delta=word) for word in WORDS))
    async with front_end(world) as (_, stream, _client):
        async with conversation(f"{stream}/ws?replay=snapshot") as talk:
            await talk.until(lambda: "hub.snapshot" in talk.names)
            world.append("gen_1", Finish())
            await talk.until_over()
    snapshot = talk.notice("hub.snapshot")
    assert (snapshot["id"], snapshot["data"]["text"]) == ("7-12", "".join(WORDS))
    assert [id for id, _ in talk.entries] == ["7-13"]


async def test_attempts_gaps_and_stalls_are_reported_as_over_sse(world: MemoryWorld) -> None:
    world.add("gen_1")
    world.append("gen_1", *(TextDelta(id="0", delta=word) for word in WORDS[:3]))
    async with front_end(world) as (_, stream, _client):
        async with conversation(f"{stream}/ws") as talk:
            await talk.until_live()
            world.stall("gen_1", StallReason.WORKER_LOST)
            await talk.until(lambda: "hub.stalled" in talk.names)
            world.lose_tail("gen_1", keep_seq=1)
            await talk.until(lambda: "hub.gap" in talk.names)
            world.take_over("gen_1", attempt=2)
            world.append("gen_1", Finish())
            await talk.until_over()
    assert talk.notice("hub.gap")["id"] == "7-1"
    assert talk.notice("hub.gap")["data"] == {"reason": "rewound", "from": 2, "to": 3}
    assert [event["type"] for _, event in talk.entries[-2:]] == ["attempt", "finish"]


async def test_a_large_event_is_one_message(world: MemoryWorld) -> None:
    world.add("gen_1")
    world.append("gen_1", TextDelta(id="0", delta=LARGE), TextDelta(id="0", delta="small"), Finish())
    async with front_end(world) as (services, stream, _client):
        talk = await follow_over_websocket(f"{stream}/ws")
        assert talk.text == f"{LARGE}small"
        await until_watched(services, "gen_1", 0)


async def test_a_line_break_in_an_event_stays_within_its_message(world: MemoryWorld) -> None:
    world.add("gen_1")
    world.append_raw("gen_1", b'{"type":"text-delta",\r\n"id":"0",\n"delta":"a"}', b'{"type":"finish"}')
    async with front_end(world) as (_, stream, _client):
        talk = await follow_over_websocket(f"{stream}/ws")
    assert [event["type"] for _, event in talk.entries] == ["text-delta", "finish"]


async def test_a_stream_that_is_not_created_yet_is_waited_for(world: MemoryWorld) -> None:
    async with front_end(world) as (_, stream, _client):
        url = stream.replace("gen_1", "gen_2")
        assert await refusal_of(f"{url}/ws") == (404, "unknown_stream")
        async with asyncio.TaskGroup() as tasks:
            opened = tasks.create_task(follow_over_websocket(f"{url}/ws?wait_s=10"))
            while not world.lookups:
                await asyncio.sleep(0.001)
            world.add("gen_2")
            world.append("gen_2", Finish())
        assert opened.result().code == 1000


async def test_a_drain_ends_with_a_notice_and_1001(world: MemoryWorld) -> None:
    async with front_end(world) as (services, stream, _client):
        async with conversation(f"{stream}/ws") as talk:
            await talk.until_live()
            await services.hub.drain(window_s=0)
            await talk.until_over()
        assert talk.notice("hub.bye")["data"] == {"reason": "drain", "reconnect": True}
        assert talk.notice("hub.bye")["retry"] >= 100
        assert (talk.code, talk.reason) == (1001, "drain")
        late = await follow_over_websocket(f"{stream}/ws")
    assert (late.names, late.code, late.reason) == (["hub.bye"], 1001, "drain")


async def test_a_viewer_too_many_gets_a_notice_with_its_delay_and_1013(world: MemoryWorld) -> None:
    async with front_end(world, HubLimits(max_viewers=1, retry_ms=100)) as (services, stream, _client):
        async with conversation(f"{stream}/ws") as talk:
            await talk.until_live()
            refused = await follow_over_websocket(f"{stream}/ws")
            assert refused.notice("hub.bye")["data"] == {"reason": "limit", "reconnect": True}
            assert (len(refused.messages), refused.code) == (1, 1013)
        await until_watched(services, "gen_1", 0)


async def test_a_connection_ends_at_its_age_with_1001_and_goes_on_where_it_stopped(world: MemoryWorld) -> None:
    world.add("gen_1")
    world.append("gen_1", TextDelta(id="0", delta="a"))
    async with front_end(world, HubLimits(lifetime_s=0.1, retry_ms=100)) as (_, stream, _client):
        talk = await follow_over_websocket(f"{stream}/ws")
        assert (talk.notice("hub.bye")["data"]["reason"], talk.code) == ("lifetime", 1001)
        world.append("gen_1", Finish())
        rest = await follow_over_websocket(f"{stream}/ws?after={talk.entries[-1][0]}")
    assert [event["type"] for _, event in rest.entries] == ["finish"]


async def test_a_page_sees_a_heartbeat_when_nothing_else_comes(world: MemoryWorld) -> None:
    async with front_end(world, HubLimits(heartbeat_s=0.1)) as (_, stream, _client):
        async with conversation(f"{stream}/ws") as talk:
            await talk.until(lambda: talk.names.count("hub.heartbeat") == 2)


async def test_a_client_that_leaves_is_forgotten_at_once(world: MemoryWorld) -> None:
    async with front_end(world) as (services, stream, _client):
        for is_orderly in (True, False):
            async with conversation(f"{stream}/ws") as talk:
                await talk.until_live()
                await until_watched(services, "gen_1")
                if not is_orderly:
                    talk.socket.transport.abort()
            await until_watched(services, "gen_1", 0)
        assert services.hub.statistics().stopped == {StopReason.CLIENT_GONE: 2}


async def test_a_client_that_takes_nothing_is_cut_by_the_bound_of_every_viewer_and_resumes(world: MemoryWorld) -> None:
    world.add("gen_1")
    limits = HubLimits(slow_viewer_s=0.5, heartbeat_s=0.5, retry_ms=100)
    async with front_end(world, limits) as (services, stream, _client):
        async with conversation(f"{stream}/ws", max_queue=1) as talk:
            await talk.until_live()
            world.append("gen_1", *(TextDelta(id="0", delta=LARGE) for _ in range(100)))
            await until_watched(services, "gen_1", 0)
            assert services.hub.statistics().stopped == {StopReason.SLOW: 1}
            await talk.until_over()
            assert talk.code is None
        world.append("gen_1", Finish())
        rest = await follow_over_websocket(f"{stream}/ws?after={talk.entries[-1][0]}")
        assert len(talk.text) + len(rest.text) == 100 * len(LARGE)


@pytest.mark.parametrize("message", ["ping", b"\x00", "x" * MAX_INCOMING_BYTES])
async def test_a_client_that_sends_a_message_is_closed_with_1008(world: MemoryWorld, message: str | bytes) -> None:
    async with front_end(world) as (services, stream, _client):
        async with conversation(f"{stream}/ws") as talk:
            await talk.until_live()
            await talk.socket.send(message)
            await talk.until_over()
        assert (talk.code, talk.reason) == (1008, "this WebSocket only sends")
        await until_watched(services, "gen_1", 0)


async def test_a_larger_message_is_refused_before_it_is_read(world: MemoryWorld) -> None:
    async with front_end(world) as (services, stream, _client):
        for parts in ("x" * (MAX_INCOMING_BYTES + 1), ["x" * MAX_INCOMING_BYTES, "x"]):
            async with conversation(f"{stream}/ws") as talk:
                await talk.until_live()
                await talk.socket.send(parts)
                await talk.until_over()
            assert talk.code == 1009 or (isinstance(parts, list) and talk.code == 1008)  # its first frame alone is one
            await until_watched(services, "gen_1", 0)


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ("?after=nonsense", (400, "bad_cursor")),
        ("?dialect=openai-chat", (400, "invalid_request")),
        ("?wait_s=-1", (400, "invalid_request")),
        ("?replay=all", (400, "invalid_request")),
    ],
)
async def test_wrong_parameters_are_problems_before_the_upgrade(
    world: MemoryWorld, query: str, refusal: tuple[int, str]
) -> None:
    async with front_end(world) as (_, stream, _client):
        assert await refusal_of(f"{stream}/ws{query}") == refusal


async def test_a_request_that_is_no_handshake_passes_the_same_checks_and_gets_426(world: MemoryWorld) -> None:
    async with front_end(world) as (_, stream, client):
        response = await client.get(f"{stream}/ws")
        assert (response.status_code, response.json()["code"]) == (426, "websocket_required")
        assert (response.headers["upgrade"], response.headers["connection"]) == ("websocket", "upgrade")
        assert (await client.get(f"{stream}/ws?after=x")).status_code == 400
        assert (await client.get(f"{stream}x/ws")).status_code == 404
        world.away = True
        away = await client.get(f"{stream}y/ws")
        assert (away.status_code, away.json()["code"]) == (503, "log_unavailable")


async def test_a_log_that_is_away_is_a_notice_and_1013(world: MemoryWorld) -> None:
    async with front_end(world) as (_, stream, _client):
        world.away = True
        talk = await follow_over_websocket(f"{stream}/ws")
    assert (talk.notice("hub.bye")["data"]["reason"], talk.code) == ("log_unavailable", 1013)


async def test_no_other_path_is_a_websocket(world: MemoryWorld) -> None:
    async with front_end(world) as (_, stream, _client):
        assert await refusal_of(f"{stream}/events") == (426, "websocket_not_served")
        assert await refusal_of(stream) == (426, "websocket_not_served")


async def test_without_keys_a_foreign_page_is_refused(world: MemoryWorld) -> None:
    async with front_end(world) as (services, stream, _client):
        assert await refusal_of(f"{stream}/ws", origin="https://evil.example") == (403, "forbidden_origin")
        listed = create_app(Settings.model_validate({"cors_origins": ["https://app.example"]}), services=services)
        async with served(listed, services) as client:
            url = f"{client.base_url}".rstrip("/") + "/v1/streams/gen_1/ws"
            async with conversation(url, origin="https://app.example") as talk:
                await talk.until_live()
            assert await refusal_of(url, origin="https://evil.example") == (403, "forbidden_origin")
