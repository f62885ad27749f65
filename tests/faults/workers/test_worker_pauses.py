"""What only resembles a loss: a Redis that stands still, a worker that does, a loop that is blocked, a long answer."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

from broadcaster.client import AsyncClient
from broadcaster.testing import Script
from tests.faults.workers.blocked_worker import BLOCK_VARIABLE
from tests.faults.workers.worker_moments import (
    answer,
    attempt_numbers,
    attempts,
    logged,
    torn_then_whole,
    when,
    worker_of,
)
from tests.faults.world import FaultWorld, PacedPieces, open_world
from tests.support.log.valkey import ValkeyServer

LIVE = 200


async def test_200_live_generations_of_ten_lease_lengths_are_started_once_also_when_redis_stands_still_for_two(
    tmp_path: Path, server: ValkeyServer, rounds: int
) -> None:
    lease_s, pauses = 2.0, max(1, rounds // 3)
    texts = [f"word{n} " for n in range(int(10 * lease_s) + 10 * (pauses - 1))]
    async with open_world(tmp_path, redis=server, lease_ttl_s=lease_s) as world:
        await world.front_end()
        workers = [await world.worker(), await world.worker()]
        world.scripted.script("claude-paced", Script(PacedPieces(texts, 1.0)))
        async with AsyncClient(world.urls[0]) as client:
            started = await asyncio.gather(*(client.start(f"hi {n}", model="claude-paced") for n in range(LIVE)))
        streams = [each.id for each in started]
        world.streams += streams
        viewers = [viewer for stream in streams[::10] for viewer in world.view(stream)]
        for stream in streams:  # 200 that read the logs at once would keep a core from the workers
            await world.until_text(stream, "word0")
        for viewer in viewers:
            await when(viewer, lambda viewer=viewer: "word0" in viewer.text, deadline_s=30)  # type: ignore[misc]
        for _ in range(pauses):
            server.pause()
            try:
                await asyncio.sleep(2 * lease_s)  # the fault
            finally:
                server.resume()
            resumed = time.monotonic()
            going_on = [len(viewer.entries) for viewer in viewers]
            for viewer, had in zip(viewers, going_on, strict=True):
                at = await when(viewer, lambda viewer, had=had: len(viewer.entries) > had, deadline_s=30)  # type: ignore[misc]
                assert at - resumed <= 5  # docs/faults.md
            await asyncio.sleep(lease_s)  # until they would take over
        await world.settle(len(texts) + 60)  # a delta a second, and what the pauses delayed
        await world.check()
        assert len(world.scripted.requests) == LIVE
        assert logged(workers, "lease_lost") == []
        # One that still waits at a break begins with `attempt` 1 (docs/protocol.md §2); a busy machine causes breaks.
        assert {number for viewer in viewers for number in attempt_numbers(viewer)} <= {1}
        assert {(answer(viewer), viewer.connections) for viewer in viewers} == {("".join(texts), 1)}


async def test_a_worker_paused_past_its_lease_writes_nothing_more_and_closes_its_provider(
    tmp_path: Path, server: ValkeyServer, rounds: int
) -> None:
    lease_s = 1.0
    async with open_world(tmp_path, redis=server, lease_ttl_s=lease_s) as world:
        await world.front_end()
        for _ in range(2):
            await world.worker()
        for n in range(max(2, rounds)):
            await paused_past_its_lease(world, first_text="half " if n % 2 else "")
        await world.settle()
        await world.check()
        assert len(logged(world.workers, "process_stood_still")) >= max(2, rounds)
        # On a busy machine a loop may really be without a processor for half a lease. A pause lasted for a whole one.
        blocked = [json.loads(line)["blocked_s"] for line in logged(world.workers, "event_loop_blocked")]
        assert [blocked_s for blocked_s in blocked if blocked_s >= lease_s] == []


async def paused_past_its_lease(world: FaultWorld, *, first_text: str) -> None:
    """Before its first token it is fenced by the grant alone: the new worker has written nothing of the answer."""
    stream, zombie_side = await torn_then_whole(world, first_text=first_text)
    (viewer,) = world.view(stream)
    request = await zombie_side.request()
    zombie = await worker_of(world, stream)
    zombie.signal(signal.SIGSTOP)
    try:
        await when(viewer, lambda viewer: viewer.is_over.is_set(), deadline_s=20)
        await zombie_side.send_text("from the zombie")
    finally:
        zombie.signal(signal.SIGCONT)
    await request.wait_disconnected(10)
    assert (answer(viewer), attempts(viewer), viewer.connections) == ("the whole answer", 1, 1)
    assert "zombie" not in viewer.text


async def test_a_blocked_event_loop_is_reported_with_its_stack_while_it_lasts_and_before_it_costs_the_lease(
    tmp_path: Path, server: ValkeyServer
) -> None:
    lease_s, block_s = 4.0, 2.8  # three quarters of a lease are left to a loop that is blocked just before a renewal
    async with open_world(tmp_path, redis=server, lease_ttl_s=lease_s) as world:
        await world.front_end()
        program = "tests.faults.workers.blocked_worker"
        blocked = await world.stack.start(program, environment={BLOCK_VARIABLE: str(block_s)})
        await blocked.logged("worker_ready")
        stream, conversation = await torn_then_whole(world)
        (viewer,) = world.view(stream)
        began = time.monotonic()
        blocked.signal(signal.SIGUSR1)
        logged_block = json.loads(await blocked.logged("event_loop_blocked", timeout_s=10))
        assert time.monotonic() - began < block_s
        assert "hold_the_loop" in logged_block["stack"]
        assert await world.connection.redis.pttl(world.connection.keys.lease(stream)) > 0
        over = json.loads(await blocked.logged("event_loop_moves", timeout_s=10))
        assert over["blocked_s"] >= block_s
        await conversation.finish()
        await world.settle()
        await world.check()
        assert attempts(viewer) == 0
        assert len(logged([blocked], "event_loop_blocked")) == 1
