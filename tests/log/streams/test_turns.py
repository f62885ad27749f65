"""The turns: one job of each tenant after the other, whatever one of them has queued."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broadcaster.core.requests.priorities import Priority
from broadcaster.errors import QueueFull, TenantLimit
from broadcaster.log.jobs.job_reader import JobReader, TenantRooms
from broadcaster.log.jobs.queue import GROUP, Enqueued, Job, NewJob, Settled
from broadcaster.log.jobs.queue_limits import QueueLimits
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import World

SOON_S = 1.0


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection, max_queue=100_000)
    await world.queue.create_group()
    return world


@pytest.fixture
async def reader(world: World) -> AsyncIterator[JobReader]:
    opened = world.reader()
    yield opened
    await opened.aclose()


async def queued(world: World, tenants: str, *, first: int = 0) -> list[str]:
    """One job for each letter, which its id begins with, before a number."""
    return [await _queued(world, tenant, number) for number, tenant in enumerate(tenants, first)]


async def _queued(world: World, tenant: str, number: int) -> str:
    generation_id = f"{tenant}-{number}"
    assert await world.queue.enqueue(generation_id, tenant=tenant) is Enqueued.DONE
    return generation_id


def letters(jobs: list[Job]) -> str:
    return "".join(job.tenant for job in jobs)


async def commands(world: World) -> int:
    stats = await world.redis.info("commandstats")
    return sum(each["calls"] for each in stats.values())


# -- whose turn it is


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
async def test_tenants_are_served_in_turn_however_many_jobs_are_taken_at_once(
    world: World, reader: JobReader, at_once: int
) -> None:
    ids = await queued(world, "aaaaabbc")
    jobs: list[Job] = []
    while found := await reader.take(at_once):
        jobs += found
    assert letters(jobs) == "abcabaaa"
    assert sorted(job.generation_id for job in jobs) == sorted(ids)


async def test_no_tenant_waits_for_more_than_one_job_of_each_other(world: World, reader: JobReader) -> None:
    """Drawn at random: between two jobs of one tenant every other that waited all the time was served."""
    chance = random.Random(15)
    waiting: dict[str, list[str]] = {}
    served_since: dict[tuple[str, str], int] = {}
    for number in range(600):
        if chance.random() < 0.55:
            tenant = chance.choice("aaaaaabbcd")
            if tenant not in waiting:
                served_since.update({(each, tenant): 0 for each in "abcd"})
            waiting.setdefault(tenant, []).append(await _queued(world, tenant, number))
            continue
        for job in await reader.take(chance.randint(1, 4)) if waiting else []:
            assert job.generation_id == waiting[job.tenant].pop(0)  # the oldest of its tenant, and once
            for other in waiting:
                served_since[job.tenant, other] += 1
                assert other == job.tenant or served_since[job.tenant, other] <= 1
            served_since.update({(each, job.tenant): 0 for each in "abcd"})
            if not waiting[job.tenant]:
                del waiting[job.tenant]
    left = sum(map(len, waiting.values()))
    assert await world.redis.zcard(world.keys.waiting) == left


async def test_a_tenant_that_has_no_room_at_a_worker_is_passed_by_and_keeps_its_turn(
    world: World, reader: JobReader
) -> None:
    await queued(world, "aaabb")
    assert letters(await reader.take(2, rooms=TenantRooms(2, {"a": 0}))) == "bb"
    assert await reader.take(2, rooms=TenantRooms(2, {"a": 0})) == []
    await queued(world, "c")
    assert letters(await reader.take(3, rooms=TenantRooms(1, {"a": 2}))) == "aca"
    assert letters(await reader.take(3, rooms=TenantRooms(1))) == "a"


async def test_a_call_costs_the_same_beside_thousands_of_tenants_and_of_jobs_that_may_not_be_taken(
    world: World, reader: JobReader
) -> None:
    """A flood of one tenant stands at the head; in a walk over it or over all tenants the count would be thousands."""
    await world.queue.enqueue_all([NewJob(f"flood-{number}", "flood") for number in range(2000)])
    await world.queue.enqueue_all([NewJob(f"gen-{number}", f"tenant-{number}") for number in range(2000)])
    await reader.take(1)
    before = await commands(world)
    jobs = await reader.take(1, rooms=TenantRooms(1, {"flood": 0}))
    assert [job.tenant for job in jobs] == ["tenant-0"]
    assert await commands(world) - before < 40


# -- priorities


async def enqueued(world: World, ids: str) -> None:
    """Jobs by their first letter: high, normal or low; of tenant ``a``, or ``b`` where an id is in capitals."""
    priorities = {"h": Priority.HIGH, "n": Priority.NORMAL, "l": Priority.LOW}
    for each in ids.split():
        tenant = "b" if each.isupper() else "a"
        priority = priorities[each[0].lower()]
        assert await world.queue.enqueue(each, tenant=tenant, priority=priority) is Enqueued.DONE


async def taken(reader: JobReader, count: int = 100) -> str:
    return " ".join(job.generation_id for job in await reader.take(count))


async def test_a_tenants_jobs_are_taken_by_priority_and_equal_ones_by_age(world: World, reader: JobReader) -> None:
    await enqueued(world, "l1 n1 h1 n2 h2 l2")
    assert await taken(reader) == "h1 h2 n1 n2 l1 l2"


async def test_priorities_of_one_tenant_take_no_turn_from_another(world: World, reader: JobReader) -> None:
    await enqueued(world, "h1 h2 h3 L1 N1")
    assert await taken(reader) == "h1 N1 h2 L1 h3"


async def test_a_job_of_low_priority_is_passed_for_a_head_start_and_no_longer(connection: LogConnection) -> None:
    world = World(connection, head_start_s=0.05)
    await world.queue.create_group()
    await enqueued(world, "l1")
    await asyncio.sleep(0.15)  # on the clock of Redis: nothing can be waited for
    await enqueued(world, "h1 n1")
    reader = world.reader()
    assert await taken(reader) == "l1 h1 n1"
    await reader.aclose()


async def test_a_job_with_a_priority_leaves_the_queue_as_others_do(world: World, reader: JobReader) -> None:
    await enqueued(world, "h1 l1 l2")
    await world.queue.remove("l1")
    (job,) = await reader.take(1)
    await world.queue.settle(job, Settled.DONE)
    assert await taken(reader) == "l2"
    assert await world.redis.zcard(world.keys.waiting) == 0
    assert await world.redis.zcard(world.keys.running) == 1


async def test_a_job_with_a_priority_that_a_worker_holds_is_restored_once(world: World, reader: JobReader) -> None:
    await enqueued(world, "h1")
    (member,) = await world.redis.zrange(world.keys.waiting, 0, -1)
    jobs = await reader.take(1)
    await world.redis.zadd(world.keys.waiting, {member: 0})
    assert await world.queue.regain(jobs) == jobs
    assert await world.redis.zcard(world.keys.waiting) == 0


# -- bounds


async def test_a_tenants_running_jobs_are_bounded_over_all_workers(connection: LogConnection) -> None:
    world = World(connection, tenant_running=2)
    await world.queue.create_group()
    other = replace(world, worker="w2")
    mine, theirs = world.reader(), other.reader()
    await queued(world, "aaaaab")
    (first, *rest) = await mine.take(4)
    assert letters([first, *rest]) == "aba"
    assert await theirs.take(4) == []
    await queued(world, "a", first=6)
    assert await theirs.take(4) == []
    await world.queue.settle(first, Settled.DONE)
    assert letters(await theirs.take(4)) == "a"
    await mine.aclose()
    await theirs.aclose()


async def test_a_tenant_may_have_nine_tenths_of_the_queue_and_the_last_tenth_is_for_others(
    connection: LogConnection,
) -> None:
    world = World(connection, max_queue=20)
    await world.queue.create_group()
    for _ in range(18):
        await world.create(tenant="a")
    before = await world.redis.keys("*")
    with pytest.raises(TenantLimit, match="TENANT_QUEUED"):
        await world.create(tenant="a")
    assert set(await world.redis.keys("*")) == set(before)
    await world.create(tenant="b")
    await world.create(tenant="b")
    with pytest.raises(QueueFull):
        await world.create(tenant="b")


@pytest.mark.parametrize("bounds", [(1, None), (10, 1)], ids=["of all", "of one tenant"])
async def test_the_bounds_of_the_queue_count_what_waits_and_not_what_runs(
    connection: LogConnection, bounds: tuple[int, int | None]
) -> None:
    max_queue, tenant_queued = bounds
    world = World(connection, max_queue=max_queue, tenant_queued=tenant_queued)
    await world.queue.create_group()
    reader = world.reader()
    for _ in range(3):
        await world.create()
        assert len(await reader.take(1)) == 1
    await reader.aclose()


async def test_a_job_that_waits_for_its_next_attempt_takes_a_place_of_the_queue(connection: LogConnection) -> None:
    world = World(connection, max_queue=1)
    await world.queue.create_group()
    reader = world.reader()
    await world.create()
    (job,) = await reader.take(1)
    await world.queue.settle(job, Settled.REQUEUE, delay_ms=60_000)
    with pytest.raises(QueueFull):
        await world.create()
    await reader.aclose()


@pytest.mark.parametrize(
    ("limits", "tenant", "most"),
    [
        (QueueLimits(10_000), "a", 9000),
        (QueueLimits(1), "a", 1),
        (QueueLimits(10_000), "local", 10_000),
        (QueueLimits(10_000, 5), "a", 5),
        (QueueLimits(10_000, 5), "local", 5),
    ],
)
def test_a_tenants_share_of_the_queue(limits: QueueLimits, tenant: str, most: int) -> None:
    assert limits.queued_of(tenant) == most


async def test_a_stop_of_a_queued_generation_frees_its_place_at_once(connection: LogConnection) -> None:
    world = World(connection, max_queue=2)
    await world.queue.create_group()
    first, second = await world.create(), await world.create()
    with pytest.raises(QueueFull):
        await world.create()
    await world.generations.stop(first, tenant="local")
    assert await world.redis.xlen(world.keys.ready) == 1
    assert await world.redis.zcard(world.keys.open) == 1
    third = await world.create()
    reader = world.reader()
    assert [job.generation_id for job in await reader.take(5)] == [second, third]
    await reader.aclose()


async def test_a_job_that_is_settled_or_closed_is_counted_no_more(world: World, reader: JobReader) -> None:
    stopped, done, delayed = [await world.create(tenant="a") for _ in range(3)]
    jobs = await reader.take(3)
    assert await world.redis.zcard(world.keys.running) == 3
    await world.queue.close_open([stopped], webhooks_of=[])
    await world.queue.settle(jobs[1], Settled.DONE)
    await world.queue.settle(jobs[2], Settled.REQUEUE, delay_ms=1)
    assert [job.generation_id for job in jobs] == [stopped, done, delayed]
    for each in (world.keys.running, world.keys.waiting, world.keys.turns):
        assert await world.redis.zcard(each) == 0


async def test_a_generation_that_lost_its_job_is_not_counted_as_running_for_ever(connection: LogConnection) -> None:
    """A worker of an earlier version settles a job that it took over, and does not know of the count."""
    world = World(connection, tenant_running=1)
    await world.queue.create_group()
    reader = world.reader()
    await queued(world, "aa")
    (job,) = await reader.take(2)
    await world.redis.xdel(job.source, job.entry_id)
    assert await reader.take(1) == []
    await world.queue.prune()
    assert letters(await reader.take(1)) == "a"
    await reader.aclose()


# -- waiting


async def test_a_reader_that_waits_is_woken_by_a_job_of_another_tenant(world: World) -> None:
    reader = JobReader(world.connection, consumer="w1", block_s=30)
    await queued(world, "aa")
    assert await reader.take(1, rooms=TenantRooms(1, {"a": 0})) == []
    waiting = asyncio.create_task(reader.wait(asyncio.Event()))
    await asyncio.sleep(0)
    await queued(world, "b")
    await asyncio.wait_for(waiting, SOON_S)
    assert letters(await reader.take(1, rooms=TenantRooms(1, {"a": 0}))) == "b"
    await reader.aclose()


async def test_a_reader_that_waits_is_woken_by_what_is_handed_back(world: World) -> None:
    reader = JobReader(world.connection, consumer="w1", block_s=30)
    await queued(world, "a")
    (job,) = await reader.take(1)
    assert await reader.take(1) == []
    waiting = asyncio.create_task(reader.wait(asyncio.Event()))
    await asyncio.sleep(0)
    await world.queue.settle(job, Settled.REQUEUE)
    await asyncio.wait_for(waiting, SOON_S)
    (taken_anew,) = await reader.take(1)
    assert (taken_anew.source, taken_anew.generation_id, taken_anew.tenant) == (world.keys.ready_hi, "a-0", "a")
    await reader.aclose()


async def test_what_was_enqueued_between_a_read_and_the_wait_ends_the_wait(world: World) -> None:
    reader = JobReader(world.connection, consumer="w1", block_s=30)
    assert await reader.take(1) == []
    await queued(world, "a")
    await asyncio.wait_for(reader.wait(asyncio.Event()), SOON_S)
    assert letters(await reader.take(1)) == "a"
    await reader.aclose()


async def test_a_slot_that_is_freed_ends_the_wait_and_the_next_job_is_taken_at_once(world: World) -> None:
    reader, changed = JobReader(world.connection, consumer="w1", block_s=30), asyncio.Event()
    await queued(world, "a")
    assert await reader.take(1, rooms=TenantRooms(1, {"a": 0})) == []
    waiting = asyncio.create_task(reader.wait(changed))
    await asyncio.sleep(0)
    changed.set()
    await asyncio.wait_for(waiting, SOON_S)
    assert letters(await reader.take(1)) == "a"
    await reader.aclose()


# -- a full Redis, and earlier versions


async def test_a_full_redis_still_delivers_jobs(world: World, reader: JobReader) -> None:
    await queued(world, "ab")
    await world.redis.config_set("maxmemory", 1)
    try:
        assert letters(await reader.take(2)) == "ab"
    finally:
        await world.redis.config_set("maxmemory", 0)


async def test_jobs_of_an_earlier_version_are_served_beside_the_others(world: World, reader: JobReader) -> None:
    await queued(world, "aa")
    for number in range(150):
        await world.redis.xadd(world.keys.ready, {"id": f"old-{number}"})
    jobs: list[Job] = []
    while found := await reader.take(16):
        jobs += found
    assert [job.generation_id for job in jobs[:4]] == ["a-0", "old-0", "a-1", "old-1"]
    assert len({job.generation_id for job in jobs}) == 152


async def test_a_job_that_a_worker_of_an_earlier_version_reads_is_not_taken_from_it(
    world: World, reader: JobReader
) -> None:
    await queued(world, "ab")
    await world.redis.xadd(world.keys.ready, {"id": "old"})
    ((_, rows),) = await world.redis.xreadgroup(GROUP, "earlier", {world.keys.ready: ">"}, count=1)
    assert rows[0][1][b"id"] == b"a-0"
    assert [job.generation_id for job in await reader.take(5)] == ["b-1", "old"]
    pending = await world.redis.xpending_range(world.keys.ready, GROUP, "-", "+", 10, consumername="earlier")
    assert len(pending) == 1
