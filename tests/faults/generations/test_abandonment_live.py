"""Abandoned generations of real processes: front-ends are killed, stand still or end, and Redis pauses."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from threading import Event
from typing import Any

from broadcaster.client import AsyncClient
from broadcaster.log.streams.reader import Streams
from broadcaster.settings import Settings
from tests.faults.figures import Figures
from tests.faults.front_ends.viewers import RecordedViewer
from tests.faults.world import FaultWorld, open_world
from tests.support.log.valkey import ValkeyServer

LATE_S = 5.0
SETTINGS = {"lease_ttl_s": 1, "presence_ttl_s": 0.9, "abandon_grace_s": 2, "stall_timeout_s": 6}
TTL_OF_ALL_S, GRACE_OF_ALL_S = 0.9, 2.0


async def events_of(world: FaultWorld, stream: str) -> list[dict[str, Any]]:
    return [json.loads(entry.event) for entry in await Streams(world.connection).read(stream)]


async def until_front_ends(world: FaultWorld, stream: str, count: int) -> None:
    """Until so many front-ends have reported viewers."""
    key = world.connection.keys.viewers(stream)
    async with asyncio.timeout(LATE_S):
        while await world.connection.redis.zcard(key) != count + 1:  # and the mark
            await asyncio.sleep(0.01)


async def goes_on(world: FaultWorld, stream: str, for_s: float) -> None:
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s:
        assert (await events_of(world, stream))[-1]["type"] == "text-delta"
        await asyncio.sleep(0.05)


async def abandoned(world: FaultWorld, stream: str) -> float:
    """When it had its end, which is the right one and reports the usage."""
    async with asyncio.timeout(20):
        while (events := await events_of(world, stream))[-1]["type"] != "abort":
            await asyncio.sleep(0.02)
    now = time.monotonic()
    *_, usage, end = events
    assert (usage["type"], usage["estimated"]) == ("usage", True)
    assert end["reason"] == "abandoned"
    assert "half an answer" in json.dumps(events)
    return now


def view_at(world: FaultWorld, url: str, stream: str) -> RecordedViewer:
    """A viewer that knows this front-end alone."""
    world.urls = [url]
    (viewer,) = world.view(stream)
    return viewer


async def test_the_last_viewer_of_two_front_ends_goes_with_its_killed_front_end_and_the_worker_is_notified(
    tmp_path: Path, server: ValkeyServer, figures: Figures, rounds: int
) -> None:
    async with open_world(tmp_path, redis=server, **SETTINGS) as world:
        await world.worker()
        lasting = (await world.front_end()).url
        for n in range(max(1, min(rounds // 3, 10))):
            victim = await world.front_end()
            stream, provider = await world.converse(on_abandon="cancel")
            await provider.send_text("half an answer")
            await world.until_text(stream, "half an answer")
            first = view_at(world, lasting, stream)
            last = view_at(world, victim.url, stream)
            await until_front_ends(world, stream, 2)
            await world.leave(first)
            if n == 0:
                await goes_on(world, stream, TTL_OF_ALL_S + GRACE_OF_ALL_S)  # the other front-end's viewer keeps it
            await victim.kill()
            killed_at = time.monotonic()
            await world.leave(last)
            await (await provider.request()).wait_disconnected(15)
            took_s = await abandoned(world, stream) - killed_at
            figures.add("last viewer killed with its front-end → abandoned (grace 2 s)", took_s, "s")
            assert GRACE_OF_ALL_S <= took_s < TTL_OF_ALL_S + GRACE_OF_ALL_S + 5
            world.urls = [lasting]
        await world.check()


async def test_a_caller_that_waits_for_the_result_without_a_stream_is_a_viewer(
    tmp_path: Path, server: ValkeyServer
) -> None:
    async with open_world(tmp_path, redis=server, **SETTINGS) as world:
        await world.worker()
        url = (await world.front_end()).url
        stream, provider = await world.converse(on_abandon="cancel")
        await provider.send_text("half an answer")
        await world.until_text(stream, "half an answer")
        async with AsyncClient(url) as client:
            waiting = asyncio.create_task(client.get(stream, wait_s=60))
            await until_front_ends(world, stream, 1)
            await goes_on(world, stream, TTL_OF_ALL_S + GRACE_OF_ALL_S)
            waiting.cancel()
            left_at = time.monotonic()
            took_s = await abandoned(world, stream) - left_at
        assert took_s >= GRACE_OF_ALL_S * 0.9


async def test_a_pause_of_redis_beyond_the_presence_ttl_abandons_no_watched_generation(
    tmp_path: Path, server: ValkeyServer
) -> None:
    """Every report has lapsed when it is back; its viewers watch all the same, and it reports them first."""
    async with open_world(tmp_path, redis=server, **SETTINGS) as world:
        await world.worker()
        await world.front_end()
        stream, provider = await world.converse(on_abandon="cancel")
        await provider.send_text("half an answer")
        await world.until_text(stream, "half an answer")
        world.view(stream)
        await until_front_ends(world, stream, 1)
        server.pause()
        await asyncio.to_thread(Event().wait, TTL_OF_ALL_S + GRACE_OF_ALL_S)
        server.resume()
        await goes_on(world, stream, GRACE_OF_ALL_S + 1)
        await provider.finish()
        await world.settle()
        assert (await events_of(world, stream))[-1]["type"] == "finish"
        await world.check()


def test_by_default_a_front_end_may_stand_still_for_two_minutes_before_it_counts_as_gone() -> None:
    settings = Settings()
    assert settings.presence_ttl_s - settings.presence_every_s > 120


async def test_viewers_of_a_front_end_that_stands_still_are_not_gone_until_it_has_reported_so(
    tmp_path: Path, server: ValkeyServer
) -> None:
    """A stopped process is more than a blocked loop: its other threads stand still as well."""
    async with open_world(tmp_path, redis=server, **{**SETTINGS, "presence_ttl_s": 60}) as world:
        await world.worker()
        front_end = await world.front_end(slow_viewer_s=1)
        stream, provider = await world.converse(on_abandon="cancel")
        await provider.send_text("half an answer")
        await world.until_text(stream, "half an answer")
        (viewer,) = world.view(stream)
        await until_front_ends(world, stream, 1)
        front_end.signal(signal.SIGSTOP)
        await goes_on(world, stream, 2 * GRACE_OF_ALL_S)
        front_end.signal(signal.SIGCONT)
        await goes_on(world, stream, 0.5)
        assert viewer.connections == 1
        left_at = time.monotonic()
        assert await front_end.end() == 0  # reports first
        took_s = await abandoned(world, stream) - left_at
    assert took_s < GRACE_OF_ALL_S + LATE_S
