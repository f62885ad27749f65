"""The connections of a worker hang, or its renewals fail for a moment: its answers stay its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from tests.faults.workers.worker_moments import LEASE_S, answer, attempts, logged, torn_then_whole
from tests.faults.world import open_world
from tests.support.log.log_world import World, until
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.redis_relay import RedisRelay, open_redis_relay

POLL_S = 0.01


@asynccontextmanager
async def held(relay: RedisRelay, *, lease_ms: int) -> AsyncIterator[tuple[LeaseKeeper, str]]:
    """A stream that a worker holds through the relay; its other calls than renewals may wait for a minute."""
    async with LogConnection(relay.url, timeout_s=60) as through:
        world = World(through, lease_ms=lease_ms)
        async with world.appender() as appender:
            keeper = world.keeper(appender, is_patient=False)
            stream_id, claim = await world.granted()
            await world.writer(stream_id, claim, appender, keeper)
            await keeper.renew()
            yield keeper, through.keys.lease(stream_id)


@asynccontextmanager
async def running(keeper: LeaseKeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_lease_outlives_connections_that_hang(server: ValkeyServer) -> None:
    async with (
        open_redis_relay(server.url) as relay,
        LogConnection(server.url) as beside,
        held(relay, lease_ms=1000) as (keeper, lease),
        running(keeper),
    ):
        relay.hang()
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 2.2:
            assert await beside.redis.pttl(lease) > 0
            await asyncio.sleep(POLL_S)


async def test_a_renewal_that_failed_is_repeated_at_once(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        open_redis_relay(server.url) as relay,
        LogConnection(server.url) as beside,
        held(relay, lease_ms=240_000) as (keeper, lease),  # whose renewals are a minute apart
    ):
        await relay.refuse()
        async with running(keeper):
            await until(lambda: "renewal_later" in caplog.text)
            await beside.redis.delete(lease)
            await relay.switch(server.url)
            async with asyncio.timeout(20):
                while not await beside.redis.exists(lease):
                    await asyncio.sleep(POLL_S)
            assert caplog.text.count("renewal_later") == 1


async def test_a_worker_whose_connections_hang_keeps_its_answers(tmp_path: Path, server: ValkeyServer) -> None:
    """They hang as a renewal is sent, and once more as it is repeated over a new one.

    Calls that wait for ``REDIS_TIMEOUT_S``, half of a lease at most, would come too late.
    """
    async with (
        open_redis_relay(server.url) as relay,
        open_world(tmp_path, redis=server, redis_timeout_s=LEASE_S / 2) as world,
    ):
        await world.front_end()
        hanging = await world.worker(redis_url=relay.url)
        stream, conversation = await torn_then_whole(world)
        (viewer,) = world.view(stream)
        await world.worker()
        redis, lease = world.connection.redis, world.connection.keys.lease(stream)

        relay.hang_at(SCRIPTS["renew"].sha.encode(), times=2)

        async with asyncio.timeout(3 * LEASE_S):
            while relay.hangs_left or await redis.pttl(lease) < 0.9 * LEASE_S * 1000:
                assert await redis.pttl(lease) > 0, "another worker may take the answer over"
                await asyncio.sleep(POLL_S)
        await conversation.send_text("and on")
        await conversation.finish()
        await world.settle()
        await world.check()
        assert (answer(viewer), attempts(viewer)) == ("torn and on", 0)
        assert logged([hanging], "lease_lost") == []
