"""Workers that must end: nothing new, what can finish finishes, the rest starts elsewhere at once, and once."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any, cast

from broadcaster.log.jobs.queue import GROUP
from tests.faults.figures import Figures
from tests.faults.front_ends.viewers import RecordedViewer
from tests.faults.workers.worker_moments import LEASE_S, TAKE_OVER_S, answer, attempts, logged, torn_then_whole, when
from tests.faults.world import FaultWorld, open_world
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.processes import Running
from worker.runner import HAND_BACK_S

ELSEWHERE_S = 3.0
ENDED_S = 5.0


def is_over(viewer: RecordedViewer) -> bool:
    return viewer.is_over.is_set()


async def ended(worker: Running, deadline_s: float = ENDED_S) -> None:
    assert await asyncio.wait_for(worker.process.wait(), deadline_s) == 0


async def test_a_job_that_a_worker_hands_back_starts_elsewhere_within_seconds_and_never_twice(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    """Without a grace, and with one that a second signal ends."""
    async with open_world(tmp_path, redis=server, max_attempts=1) as world:
        await world.front_end()
        ending = await world.worker(drain_s=0)
        for n in range(max(2, rounds)):
            is_hurried = n % 2 == 1
            ending = await handed_back(world, ending, is_hurried, next_drain_s=0 if is_hurried else 60, figures=figures)
        await world.settle()
        await world.check()


async def handed_back(
    world: FaultWorld, ending: Running, is_hurried: bool, *, next_drain_s: float, figures: Figures
) -> Running:
    """What begins elsewhere begins when the old call is closed, and counts as no loss: none is allowed here."""
    stream, torn = await torn_then_whole(world)
    (viewer,) = world.view(stream)
    next_one = await world.worker(drain_s=next_drain_s)
    requests_before = len(world.scripted.requests)
    began = time.monotonic()
    ending.signal(signal.SIGTERM)
    if is_hurried:
        await ending.logged("worker_drains")  # received: two signals that come at once are one to the system
        began = time.monotonic()
        ending.signal(signal.SIGINT)
    elsewhere = await when(viewer, lambda viewer: attempts(viewer) == 1, deadline_s=30)
    figures.add("worker drained → new attempt at a viewer", elsewhere - began, "s")
    assert elsewhere - began <= ELSEWHERE_S
    await (await torn.request()).wait_disconnected(ENDED_S)
    await when(viewer, is_over, deadline_s=30)
    await ended(ending)
    assert (answer(viewer), attempts(viewer), viewer.connections) == ("the whole answer", 1, 1)
    assert len(world.scripted.requests) == requests_before + 1
    return next_one


async def test_a_grace_longer_than_the_lease_lets_answers_finish_and_takes_and_keeps_nothing_else(
    tmp_path: Path, server: ValkeyServer
) -> None:
    lease_s, grace_s = 4.0, 9.0
    async with open_world(tmp_path, redis=server, lease_ttl_s=lease_s, drain_s=grace_s) as world:
        await world.front_end()
        other = await world.worker(concurrency=3)
        fillers = [await world.converse() for _ in range(3)]
        for _, filler in fillers:
            await filler.send_text("not a slot free")
        ending = await world.worker(concurrency=2)
        short, long = await torn_then_whole(world), await torn_then_whole(world)
        unbegun = await world.start("begun elsewhere")
        (finishing,), (handed_back,), (waiting,) = (world.view(each) for each in (short[0], long[0], unbegun))
        await delivered_unknown_to(world, ending)
        for _, filler in fillers:
            await filler.finish()
        began = time.monotonic()
        ending.signal(signal.SIGTERM)
        # Well before the job would count as silent.
        assert await when(waiting, lambda viewer: bool(viewer.entries), deadline_s=30) - began <= ELSEWHERE_S
        await asyncio.sleep(began + 2 * lease_s - time.monotonic())  # the drain outlasts leases: they are renewed
        assert ending.process.returncode is None
        await short[1].send_text("and whole")
        await short[1].finish()
        await when(finishing, is_over, deadline_s=30)
        elsewhere = await when(handed_back, lambda viewer: attempts(viewer) == 1, deadline_s=30)
        assert grace_s <= elsewhere - began <= grace_s + ELSEWHERE_S
        await ended(ending)
        await world.settle()
        await world.check()
        assert (answer(finishing), attempts(finishing)) == ("torn and whole", 0)
        assert (answer(handed_back), attempts(waiting)) == ("the whole answer", 0)
        assert len(logged([ending], "attempt_started")) == 2
        assert len(logged([other], "attempt_started")) == len(fillers) + 2


async def delivered_unknown_to(world: FaultWorld, worker: Running) -> None:
    """A job is delivered to the worker in the moment in which it stops reading: it does not know of it."""
    name = (await worker.logged("worker_ready")).partition('"worker": "')[2].partition('"')[0]
    keys, redis = world.connection.keys, cast(Any, world.connection.redis)
    async with asyncio.timeout(20):
        while not (waiting := await redis.zrange(keys.waiting, 0, 0)):
            await asyncio.sleep(0.02)
    ms, _, sequence = waiting[0].decode().partition(" ")[2].partition("-")
    entry_id = f"{int(ms)}-{int(sequence)}"
    await redis.xclaim(keys.ready, GROUP, name, 0, [entry_id], force=True)


async def test_a_worker_that_is_ended_while_redis_is_away_ends_in_time_and_loses_nothing(
    tmp_path: Path, server: ValkeyServer
) -> None:
    async with open_world(tmp_path, redis=server, drain_s=1) as world:
        await world.front_end()
        ending = await world.worker()
        stream, _ = await torn_then_whole(world)
        (viewer,) = world.view(stream)
        await world.worker()
        server.pause()
        try:
            ending.signal(signal.SIGTERM)
            await ended(ending, 1 + HAND_BACK_S + ENDED_S)
        finally:
            server.resume()
        await when(viewer, lambda viewer: attempts(viewer) == 1, deadline_s=2 * LEASE_S + TAKE_OVER_S)
        await world.settle()
        await world.check()
        assert (answer(viewer), viewer.connections) == ("the whole answer", 1)
