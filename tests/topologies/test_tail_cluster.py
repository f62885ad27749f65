"""Live watches over a cluster: primaries die and swap roles, slots move, and every room is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.streams.reader import Streams
from tests.support.log.feed_writers import BOUNDS, TENANT
from tests.support.log.redis_cluster import ClusterNode, RedisCluster6
from tests.support.log.tail_world import PROMISED_S, Room, delta, until
from tests.support.log.topology_world import TopologyWorld, open_topology_world

FAILOVER_S = 60.0
HALF_MIGRATED_S = 3.0


@pytest.fixture(autouse=True)
def _whole(cluster: RedisCluster6) -> Iterator[None]:
    """The next test finds all nodes up."""
    yield
    for node in cluster.nodes:
        if node.is_away:
            node.start()
    cluster.wait_ok(FAILOVER_S)


def channels_at(node: ClusterNode) -> int:
    return len(node.execute("PUBSUB", "SHARDCHANNELS"))


async def test_streams_of_all_shards_are_whole_after_a_primary_was_killed(cluster: RedisCluster6) -> None:
    async with open_topology_world(cluster.url) as world:
        await world.start_on_all()
        killed = cluster.primary_of(world.world.keys.log(world.streams[0].stream_id))
        replica = cluster.replica_of(killed)

        cluster.kill(killed)
        await asyncio.to_thread(cluster.wait_ok, FAILOVER_S)
        await world.catch_up()

        serving = {node.name for node in cluster.primaries}
        await until(lambda: set(world.topology.nodes) == serving, within_s=PROMISED_S)
        assert replica.name in serving
        await world.finish()


async def test_a_primary_that_silently_became_a_replica_is_left(cluster: RedisCluster6) -> None:
    """It keeps its subscribers, and receives what is published in its shard: nothing breaks, nothing is refused."""
    async with open_topology_world(cluster.url) as world:
        await world.start_on_all()
        old = cluster.primary_of(world.world.keys.log(world.streams[0].stream_id))
        new = cluster.replica_of(old)
        assert channels_at(old) > 0

        await asyncio.to_thread(cluster.hand_over, new, FAILOVER_S)

        await until(lambda: new.name in world.topology.nodes and old.name not in world.topology.nodes)
        await until(lambda: channels_at(old) == 0 and channels_at(new) > 0, within_s=PROMISED_S)
        await world.catch_up()
        await world.finish()


async def test_a_slot_that_stays_half_migrated_under_traffic_costs_no_entry(cluster: RedisCluster6) -> None:
    """A stream that begins in the slot meanwhile begins at the target: subscribers at the source receive nothing."""
    async with open_topology_world(cluster.url) as world:
        await world.start_on_all()
        slot = world.slot_of(world.streams[0].stream_id)
        source = cluster.primary_of_slot(slot)
        target = next(node for node in cluster.primaries if node is not source)

        cluster.begin_migration(slot, target)
        begun = asyncio.get_running_loop().time()
        single_key, whole_feed = await watch_new_streams(world, slot)
        await single_key.until(lambda: single_key.last_seq == 2, within_s=PROMISED_S)
        await until(lambda: asyncio.get_running_loop().time() > begun + HALF_MIGRATED_S)
        await asyncio.to_thread(cluster.finish_migration, slot)
        await asyncio.to_thread(cluster.wait_ok, FAILOVER_S)

        await whole_feed.until(lambda: whole_feed.last_seq == 1, within_s=PROMISED_S)
        await world.catch_up()
        await until(lambda: world.topology.node_of(world.world.keys.log(world.streams[0].stream_id)) == target.name)
        await world.finish()


async def watch_new_streams(world: TopologyWorld, slot: int) -> tuple[Room, Room]:
    """Two streams of an open slot, watched from before their start: one written with single-key commands, which the
    target takes at once; one created and written as feeds are, which has to wait until the slot has moved."""
    rooms = Room(), Room()
    first, second = world.stream_in(slot, name="a"), world.stream_in(slot, name="b")
    for stream_id, room in zip((first, second), rooms, strict=True):
        world.tail.watch(stream_id, room)
    connection = world.connection
    for seq in (1, 2):
        await connection.redis.xadd(connection.keys.log(first), {"e": delta("x"), "v": 1, "b": 0}, id=f"1-{seq}")
    feeds = Feeds(connection, BOUNDS, streams=Streams(connection))

    async def create() -> None:
        await feeds.create(second, FeedConfig(), tenant=TENANT)
        await feeds.append(second, [delta("x")], tenant=TENANT)

    world.tasks.create_task(create())
    return rooms
