"""The queue's slot fails over without its newest entries while the streams' own servers are well.

One server stands for both: what a test takes away are keys and entries of ``{jobs}`` alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broadcaster.core.events import Finish
from broadcaster.core.requests.priorities import Priority
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.jobs.queue import GROUP, Enqueued, Job, Settled
from broadcaster.log.jobs.rescue.announcer import NOTICED_AT_MOST, Announcer
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.writer import StreamWriter
from broadcaster.log.tail.tail import LiveTail
from tests.support.log.log_world import TENANT, World
from tests.support.log.tail_world import NO_PROBES, TAILS, Room

HOOK = {"url": "https://hooks.example.com/h"}


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection)
    await world.queue.create_group()
    return world


async def begun(world: World, appender: Appender, keeper: LeaseKeeper) -> tuple[StreamWriter, Job]:
    """A running generation with a webhook, and the job that its worker was given."""
    stream_id = await world.create(webhook=HOOK)
    reader = world.reader()
    (job,) = await reader.take(1)
    await reader.aclose()
    writer = await world.writer(stream_id, await world.claim(stream_id), appender, keeper)
    keeper.hold(writer, job)
    return writer, job


async def lose_queue(world: World) -> None:
    """Everything of the queue's slot."""
    await world.redis.delete(*await world.redis.keys("bc:{jobs}:*"))


async def lose_delivery(world: World, job: Job) -> None:
    """The failover lacks what came after the job was enqueued."""
    await world.redis.xack(job.source, GROUP, job.entry_id)
    (member,) = await world.redis.zrange(world.keys.running, 0, -1)
    await world.redis.zadd(world.keys.waiting, {member: 0})
    await world.redis.zadd(world.keys.turns, {job.tenant: 1})
    await world.redis.delete(world.keys.running)


def note_a_break(world: World) -> None:
    world.steadiness.breaks += 1
    world.steadiness.answering.set()


async def members(world: World, key: str) -> list[str]:
    return [each.decode() for each in await world.redis.zrange(key, 0, -1)]


async def take(world: World) -> list[Job]:
    """A new job, by a worker that stays."""
    reader = world.reader()
    jobs = await reader.take(1)
    await reader.aclose()
    return jobs


@pytest.mark.parametrize("memory", ["free", "full"])
@pytest.mark.parametrize("lost", ["waiting", "turns"])
async def test_a_job_that_has_lost_its_place_is_delivered_once_the_sweep_has_seen_it(
    world: World, lost: str, memory: str
) -> None:
    stream_id = await world.create(priority=Priority.HIGH)
    places = await members(world, world.keys.waiting)
    await world.redis.delete(getattr(world.keys, lost))
    assert await take(world) == []
    await world.redis.config_set("maxmemory", int(memory == "full"))
    try:
        for _ in range(2):
            assert await world.queue.enqueue(stream_id, tenant=TENANT) is Enqueued.HAS_JOB
    finally:
        await world.redis.config_set("maxmemory", 0)
    assert await members(world, world.keys.waiting) == places
    assert [job.generation_id for job in await take(world)] == [stream_id]


async def test_a_job_that_a_group_has_delivered_before_it_was_lost_waits_once_the_sweep_has_seen_it(
    world: World,
) -> None:
    stream_id = await world.create()
    await take(world)
    await world.redis.xgroup_destroy(world.keys.ready, GROUP)
    assert await world.queue.enqueue(stream_id, tenant=TENANT) is Enqueued.HAS_JOB
    assert await members(world, world.keys.running) == []
    assert [job.generation_id for job in await take(world)] == [stream_id]


async def test_a_job_that_the_sweep_gives_has_the_priority_of_the_one_that_was_lost(world: World) -> None:
    stream_id = await world.create(priority=Priority.LOW)
    ((_, job),) = await world.redis.xrange(world.keys.ready)
    assert b"shift" in job
    await lose_queue(world)
    await world.queue.announce(stream_id)
    await world.redis.zincrby(world.keys.open, -60_000, stream_id)  # announced a minute ago
    await sweeper(world).sweep()
    ((_, given),) = await world.redis.xrange(world.keys.ready)
    assert given == job


