"""A generation whose back-off is over counts for its tenant, also while two versions share one Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broadcaster.log.jobs.job_reader import JobReader
from broadcaster.log.jobs.queue import Settled
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import World

TENANT = "acme"


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection, tenant_running=1)
    await world.queue.create_group()
    return world


@pytest.fixture
async def reader(world: World) -> AsyncIterator[JobReader]:
    opened = world.reader()
    yield opened
    await opened.aclose()


async def delayed(world: World, reader: JobReader, *, delay_ms: int = 60_000) -> str:
    """A generation that has begun and waits for its next attempt."""
    stream_id = await world.create(tenant=TENANT)
    (job,) = await reader.take(1)
    await world.queue.settle(job, Settled.REQUEUE, delay_ms=delay_ms)
    return stream_id


async def promote(world: World, stream_id: str) -> None:
    """Its back-off is over."""
    await world.redis.zadd(world.keys.delayed, {stream_id: 1})
    assert await world.queue.promote() == 1


@pytest.mark.parametrize("has_back_off", [True, False], ids=["after a back-off", "at once"])
async def test_the_next_attempt_counts_for_its_tenant(world: World, reader: JobReader, has_back_off: bool) -> None:
    first = await delayed(world, reader, delay_ms=60_000 if has_back_off else 0)
    if has_back_off:
        await promote(world, first)
    await world.create(tenant=TENANT)
    jobs = await reader.take(4) + await reader.take(4)
    assert [(job.generation_id, job.tenant) for job in jobs] == [(first, TENANT)]  # one runs, as many as may


async def test_the_tenant_is_kept_no_longer_than_the_back_off(world: World, reader: JobReader) -> None:
    stream_id = await delayed(world, reader)
    key = world.keys.delayed_tenant(stream_id)
    assert 60_000 < await world.redis.pttl(key) <= 60_000 + 3_600_000
    await promote(world, stream_id)
    assert not await world.redis.exists(key)


async def test_what_an_earlier_version_has_delayed_is_promoted_without_a_tenant(
    world: World, reader: JobReader
) -> None:
    stream_id = await delayed(world, reader)
    await world.redis.delete(world.keys.delayed_tenant(stream_id))  # it writes none
    await promote(world, stream_id)
    (job,) = await reader.take(1)
    assert (job.generation_id, job.tenant) == (stream_id, "")


async def test_an_earlier_version_promotes_what_this_one_has_delayed(world: World, reader: JobReader) -> None:
    stream_id = await delayed(world, reader)
    (member,) = await world.redis.zrange(world.keys.delayed, 0, -1)
    await world.redis.zrem(world.keys.delayed, member)  # as its script does
    await world.redis.xadd(world.keys.ready_hi, {"id": member})
    (job,) = await reader.take(1)
    assert job.generation_id == stream_id
    await world.queue.settle(job, Settled.DONE)
    assert await world.queue.promote() == 0
