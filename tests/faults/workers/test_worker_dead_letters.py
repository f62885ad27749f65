"""A generation that kills every worker that runs it: bounded, with a back-off, kept, and restarted by a command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from typer.testing import CliRunner

from broadcaster.cli.main import create_app
from broadcaster.client import AsyncClient
from broadcaster.testing import Exchange, Script
from tests.faults.workers.worker_moments import WHOLE, answer, attempts, events, pid_of_attempt, when
from tests.faults.world import FaultWorld, PacedPieces, open_world
from tests.support.log.valkey import ValkeyServer

MAX_ATTEMPTS = 3
BACKOFF_S = 2.0


@dataclass
class Poison:
    """A script's step: begins to answer, then the worker that called is gone. ``killed_at``: the moments of it."""

    world: FaultWorld
    stream: asyncio.Future[str]
    killed_at: list[float] = field(default_factory=list)

    async def run(self, exchange: Exchange) -> None:
        composer = exchange.wire.compose(exchange.model)
        await exchange.send_events(*composer.text("poison "))
        pid = await pid_of_attempt(self.world, await self.stream)
        self.killed_at.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)
        await exchange.wait_gone()


async def test_a_poisoned_generation_is_bounded_kept_as_one_dead_letter_and_requeued_by_a_command(
    tmp_path: Path, server: ValkeyServer, rounds: int
) -> None:
    for n in range(rounds):
        folder = tmp_path / str(n)
        folder.mkdir()
        async with open_world(
            folder, redis=server, lease_ttl_s=1, max_attempts=MAX_ATTEMPTS, attempt_backoff_s=BACKOFF_S
        ) as world:
            await poisoned(world, f"claude-poison-{n}")


async def poisoned(world: FaultWorld, model: str) -> None:
    await world.front_end()
    await asyncio.gather(*(world.worker() for _ in range(MAX_ATTEMPTS + 1)))
    poison = Poison(world, asyncio.get_running_loop().create_future())
    world.scripted.script(model, *[Script(poison)] * MAX_ATTEMPTS, Script(PacedPieces(WHOLE, 0.0)))
    async with AsyncClient(world.urls[0]) as client:
        stream = (await client.start("hi", model=model)).id
    world.streams.append(stream)
    poison.stream.set_result(stream)
    (viewer,) = world.view(stream)
    await when(viewer, lambda viewer: attempts(viewer) == MAX_ATTEMPTS - 1, deadline_s=30)
    second, third = poison.killed_at[1], time.monotonic()
    assert third - second >= BACKOFF_S / 2
    await when(viewer, lambda viewer: viewer.is_over.is_set(), deadline_s=30)
    assert len(poison.killed_at) == MAX_ATTEMPTS
    assert (viewer.connections, events(viewer)[-1]["code"]) == (1, "attempts_spent")
    (letter,) = json.loads(await command(world, "ls", "--json"))
    assert (letter["id"], letter["reason"], letter["model"]) == (stream, "attempts_spent", model)
    (requeued,) = json.loads(await command(world, "requeue", stream, "--json"))
    assert json.loads(await command(world, "ls", "--json")) == []
    world.streams.append(requeued["new_id"])
    (healed,) = world.view(requeued["new_id"])
    await world.settle()
    await world.check()
    assert (answer(healed), attempts(healed)) == ("the whole answer", 0)


async def command(world: FaultWorld, *arguments: str) -> str:
    """What ``broadcaster dead`` prints."""
    arguments = ("dead", *arguments, "--redis-url", world.redis.url)
    result = await asyncio.to_thread(CliRunner().invoke, create_app(["dead"]), arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout
