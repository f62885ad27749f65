"""A feed's block that is cancelled while it opens: the feed that Redis creates all the same ends with ``abort``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest

from broadcaster import Broadcaster
from broadcaster.library.feed import CANCELLED_S
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from tests.library.support import DEADLINE_S, raw_events, until_in_the_log
from tests.support.servers.redis_relay import RedisRelay, open_redis_relay

ABORT = b'{"type":"abort","reason":"cancelled"}'


@pytest.fixture
async def relay(connection: LogConnection) -> AsyncIterator[RedisRelay]:
    """Every server knows the script that creates a feed, so that a call has its hash."""
    await connection.redis.script_load(SCRIPTS["feed_create"].text)
    async with open_redis_relay(connection.url) as opened:
        yield opened


@pytest.fixture
async def broadcaster(relay: RedisRelay) -> AsyncIterator[Broadcaster]:
    async with Broadcaster.from_url(relay.url, drain_s=0, redis_timeout_s=10 * CANCELLED_S) as opened:
        relay.hold_at(SCRIPTS["feed_create"].sha.encode())
        yield opened


async def open_block(broadcaster: Broadcaster, *, closes: bool = True) -> None:
    async with broadcaster.feed("job", close=closes, lease_s=None):
        pytest.fail("it was cancelled before it was open")


async def texts(pieces: int = 3) -> AsyncIterator[str]:
    for _ in range(pieces):
        yield "word "


async def publish(broadcaster: Broadcaster) -> None:
    await broadcaster.publish(texts(), id="job", lease_s=None)


@pytest.mark.parametrize("opening", [open_block, publish])
async def test_a_block_that_is_cancelled_while_its_feed_is_created_ends_it_with_abort(
    broadcaster: Broadcaster, connection: LogConnection, relay: RedisRelay, opening
) -> None:
    task = asyncio.create_task(opening(broadcaster))
    await relay.held.wait()
    task.cancel()
    relay.resume()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait({task})
    assert task.cancelled()
    assert await raw_events(connection, "job") == [ABORT]
    assert not broadcaster.statistics().feeds


async def test_a_block_that_is_cancelled_at_every_await_ends_its_feed_too(
    broadcaster: Broadcaster, connection: LogConnection, relay: RedisRelay
) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(open_block, broadcaster)
            await relay.held.wait()
            scope.cancel()
    relay.resume()
    assert await until_in_the_log(connection, "job", 1) == [ABORT]


async def test_closing_waits_for_the_end_of_a_block_that_was_cancelled_while_it_opened(
    connection: LogConnection, relay: RedisRelay
) -> None:
    async with Broadcaster.from_url(relay.url, drain_s=0) as broadcaster:
        relay.hold_at(SCRIPTS["feed_create"].sha.encode())
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(open_block, broadcaster)
                await relay.held.wait()
                scope.cancel()
        relay.resume()
    assert await raw_events(connection, "job") == [ABORT]


async def test_a_feed_that_others_end_is_left_open(
    broadcaster: Broadcaster, connection: LogConnection, relay: RedisRelay
) -> None:
    task = asyncio.create_task(open_block(broadcaster, closes=False))
    await relay.held.wait()
    task.cancel()
    await asyncio.wait({task})
    relay.resume()
    async with asyncio.timeout(DEADLINE_S):
        while not await connection.redis.exists(connection.keys.meta("job")):
            await asyncio.sleep(0.01)
    assert await raw_events(connection, "job") == []


async def test_a_redis_that_does_not_answer_holds_the_cancelled_block_no_longer_than_its_time(
    broadcaster: Broadcaster, relay: RedisRelay
) -> None:
    task = asyncio.create_task(open_block(broadcaster))
    await relay.held.wait()
    task.cancel()
    async with asyncio.timeout(2 * CANCELLED_S):
        await asyncio.wait({task})
    assert task.cancelled()
    assert not broadcaster.statistics().feeds