async def test_a_job_that_a_worker_holds_does_not_wait_once_the_sweep_has_seen_it(world: World) -> None:
    stream_id = await world.create()
    await take(world)
    running = await members(world, world.keys.running)
    assert await world.queue.enqueue(stream_id, tenant=TENANT) is Enqueued.HAS_JOB
    assert (await members(world, world.keys.running), await take(world)) == (running, [])
    await world.redis.delete(world.keys.running)
    assert await world.queue.enqueue(stream_id, tenant=TENANT) is Enqueued.HAS_JOB
    assert await take(world) == []


@pytest.mark.parametrize("lost", ["the queue", "the delivery of the job"])
async def test_a_job_that_the_queue_lost_is_requeued_for_its_worker_and_taken_over_when_that_worker_dies(
    world: World, appender: Appender, keeper: LeaseKeeper, lost: str
) -> None:
    writer, job = await begun(world, appender, keeper)
    await (lose_queue(world) if lost == "the queue" else lose_delivery(world, job))

    for _ in range(2):
        await keeper.renew()

    assert await world.queue.newest_open(10) == [writer.stream_id]
    assert len(await members(world, world.keys.running)) == 1
    assert await members(world, world.keys.waiting) == []
    reader = world.reader()
    assert await reader.take(1) == []  # it is no job for another worker while this one lives
    await reader.aclose()
    other = World(world.connection, worker="w2")
    (taken,) = (await other.queue.take_silent(silent_ms=0, count=10)).jobs
    assert (taken.generation_id, taken.tenant) == (writer.stream_id, TENANT)


