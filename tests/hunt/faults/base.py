"""What every fault needs: its window, the turn of Redis, and the note of what Redis may have forgotten."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

from redis.exceptions import RedisError

from tests.hunt.draw import Step
from tests.hunt.system.servers import OneServer, port_of
from tests.hunt.world import Window, World
from tests.support.log.redis_sentinel import execute_at
from tests.support.log.valkey import ValkeyServer

LONGEST_S: Final = 3.0


class FaultBase:
    """Each fault is printed with its time, and remembered for as long as it was in force."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lease_s: float = world.setup.settings["lease_ttl_s"]
        self._is_redis_busy = False

    @asynccontextmanager
    async def _window(self, name: str) -> AsyncIterator[None]:
        self._world.report(f"fault {name}")
        self._world.done[f"fault {name.split()[0]}"] += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._world.windows.append(Window(name, began, time.monotonic()))

    @asynccontextmanager
    async def _redis(self, name: str) -> AsyncIterator[bool]:
        """A fault of Redis; False: another one is under way."""
        if self._is_redis_busy:
            yield False
            return
        self._is_redis_busy = True
        try:
            async with self._window(name):
                yield True
        finally:
            self._is_redis_busy = False

    async def _execute(self, server: ValkeyServer, *arguments: str) -> Any:
        with suppress(RedisError):
            return await asyncio.to_thread(execute_at, port_of(server), *arguments)

    def _any(self, step: Step) -> ValkeyServer:
        servers = self._world.servers.all()
        return servers[int(step.who * len(servers))]

    @contextmanager
    def _loss(self) -> Iterator[None]:
        """What Redis acknowledged before or within the block may be gone after it."""
        self._world.servers.loses = True
        began = time.monotonic()
        at = len(self._world.losses)
        self._world.losses.append(Window("loss", began, math.inf))
        try:
            yield
        finally:
            self._world.losses[at] = Window("loss", began, time.monotonic())

    def _one(self) -> OneServer:
        assert isinstance(self._world.servers, OneServer)
        return self._world.servers

    async def _frozen(self, server: ValkeyServer, for_s: float) -> None:
        server.pause()
        await asyncio.sleep(for_s)
        server.resume()
