"""The primary of the queue is killed, and the replica that replaces it lacks its newest entries.

The answers lie on the other nodes, which are well. What the queue has lost of them is rewritten: a running answer's
job and promise by its worker, a waiting answer's by the front-end that watches it and by the sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from broadcaster.core.events import Finish
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.generations import create_generation_id
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.jobs.queue import Job, Settled
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection, log_errors
from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.streams import terminals
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.writer import StreamWriter
from broadcaster.log.tail.tail import LiveTail
from tests.support.log.log_world import TENANT, World, until
from tests.support.log.redis_cluster import ClusterNode, RedisCluster6
from tests.support.log.tail_world import Room
from tests.topologies.log.appending import BACK_S

HOOK: Final = {"url": "https://hooks.example.com/h"}
OF_EACH: Final = 3
REPAIR_S: Final = 20.0
"""From the failover until a waiting generation has a job: a tail check, a refresh, and a sweep that finds it."""


@dataclass
class Parts:
    """A worker's parts and a front-end's, over one connection."""

    world: World
    appender: Appender
    keeper: LeaseKeeper
    tail: LiveTail

    async def begin(self, job: Job) -> StreamWriter:
        claim = await self.world.claim(job.generation_id)
        writer = await self.world.writer(job.generation_id, claim, self.appender, self.keeper)
        self.keeper.hold(writer, job)
        return writer

    async def finish(self, job: Job) -> None:
        writer = await self.begin(job)
        assert await writer.end([Finish()], deadline_s=30)
        self.keeper.drop(writer, keep_s=3600)
        await self.world.queue.settle(job, Settled.DONE, has_webhook=True)


async def test_generations_on_other_nodes_survive_the_loss_of_the_queues_newest_entries(
    cluster: RedisCluster6,
) -> None:
    primary = cluster.primary_of(KeyNames("bc").open)
    async with opened(cluster, away_from=primary) as parts:
        world, name = parts.world, parts.world.keys
        replica = cut_off(cluster, primary)
        ids = [await world.create(webhook=HOOK) for _ in range(3 * OF_EACH)]
        jobs = await take(world, 2 * OF_EACH)
        running, ended = jobs[:OF_EACH], jobs[OF_EACH:]
        for job in running:
            await parts.begin(job)
        for job in ended:
            await parts.finish(job)
        waiting = [each for each in ids if each not in {job.generation_id for job in jobs}]
        for stream_id in waiting:
            parts.tail.watch(stream_id, Room())

        cluster.kill(primary)
        replica.resume()

        await has_taken_over(cluster, name.open, replica, world)
        still_open = {*waiting, *(job.generation_id for job in running)}
        await holds(world, name.open, still_open)
        await holds(world, name.webhooks_promised, still_open)
        await holds(world, name.webhooks_due, {job.generation_id for job in ended})
        assert {job.generation_id for job in await take(world, OF_EACH)} == set(waiting)


async def test_a_stop_that_was_answered_survives_the_failover_that_lost_it(cluster: RedisCluster6) -> None:
    async with opened(cluster, away_from=cluster.primary_of(KeyNames("bc").open)) as parts:
        world = parts.world
        stream_id = await world.create()
        primary = cluster.primary_of(world.keys.meta(stream_id))
        replica = cut_off(cluster, primary)
        await world.generations.stop(stream_id, tenant=TENANT)

        cluster.kill(primary)
        replica.resume()

        await has_taken_over(cluster, world.keys.meta(stream_id), replica, world)
        async with asyncio.timeout(world.lease_ms / 1000):  # then a worker would take it
            while not (meta := await world.streams.meta(stream_id)) or not meta.is_over:
                await asyncio.sleep(0.05)
        assert await world.texts(stream_id) == [terminals.STOPPED]


async def has_taken_over(cluster: RedisCluster6, key: str, replica: ClusterNode, world: World) -> None:
    """The replica is the primary of the key, and our topology reaches every primary."""

    def is_primary() -> bool:
        with contextlib.suppress(LookupError):
            return cluster.primary_of(key) is replica
        return False

    await until(is_primary, BACK_S)
    await until(lambda: world.steadiness.breaks > 0 and world.steadiness.answering.is_set(), BACK_S)


def cut_off(cluster: RedisCluster6, primary: ClusterNode) -> ClusterNode:
    """The primary's replica, stopped and with nothing under way to it: it lacks whatever is written from now on."""
    replica = cluster.replica_of(primary)
    replica.pause()
    primary.execute("CLIENT", "KILL", "TYPE", "replica")
    return replica


@asynccontextmanager
async def opened(cluster: RedisCluster6, *, away_from: ClusterNode) -> AsyncIterator[Parts]:
    """Everything that repairs; what is created lies on nodes other than ``away_from``."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(LogConnection(cluster.url, timeout_s=2.0, patience_s=0))
        await connection.ping()

        def create_id() -> str:
            while True:
                stream_id = create_generation_id()
                if connection.server_of(connection.keys.meta(stream_id)) != away_from.name:
                    return stream_id

        world = World(connection, lease_ms=3000, create_id=create_id, has_rescue=True)
        assert world.rescue is not None
        announcer = world.rescue.announcer
        topology = connection.topology
        tail = await stack.enter_async_context(
            LiveTail(
                topology,
                world.streams,
                keys=connection.keys,
                publish_probe=connection.redis.spublish,
                open_notice=announcer,
            )
        )
        appender = await stack.enter_async_context(world.appender())
        keeper = world.keeper(appender, is_patient=False)
        sweeper = Sweeper(
            SweepTimes(60_000, 60_000, 1_800_000),
            queue=world.queue,
            claims=world.claims,
            streams=world.streams,
            steadiness=world.steadiness,
            ends=world.rescue.ends,
        )
        runs = [world.steadiness.run(), topology.run(), announcer.run(), keeper.run(), sweeper.run(every_s=0.5)]
        tasks = [asyncio.create_task(run) for run in runs]
        await until(lambda: world.steadiness.is_steady, BACK_S)
        try:
            yield Parts(world, appender, keeper, tail)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def take(world: World, count: int) -> list[Job]:
    """So many jobs, as a worker takes them."""
    await world.queue.create_group()
    reader = world.reader()
    jobs: list[Job] = []
    async with asyncio.timeout(REPAIR_S):
        while len(jobs) < count:
            jobs += await reader.take(count - len(jobs))
    await reader.aclose()
    return jobs


async def holds(world: World, key: str, ids: set[str]) -> None:
    """Until the sorted set holds exactly these."""
    found: set[str] = set()
    try:
        async with asyncio.timeout(REPAIR_S):
            while found != ids:
                await asyncio.sleep(0.05)
                with contextlib.suppress(LogUnavailable), log_errors():
                    found = {each.decode() for each in await world.redis.zrange(key, 0, -1)}
    except TimeoutError:
        raise AssertionError(f"{key}: missing {ids - found}, too many {found - ids}") from None
