"""A worker's view of a log whose server has a clock that a test steps."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import World, until
from tests.support.log.stepping_clock import SteppingClock, start_stepping

LEASE_MS: Final = 800
LEASE_S: Final = LEASE_MS / 1000
STEADY_S: Final = 20.0


@asynccontextmanager
async def open_clock_world() -> AsyncIterator[tuple[World, SteppingClock]]:
    """One process's view, which has seen Redis answer for a lease; and the clock of its server."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_stepping(Path(folder)) as (server, clock):
        async with LogConnection(server.url) as connection:
            world = World(connection, lease_ms=LEASE_MS)
            await world.queue.create_group()
            task = asyncio.create_task(world.steadiness.run())
            await steady(world)
            yield world, clock
            task.cancel()
            await asyncio.wait({task})


async def step(world: World, clock: SteppingClock, seconds: float) -> None:
    """Step, until commands show it: a server may remember the time for a moment."""
    began, before_s = time.monotonic(), await redis_time(world)
    clock.step(seconds)
    async with asyncio.timeout(20):
        while abs(await redis_time(world) - before_s - seconds - (time.monotonic() - began)) > abs(seconds) / 2:
            await asyncio.sleep(0.001)


async def redis_time(world: World) -> float:
    seconds, micros = await world.redis.time()
    return float(seconds + micros / 1e6)


async def steady_after(world: World) -> None:
    """The step was noticed, and a lease has gone by since."""
    await until(lambda: world.steadiness.breaks >= 1)
    await steady(world)


async def steady(world: World) -> None:
    await until(lambda: world.steadiness.is_steady, STEADY_S)
