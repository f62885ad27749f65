"""What a renewal must not do, and what it does whatever else fails: guards that no other test would miss."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broadcaster.log.appender import Appender
from broadcaster.log.connect import LogConnection
from broadcaster.log.lease import LeaseKeeper
from broadcaster.log.writer import WriterEnd
from tests.support.log_world import World


@pytest.fixture
def world(connection: LogConnection) -> World:
    return World(connection)


@pytest.fixture
async def appender(world: World) -> AsyncIterator[Appender]:
    async with world.appender() as opened:
        yield opened


@pytest.fixture
def keeper(world: World, appender: Appender) -> LeaseKeeper:
    return world.keeper(appender)


async def test_a_newer_log_means_lost_when_nothing_else_is_left(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.delete(world.keys.lease(stream_id))
    await World(world.connection, worker="w2").claim(stream_id)
    await world.redis.delete(world.keys.meta(stream_id), world.keys.lease(stream_id))
    await keeper.renew()
    assert writer.end_reason is WriterEnd.FENCED


async def test_a_restored_meta_has_a_life(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.delete(world.keys.meta(stream_id))
    assert await keeper.restore(writer)
    assert await world.redis.pttl(world.keys.meta(stream_id)) > 3_600_000


async def test_a_lapsed_lease_on_a_full_redis_keeps_what_it_protects(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    await world.writer(stream_id, claim, appender, keeper)
    await world.redis.delete(world.keys.lease(stream_id))
    await world.redis.pexpire(world.keys.meta(stream_id), 100)
    await world.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Exception, match="try again"):
            await keeper.renew()
        assert await world.redis.pttl(world.keys.meta(stream_id)) > 100
    finally:
        await world.redis.config_set("maxmemory", 0)
