"""Workers killed: another one takes over, or the loss is reported, or, with none left, the end is in the log."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.figures import Figures
from tests.faults.front_ends.viewers import RecordedViewer
from tests.faults.workers.worker_moments import (
    LEASE_S,
    TAKE_OVER_S,
    answer,
    attempts,
    events,
    logged,
    torn_then_whole,
    when,
)
from tests.faults.world import FaultWorld, open_world
from tests.support.log.valkey import ValkeyServer, start_valkey
from tests.support.servers.processes import Running

AT_ONCE = 5
NOTICE_S = 10.0
STALL_S = 6.0
# What the front-end's sweep may add: it comes every twelfth of the time-out, jittered by up to a half.
SWEEP_S = 3.0


@pytest.mark.second_engine
async def test_a_killed_workers_generation_is_taken_over_or_ended_as_its_caller_chose_in_one_connection(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    """With the default lease; each worker is killed at another moment of it."""
    for wave, first in enumerate(range(0, rounds, AT_ONCE)):
        folder = tmp_path / str(wave)
        folder.mkdir()
        async with open_world(folder, redis=server) as world:
            await killed_in_mid_answer(world, min(AT_ONCE, rounds - first), figures)


async def killed_in_mid_answer(world: FaultWorld, count: int, figures: Figures) -> None:
    await world.front_end()
    survivor = await world.worker(concurrency=2 * count)
    fillers = [await world.converse() for _ in range(2 * count)]
    for _, filler in fillers:
        await filler.send_text("not a slot free")
    victims: list[tuple[Running, RecordedViewer, RecordedViewer]] = []
    for _ in range(count):
        # It is the only one with free slots when its generations come.
        victim = await world.worker(concurrency=2)
        retried, _ = await torn_then_whole(world)
        failed, _ = await torn_then_whole(world, on_worker_loss="fail")
        (retried_viewer,), (failed_viewer,) = world.view(retried), world.view(failed)
        await when(retried_viewer, answer_begins, deadline_s=30)
        await when(failed_viewer, answer_begins, deadline_s=30)
        victims.append((victim, retried_viewer, failed_viewer))
    for _, filler in fillers:
        await filler.finish()
    await asyncio.gather(*(killed(*victim, figures) for victim in victims))
    await world.settle()
    await world.check()
    assert len(logged([survivor], "attempt_started")) == len(fillers) + count


def answer_begins(viewer: RecordedViewer) -> bool:
    return answer(viewer) == "torn "


async def killed(victim: Running, retried: RecordedViewer, failed: RecordedViewer, figures: Figures) -> None:
    killed_at = time.monotonic()
    await victim.kill()
    bound_s = LEASE_S + TAKE_OVER_S
    taken_over, noticed_at = await asyncio.gather(
        when(retried, lambda viewer: attempts(viewer) == 1, deadline_s=2 * bound_s),
        when(failed, lambda viewer: viewer.is_over.is_set(), deadline_s=2 * bound_s),
    )
    figures.add("worker killed → new attempt at a viewer (lease 5 s)", taken_over - killed_at, "s")
    figures.add("worker killed → worker_lost at a viewer (lease 5 s)", noticed_at - killed_at, "s")
    assert taken_over - killed_at <= bound_s
    assert noticed_at - killed_at <= bound_s
    await when(retried, lambda viewer: viewer.is_over.is_set(), deadline_s=30)
    assert (answer(retried), attempts(retried), events(retried)[-1]["type"]) == ("the whole answer", 1, "finish")
    assert (answer(failed), attempts(failed), events(failed)[-1]["code"]) == ("torn ", 0, "worker_lost")
    assert (events(failed)[-2]["type"], events(failed)[-2]["estimated"]) == ("usage", True)
    assert (retried.connections, failed.connections) == (1, 1)


async def test_with_no_worker_left_viewers_are_notified_and_the_end_is_in_the_log(
    tmp_path: Path, rounds: int, figures: Figures
) -> None:
    for first in range(0, rounds, AT_ONCE):
        with ExitStack() as servers:
            folders = [tmp_path / str(n) for n in range(first, min(rounds, first + AT_ONCE))]
            some = [in_a_system_of_its_own(folder, servers) for folder in folders]
            await asyncio.gather(*(left_alone(folder, server, figures) for folder, server in some))


def in_a_system_of_its_own(folder: Path, servers: ExitStack) -> tuple[Path, ValkeyServer]:
    """Another system's worker would live."""
    folder.mkdir()
    data = servers.enter_context(tempfile.TemporaryDirectory(prefix="bc-"))
    return folder, servers.enter_context(start_valkey(Path(data), port=0))


async def left_alone(folder: Path, server: ValkeyServer, figures: Figures) -> None:
    async with open_world(folder, redis=server, stall_timeout_s=STALL_S) as world:
        await world.front_end()
        worker = await world.worker(concurrency=1)
        stream, _ = await torn_then_whole(world)
        queued = await world.start("never", every_s=60)
        (viewer,), (waiting,) = world.view(stream), world.view(queued)
        await when(viewer, answer_begins, deadline_s=30)
        killed_at = time.monotonic()
        await worker.kill()
        noticed_at = await when(viewer, lambda viewer: "hub.stalled" in viewer.notices, deadline_s=2 * NOTICE_S)
        ended = await when(viewer, lambda viewer: viewer.is_over.is_set(), deadline_s=30)
        figures.add("last worker killed → hub.stalled at a viewer", noticed_at - killed_at, "s")
        assert noticed_at - killed_at <= NOTICE_S
        assert STALL_S <= ended - killed_at <= LEASE_S + STALL_S + SWEEP_S
        await when(waiting, lambda viewer: viewer.is_over.is_set(), deadline_s=30)
        assert [events(each)[-1]["code"] for each in (viewer, waiting)] == ["worker_lost"] * 2
        assert (viewer.connections, attempts(viewer)) == (1, 0)
        await world.settle()
        await world.check()
