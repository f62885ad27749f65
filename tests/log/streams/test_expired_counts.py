"""Streams that have expired leave their tenant's counts, also those that a publisher has created."""

from __future__ import annotations

import asyncio
from typing import Any

from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.tenant_storage import ADDED_AT_ONCE
from tests.log.streams.test_tenant_storage import A, Side
from tests.support.streaming import DEADLINE_S

SUMS = 2
"""Fields of a tenant's hash that are no streams."""


async def expire_all(connection: LogConnection, *, tenant: str = A) -> None:
    """Every stream of the tenant expires, and is due to be measured."""
    redis: Any = connection.redis
    keys = connection.keys
    ids = [each.decode() for each in await redis.zrange(keys.stored_due(tenant), 0, -1)]
    await redis.delete(*(key(each) for each in ids for key in (keys.meta, keys.log)))
    await redis.zadd(keys.stored_due(tenant), dict.fromkeys(ids, 0))


async def leave_expired(connection: LogConnection, count: int, *, tenant: str = A) -> None:
    """Open feeds of a publisher are counted which have expired since."""
    redis, keys = connection.redis, connection.keys
    ids = [f"{tenant}~gone{at}" for at in range(count)]
    for first in range(0, count, ADDED_AT_ONCE):
        some = ids[first : first + ADDED_AT_ONCE]
        await redis.hset(keys.stored(tenant), mapping=dict.fromkeys(some, "5000 1"))
        await redis.zadd(keys.stored_due(tenant), dict.fromkeys(some, 0))
    await redis.hset(keys.stored(tenant), mapping={"~bytes": 5000 * count, "~feeds": count})


async def test_feeds_of_a_publisher_that_have_expired_are_forgotten_while_it_creates_others(
    connection: LogConnection,
) -> None:
    publisher, stored = Side(connection, max_feeds=None), connection.keys.stored(A)
    for at in range(50):
        assert await publisher.create(f"old{at}")
    await expire_all(connection)
    for at in range(50):
        assert await publisher.create(f"new{at}")
    assert await connection.redis.hlen(stored) == 50 + SUMS
    assert await connection.redis.hget(stored, "~feeds") == b"50"


async def test_feeds_that_have_expired_refuse_no_feed_however_many_they_are(connection: LogConnection) -> None:
    await leave_expired(connection, 1200)
    assert await Side(connection, max_feeds=10).create("x")


async def test_a_front_end_measures_more_than_one_page_of_a_tenant_before_it_goes_on_to_the_next(
    connection: LogConnection,
) -> None:
    side, stored = Side(connection), connection.keys.stored
    await leave_expired(connection, 600)
    await leave_expired(connection, 1, tenant="b")
    for tenant in (A, "b"):
        await side.storage.admit_append(tenant)
    running = asyncio.create_task(side.storage.run())
    async with asyncio.timeout(DEADLINE_S):
        while await connection.redis.hlen(stored("b")) > SUMS:
            await asyncio.sleep(0.01)
    assert await connection.redis.hlen(stored(A)) == SUMS
    running.cancel()
