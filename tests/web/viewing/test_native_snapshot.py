"""``hub.snapshot``: the fold of what came before, and native events after it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from itertools import starmap
from typing import Any

import httpx2
import pytest

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.fold import Fold
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.core.sse import SseDecoder
from broadcaster.dialects import NATIVE, NATIVE_SNAPSHOT
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from tests.dialects.anthropic import anthropic_streams
from tests.dialects.decoding import read_all
from tests.dialects.openai_chat.chat_clients import entries_of
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S

DONE = ev.Finish(finish_reason="stop")


def recorded(name: str) -> list[Entry]:
    events = read_all(AnthropicDecoder(), anthropic_streams.STREAMS[name]).events
    return entries_of([*events[:-1], ev.Attempt(attempt=2), *events])


def state_of(entries: list[Entry]) -> dict[str, Any]:
    fold = Fold()
    for entry in entries:
        fold.apply(entry.event)
    state_json: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(fold.state)))
    return state_json


@pytest.mark.parametrize("name", sorted(anthropic_streams.STREAMS))
def test_a_snapshot_is_the_fold_of_what_was_received_and_forks_are_independent(name: str) -> None:
    entries = recorded(name)
    received = NATIVE_SNAPSHOT.open("gen_1")
    assert received.snapshot() == b""
    for at, entry in enumerate(entries[:-1], start=1):
        assert received.encode([entry]) == NATIVE.frame(*entry)
        [snapshot] = SseDecoder().decode(received.snapshot())
        assert (snapshot.event, snapshot.id) == ("hub.snapshot", str(entry.cursor))
        assert json.loads(snapshot.data) == state_of(entries[:at])
        fork = received.fork()
        assert fork.encode(entries[at:]) == b"".join(starmap(NATIVE.frame, entries[at:]))
        assert json.loads(SseDecoder().decode(fork.snapshot())[0].data) == state_of(entries)
        assert received.snapshot() == received.fork().snapshot()


def test_a_snapshot_of_ten_thousand_deltas_is_a_fraction_of_them() -> None:
    deltas = [ev.TextDelta(id="0", delta="a") for _ in range(10_000)]
    received = NATIVE_SNAPSHOT.open("gen_1")
    replay = received.encode(entries_of([ev.TextStart(id="0"), *deltas]))
    assert len(received.snapshot()) <= 0.03 * len(replay)


def test_notices_are_those_of_the_native_dialect() -> None:
    received, native = NATIVE_SNAPSHOT.open("gen_1"), NATIVE.open("gen_1")
    gap = Gap(GapReason.TRIMMED, Cursor(5, 3), 1, 3)
    assert received.hello(status="running", retry_ms=7) == native.hello(status="running", retry_ms=7)
    assert received.gap(gap) == native.gap(gap)
    assert received.stalled(StallReason.WORKER_LOST) == native.stalled(StallReason.WORKER_LOST)
    assert b"event: hub.bye" in received.bye("drain", reconnect=True, retry_ms=1000)
    assert NATIVE_SNAPSHOT.heartbeat == NATIVE.heartbeat


async def test_a_viewer_that_requests_a_snapshot_receives_one_and_then_what_follows(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("gen_1", status="running")
    world.append("gen_1", ev.Start(), ev.TextStart(id="0"), *(ev.TextDelta(id="0", delta=each) for each in "Hello"))
    async with (
        asyncio.timeout(DEADLINE_S),
        live_client.stream("GET", "/v1/streams/gen_1/events?replay=snapshot") as response,
    ):
        decoder, messages = SseDecoder(), []
        async for chunk in response.aiter_bytes():
            messages += decoder.decode(chunk)
            if len(messages) == 2:
                world.append("gen_1", ev.TextDelta(id="0", delta="!"), DONE)
    assert [message.event for message in messages] == ["hub.hello", "hub.snapshot", "message", "message"]
    assert json.loads(messages[0].data)["status"] == "running"
    assert json.loads(messages[1].data)["text"] == "Hello"
    assert json.loads(messages[2].data)["delta"] == "!"


async def test_a_viewer_that_reconnects_from_a_snapshots_id_receives_no_other(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("gen_1", status="running")
    world.append("gen_1", ev.Start(), ev.TextStart(id="0"), ev.TextDelta(id="0", delta="Hello"), DONE)
    async with asyncio.timeout(DEADLINE_S):
        first = await live_client.get("/v1/streams/gen_1/events?replay=snapshot")
        seen = SseDecoder().decode(first.content)[1].id
        resumed = await live_client.get("/v1/streams/gen_1/events?replay=snapshot", headers={"last-event-id": seen})
    assert [message.event for message in SseDecoder().decode(resumed.content)] == ["hub.hello", "message"]
