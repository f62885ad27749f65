"""What breaks, one method for each name in the tables of ``draw``. One fault at a time for one process or server."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.hunt.draw import Step
from tests.hunt.judging.answers import Violation
from tests.hunt.system.processes import Life
from tests.hunt.system.relay import DOWN, UP
from tests.hunt.system.servers import ClusterServers, OneServer, SentinelServers, port_of
from tests.hunt.world import Window, World
from tests.support.redis_sentinel import SERVICE, ask
from tests.support.valkey import ValkeyServer

FREEZE_LEASES: Final = 3.0
LONGEST_S: Final = 3.0
FAILOVER_S: Final = 40.0


class Faults:
    """Causes them. Each is said with its time, and remembered for as long as it was in force."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lease_s: float = world.setup.settings["lease_ttl_s"]
        self._is_redis_busy = False

    @asynccontextmanager
    async def _window(self, name: str) -> AsyncIterator[None]:
        self._world.say(f"fault {name}")
        self._world.done[f"fault {name.split()[0]}"] += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._world.windows.append(Window(name, began, time.monotonic()))

    # -- processes

    async def kill_worker(self, step: Step) -> None:
        await self._replace(self._world.workers, step, is_killed=True)

    async def end_worker(self, step: Step) -> None:
        await self._replace(self._world.workers, step, is_killed=False)

    async def kill_front_end(self, step: Step) -> None:
        await self._replace(self._world.front_ends, step, is_killed=True)

    async def end_front_end(self, step: Step) -> None:
        await self._replace(self._world.front_ends, step, is_killed=False)

    async def _replace(self, lives: Sequence[Life], step: Step, *, is_killed: bool) -> None:
        life = lives[int(step.who * len(lives))]
        if life.is_busy:
            return
        life.is_busy = True
        async with self._window(f"{'SIGKILL' if is_killed else 'SIGTERM'} {life.name}"):
            if is_killed:
                await life.kill()
                if life in self._world.workers:
                    self._world.worker_kills.append(time.monotonic())
            elif (wrong := await life.end()) is not None:
                self._world.found.append(Violation("end", life.name, wrong))
            await asyncio.sleep(step.much * 2)
            await life.start()
        life.is_busy = False

    async def freeze_worker(self, step: Step) -> None:
        await self._freeze(self._world.workers, step)

    async def freeze_front_end(self, step: Step) -> None:
        await self._freeze(self._world.front_ends, step)

    async def _freeze(self, lives: Sequence[Life], step: Step) -> None:
        life = lives[int(step.who * len(lives))]
        if life.is_busy:
            return
        life.is_busy = True
        for_s = FREEZE_LEASES * self._lease_s * step.much
        async with self._window(f"SIGSTOP {life.name} {for_s:.2f} s"):
            life.freeze()
            await asyncio.sleep(for_s)
            life.thaw()
        life.is_busy = False

    async def kill_member(self, step: Step) -> None:
        """One of the processes of a front-end that has several."""
        several = [life for life in self._world.front_ends if "2" in life.words and not life.is_busy]
        if several:
            async with self._window(f"SIGKILL a-child-of {several[0].name}"):
                several[0].kill_member(step.who)

    # -- any Redis

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

    async def _tell(self, server: ValkeyServer, *words: str) -> Any:
        with suppress(RedisError):
            return await asyncio.to_thread(ask, port_of(server), *words)

    def _any(self, step: Step) -> ValkeyServer:
        servers = self._world.servers.all()
        return servers[int(step.who * len(servers))]

    async def kill_clients(self, step: Step) -> None:
        kind = "normal" if step.much < 0.5 else "pubsub"
        async with self._redis(f"CLIENT-KILL {kind}") as mine:
            if mine:
                await self._tell(self._any(step), "CLIENT", "KILL", "TYPE", kind)

    async def pause_clients(self, step: Step) -> None:
        for_ms = int(100 + 2400 * step.much)
        mode = "ALL" if step.who < 0.5 else "WRITE"
        async with self._redis(f"CLIENT-PAUSE {for_ms} {mode}") as mine:
            if mine:
                for server in self._world.servers.all():
                    await self._tell(server, "CLIENT", "PAUSE", str(for_ms), mode)
                await asyncio.sleep(for_ms / 1000)

    async def sleep(self, step: Step) -> None:
        for_s = LONGEST_S * step.much
        async with self._redis(f"DEBUG-SLEEP {for_s:.2f}") as mine:
            if mine:
                await self._tell(self._any(step), "DEBUG", "SLEEP", f"{for_s:.2f}")
                await asyncio.sleep(for_s)

    async def flush_scripts(self, step: Step) -> None:
        async with self._redis("SCRIPT-FLUSH") as mine:
            if mine:
                for server in self._world.servers.all():
                    await self._tell(server, "SCRIPT", "FLUSH")

    async def fill(self, step: Step) -> None:
        """Every server is full for a while."""
        for_s = LONGEST_S * step.much
        async with self._redis(f"maxmemory {for_s:.2f} s") as mine:
            if mine:
                for server in self._world.servers.all():
                    await self._tell(server, "CONFIG", "SET", "maxmemory", "1")
                await asyncio.sleep(for_s)
                await self.empty()

    async def empty(self) -> None:
        """No server is full any more."""
        for server in self._world.servers.all():
            await self._tell(server, "CONFIG", "SET", "maxmemory", "0")

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

    async def _frozen(self, server: ValkeyServer, for_s: float) -> None:
        server.pause()
        await asyncio.sleep(for_s)
        server.resume()

    async def step_clock(self, step: Step) -> None:
        by_s = int(-90 + 180 * step.much)
        async with self._redis(f"clock {by_s:+d} s") as mine:
            if mine:
                self._one().step_clock(by_s)

    def _one(self) -> OneServer:
        assert isinstance(self._world.servers, OneServer)
        return self._world.servers

    async def hang_relay(self, step: Step) -> None:
        relay = self._world.relays[int(step.who * len(self._world.relays))]
        directions = ((UP,), (DOWN,), (UP, DOWN))[int(step.much * 3)]
        for_s = 0.5 + 8 * (step.much * 3 % 1)
        at = self._world.relays.index(relay)
        async with self._window(f"relay-hangs {at} {'+'.join(directions)} {for_s:.2f} s"):
            relay.hang(*directions)
            await asyncio.sleep(for_s)
            relay.heal()

    async def cut_relay(self, step: Step) -> None:
        relay = self._world.relays[int(step.who * len(self._world.relays))]
        async with self._window(f"relay-cut {self._world.relays.index(relay)}"):
            relay.cut()

    async def lag_relay(self, step: Step) -> None:
        relay = self._world.relays[int(step.who * len(self._world.relays))]
        direction = UP if step.much < 0.5 else DOWN
        async with self._window(f"relay-lags {self._world.relays.index(relay)} {direction}"):
            relay.lag(direction, 0.05 + 0.5 * (step.much * 2 % 1))
            await asyncio.sleep(4.0)
            relay.heal()

    async def rewind_redis(self, step: Step) -> None:
        """It comes back as it was a while ago."""
        async with self._redis("rewind") as mine:
            if mine:
                one = self._one()
                await self._tell(one.server, "SAVE")
                await asyncio.sleep(2 * step.much)
                with self._loss():
                    one.server.kill()
                    await asyncio.sleep(step.who)
                    await asyncio.to_thread(one.start)

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

    async def flush_all(self, step: Step) -> None:
        async with self._redis("FLUSHALL") as mine:
            if mine:
                with self._loss():
                    await self._tell(self._one().server, "FLUSHALL")

    async def delete_key(self, step: Step) -> None:
        """One key of one stream that is watched now."""
        streams = self._world.open_streams()
        if not streams:
            return
        key = f"bc:{{{streams[int(step.who * len(streams))]}}}:{('log', 'meta', 'lease')[int(step.much * 3)]}"
        async with self._redis(f"DEL {key}") as mine:
            if mine:
                with self._loss():
                    await self._tell(self._one().server, "DEL", key)

    # -- Sentinel and Cluster

    async def kill_replica(self, step: Step) -> None:
        async with self._redis("SIGKILL replica") as mine:
            if mine:
                await self._away(await asyncio.to_thread(self._replica, step), LONGEST_S * step.much)

    async def kill_primary(self, step: Step) -> None:
        async with self._redis("SIGKILL primary") as mine:
            if mine:
                with self._loss():
                    await self._away(await asyncio.to_thread(self._primary, step), 1 + 8 * step.much)

    async def _away(self, server: ValkeyServer, for_s: float) -> None:
        server.kill()
        await asyncio.sleep(for_s)
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(self._world.servers.heal)

    async def freeze_primary(self, step: Step) -> None:
        async with self._redis("SIGSTOP primary") as mine:
            if mine:
                with self._loss():
                    await self._frozen(await asyncio.to_thread(self._primary, step), 1 + 6 * step.much)
                    await asyncio.to_thread(self._world.servers.heal)

    async def fail_over(self, step: Step) -> None:
        servers = self._world.servers
        assert isinstance(servers, SentinelServers)
        async with self._redis("SENTINEL-FAILOVER") as mine:
            if mine:
                with self._loss():
                    port = servers.sentinels.sentinels[0].port
                    with suppress(RedisError):
                        await asyncio.to_thread(ask, port, "SENTINEL", "FAILOVER", SERVICE)
                    await asyncio.sleep(2.0)
                    await asyncio.to_thread(servers.heal)

    async def hand_over(self, step: Step) -> None:
        cluster = self._cluster()
        async with self._redis("CLUSTER-FAILOVER") as mine:
            if mine:
                await asyncio.to_thread(cluster.heal)
                replica = await asyncio.to_thread(self._replica, step)
                await asyncio.to_thread(cluster.cluster.hand_over, replica, FAILOVER_S)
                await asyncio.to_thread(cluster.heal)

    async def migrate(self, step: Step) -> None:
        """The slot of a stream that is watched now moves while it is written."""
        streams, cluster = self._world.open_streams(), self._cluster().cluster
        if not streams:
            return
        slot = key_slot(f"{{{streams[int(step.who * len(streams))]}}}".encode())
        async with self._redis(f"slot {slot}") as mine:
            if mine:
                await asyncio.to_thread(self._cluster().heal)
                primaries = await asyncio.to_thread(lambda: cluster.primaries)
                source = await asyncio.to_thread(cluster.primary_of_slot, slot)
                others = [each for each in primaries if each is not source]
                target = others[int(step.much * len(others))]
                await asyncio.to_thread(cluster.begin_migration, slot, target)
                await asyncio.sleep(step.much)
                await asyncio.to_thread(cluster.finish_migration, slot)
                await asyncio.to_thread(self._cluster().heal)

    def _cluster(self) -> ClusterServers:
        assert isinstance(self._world.servers, ClusterServers)
        return self._world.servers

    def _primary(self, step: Step) -> Any:
        servers = self._world.servers
        if isinstance(servers, SentinelServers):
            return servers.sentinels.primary
        primaries = self._cluster().cluster.primaries
        return primaries[int(step.who * len(primaries))]

    def _replica(self, step: Step) -> Any:
        servers = self._world.servers
        if isinstance(servers, SentinelServers):
            return servers.sentinels.replica
        return self._cluster().cluster.replica_of(self._primary(step))
