"""Jobs of silent workers: none hides another, and none is claimed that is not handed out."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.log.jobs.queue import GROUP, Job, Settled
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import TENANT, World

LIVE = 3000
SILENT_MS = 60_000


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection, worker="survivor")
    await world.queue.create_group()
    return world


async def delivered(world: World, source: str, count: int) -> list[Job]:
    """Jobs that a worker holds, in the stream's order."""
    pipeline = world.redis.pipeline(transaction=False)
    for number in range(count):
        pipeline.xadd(source, {"id": f"gen-{number}", "tenant": TENANT})
    ids = await pipeline.execute()
    await world.redis.xreadgroup(GROUP, "victim", {source: ">"}, count=count)
    return [Job(source, entry.decode(), f"gen-{number}", TENANT) for number, entry in enumerate(ids)]


async def silence(world: World, *jobs: Job) -> None:
    """The worker that holds them has been silent for longer than it may be."""
    for job in jobs:
        await world.redis.xclaim(job.source, GROUP, "victim", 0, [job.entry_id], idle=SILENT_MS + 1, justid=True)


async def walk(world: World, *, count: int) -> list[list[Job]]:
    """The jobs of each call, until all have been walked."""
    found = []
    async with asyncio.timeout(20):
        while True:
            silent = await world.queue.take_silent(silent_ms=SILENT_MS, count=count)
            found.append(silent.jobs)
            if silent.is_last:
                return found


@pytest.mark.parametrize("urgent", [False, True], ids=["new", "urgent"])
async def test_a_worker_with_one_slot_finds_a_dead_job_behind_thousands_of_live_ones_at_its_first_check(
    world: World, *, urgent: bool
) -> None:
    *_, dead = await delivered(world, world.keys.ready_hi if urgent else world.keys.ready, LIVE)
    await silence(world, dead)
    assert (await walk(world, count=1))[0] == [dead]


async def test_of_both_streams_no_more_is_claimed_than_is_handed_out(world: World) -> None:
    """What is claimed and not handed out would count as alive for one more lease."""
    urgent = await delivered(world, world.keys.ready_hi, 3)
    new = await delivered(world, world.keys.ready, 3)
    await silence(world, *urgent, *new)
    assert await walk(world, count=2) == [urgent[:2], [urgent[2], new[0]], new[1:], []]


async def test_a_job_that_stays_silent_is_handed_out_once_until_all_have_been_walked(world: World) -> None:
    """Its generation may be leased still: the jobs behind it are checked first."""
    jobs = [*await delivered(world, world.keys.ready_hi, 2), *await delivered(world, world.keys.ready, 2)]
    await silence(world, *jobs)
    for job in jobs:
        assert (await world.queue.take_silent(silent_ms=SILENT_MS, count=1)).jobs == [job]
        await world.queue.mark_silent(job, silent_ms=SILENT_MS)
    assert (await world.queue.take_silent(silent_ms=SILENT_MS, count=1)).is_last
    assert await walk(world, count=10) == [jobs]


async def test_a_silent_job_that_was_closed_meanwhile_leaves_the_pending_list_and_hides_none(world: World) -> None:
    *closed, alive = await delivered(world, world.keys.ready, 2500)
    await world.redis.xdel(world.keys.ready, *(job.entry_id for job in closed))
    pipeline = world.redis.pipeline(transaction=False)
    for job in (*closed, alive):
        pipeline.xclaim(job.source, GROUP, "victim", 0, [job.entry_id], idle=SILENT_MS + 1, justid=True)
    await pipeline.execute()
    assert [job for jobs in await walk(world, count=10) for job in jobs] == [alive]
    assert (await world.redis.xpending(world.keys.ready, GROUP))["pending"] == 1


async def consumers(world: World) -> list[set[str]]:
    """The names in the group of each stream."""
    found = [await world.redis.xinfo_consumers(key, GROUP) for key in (world.keys.ready_hi, world.keys.ready)]
    return [{row["name"].decode() for row in rows} for rows in found]


async def until_silent(world: World, *, silent_ms: int) -> None:
    """Until each consumer has read nothing for longer than that."""
    async with asyncio.timeout(20):
        for key in (world.keys.ready_hi, world.keys.ready):
            while any(row["idle"] <= silent_ms for row in await world.redis.xinfo_consumers(key, GROUP)):
                await asyncio.sleep(0.005)


async def test_consumers_of_workers_that_have_ended_are_dropped_and_none_that_holds_a_job(world: World) -> None:
    (job,) = await delivered(world, world.keys.ready, 1)
    await silence(world, job)
    for ended in ("first", "second"):
        for key in (world.keys.ready_hi, world.keys.ready):
            await world.redis.xgroup_createconsumer(key, GROUP, ended)
    await until_silent(world, silent_ms=1)
    assert await world.queue.drop_silent_consumers(silent_ms=60_000) == 0
    assert await world.queue.drop_silent_consumers(silent_ms=1) == 4
    assert await consumers(world) == [set(), {"victim"}]
    assert (await world.queue.take_silent(silent_ms=SILENT_MS, count=1)).jobs == [job]
    await until_silent(world, silent_ms=1)
    assert await world.queue.drop_silent_consumers(silent_ms=1) == 1
    assert await consumers(world) == [set(), {"survivor"}]


async def test_a_worker_whose_consumer_was_dropped_takes_jobs_as_before(world: World) -> None:
    await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    await world.queue.settle(job, Settled.DONE)
    await until_silent(world, silent_ms=1)
    assert await world.queue.drop_silent_consumers(silent_ms=1) >= 1
    assert await consumers(world) == [set(), set()]
    stream_id = await world.create()
    assert [job.generation_id for job in await reader.take(1)] == [stream_id]
    await reader.aclose()


async def test_there_is_nothing_to_drop_in_a_redis_that_has_lost_the_queue(world: World) -> None:
    await world.redis.flushall()
    assert await world.queue.drop_silent_consumers(silent_ms=1) == 0
    await world.redis.xadd(world.keys.ready, {"id": "gen"})
    assert await world.queue.drop_silent_consumers(silent_ms=1) == 0
