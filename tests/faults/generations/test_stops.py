"""Stops, whatever the generation is doing: the provider is closed at once, and ``abort`` is in the log within a bound.

| it is | what ends it | bound |
|---|---|---|
| running | its worker, by the stop message | 100 ms to the provider (p99) |
| running, the message is lost | its worker, by the answer to its next append or renewal | a quarter of the lease |
| queued, or waiting for its next attempt | the process that stops it, in the call | the call |
| left by its worker, lease lapsed | the process that stops it, in the call | the call |
| left by its worker, lease not lapsed | the sweep of a worker or a front-end | lease + 3 s |
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from redis.asyncio import Redis

from broadcaster.client import AsyncClient, ClientError
from broadcaster.errors import UnknownStream
from broadcaster.log.jobs.queue import Settled
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from tests.faults.figures import Figures
from tests.faults.world import FaultWorld, open_world
from tests.support.log.log_world import TENANT, World, delta, until
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.redis_relay import open_redis_relay

STOPS = 10
LEASE_S = 1.0
ABORT = {"type": "abort", "reason": "stopped"}


async def events_of(connection: LogConnection, stream: str) -> list[dict[str, Any]]:
    return [json.loads(entry.event) for entry in await Streams(connection).read(stream)]


async def aborted(world: FaultWorld, stream: str, *, deadline_s: float = 20) -> list[dict[str, Any]]:
    """The events of a stream once it has its end: the answer so far, an estimate of its usage, ``abort``."""
    async with asyncio.timeout(deadline_s):
        while (events := await events_of(world.connection, stream))[-1]["type"] != "abort":
            await asyncio.sleep(0.01)
    assert events[-1] == ABORT
    assert (events[-2]["type"], events[-2]["estimated"]) == ("usage", True)
    assert "".join(each.get("delta", "") for each in events) == "half an answer"
    return events


async def test_most_stops_through_two_front_ends_close_the_provider_in_under_100_ms(
    tmp_path: Path, server: ValkeyServer, figures: Figures, rounds: int
) -> None:
    took_ms: list[float] = []
    async with open_world(tmp_path, redis=server) as world:
        await world.worker()
        await world.front_end()
        await world.front_end()
        for n in range(max(STOPS, rounds)):
            stream, provider = await world.converse()
            await provider.send_text("half an answer")
            await world.until_text(stream, "half an answer")
            request = await provider.request()
            async with AsyncClient(world.urls[n % 2]) as client:
                began = asyncio.get_running_loop().time()
                await client.stop(stream)
                took_ms.append((await request.wait_disconnected(5) - began) * 1000)
            figures.add("stop → provider closed", took_ms[-1], "ms")
            await aborted(world, stream)
        await world.check()
    assert median(took_ms) < 100  # the p99 is a figure of `make faults`: other tests run beside this one


@pytest.mark.parametrize("provider_is", ["silent", "talking"])
async def test_a_stop_whose_message_is_lost_is_learnt_from_the_next_renewal_or_append(
    tmp_path: Path, server: ValkeyServer, figures: Figures, provider_is: str
) -> None:
    lease_s = 4 if provider_is == "silent" else 60  # with 60 s no renewal comes in time
    async with (
        open_redis_relay(server.url) as relay,
        open_world(tmp_path, redis=server, lease_ttl_s=lease_s, stall_timeout_s=120) as world,
    ):
        relay.lose_pushes(b"")  # every one: a worker receives those of its control channel
        await world.worker(redis_url=relay.url)
        await world.front_end()
        stream, provider = await world.converse()
        await provider.send_text("half ")
        await world.until_text(stream, "half ")
        async with AsyncClient(world.urls[0]) as client:
            stopped_at = asyncio.get_running_loop().time()
            await client.stop(stream)
        if provider_is == "talking":
            await provider.send_text("an answer")
        else:
            await world.until_text(stream, "abort")
        closed_at = await (await provider.request()).wait_disconnected(10)
        async with asyncio.timeout(20):
            while (await events_of(world.connection, stream))[-1] != ABORT:
                await asyncio.sleep(0.01)
        assert relay.pushes_lost > 0
        figures.add(f"stop without its message → provider closed ({provider_is})", closed_at - stopped_at, "s")
        assert closed_at - stopped_at < 4  # a lease of the silent one
        await world.check()


async def test_a_stop_of_a_paused_worker_s_generation_ends_it_after_its_lease_and_the_zombie_writes_nothing_more(
    tmp_path: Path, server: ValkeyServer, figures: Figures
) -> None:
    async with open_world(tmp_path, redis=server, lease_ttl_s=LEASE_S, stall_timeout_s=30) as world:
        zombie = await world.worker()
        await world.front_end()
        stream, provider = await world.converse()
        await provider.send_text("half an answer")
        await world.until_text(stream, "half an answer")
        world.view(stream)
        zombie.signal(signal.SIGSTOP)
        async with AsyncClient(world.urls[0]) as client:
            began = time.monotonic()
            await client.stop(stream)
            await client.stop(stream)  # once more is the same
            events = await aborted(world, stream)
            took_s = time.monotonic() - began
            figures.add("stop of a paused worker's generation → abort (lease 1 s)", took_s, "s")
            assert took_s < LEASE_S + 3
            zombie.signal(signal.SIGCONT)
            await (await provider.request()).wait_disconnected(10)
            await zombie.logged("attempt_ended")
            assert await events_of(world.connection, stream) == events
            await client.stop(stream)  # what is over stays as it is
        await world.settle()
        await world.check()


# -- generations without a worker: checked on the log's own parts


@pytest.fixture
async def steady(connection: LogConnection) -> AsyncIterator[World]:
    """A front-end's parts that have seen Redis answer for a lease: a long one, which a busy machine does not break."""
    world = World(connection, lease_ms=2000)
    await world.queue.create_group()
    steadying = asyncio.create_task(world.steadiness.run())
    await until(lambda: world.steadiness.is_steady)
    yield world
    steadying.cancel()


