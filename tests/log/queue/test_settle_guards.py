"""What settling a job leaves behind, and what it must not: guards of it that no other test would miss."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broadcaster.log.jobs import queue as queues
from broadcaster.log.jobs.job_reader import JobReader
from broadcaster.log.jobs.queue import GROUP, Job, Settled
from tests.support.log.log_world import World


@pytest.fixture
async def reader(world: World) -> AsyncIterator[JobReader]:
    await world.queue.create_group()
    opened = world.reader()
    yield opened
    await opened.aclose()


async def taken(world: World, reader: JobReader) -> Job:
    await world.create()
    (job,) = await reader.take(1)
    return job


@pytest.mark.parametrize("outcome", Settled)
async def test_a_settled_job_is_unowned_however_it_was_settled(
    world: World, reader: JobReader, outcome: Settled
) -> None:
    job = await taken(world, reader)
    await world.queue.settle(job, outcome)
    assert await world.redis.xpending_range(job.source, GROUP, "-", "+", 10) == []


async def test_a_job_that_waits_is_not_in_the_queue_meanwhile(world: World, reader: JobReader) -> None:
    job = await taken(world, reader)
    await world.queue.settle(job, Settled.REQUEUE, delay_ms=60_000)
    assert await world.redis.xlen(world.keys.ready) == 0
    assert await world.redis.xlen(world.keys.ready_hi) == 0
    (waiting,) = await world.redis.zrange(world.keys.delayed, 0, -1)
    assert waiting == job.generation_id.encode()


@pytest.mark.parametrize("outcome", [Settled.DONE, Settled.DEAD])
async def test_a_generation_that_is_over_waits_for_no_further_attempt(
    world: World, reader: JobReader, outcome: Settled
) -> None:
    job = await taken(world, reader)
    await world.redis.zadd(world.keys.delayed, {job.generation_id: 1})
    await world.queue.settle(job, outcome)
    assert await world.redis.zcard(world.keys.delayed) == 0
    assert await world.queue.newest_open(1) == []


async def test_a_job_alone_is_dropped_and_its_generation_stays_open(world: World, reader: JobReader) -> None:
    job = await taken(world, reader)
    await world.queue.settle(job, Settled.DROP)
    assert await world.queue.newest_open(1) == [job.generation_id]
    assert await world.redis.xlen(world.keys.dead) == 0


async def test_a_job_that_is_done_leaves_no_dead_letter(world: World, reader: JobReader) -> None:
    job = await taken(world, reader)
    await world.queue.settle(job, Settled.DONE)
    assert await world.redis.xlen(world.keys.dead) == 0


async def test_dead_letters_have_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis trims by whole nodes of some hundred entries."""
    monkeypatch.setattr(queues, "DEAD_LETTERS_KEPT", 10)
    for number in range(300):
        await world.redis.zadd(world.keys.open, {f"gen_{number}": 1})
        await world.queue.settle(Job(world.keys.ready, "0-1", f"gen_{number}"), Settled.DEAD, reason="r")
    assert await world.redis.xlen(world.keys.dead) < 300
