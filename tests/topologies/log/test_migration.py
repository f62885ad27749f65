"""A slot stays half migrated for three seconds under traffic: a start waits, appends go on afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from broadcaster.core.cursor import Cursor
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.webhooks import due_call
from broadcaster.log.redis.connect import LogConnection, later
from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.streams.presence import Presence
from tests.support.log.feed_writers import BOUNDS
from tests.support.log.log_world import TENANT, World, delta
from tests.support.log.redis_cluster import RedisCluster6
from tests.topologies.log.appending import running

MIGRATING_S: Final = 3.0
WELL_S: Final = 20.0
REQUEST: Final = GenerationRequest(model="m", request={"messages": []})


async def test_a_generation_is_created_while_the_queues_slot_is_half_migrated(
    cluster: RedisCluster6, at_cluster: LogConnection
) -> None:
    ids = [await World(at_cluster).create() for _ in range(12)]
    async with LogConnection(cluster.url, timeout_s=10.0) as front_end, running(at_cluster, ids) as run:
        world = World(front_end)
        held = asyncio.create_task(_hold(cluster, KeyNames("bc").ready))
        await asyncio.sleep(0)

        created = await asyncio.gather(*(world.generations.create(REQUEST, tenant=TENANT) for _ in range(20)))
        await run.appended(5)

        await held
        metas = await world.streams.metas([each.id for each in created])
        assert {meta.status for meta in metas if meta is not None} == {"queued"}
        assert {each.id for each in created} <= {each.id for each in (await world.queue.open_page()).jobs}
        assert await front_end.redis.xlen(front_end.keys.ready) == len(ids) + len(created)


async def test_appends_to_a_half_migrated_slot_come_after_it_and_none_is_lost(
    cluster: RedisCluster6, at_cluster: LogConnection
) -> None:
    ids = [await World(at_cluster).create() for _ in range(6)]
    async with running(at_cluster, ids) as run:
        await _hold(cluster, at_cluster.keys.log(ids[0]))
        await run.appended(5)


async def test_a_feed_is_created_in_a_half_migrated_slot(cluster: RedisCluster6) -> None:
    async with LogConnection(cluster.url, timeout_s=10.0) as connection:
        world = World(connection)
        feeds = Feeds(connection, BOUNDS, streams=world.streams)
        held = asyncio.create_task(_hold(cluster, connection.keys.log("job-1")))
        await asyncio.sleep(0)

        assert await feeds.create("job-1", FeedConfig(), tenant=TENANT)
        await feeds.append("job-1", [delta("a")], tenant=TENANT)

        await held
        assert await world.seqs("job-1") == [1]


async def _hold(cluster: RedisCluster6, key: str) -> None:
    """Half of the slot's keys here, half there, for a while; then all of it over there."""
    slot = key_slot(key.encode())
    target = next(node for node in cluster.primaries if node is not cluster.primary_of_slot(slot))
    cluster.begin_migration(slot, target)
    await asyncio.to_thread(cluster.migrate_keys, slot, 1)
    await asyncio.sleep(MIGRATING_S)
    await asyncio.to_thread(cluster.finish_migration, slot)
    await asyncio.to_thread(cluster.wait_ok, WELL_S)


@pytest.mark.parametrize("on_abandon", ["continue", "cancel"])
async def test_the_last_viewer_leaves_a_half_migrated_slot(
    cluster: RedisCluster6, at_cluster: LogConnection, on_abandon: str
) -> None:
    """The member that is removed is the only one of its key."""
    world = World(at_cluster)
    stream = await world.create(on_abandon=on_abandon)
    presence = Presence(at_cluster, front_end="here", ttl_s=60.0)
    await presence.report({stream: 1})
    async with _begun(cluster, at_cluster.keys.meta(stream)):
        await presence.report({})
        assert await at_cluster.redis.zrange(at_cluster.keys.viewers(stream), 0, -1) == (
            [b":0"] if on_abandon == "cancel" else []
        )


async def test_where_a_stream_stands_is_read_while_its_keys_are_at_two_servers(
    cluster: RedisCluster6, at_cluster: LogConnection
) -> None:
    """No script runs there, and a front-end that learned nothing would report a stall."""
    world = World(at_cluster, lease_ms=60_000)
    moving, claim = await world.granted()
    await world.append(moving, claim.epoch, 1, [delta("a")])
    still, _ = await world.granted()
    async with _begun(cluster, at_cluster.keys.log(moving)):
        await asyncio.to_thread(cluster.migrate_keys, key_slot(at_cluster.keys.log(moving).encode()), 1)
        tails = await world.streams.tails([still, moving, "gen_none"])
    assert [(tail.last, tail.status, tail.leased) for tail in tails] == [
        (None, "running", True),
        (Cursor(claim.epoch, 1), "running", True),
        (None, None, False),
    ]


async def test_a_key_that_a_script_finds_at_another_server_means_later(
    cluster: RedisCluster6, at_cluster: LogConnection
) -> None:
    key = at_cluster.keys.meta("gen_gone")
    await at_cluster.redis.set(key, "here")
    async with _begun(cluster, key):
        with pytest.raises(RedisError) as refused:
            await at_cluster.redis.eval("redis.call('DEL', KEYS[1]) return redis.call('GET', KEYS[1])", 1, key)
    assert later(refused.value), refused.value


async def test_all_webhooks_become_due_in_a_half_migrated_slot(
    cluster: RedisCluster6, at_cluster: LogConnection
) -> None:
    """The promises that are kept are all that their key held."""
    keys, redis = at_cluster.keys, at_cluster.redis
    await redis.delete(keys.webhooks_promised, keys.webhooks_due)
    await redis.zadd(keys.webhooks_promised, {"gen_1": 1, "gen_2": 2})
    await redis.zadd(keys.webhooks_due, {"gen_0": 1})
    async with _begun(cluster, keys.webhooks_due):
        script, names, args = due_call(keys, ["gen_1", "gen_2", "gen_3"])
        assert await script.run(redis, names, *args) == 3
        assert await redis.zrange(keys.webhooks_due, 0, -1) == [b"gen_0", b"gen_1", b"gen_2", b"gen_3"]


@asynccontextmanager
async def _begun(cluster: RedisCluster6, key: str) -> AsyncIterator[None]:
    """The slot is open between two servers, and all its keys are still at the first; moved when the block ends."""
    slot = key_slot(key.encode())
    target = next(node for node in cluster.primaries if node is not cluster.primary_of_slot(slot))
    cluster.begin_migration(slot, target)
    try:
        yield
    finally:
        await asyncio.to_thread(cluster.finish_migration, slot)
        await asyncio.to_thread(cluster.wait_ok, WELL_S)
