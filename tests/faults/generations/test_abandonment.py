"""Abandoned generations: ended when no front-end has a viewer for the grace period, and never for anything less.

Checked on the log's own parts: two front-ends and a checker over one Redis. Real processes: test_abandonment_live.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from broadcaster.core.events import Abort, encode_event
from broadcaster.feed_wiring import feed_bounds
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.presence import Abandonment, Presence
from broadcaster.settings import Settings
from broadcaster.web.viewing.presence_reports import report_presence
from tests.support.log.log_world import TENANT, World, delta, until

TTL_S = 0.4
PATIENT_TTL_S = 60.0
GRACE_S = 0.5
LATE_S = 5.0
CLOCK_S = 0.005  # Redis's clock is read in whole milliseconds
ABANDONED = encode_event(Abort(reason="abandoned"))


class Steady:
    """A process that has seen Redis answer for as long as this."""

    def __init__(self) -> None:
        self.answered_s = 60.0

    def has_answered_for(self, lease_s: float) -> bool:
        return self.answered_s >= lease_s


class Scene:
    """The presence reports of two front-ends and one checker; a generation is what a caller requested."""

    def __init__(self, connection: LogConnection) -> None:
        self.world = World(connection)
        self.steady = Steady()
        self.looker = Abandonment(connection, grace_s=GRACE_S, presence_ttl_s=PATIENT_TTL_S, steadiness=self.steady)
        self.here = Presence(connection, front_end="here", ttl_s=TTL_S)
        self.there = Presence(connection, front_end="there", ttl_s=TTL_S)

    async def running(self) -> str:
        """A running generation to be cancelled when it has no viewers."""
        stream = await self.world.create(on_abandon="cancel")
        await self.world.claim(stream)
        return stream

    async def stop_of(self, stream: str) -> str | None:
        meta = await self.world.streams.meta(stream)
        return None if meta is None else meta.stop

    async def fires_after_s(self, stream: str, since: float) -> float:
        """Check until it is abandoned; how long that took."""
        async with asyncio.timeout(LATE_S):
            while not await self.looker.check([stream]):
                await asyncio.sleep(0.01)
        assert await self.stop_of(stream) == "abandoned"
        return time.monotonic() - since + CLOCK_S

    async def never_fires(
        self, stream: str, *, retold: Presence | None = None, for_s: float = TTL_S + GRACE_S + 0.3
    ) -> None:
        """Check repeatedly (by default for more than time-out and grace), while a front-end repeats its report."""
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            if retold is not None:
                await retold.report({stream: 1})
            assert await self.looker.check([stream]) == []
            await asyncio.sleep(0.02)
        assert await self.stop_of(stream) is None


NO_PRESENCE = "no words of viewers"
"""What a test puts under a stream's key, so that every word on it fails."""


@pytest.fixture
async def scene(connection: LogConnection) -> Scene:
    scene = Scene(connection)
    await scene.world.queue.create_group()
    return scene


async def test_the_last_viewer_leaves_and_it_is_abandoned_after_the_grace_and_not_before(scene: Scene) -> None:
    stream = await scene.running()
    await scene.here.report({stream: 1})
    began = time.monotonic()
    await scene.here.report({})
    assert await scene.fires_after_s(stream, began) >= GRACE_S


async def test_a_viewer_on_the_other_front_end_keeps_it(scene: Scene) -> None:
    stream = await scene.running()
    await scene.here.report({stream: 1})
    await scene.there.report({stream: 2})
    await scene.here.report({})
    await scene.never_fires(stream, retold=scene.there)


async def test_the_viewers_of_a_killed_front_end_stop_counting_after_its_time_and_then_the_grace_runs(
    scene: Scene,
) -> None:
    stream = await scene.running()
    began = time.monotonic()
    await scene.here.report({stream: 3})  # and never more
    assert await scene.fires_after_s(stream, began) >= TTL_S + GRACE_S


async def test_a_viewer_that_comes_back_within_the_grace_stops_the_count_and_a_new_one_begins_when_it_leaves(
    scene: Scene,
) -> None:
    stream = await scene.running()
    await scene.here.report({stream: 1})
    await scene.here.report({})
    await scene.never_fires(stream, for_s=GRACE_S * 0.8)
    await scene.there.report({stream: 1})
    began = time.monotonic()
    await scene.there.report({})
    assert await scene.fires_after_s(stream, began) >= GRACE_S


