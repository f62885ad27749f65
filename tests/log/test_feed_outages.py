"""A server or a worker that is away is told in bounded time, and so is its return; nothing is lost by it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broadcaster.core.notices import StallReason
from broadcaster.log.feed_options import FeedTimes
from tests.support.feed_log import (
    NEVER_S,
    PROBES,
    PROMISED_S,
    TAILS,
    FeedWorld,
    open_feed,
    until,
)
from tests.support.valkey import ValkeyServer, start_valkey


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    """One that a test may kill, pause and restart; it remembers."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        with start_valkey(Path(folder), appendonly=True) as running:
            yield running


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[FeedWorld]:
    async with open_feed(redis_url) as opened:
        yield opened


@pytest.fixture
async def checked(redis_url: str) -> AsyncIterator[FeedWorld]:
    """A feed with the tail check as its only means besides pushes and reconnects."""
    async with open_feed(redis_url, times=TAILS) as opened:
        yield opened


# ----------------------------------------------------------------------------------------------------------- the server


@pytest.mark.parametrize("times", [TAILS, PROBES], ids=["tail check", "probe"])
async def test_a_paused_server_is_told_as_unavailable_and_loses_nothing(
    own_server: ValkeyServer, times: FeedTimes
) -> None:
    async with open_feed(own_server.url, times=replace(times, read_s=0.3), timeout_s=0.3) as world:
        room, _ = await world.watch_live("s")
        written = await world.writer.append("s", 2)
        await room.holds(written)

        own_server.pause()
        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)
        own_server.resume()

        await world.connection.redis.connection_pool.disconnect()
        written += await world.writer.append("s", 2)
        await room.holds(written)
        await room.until(lambda: room.stall is None)
        assert room.told == [("stalled", StallReason.LOG_UNAVAILABLE), ("stalled", None)]


async def test_a_quiet_stream_is_told_when_the_server_answers_again(own_server: ValkeyServer) -> None:
    async with open_feed(own_server.url, times=replace(TAILS, read_s=0.3), timeout_s=0.3) as world:
        room, _ = await world.watch_live("s")
        own_server.pause()
        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)

        own_server.resume()

        await room.until(lambda: room.stall is None)


async def test_the_default_times_tell_a_paused_server_within_the_promise(own_server: ValkeyServer) -> None:
    async with open_feed(own_server.url, times=FeedTimes(), timeout_s=5.0) as world:
        room, _ = await world.watch_live("s")
        own_server.pause()

        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE, within_s=PROMISED_S + 0.5)
        own_server.resume()


async def test_a_watch_begun_while_the_server_is_away_is_told_and_then_served(own_server: ValkeyServer) -> None:
    async with open_feed(own_server.url) as world:
        written = await world.writer.append("s", 2)
        own_server.kill()
        room, watch = world.watch("s")
        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)

        own_server.start()
        await watch.synced()

        assert room.entries == written
        assert room.stall is None


async def test_a_killed_server_that_comes_back_with_its_log_loses_nothing(own_server: ValkeyServer) -> None:
    async with open_feed(own_server.url) as world:
        room, _ = await world.watch_live("s")
        written = await world.writer.append("s", 3)
        await room.holds(written)

        own_server.kill()
        own_server.start()
        await world.connection.redis.connection_pool.disconnect()
        written += await world.writer.append("s", 2, push="none")

        await room.holds(written)
        assert [what for what in room.told if isinstance(what, tuple) and what[0] == "rewound"] == []


# ----------------------------------------------------------------------------------------------------------- the worker


async def test_a_lost_worker_is_told_until_another_holds_the_lease(checked: FeedWorld) -> None:
    room, _ = await checked.watch_live("s")
    await checked.writer.set_worker("s", leased=True)
    await checked.writer.append("s")
    await checked.writer.set_worker("s", leased=False)
    await room.until(lambda: room.stall is StallReason.WORKER_LOST)

    await checked.writer.set_worker("s", leased=True)

    await room.until(lambda: room.stall is None)


async def test_a_lost_worker_is_told_no_longer_when_entries_come(checked: FeedWorld) -> None:
    room, _ = await checked.watch_live("s")
    await checked.writer.set_worker("s", leased=False)
    await checked.writer.append("s")
    await room.until(lambda: room.stall is StallReason.WORKER_LOST)

    written = await checked.writer.finish("s")

    await room.until(lambda: room.stall is None and room.entries[-1] == written)


async def test_a_lapse_of_the_lease_that_ends_in_time_is_not_told(redis_url: str) -> None:
    async with open_feed(redis_url, times=replace(TAILS, stall_notice_s=NEVER_S)) as world:
        room, watch = await world.watch_live("s")
        await world.writer.set_worker("s", leased=False)
        await until(lambda: watch.is_suspect)

        await world.writer.set_worker("s", leased=True)

        await until(lambda: not watch.is_suspect)
        assert room.told == []


async def test_a_queued_stream_is_not_a_stalled_one(checked: FeedWorld) -> None:
    queued, _ = await checked.watch_live("queued")
    running, _ = await checked.watch_live("running")
    await checked.writer.set_worker("queued", status="queued", leased=False)
    await checked.writer.set_worker("running", status="running", leased=False)

    await running.until(lambda: running.stall is StallReason.WORKER_LOST)

    assert queued.told == []


async def test_a_stream_that_vanished_altogether_is_told_as_stalled(checked: FeedWorld) -> None:
    room, _ = await checked.watch_live("s")
    await checked.writer.append("s")

    await checked.connection.redis.flushall()

    await room.until(lambda: room.stall is StallReason.WORKER_LOST)


async def test_a_log_that_cannot_be_read_is_told_and_tried_again(checked: FeedWorld) -> None:
    """The key holds something else: every read fails, while the server answers everybody else."""
    key = checked.connection.keys.log("s")
    await checked.connection.redis.set(key, "not a stream")
    room, watch = checked.watch("s")
    await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)

    await checked.connection.redis.delete(key)
    written = await checked.writer.append("s", 2)

    await room.holds(written)
    await watch.synced()
    assert room.stall is None
