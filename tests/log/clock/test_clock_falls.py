"""Redis's clock steps back: nothing waits for the older clock, and what lives does not lapse for it."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from broadcaster.core.events import Finish, encode_event
from broadcaster.errors import RateLimited, TenantLimit
from broadcaster.log.feeds.lapses import Lapses
from broadcaster.log.jobs.lists.recents import RECENTS_KEPT, Recents
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.jobs.webhooks import CHECK_EVERY_MS, WebhookSettled
from broadcaster.log.streams import terminals
from broadcaster.log.streams.presence import Abandonment, Presence
from tests.log.streams.test_tenant_storage import A, Side
from tests.support.apps.feed_job import ID, Job, note
from tests.support.log.clock_world import LEASE_MS, redis_time, steady_after, step
from tests.support.log.log_world import TENANT, World
from tests.support.log.stepping_clock import SteppingClock

DELIVERY_MS: Final = 20_000


class Always:
    """Implements ``RedisUptime``."""

    async def confirm(self) -> None:
        """Nothing has changed."""

    def has_answered_for(self, lease_s: float) -> bool:
        return True


async def test_the_grace_of_what_is_not_watched_is_not_longer_for_a_step_back(
    world: World, clock: SteppingClock
) -> None:
    presence = Presence(world.connection, front_end="f", ttl_s=60)
    abandonment = Abandonment(world.connection, grace_s=0.3, presence_ttl_s=60, steadiness=Always())
    stream_id = await world.create(on_abandon="cancel")
    for count in (1, 0):
        await presence.report_some({stream_id: count})
    await step(world, clock, -600)
    async with asyncio.timeout(20):
        while await abandonment.check([stream_id]) != [stream_id]:
            await asyncio.sleep(0.02)


async def test_a_feed_is_not_closed_to_appends_for_a_step_back(world: World, clock: SteppingClock) -> None:
    job = Job(world.connection)
    await job.create()
    await job.append(note(1))
    await world.redis.hset(world.keys.meta(ID), "tokens", "0.1")
    await step(world, clock, -600)
    async with asyncio.timeout(20):
        while True:
            try:
                await job.append(note(2))
                break
            except RateLimited:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("lapses", [False, True])
async def test_no_entry_of_a_feed_is_older_than_its_creation_for_a_step_back(
    world: World, clock: SteppingClock, lapses: bool
) -> None:
    """Otherwise its cursors would look like those of another feed that had its id."""
    job = Job(world.connection)
    await job.create(lease_s=30.0)
    since_epoch = (await job.meta()).since_epoch
    assert since_epoch == (await job.meta()).created_ms
    await step(world, clock, -600)
    if lapses:
        await world.redis.delete(world.keys.lease(ID))
        assert await Lapses(world.connection, steadiness=Always()).end(ID, lease_ms=30_000)
    else:
        await job.append(note(1))
    assert [cursor.epoch for cursor, _ in await job.held()] == [since_epoch]


async def test_a_front_end_that_died_counts_no_longer_for_a_step_back(world: World, clock: SteppingClock) -> None:
    presence = Presence(world.connection, front_end="dead", ttl_s=0.5)
    abandonment = Abandonment(world.connection, grace_s=0.1, presence_ttl_s=0.5, steadiness=Always())
    stream_id = await world.create(on_abandon="cancel")
    await presence.report_some({stream_id: 1})
    await step(world, clock, -600)
    assert await abandonment.check([stream_id]) == []  # it has its time still
    assert await presence.count([stream_id]) == [1]
    async with asyncio.timeout(20):
        while await abandonment.check([stream_id]) != [stream_id]:
            await asyncio.sleep(0.02)


async def test_another_front_end_finds_that_one_has_died_before_a_step_back(world: World, clock: SteppingClock) -> None:
    """Also of a stream that is never abandoned; before that report its viewers are not counted."""
    here, dead = (Presence(world.connection, front_end=each, ttl_s=0.3) for each in ("here", "dead"))
    stream_id = await world.create()
    await dead.report_some({stream_id: 1})
    await step(world, clock, -600)
    assert await here.count([stream_id]) == [0]
    async with asyncio.timeout(20):
        await here.report_some({stream_id: 2})
        while await here.count([stream_id]) != [2]:
            await asyncio.sleep(0.02)
            await here.report_some({stream_id: 2})


async def test_a_worker_that_died_is_missed_no_later_for_a_step_back(world: World, clock: SteppingClock) -> None:
    stream_id = await world.create()
    async with world.appender() as appender:
        await world.keeper(appender).heartbeat()
    await step(world, clock, -600)
    await steady_after(world)
    sweep = Sweeper(
        SweepTimes(queue_timeout_ms=300_000, stall_timeout_ms=200, generation_timeout_ms=300_000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
    )
    async with asyncio.timeout(20):
        while not await sweep.sweep():
            await asyncio.sleep(0.02)
    assert await world.texts(stream_id) == [terminals.NO_WORKER]


async def test_a_worker_that_lives_is_not_missed_for_a_step_back(world: World, clock: SteppingClock) -> None:
    """Not even where no memory is left to note it."""
    async with world.appender() as appender:
        await world.keeper(appender).heartbeat()
    await step(world, clock, -600)
    await world.redis.config_set("maxmemory", 1)
    expiry_ms, now_ms = await world.queue.newest_worker_expiry_ms(lease_ms=LEASE_MS)
    assert expiry_ms - now_ms == LEASE_MS


@pytest.mark.parametrize("step_s", [-60, -600])
async def test_a_webhook_waits_no_longer_for_a_step_back(world: World, clock: SteppingClock, step_s: float) -> None:
    """One is due, one waits for its next attempt, and one is being delivered."""
    hooks = world.webhooks
    due, later, taken = "gen_due", "gen_later", "gen_taken"
    for stream_id in (later, taken):
        await world.queue.make_due([stream_id])
    delivered = {each.generation_id: each for each in await hooks.take(2, lease_ms=DELIVERY_MS)}
    await hooks.settle(delivered[later], WebhookSettled.RETRY, delay_ms=300)
    await world.queue.make_due([due])
    await step(world, clock, step_s)
    found: list[str] = []
    async with asyncio.timeout(20):
        while len(found) < 2:
            found += [each.generation_id for each in await hooks.take(10, lease_ms=DELIVERY_MS)]
            await asyncio.sleep(0.02)
    assert found == [due, later]
    left_s = await world.redis.zscore(world.keys.webhooks_due, taken) / 1000 - await redis_time(world)
    assert 0 < left_s < DELIVERY_MS / 1000  # until then no other process delivers it too


async def test_a_promised_webhook_is_checked_no_later_for_a_step_back(world: World, clock: SteppingClock) -> None:
    await world.webhooks.promise("gen_gone", tenant=TENANT)
    await world.webhooks.check_promised(world.streams, end_lapsed=world.lapses.end)
    await step(world, clock, -600)
    await world.webhooks.check_promised(world.streams, end_lapsed=world.lapses.end)
    left_s = await world.redis.zscore(world.keys.webhooks_promised, "gen_gone") / 1000 - await redis_time(world)
    assert left_s < CHECK_EVERY_MS / 1000 + 2


async def test_a_feed_whose_writer_died_ends_no_later_for_a_step_back(world: World, clock: SteppingClock) -> None:
    """The lease and the last entry are of the older clock then."""
    job = Job(world.connection)
    await job.create(lease_s=2)
    await job.append(note(1))
    await step(world, clock, -600)
    lapses = Lapses(world.connection, steadiness=world.steadiness)
    assert not await lapses.end(ID, lease_ms=2000, is_overlong=(await job.streams.tails([ID]))[0].is_overlong)
    assert 0 < await job.ttl_ms("lease") <= 2000
    async with asyncio.timeout(20):
        while not await lapses.end(ID, lease_ms=2000):
            await asyncio.sleep(0.05)
    assert (await job.held())[-1][1] == terminals.WRITER_LOST


async def test_a_feed_that_another_process_has_ended_frees_its_place_no_later_for_a_step_back(
    world: World, clock: SteppingClock
) -> None:
    """That process reports no end: the front-end measures the feed, which was due by the older clock."""
    front_end, publisher = Side(world.connection, max_feeds=1), Side(world.connection, max_feeds=None)
    await front_end.create("f0")
    await step(world, clock, -3600)
    await publisher.feeds.close("f0", encode_event(Finish()), tenant=A)
    async with asyncio.timeout(20):
        while True:
            try:
                await front_end.create("f1")
                break
            except TenantLimit:
                await asyncio.sleep(0.02)


async def test_a_new_stream_is_the_newest_of_a_full_list_also_after_a_step_back(
    world: World, clock: SteppingClock
) -> None:
    generations, feeds = Recents(world.connection), Recents(world.connection, of="feeds")
    now_us = int(await redis_time(world) * 1_000_000)
    older = {f"gen_{at}": now_us - at for at in range(RECENTS_KEPT)}
    await world.redis.zadd(world.keys.recent(TENANT), older)
    await feeds.record(TENANT, "feed", keep_ms=60_000)
    await step(world, clock, -3600)
    await generations.record(TENANT, "gen_new", keep_ms=60_000)
    (newest,) = await generations.page(TENANT, before=None, count=1)
    (feed,) = await feeds.page(TENANT, before=None, count=1)
    assert newest.id == "gen_new"
    assert newest.place > feed.place