async def test_a_report_that_fails_keeps_no_other_from_being_sent_or_withdrawn(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcaster.log.streams.presence.REPORTED_AT_ONCE", 2)
    redis, keys = scene.world.connection.redis, scene.world.connection.keys
    await redis.set(keys.viewers("a"), NO_PRESENCE)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await scene.here.report({"a": 1, "b": 2, "c": 3, "d": 4})
    assert await scene.here.count(["b", "c", "d"]) == [2, 3, 4]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await scene.here.report({})
    assert await scene.here.count(["b", "c", "d"]) == [0, 0, 0]
    await redis.delete(keys.viewers("a"))
    await scene.there.report({"a": 1})
    await scene.here.report({})
    assert await scene.here.count(["a"]) == [1]


async def test_a_generation_never_watched_and_one_that_goes_on_without_viewers_are_left_alone(
    scene: Scene,
) -> None:
    unseen = await scene.running()
    lasting = await scene.world.create(on_abandon="continue")
    await scene.here.report({lasting: 1})
    await scene.here.report({})
    await scene.never_fires(unseen)
    await scene.never_fires(lasting)


@pytest.mark.parametrize("lost", ["the key", "everything"])
async def test_a_lost_presence_key_is_no_zero(scene: Scene, lost: str) -> None:
    """Redis came back without it: only a presence report makes a count restart."""
    stream = await scene.running()
    await scene.here.report({stream: 1})
    await scene.here.report({})
    meta = await scene.world.redis.hgetall(scene.world.keys.meta(stream))
    if lost == "everything":
        await scene.world.redis.flushall()
        await scene.world.redis.hset(scene.world.keys.meta(stream), mapping=meta)  # restored by its worker
    else:
        await scene.world.redis.delete(scene.world.keys.viewers(stream))
    await scene.never_fires(stream)
    await scene.there.report({stream: 1})
    await scene.never_fires(stream, retold=scene.there)


async def test_nothing_is_abandoned_by_a_process_that_has_not_seen_redis_answer_for_the_grace(scene: Scene) -> None:
    stream = await scene.running()
    await scene.here.report({stream: 1})
    await scene.here.report({})
    scene.steady.answered_s = GRACE_S / 2
    await scene.never_fires(stream)
    scene.steady.answered_s = 60
    assert await scene.looker.check([stream]) == [stream]


@pytest.mark.second_engine
async def test_on_a_full_redis_viewers_still_count_and_leaving_is_still_seen(scene: Scene) -> None:
    stream = await scene.running()
    await scene.world.redis.config_set("maxmemory", 1)
    try:
        await scene.here.report({stream: 1})
        await scene.never_fires(stream, retold=scene.here)
        await scene.here.report({})
        await scene.fires_after_s(stream, time.monotonic())
    finally:
        await scene.world.redis.config_set("maxmemory", 0)


async def test_a_generation_that_its_creator_watches_counts_as_watched_although_its_front_end_died_before_it_reported(
    scene: Scene,
) -> None:
    world = World(scene.world.connection, presence=scene.here)
    request = GenerationRequest(model="m", request={"messages": []}, on_abandon="cancel")
    began = time.monotonic()
    stream = (await world.generations.create(request, tenant=TENANT, is_watched=True)).id
    assert await scene.fires_after_s(stream, began) >= TTL_S + GRACE_S
    unwatched = (await world.generations.create(request, tenant=TENANT)).id
    await scene.never_fires(unwatched)


async def test_a_creator_that_is_gone_before_it_watches_is_reported_gone_long_before_its_front_end_would_be(
    scene: Scene,
) -> None:
    presence = Presence(scene.world.connection, front_end="patient", ttl_s=PATIENT_TTL_S)
    world = World(scene.world.connection, presence=presence)
    request = GenerationRequest(model="m", request={"messages": []}, on_abandon="cancel")
    stream = (await world.generations.create(request, tenant=TENANT, is_watched=True)).id
    await scene.never_fires(stream)
    began = time.monotonic()
    await presence.report({})  # in its turn: no viewer came
    assert await scene.fires_after_s(stream, began) >= GRACE_S


async def test_a_feed_knows_no_abandonment(scene: Scene) -> None:
    feeds = Feeds(scene.world.connection, feed_bounds(Settings()), streams=scene.world.streams)
    await feeds.create("feed_1", FeedConfig(), tenant=TENANT)
    await scene.here.report({"feed_1": 1})
    await scene.here.report({})
    await scene.never_fires("feed_1")
    assert not (await feeds.get("feed_1", tenant=TENANT)).is_over
    assert await scene.world.redis.exists(scene.world.keys.viewers("feed_1")) == 0  # no mark where none is requested


class BriefHub:
    """A hub whose only viewer comes and goes between two turns."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.turns_taken = 0

    async def turns(self, timeout_s: float) -> dict[str, int]:
        self.turns_taken += 1
        if self.turns_taken > 1:
            await asyncio.Event().wait()
        return {self.stream: 0}

    def viewers(self) -> dict[str, int]:
        return {}


async def test_a_viewer_that_came_and_went_between_two_reports_is_counted(scene: Scene) -> None:
    stream = await scene.running()
    hub: Any = BriefHub(stream)
    reporting = asyncio.create_task(report_presence(hub, scene.here, every_s=60))
    await until(lambda: hub.turns_taken > 1)
    reporting.cancel()
    await scene.fires_after_s(stream, time.monotonic())


@pytest.fixture
async def sweeper(scene: Scene) -> AsyncIterator[Sweeper]:
    """One that has seen Redis answer for a lease."""
    world = scene.world
    steadying = asyncio.create_task(world.steadiness.run())
    await until(lambda: world.steadiness.is_steady)
    yield Sweeper(
        SweepTimes(60_000, 60_000, 1_800_000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
        abandonment=scene.looker,
    )
    steadying.cancel()


@pytest.mark.parametrize("state", ["queued", "waiting for its next attempt", "left by its worker"])
async def test_an_abandoned_generation_without_a_worker_is_ended_by_the_sweep_that_finds_it(
    scene: Scene, sweeper: Sweeper, state: str
) -> None:
    world = scene.world
    stream = await world.create(on_abandon="cancel")
    if state != "queued":
        claim = await world.claim(stream)
        await world.append(stream, claim.epoch, 1, [delta("half an answer")])
        await world.redis.delete(world.keys.lease(stream))
    if state == "waiting for its next attempt":
        await world.redis.zadd(world.keys.delayed, {stream: 2**42})
    await scene.here.report({stream: 1})
    await scene.here.report({})
    async with asyncio.timeout(LATE_S):
        while ABANDONED not in await world.texts(stream):
            await sweeper.sweep()
            await asyncio.sleep(0.01)
    *before, last = [json.loads(text) for text in await world.texts(stream)]
    assert last == {"type": "abort", "reason": "abandoned"}
    if state != "queued":
        assert before == [
            {"type": "text-delta", "id": "0", "delta": "half an answer"},
            {"type": "usage", "inputTokens": 0, "outputTokens": 4, "estimated": True},
        ]
