"""Both servers of a shard are down: what the others hold is swept as ever, and nothing of the lost one is given up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.keys import KeyNames
from tests.support.log.log_world import TENANT, World
from tests.support.log.redis_cluster import ClusterNode, RedisCluster6

STREAMS: Final = 12
KEPT_UP: Final = "cluster-require-full-coverage"


@pytest.fixture
def partial_cluster(cluster: RedisCluster6) -> Iterator[RedisCluster6]:
    """One that serves the slots that it can, as an operator may have it."""
    for node in cluster.nodes:
        node.execute("CONFIG", "SET", KEPT_UP, "no")
    yield cluster
    for node in cluster.running:
        node.execute("CONFIG", "SET", KEPT_UP, "yes")


async def test_the_sweep_goes_on_with_the_shards_that_answer(
    partial_cluster: RedisCluster6, at_cluster: LogConnection
) -> None:
    world = World(at_cluster)
    doomed = next(each for each in partial_cluster.primaries if each is not _primary_of_queue(partial_cluster))
    ids: list[str] = []
    lost: set[str] = set()
    while len(ids) < STREAMS or not 0 < len(lost) < len(ids):  # where an id lies is chance
        ids.append(await world.create())
        lost = {each for each in ids if at_cluster.server_of(world.keys.meta(each)) == doomed.name}
    gone = [f"gen_{number}" for number in range(STREAMS)]  # of these nothing is known but that they were open
    gone_lost = {each for each in gone if at_cluster.server_of(world.keys.meta(each)) == doomed.name}
    assert 0 < len(gone_lost) < STREAMS
    await world.redis.delete(world.keys.ready)
    await world.redis.zadd(world.keys.open, dict.fromkeys([*ids, *gone], 0))
    for node in (partial_cluster.replica_of(doomed), doomed):
        partial_cluster.kill(node)
    sweeper = Sweeper(
        SweepTimes(60_000, 60_000, 1_800_000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
    )

    await sweeper.turn()

    jobs = {fields[b"id"].decode() for _, fields in await world.redis.xrange(world.keys.ready)}
    assert jobs == set(ids) - lost
    assert set(await world.queue.newest_open(100)) == {*ids, *gone_lost}
    assert await world.streams.owners(ids) == [None if each in lost else TENANT for each in ids]


def _primary_of_queue(cluster: RedisCluster6) -> ClusterNode:
    return cluster.primary_of(KeyNames("bc").open)