async def test_the_job_that_was_rewritten_is_the_one_that_is_settled(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    writer, first = await begun(world, appender, keeper)
    await lose_queue(world)
    (leased,) = keeper.leased.values()
    async with asyncio.timeout(20):
        while leased.job == first:  # a Redis that answers late has the job, and the worker learns it at a later renewal
            await keeper.renew()
    assert await world.redis.xlen(world.keys.ready) == 1
    assert await writer.end([Finish()], deadline_s=30)

    job = keeper.drop(writer)

    assert job is not None
    await world.queue.settle(job, Settled.DONE)
    assert await world.redis.xlen(world.keys.ready) == 0
    assert await members(world, world.keys.open) == await members(world, world.keys.running) == []


async def test_a_job_that_was_settled_during_the_renewal_is_not_rewritten(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    writer, job = await begun(world, appender, keeper)
    await world.queue.settle(job, Settled.DONE)
    renewal = asyncio.create_task(keeper.renew())
    await asyncio.sleep(0)
    keeper.drop(writer)

    await renewal

    assert await members(world, world.keys.open) == []


async def test_a_full_redis_that_cannot_take_the_job_back_keeps_the_worker_alive(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    writer, _ = await begun(world, appender, keeper)
    await lose_queue(world)
    await world.queue.create_group()
    await world.redis.config_set("maxmemory", 1)
    try:
        await keeper.renew()
        expiry_ms, now_ms = await world.queue.newest_worker_expiry_ms(lease_ms=world.lease_ms)
        assert expiry_ms > now_ms
    finally:
        await world.redis.config_set("maxmemory", 0)
    await keeper.renew()
    assert await world.queue.newest_open(10) == [writer.stream_id]


async def test_a_webhook_whose_promise_the_queue_lost_is_promised_anew_and_becomes_due(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    writer, _ = await begun(world, appender, keeper)
    await lose_queue(world)

    await keeper.renew()

    assert await members(world, world.keys.webhooks_promised) == [writer.stream_id]


@pytest.mark.parametrize("by", ["its worker", "the sweep"])
async def test_an_answer_that_ends_has_its_webhook_due_though_the_promise_is_lost(
    world: World, appender: Appender, keeper: LeaseKeeper, by: str
) -> None:
    writer, job = await begun(world, appender, keeper)
    assert await writer.end([Finish()], deadline_s=30)
    await world.redis.delete(world.keys.webhooks_promised)

    if by == "the sweep":
        await sweeper(world).sweep()
    else:
        await world.queue.settle(job, Settled.DONE, has_webhook=True)

    assert await members(world, world.keys.webhooks_due) == [writer.stream_id]


async def test_the_webhook_of_an_answer_that_ended_shortly_before_the_failover_is_due_once_more(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    writer, job = await begun(world, appender, keeper)
    assert await writer.end([Finish()], deadline_s=30)
    keeper.drop(writer, keep_s=3600)
    await world.queue.settle(job, Settled.DONE, has_webhook=True)
    await lose_queue(world)

    note_a_break(world)

    task = asyncio.create_task(keeper.run())
    async with asyncio.timeout(20):
        while await members(world, world.keys.webhooks_due) != [writer.stream_id]:
            await asyncio.sleep(0.01)
    task.cancel()


@pytest.mark.parametrize("state", ["queued", "running, its worker dead"])
@pytest.mark.parametrize("by", ["watched", "asked for"])
async def test_an_accepted_answer_that_the_queue_lost_is_requeued_once_it_is_watched_or_requested(
    connection: LogConnection, state: str, by: str
) -> None:
    world = World(connection, has_rescue=True)
    assert world.rescue is not None
    announcer = world.rescue.announcer
    stream_id = await world.create(webhook=HOOK)
    if state != "queued":
        await world.claim(stream_id)
        await world.lapse(stream_id)
    await lose_queue(world)

    async with asyncio.timeout(20), feed_of(connection, announcer) as tail:
        announcing = asyncio.create_task(announcer.run())
        if by == "watched":
            tail.watch(stream_id, Room())
        else:
            await world.generations.get(stream_id, tenant=TENANT)
        while await world.queue.newest_open(10) != [stream_id]:
            await asyncio.sleep(0.01)
        announcing.cancel()

    await world.redis.zincrby(world.keys.open, -60_000, stream_id)  # announced a minute ago
    await sweeper(world).sweep()
    reader = world.reader()
    (job,) = await reader.take(1)
    await reader.aclose()
    assert job.generation_id == stream_id
    assert await members(world, world.keys.webhooks_promised) == [stream_id]


async def test_an_answer_that_is_listed_or_has_ended_meanwhile_is_not_announced(connection: LogConnection) -> None:
    world = World(connection, has_rescue=True)
    assert world.rescue is not None
    announcer = world.rescue.announcer
    await world.queue.create_group()
    listed, over = await world.create(), await world.create()
    score = await world.redis.zscore(world.keys.open, listed)
    await world.generations.stop(over, tenant=TENANT)
    await announcer.check()
    await world.generations.get(listed, tenant=TENANT)
    await world.generations.get(over, tenant=TENANT)

    await announcer.check()

    assert await world.redis.zrange(world.keys.open, 0, -1, withscores=True) == [(listed.encode(), score)]


async def test_a_generation_that_cannot_be_announced_now_is_announced_later(world: World) -> None:
    announcer = Announcer(world.queue, world.streams)
    stream_id = await world.create()
    await lose_queue(world)
    announcer.notice(stream_id)
    await world.redis.config_set("maxmemory", 1)
    try:
        await announcer.check()
    finally:
        await world.redis.config_set("maxmemory", 0)
    assert await members(world, world.keys.open) == []

    await announcer.check()

    assert await members(world, world.keys.open) == [stream_id]


async def test_the_ids_that_wait_to_be_checked_are_bounded(world: World) -> None:
    announcer = Announcer(world.queue, world.streams)
    last = await world.create()
    await lose_queue(world)
    for number in range(NOTICED_AT_MOST):
        announcer.notice(f"gen_{number}")
    announcer.notice(last)
    await announcer.check()
    assert await members(world, world.keys.open) == []


@asynccontextmanager
async def feed_of(connection: LogConnection, announcer: Announcer) -> AsyncIterator[LiveTail]:
    async with LiveTail(
        connection.topology,
        World(connection).streams,
        keys=connection.keys,
        publish_probe=connection.redis.spublish,
        times=TAILS,
        subscriber=NO_PROBES,
        open_notice=announcer,
    ) as tail:
        yield tail


def sweeper(world: World) -> Sweeper:
    return Sweeper(
        SweepTimes(60_000, 60_000, 60_000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
    )
