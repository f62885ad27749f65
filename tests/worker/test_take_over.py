"""The runner and the jobs of silent workers: all in one turn, before new jobs, and no job claimed in vain."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.job_reader import JobReader
from broadcaster.log.jobs.queue import GROUP, Job
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.control import ControlListener
from tests.support.log.log_world import World, until
from tests.worker.test_attempt import HandProvider
from tests.worker.test_runner import Control
from worker.attempt import AttemptTimes
from worker.engine import Engine, RunnerTimes
from worker.providers.registry import Providers
from worker.runner import Runner
from worker.slots import Slot, Slots

MANY = 250
TENANT = "acme"
LEASE_S = 300.0
SILENT_MS = 10**6
HOUR_S = 3600
TIMEOUT_S = 60


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection, worker="survivor", max_queue=1000)
    await world.queue.create_group()
    return world


class Steady:
    """Redis has answered this process for as long as it knows, and its clock made no step."""

    is_steady = True
    answered_s = math.inf

    def pause_s(self, every_s: float) -> float:
        """As given."""
        return every_s

    def leapt_s(self, within_s: float) -> float:
        """By how much its clock leapt."""
        return 0.0

    async def confirm(self) -> None:
        """It answers now as well."""

    async def check_unknown(self) -> None:
        """What it does not know, it has not lost a moment ago."""


class Leapt(Steady):
    """Its clock made a step forward."""

    def leapt_s(self, within_s: float) -> float:
        """An hour."""
        return HOUR_S


class Uncertain(Steady):
    """Redis broke a moment ago, and may have lost what it does not know."""

    checks = 0
    is_certain = False

    async def check_unknown(self) -> None:
        """Refuse, until the test lets it pass."""
        self.checks += 1
        if not self.is_certain:
            raise LogUnavailable("the log may have lost it a moment ago")


class SoonSteady(Steady):
    """Redis began to answer this process almost one lease ago."""

    def __init__(self, remaining_s: float) -> None:
        self._at = asyncio.get_running_loop().time() + remaining_s

    @property
    def is_steady(self) -> bool:  # type: ignore[override]
        """Whether it is."""
        return asyncio.get_running_loop().time() >= self._at

    def pause_s(self, every_s: float) -> float:
        """Until it is, or as given."""
        return every_s if self.is_steady else min(every_s, self._at - asyncio.get_running_loop().time())


class CountedSlots(Slots):
    """Slots that know how many were held at once."""

    most = 0

    def take_nowait(self, tenant: str) -> Slot:
        slot = super().take_nowait(tenant)
        self.most = max(self.most, sum(self._used.values()))
        return slot


@asynccontextmanager
async def running(world: World, *, concurrency: int, steadiness: Steady | None = None) -> AsyncIterator[Runner]:
    """A runner whose providers never answer; nothing is taken yet."""
    reader = world.reader()
    async with world.appender() as appender:
        provider = HandProvider()
        engine = Engine(
            world.queue,
            reader,
            world.claims,
            world.streams,
            appender,
            world.keeper(appender),
            cast("Steadiness", steadiness or Steady()),
            cast("ControlListener", Control()),
            Providers(ModelRoutes({"m": "hand"}), {"hand": lambda: provider}),
        )
        times = RunnerTimes(LEASE_S, 0.0, AttemptTimes(generation_timeout_s=TIMEOUT_S, append_deadline_s=60))
        slots = CountedSlots(concurrency=concurrency, buffer_bytes=10**9, max_bytes=world.max_bytes, tenant_share=0.9)
        runner = Runner(engine, slots, times=times, max_bytes=world.max_bytes)
        try:
            yield runner
        finally:
            await runner.drain(grace_s=0, hurried=asyncio.Event())
            await reader.aclose()


async def lost(world: World, count: int) -> list[str]:
    """Generations that a worker ran which is silent now."""
    ids = [await world.create(tenant=TENANT) for _ in range(count)]
    victim = World(world.connection, worker="victim")
    reader = victim.reader()
    for job in await reader.take(count):
        await victim.claim(job.generation_id)
        await world.lapse(job.generation_id)
        await silence(world, job.entry_id)
    await reader.aclose()
    return ids


async def silence(world: World, entry_id: str) -> None:
    await world.redis.xclaim(world.keys.ready, GROUP, "victim", 0, [entry_id], idle=SILENT_MS, justid=True, force=True)


async def test_hundreds_of_generations_of_one_tenant_are_taken_over_in_one_turn(world: World) -> None:
    ids = await lost(world, MANY)
    async with running(world, concurrency=MANY + 1) as runner:
        await runner.take_over()
        await until(lambda: set(runner.attempts) == set(ids))


async def test_the_job_of_a_generation_that_redis_may_have_lost_a_moment_ago_keeps_its_place(world: World) -> None:
    """Its worker may be restoring it, and another job of its tenant would begin in its place."""
    (silent,) = await lost(world, 1)
    await world.redis.delete(world.keys.meta(silent), world.keys.log(silent))
    steadiness = Uncertain()
    async with running(world, concurrency=2, steadiness=steadiness) as runner:
        await runner.take_over()
        await until(lambda: steadiness.checks >= 2)
        assert await world.redis.zcard(world.keys.running) == await world.redis.xlen(world.keys.ready) == 1
        steadiness.is_certain = True
        await until(lambda: runner.slots.free == 2)
        assert await world.redis.zcard(world.keys.running) == await world.redis.xlen(world.keys.ready) == 0


async def test_the_time_of_a_generation_whose_worker_is_lost_is_not_shorter_for_a_step_forward_of_redis_s_clock(
    world: World,
) -> None:
    (silent,) = await lost(world, 1)
    await world.redis.hincrby(world.keys.meta(silent), "started_ms", -HOUR_S * 1000)
    async with running(world, concurrency=2, steadiness=Leapt()) as runner:
        begun_at = asyncio.get_running_loop().time()
        await runner.take_over()
        await until(lambda: set(runner.attempts) == {silent})
        assert runner.attempts[silent].deadline - begun_at > TIMEOUT_S / 2


async def test_a_worker_takes_silent_jobs_over_as_soon_as_redis_is_steady_and_not_a_fifth_of_a_lease_later(
    world: World,
) -> None:
    (silent,) = await lost(world, 1)
    async with running(world, concurrency=1, steadiness=SoonSteady(0.2)) as runner:
        taking = asyncio.create_task(runner.take_silent())
        await until(lambda: set(runner.attempts) == {silent}, deadline_s=LEASE_S / 10)
        taking.cancel()
        await asyncio.wait({taking})


async def test_a_full_worker_gives_its_next_free_slot_to_a_job_of_a_silent_worker_and_not_to_a_new_one(
    world: World,
) -> None:
    first = await world.create()
    async with running(world, concurrency=1) as runner:
        taking = asyncio.create_task(runner.take_new())
        await until(lambda: set(runner.attempts) == {first})
        (silent,) = await lost(world, 1)
        await world.create()
        turn = asyncio.create_task(runner.take_over())
        await asyncio.sleep(0)
        runner.attempts[first].fail_for_memory()
        await until(lambda: set(runner.attempts) == {silent})
        for task in (taking, turn):
            task.cancel()
        await asyncio.wait({taking, turn})


async def test_a_second_job_of_a_generation_that_runs_here_is_not_claimed(world: World) -> None:
    stream_id = await world.create()
    async with running(world, concurrency=2) as runner:
        taking = asyncio.create_task(runner.take_new())
        await until(lambda: set(runner.attempts) == {stream_id})
        taking.cancel()
        second = await world.redis.xadd(world.keys.ready, {"id": stream_id, "tenant": TENANT})
        await silence(world, second.decode())
        await runner.take_over()
        pending = await world.redis.xpending_range(world.keys.ready, GROUP, second, second, 1)
        assert [row["time_since_delivered"] >= LEASE_S * 1000 for row in pending] == [True]


async def test_new_jobs_and_jobs_of_silent_workers_that_are_read_at_once_never_begin_beyond_the_free_slots(
    world: World,
) -> None:
    ids = {*await lost(world, 4), *[await world.create() for _ in range(4)]}
    begun: set[str] = set()
    async with running(world, concurrency=4) as runner:
        taking = [asyncio.create_task(runner.take_new()), asyncio.create_task(runner.take_over())]
        while begun != ids:
            await until(lambda: not runner.attempts.keys() <= begun)
            for stream_id in runner.attempts.keys() - begun:
                begun.add(stream_id)
                runner.attempts[stream_id].fail_for_memory()
        assert cast("CountedSlots", runner.slots).most == 4
        for task in taking:
            task.cancel()
        await asyncio.wait(taking)


async def test_a_repeated_job_that_cannot_be_marked_costs_no_other_job_of_its_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_id = await world.create(tenant=TENANT)
    async with running(world, concurrency=8) as runner:
        taking = asyncio.create_task(runner.take_new())
        await until(lambda: set(runner.attempts) == {running_id})
        taking.cancel()
        second = await world.redis.xadd(world.keys.ready, {"id": running_id, "tenant": TENANT})
        await silence(world, second.decode())
        behind = await lost(world, 2)

        async def fails(job: Job, *, silent_ms: int) -> None:
            raise LogUnavailable("try again")

        monkeypatch.setattr(world.queue, "mark_silent", fails)
        with pytest.raises(LogUnavailable):
            await runner.take_over()
        monkeypatch.undo()
        await until(lambda: set(runner.attempts) == {running_id, *behind})


async def test_a_job_that_its_own_run_hands_back_while_the_drain_reads_it_is_queued_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await world.create() for _ in range(4)]
    async with running(world, concurrency=4) as runner:
        taking = asyncio.create_task(runner.take_new())
        await until(lambda: set(runner.attempts) == set(ids))
        taking.cancel()
        await asyncio.wait({taking})
        take_own = JobReader.take_own

        async def late(reader: JobReader) -> list[Job]:
            jobs = await take_own(reader)
            await until(lambda: not runner.attempts and not runner._under_way)
            return jobs

        monkeypatch.setattr(JobReader, "take_own", late)
        await runner.drain(grace_s=0, hurried=asyncio.Event())
    rows = await world.redis.xrange(world.keys.ready_hi)
    assert sorted(fields[b"id"].decode() for _, fields in rows) == sorted(ids)
