"""Redis's clock steps under answers that run and one that waits: no process takes one over or ends one."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from broadcaster.client import AsyncClient
from broadcaster.testing import Script
from tests.faults.figures import Figures
from tests.faults.redis.redis_trouble import LEASE_S, begin, gaps, judge, mark, open_system, repaired, until
from tests.faults.workers.worker_moments import TAKE_OVER_S, attempts, logged, torn_then_whole, when, worker_of
from tests.faults.world import open_world
from tests.support.log.stepping_clock import SteppingClock, start_stepping
from tests.support.log.valkey import ValkeyServer

RUNNING: Final = 4
BURST: Final = 8
"""Steps forward at once: a take-over must meet the moment before the worker's next renewal."""
STEPS_S: Final = (1.2 * LEASE_S, 3600.0, -60.0, -600.0)


@pytest.fixture
def stepping() -> Iterator[tuple[ValkeyServer, SteppingClock]]:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_stepping(Path(folder), port=0) as started:
        yield started


async def test_steps_of_redis_s_clock_cost_no_answer(
    tmp_path: Path, stepping: tuple[ValkeyServer, SteppingClock], figures: Figures
) -> None:
    """Every worker has room, so that nothing but the rules keeps it from a take-over; and one generation waits."""
    server, clock = stepping
    async with open_system(tmp_path, server, concurrency=RUNNING, tenant_running=RUNNING) as world:
        answers = await begin(world, RUNNING)
        async with AsyncClient(world.urls[0]) as client:
            world.scripted.script("claude-waits", Script.of_text("well"))
            waiting = (await client.start("hi", model="claude-waits")).id
            world.streams.append(waiting)
            began = time.monotonic()
            await until(lambda: time.monotonic() - began > LEASE_S)  # all have seen Redis answer for a lease
            for step_s in STEPS_S:
                marks = mark(answers)
                for _ in range(BURST if step_s > 0 else 1):
                    clock.step(step_s)
                    stepped = time.monotonic()
                    await until(lambda: time.monotonic() - stepped > LEASE_S / 4)  # noqa: B023  # awaited in this round
                await until(lambda: time.monotonic() - stepped > 2.5 * LEASE_S)  # noqa: B023  # awaited in this round
                await repaired(answers, since=marks)
                assert [each.talk.starts for each in answers] == [1] * RUNNING, step_s
                assert (await client.get(waiting)).status == "queued", step_s
            assert logged(world.workers, "lease_lost") == []
            assert gaps(answers) == []
            answers[0].talk.finish()
            (viewer,) = world.view(waiting)
            await until(viewer.is_over.is_set, 10)
            assert (await client.get(waiting)).status == "finished"
        await judge(world, figures, answers)


async def test_a_worker_that_dies_just_after_a_step_back_is_replaced_as_soon_as_any_other(
    tmp_path: Path, stepping: tuple[ValkeyServer, SteppingClock], figures: Figures
) -> None:
    """Its lease and its job are dated ten minutes ahead then, and it does not renew them any more."""
    server, clock = stepping
    lease_s = 2.0
    async with open_world(tmp_path, redis=server, lease_ttl_s=lease_s) as world:
        await world.front_end()
        await world.worker()
        await world.worker()
        stream, _ = await torn_then_whole(world)
        (viewer,) = world.view(stream)
        worker = await worker_of(world, stream)
        worker.signal(signal.SIGSTOP)
        clock.step(-600)
        await worker.kill()
        killed = time.monotonic()
        over = await when(viewer, lambda viewer: viewer.is_over.is_set(), deadline_s=20)
        figures.add("take-over after a step back", over - killed, "s")
        assert over - killed < lease_s + TAKE_OVER_S
        assert attempts(viewer) == 1
        await world.settle()
        await world.check()


async def test_an_answer_whose_worker_dies_after_a_step_forward_is_finished_by_the_next_one(
    tmp_path: Path, stepping: tuple[ValkeyServer, SteppingClock]
) -> None:
    """By Redis's clock it is older than an answer may be, and its log is not too old to be kept."""
    server, clock = stepping
    async with open_world(tmp_path, redis=server, lease_ttl_s=2.0) as world:
        await world.front_end()
        await world.worker()
        await world.worker()
        stream, _ = await torn_then_whole(world)
        (viewer,) = world.view(stream)
        worker = await worker_of(world, stream)
        clock.step(2700)
        await until(lambda: len(logged(world.workers, "redis_clock_stepped")) == len(world.workers))
        await worker.kill()
        await when(viewer, lambda viewer: viewer.is_over.is_set(), deadline_s=20)
        assert attempts(viewer) == 1
        async with AsyncClient(world.urls[0]) as client:
            assert (await client.get(stream)).status == "finished"
        await world.settle()
        await world.check()
