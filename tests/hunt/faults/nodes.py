"""What happens to the nodes of Sentinels and of a cluster."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.hunt.draw import Step
from tests.hunt.faults.base import LONGEST_S, FaultBase
from tests.hunt.system.servers import ClusterServers, SentinelServers
from tests.support.log.redis_sentinel import SERVICE, execute_at
from tests.support.log.valkey import ValkeyServer

FAILOVER_S: Final = 40.0


class NodeFaults(FaultBase):
    """See the module's text."""

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
                        await asyncio.to_thread(execute_at, port, "SENTINEL", "FAILOVER", SERVICE)
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
