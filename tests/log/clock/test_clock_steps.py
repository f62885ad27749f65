"""Redis's clock steps: no worker takes over for it, no age is too large for it, and none stands still for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest

from broadcaster.log.jobs.claims import Outcome, Why
from broadcaster.log.jobs.queue import Settled
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams import terminals
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tails import Tail
from tests.support.log.clock_world import LEASE_MS, LEASE_S, STEADY_S, steady, steady_after, step
from tests.support.log.log_world import World, until
from tests.support.log.stepping_clock import SteppingClock

HOUR_S: Final = 3600
TIMES: Final = SweepTimes(queue_timeout_ms=300_000, stall_timeout_ms=60_000, generation_timeout_ms=1_800_000)


@asynccontextmanager
async def kept(world: World) -> AsyncIterator[str]:
    """A generation that a healthy worker runs, beside this process."""
    other = World(world.connection, worker="w2", lease_ms=LEASE_MS)
    async with other.appender() as appender:
        keeper = other.keeper(appender)
        stream_id, claim = await other.granted()
        await other.writer(stream_id, claim, appender, keeper)
        task = asyncio.create_task(keeper.run())
        yield stream_id
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def sweeper(world: World, streams: Streams | None = None, *, times: SweepTimes = TIMES) -> Sweeper:
    return Sweeper(
        times,
        queue=world.queue,
        claims=world.claims,
        streams=streams or world.streams,
        steadiness=world.steadiness,
    )


async def confirmed(steadiness: Steadiness, is_so: Callable[[], bool]) -> None:
    """Probe until a probe has shown it: on a loaded machine one may come too late to show anything."""
    async with asyncio.timeout(STEADY_S):
        await steadiness.confirm()
        while not is_so():
            await steadiness.confirm()


@pytest.mark.parametrize("step_s", [LEASE_S, HOUR_S, -60, -600])
async def test_a_step_of_redis_s_clock_is_a_break(world: World, clock: SteppingClock, step_s: float) -> None:
    steadiness = world.steadiness
    await step(world, clock, step_s)
    await confirmed(steadiness, lambda: steadiness.has_fallen if step_s < 0 else steadiness.leapt_s(60) > 0)
    assert steadiness.breaks >= 1
    assert not steadiness.is_steady
    assert steadiness.has_fallen is (step_s < 0)
    assert steadiness.leapt_s(60) == pytest.approx(max(0, step_s), abs=LEASE_S / 2)
    assert steadiness.leapt_s(0) == 0
    await steady(world)


async def test_a_clock_that_is_corrected_a_little_breaks_nothing(world: World, clock: SteppingClock) -> None:
    steadiness = Steadiness(world.connection, lease_ttl_s=60)
    task = asyncio.create_task(steadiness.run())
    await until(steadiness.answering.is_set)
    for _ in range(5):
        await step(world, clock, 2)
        await steadiness.confirm()
    assert steadiness.breaks == 0
    task.cancel()
    await asyncio.wait({task})


async def test_an_age_that_began_between_two_steps_is_too_large_by_the_later_one(
    world: World, clock: SteppingClock
) -> None:
    steadiness = world.steadiness
    await step(world, clock, -600)
    await confirmed(steadiness, lambda: steadiness.has_fallen)
    assert steadiness.leapt_s(60) == 0
    await step(world, clock, HOUR_S)
    await confirmed(steadiness, lambda: steadiness.leapt_s(60) > 0)
    assert steadiness.leapt_s(60) == pytest.approx(HOUR_S, abs=LEASE_S / 2)
    await step(world, clock, -HOUR_S - 60)
    await confirmed(steadiness, lambda: steadiness.leapt_s(60) == 0)


class SteppingStreams(Streams):
    """Reads; the clock steps before the next read of tails."""

    step_s = 0.0
    clock: SteppingClock

    async def each_tail(self, stream_ids: Sequence[str]) -> list[Tail | Exception]:  # type: ignore[override]
        self.clock.step(self.step_s)
        self.step_s = 0.0
        tails: list[Tail | Exception] = [*await super().each_tail(stream_ids)]
        return tails


@pytest.mark.parametrize("step_s", [LEASE_S, HOUR_S])
async def test_a_sweep_right_after_a_step_that_no_probe_has_met_ends_nothing(
    world: World, clock: SteppingClock, step_s: float
) -> None:
    streams = SteppingStreams(world.connection)
    streams.step_s, streams.clock = step_s, clock
    times = SweepTimes(queue_timeout_ms=300_000, stall_timeout_ms=60_000, generation_timeout_ms=0)
    async with kept(world) as stream_id:
        await steady(world)
        assert await sweeper(world, streams, times=times).sweep() == 0
        assert world.steadiness.breaks >= 1
        assert not (await world.generations.get(stream_id, tenant="local")).is_over


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen before", "seen only after the step"])
async def test_a_waiting_generation_is_no_older_after_a_step_forward(
    world: World, clock: SteppingClock, *, is_seen: bool
) -> None:
    stream_id = await world.create()
    sweep = sweeper(world)
    if is_seen:
        await sweep.sweep()
    await step(world, clock, HOUR_S)
    await steady_after(world)
    assert await sweep.sweep() == 0
    assert (await world.generations.get(stream_id, tenant="local")).status == "queued"


@pytest.mark.parametrize("step_s", [-600, -600 - HOUR_S])
async def test_a_waiting_generation_does_not_wait_longer_after_a_step_back(
    world: World, clock: SteppingClock, step_s: float
) -> None:
    stream_id = await world.create()
    times = SweepTimes(queue_timeout_ms=1500, stall_timeout_ms=60_000, generation_timeout_ms=60_000)
    sweep = sweeper(world, times=times)
    await sweep.sweep()
    await step(world, clock, step_s)
    await steady_after(world)
    async with asyncio.timeout(20):
        while not await sweep.sweep():
            await asyncio.sleep(0.02)
    assert await world.texts(stream_id) == [terminals.QUEUE_TIMEOUT]


async def test_the_workers_are_not_gone_for_longer_than_they_are_for_a_step_forward(
    world: World, clock: SteppingClock
) -> None:
    """The one worker ended a moment ago, and its successor is about to come."""
    stream_id = await world.create()
    async with world.appender() as appender:
        await world.keeper(appender).heartbeat()
    await step(world, clock, HOUR_S)
    await steady_after(world)
    assert await sweeper(world).sweep() == 0
    assert (await world.generations.get(stream_id, tenant="local")).status == "queued"


async def test_a_claim_ends_what_has_waited_too_long_only_for_a_claimant_that_may_judge_it(
    world: World, clock: SteppingClock
) -> None:
    stream_id = await world.create()
    await step(world, clock, HOUR_S)
    claims = world.claims
    assert (await claims.claim(stream_id, may_take_over=False)).outcome is Outcome.LAPSED
    await confirmed(world.steadiness, lambda: world.steadiness.leapt_s(60) > 0)
    leapt_s = world.steadiness.leapt_s(claims.queue_timeout_s)
    granted = await claims.claim(stream_id, may_take_over=True, leapt_s=leapt_s)
    assert granted.outcome is Outcome.GRANTED
    late = await world.create()
    await world.redis.hincrby(world.keys.meta(late), "created_ms", -HOUR_S * 1000 - world.queue_timeout_ms)
    assert (await claims.claim(late, may_take_over=True, leapt_s=leapt_s)).why is Why.QUEUE_TIMEOUT


@pytest.mark.parametrize("step_s", [-60, -600])
async def test_a_lease_is_waited_for_no_longer_than_it_is_long(
    world: World, clock: SteppingClock, step_s: float
) -> None:
    """Its worker died just before the step, or just after it."""
    stream_id, _ = await World(world.connection, worker="w2", lease_ms=LEASE_MS).granted()
    await step(world, clock, step_s)
    other = World(world.connection, lease_ms=60_000)  # whose own lease is longer
    assert (await other.claim(stream_id)).outcome is Outcome.LEASED
    assert 0 < await world.redis.pttl(world.keys.lease(stream_id)) <= LEASE_MS


async def test_a_lease_of_an_earlier_version_is_left_as_it_is(world: World) -> None:
    """Its length is stored nowhere: its worker may have a longer one than the process that checks."""
    stream_id, _ = await World(world.connection, worker="w2", lease_ms=60_000).granted()
    await world.redis.hdel(world.keys.meta(stream_id), "leased_ms")
    assert (await world.claim(stream_id)).outcome is Outcome.LEASED
    assert await world.redis.pttl(world.keys.lease(stream_id)) > LEASE_MS


async def test_a_sweep_cuts_leases_and_finds_the_jobs_of_a_worker_that_died_at_a_step_back(
    world: World, clock: SteppingClock
) -> None:
    dead = World(world.connection, worker="w2", lease_ms=LEASE_MS)
    stream_id = await dead.create()
    reader = dead.reader()
    (job,) = await reader.take(1)
    await reader.aclose()
    assert (await dead.claim(stream_id)).outcome is Outcome.GRANTED
    await step(world, clock, -600)
    await sweeper(world, times=replace(TIMES, silent_ms=LEASE_MS)).sweep()
    assert 0 < await world.redis.pttl(world.keys.lease(stream_id)) <= LEASE_MS
    assert (await world.queue.take_silent(silent_ms=LEASE_MS, count=10)).jobs == [job]


async def test_a_back_off_is_not_longer_for_a_step_back(world: World, clock: SteppingClock) -> None:
    patient = World(world.connection, lease_ms=LEASE_MS, attempt_backoff_ms=500, max_attempts=9)
    stream_id = await patient.create()
    reader = patient.reader()
    (job,) = await reader.take(1)
    await reader.aclose()
    for _ in range(2):
        assert (await patient.claim(stream_id)).outcome is Outcome.GRANTED
        await patient.lapse(stream_id)
    waits = await patient.claim(stream_id)
    assert waits.outcome is Outcome.WAITING
    await patient.queue.settle(job, Settled.REQUEUE, delay_ms=waits.wait_ms)

    await step(world, clock, -600)

    assert await patient.queue.promote() == 1
    assert (await patient.claim(stream_id)).wait_ms <= 500
    async with asyncio.timeout(20):
        while (await patient.claim(stream_id)).outcome is not Outcome.GRANTED:
            await asyncio.sleep(0.02)
