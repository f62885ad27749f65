"""What happens to a Redis of any kind, and to one that is alone."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress

from redis.exceptions import RedisError

from tests.hunt.draw import Step
from tests.hunt.faults.base import LONGEST_S, FaultBase


class RedisFaults(FaultBase):
    """See the module's text."""

    async def kill_clients(self, step: Step) -> None:
        kind = "normal" if step.much < 0.5 else "pubsub"
        async with self._redis(f"CLIENT-KILL {kind}") as mine:
            if mine:
                await self._execute(self._any(step), "CLIENT", "KILL", "TYPE", kind)

    async def pause_clients(self, step: Step) -> None:
        for_ms = int(100 + 2400 * step.much)
        mode = "ALL" if step.who < 0.5 else "WRITE"
        async with self._redis(f"CLIENT-PAUSE {for_ms} {mode}") as mine:
            if mine:
                for server in self._world.servers.all():
                    await self._execute(server, "CLIENT", "PAUSE", str(for_ms), mode)
                await asyncio.sleep(for_ms / 1000)

    async def sleep(self, step: Step) -> None:
        for_s = LONGEST_S * step.much
        async with self._redis(f"DEBUG-SLEEP {for_s:.2f}") as mine:
            if mine:
                await self._execute(self._any(step), "DEBUG", "SLEEP", f"{for_s:.2f}")
                await asyncio.sleep(for_s)

    async def flush_scripts(self, step: Step) -> None:
        async with self._redis("SCRIPT-FLUSH") as mine:
            if mine:
                for server in self._world.servers.all():
                    await self._execute(server, "SCRIPT", "FLUSH")

    async def fill(self, step: Step) -> None:
        """Every server is full for a while."""
        for_s = LONGEST_S * step.much
        async with self._redis(f"maxmemory {for_s:.2f} s") as mine:
            if mine:
                for server in self._world.servers.all():
                    await self._execute(server, "CONFIG", "SET", "maxmemory", "1")
                await asyncio.sleep(for_s)
                await self.empty()

    async def empty(self) -> None:
        """No server is full any more."""
        for server in self._world.servers.all():
            await self._execute(server, "CONFIG", "SET", "maxmemory", "0")

    # -- one server

    async def kill_redis(self, step: Step) -> None:
        async with self._redis(f"SIGKILL redis {LONGEST_S * step.much:.2f} s") as mine:
            if mine:
                one = self._one()
                with self._loss() if self._world.setup.lossy else nullcontext():
                    one.server.kill()
                    await asyncio.sleep(LONGEST_S * step.much)
                    await asyncio.to_thread(one.start)

    async def freeze_redis(self, step: Step) -> None:
        async with self._redis(f"SIGSTOP redis {LONGEST_S * step.much:.2f} s") as mine:
            if mine:
                await self._frozen(self._one().server, LONGEST_S * step.much)

    async def step_clock(self, step: Step) -> None:
        by_s = int(-90 + 180 * step.much)
        async with self._redis(f"clock {by_s:+d} s") as mine:
            if mine:
                self._one().step_clock(by_s)

    async def rewind_redis(self, step: Step) -> None:
        """It comes back as it was a while ago."""
        async with self._redis("rewind") as mine:
            if mine:
                one = self._one()
                await self._execute(one.server, "SAVE")
                await asyncio.sleep(2 * step.much)
                with self._loss():
                    one.server.kill()
                    await asyncio.sleep(step.who)
                    await asyncio.to_thread(one.start)

    async def flush_all(self, step: Step) -> None:
        async with self._redis("FLUSHALL") as mine:
            if mine:
                with self._loss():
                    for server in self._world.servers.all():  # a replica refuses, and loses it with its primary
                        await self._execute(server, "FLUSHALL")

    async def delete_key(self, step: Step) -> None:
        """One key of one stream that is watched now."""
        streams = self._world.open_streams()
        if not streams:
            return
        key = f"bc:{{{streams[int(step.who * len(streams))]}}}:{('log', 'meta', 'lease')[int(step.much * 3)]}"
        async with self._redis(f"DEL {key}") as mine:
            if mine:
                with self._loss(), suppress(RedisError, LookupError, RuntimeError):
                    await self._execute(await asyncio.to_thread(self._world.servers.node_of, key), "DEL", key)