async def brought_to(world: World, state: str) -> str:
    """A generation in this state, with half an answer if it has begun."""
    stream = await world.create()
    if state == "queued":
        return stream
    reader = world.reader()
    (job,) = await reader.take(1)
    claim = await world.claim(stream)
    await world.append(stream, claim.epoch, 1, [delta("half an answer")])
    if state == "handed back":
        assert await world.claims.release(stream, epoch=claim.epoch)
        await world.queue.settle(job, Settled.REQUEUE)
    else:
        await world.redis.delete(world.keys.lease(stream))
    if state == "waiting for its next attempt":
        await world.queue.settle(job, Settled.REQUEUE, delay_ms=60_000)
    await reader.aclose()
    return stream


STATES: Mapping[str, int] = {"queued": 1, "handed back": 3, "waiting for its next attempt": 3, "left by its worker": 3}


@pytest.mark.parametrize("state", STATES)
async def test_a_generation_without_a_worker_is_ended_by_the_stop_itself_and_keeps_its_answer(
    steady: World, state: str
) -> None:
    stream = await brought_to(steady, state)
    await steady.generations.stop(stream, tenant=TENANT)
    events = [json.loads(text) for text in await steady.texts(stream)]
    assert events[-1] == ABORT
    assert len(events) == STATES[state]
    if state != "queued":
        assert events[-2] == {"type": "usage", "inputTokens": 0, "outputTokens": 4, "estimated": True}
    await steady.generations.stop(stream, tenant=TENANT)
    assert len(await steady.texts(stream)) == len(events)
    await no_job_is_left(steady, stream)


async def no_job_is_left(world: World, stream: str) -> None:
    """A worker that takes what is left of its jobs finds it over, and the sweep closes it."""
    await world.redis.zadd(world.keys.delayed, {stream: 1}, xx=True)
    times = SweepTimes(60_000, 60_000, 1_800_000)
    sweeper = Sweeper(times, queue=world.queue, claims=world.claims, streams=world.streams, steadiness=world.steadiness)
    await sweeper.sweep()
    await sweeper.sweep()
    assert await world.queue.newest_open(10) == []
    assert await world.redis.zscore(world.keys.delayed, stream) is None


@pytest.mark.parametrize("state", STATES)
async def test_a_deletion_of_a_generation_without_a_worker_needs_no_waiting_and_takes_its_job_along(
    steady: World, state: str
) -> None:
    stream = await brought_to(steady, state)
    await steady.generations.delete(stream, tenant=TENANT, timeout_s=0.01)
    assert await steady.redis.zscore(steady.keys.delayed, stream) is None
    assert await steady.queue.newest_open(10) == []
    with pytest.raises(UnknownStream):
        await steady.generations.get(stream, tenant=TENANT)


async def test_the_first_reason_for_the_end_is_named(steady: World) -> None:
    stream, claim = await steady.granted()
    await steady.redis.hset(steady.keys.meta(stream), "stop", "abandoned")
    await steady.generations.stop(stream, tenant=TENANT)
    answer = await steady.append(stream, claim.epoch, 1, [delta("a")])
    assert answer.stop_requested.reason == "abandoned"


# -- a full Redis


@pytest.mark.second_engine
async def test_a_stop_on_a_full_redis_closes_the_provider_and_reports_that_it_must_be_repeated(
    tmp_path: Path, server: ValkeyServer
) -> None:
    async with open_world(tmp_path, redis=server) as world:
        redis: Redis = world.connection.redis
        await world.worker()
        await world.front_end()
        stream, provider = await world.converse()
        await provider.send_text("half an answer")
        await world.until_text(stream, "half an answer")
        async with AsyncClient(world.urls[0]) as client:
            await redis.config_set("maxmemory", 1)
            try:
                with pytest.raises(ClientError) as refused:
                    await client.stop(stream)
                assert (refused.value.status, refused.value.code) == (503, "stop_not_durable")
                await (await provider.request()).wait_disconnected(5)
                assert (await events_of(world.connection, stream))[-1]["type"] != "abort"
            finally:
                await redis.config_set("maxmemory", 0)
            await client.stop(stream)
        await aborted(world, stream)
        await world.check()
