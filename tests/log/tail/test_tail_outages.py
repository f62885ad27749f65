"""The absence of a server or a worker is reported in bounded time, and so is its return; nothing is lost."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import StallReason
from broadcaster.errors import LogUnavailable
from broadcaster.log.pubsub.connection import SubscriberOptions
from broadcaster.log.streams.reader import Streams
from broadcaster.log.tail.options import TailLimits, TailTimes
from tests.log.tail.test_tail_losses import Counting
from tests.support.log.tail_world import (
    NEVER_S,
    NO_PROBES,
    PROBES,
    PROMISED_S,
    PUSHES_ONLY,
    TAILS,
    TailWorld,
    open_tail,
    until,
)
from tests.support.log.valkey import ValkeyServer, start_valkey


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    """One that a test may kill, pause and restart; it remembers."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        with start_valkey(Path(folder), appendonly=True) as running:
            yield running


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[TailWorld]:
    async with open_tail(redis_url) as opened:
        yield opened


@pytest.fixture
async def checked(redis_url: str) -> AsyncIterator[TailWorld]:
    """A tail with the tail check as its only means besides pushes and reconnects."""
    async with open_tail(redis_url, times=TAILS) as opened:
        yield opened


# ----------------------------------------------------------------------------------------------------------- the server


@pytest.mark.parametrize(("times", "probes"), [(TAILS, NO_PROBES), (PUSHES_ONLY, PROBES)], ids=["tail check", "probe"])
async def test_a_paused_server_is_reported_as_unavailable_and_loses_nothing(
    own_server: ValkeyServer, times: TailTimes, probes: SubscriberOptions
) -> None:
    times = replace(times, read_s=0.3)
    async with open_tail(own_server.url, times=times, subscriber=probes, timeout_s=0.3) as world:
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
        assert room.notices == [("stalled", StallReason.LOG_UNAVAILABLE), ("stalled", None)]


async def test_a_quiet_stream_is_notified_when_the_server_responds_anew(own_server: ValkeyServer) -> None:
    async with open_tail(own_server.url, times=replace(TAILS, read_s=0.3), timeout_s=0.3) as world:
        room, _ = await world.watch_live("s")
        own_server.pause()
        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)

        own_server.resume()

        await room.until(lambda: room.stall is None)


async def test_the_default_times_report_a_paused_server_within_the_promise(own_server: ValkeyServer) -> None:
    async with open_tail(own_server.url, times=TailTimes(), subscriber=SubscriberOptions(), timeout_s=5.0) as world:
        room, _ = await world.watch_live("s")
        own_server.pause()

        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE, within_s=PROMISED_S + 0.5)
        own_server.resume()


async def test_a_lost_connection_that_finds_no_server_is_reported(own_server: ValkeyServer) -> None:
    async with open_tail(own_server.url) as world:
        room, _ = await world.watch_live("s")

        own_server.kill()

        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)


async def test_a_watch_begun_while_the_server_is_away_is_notified_and_then_served(own_server: ValkeyServer) -> None:
    async with open_tail(own_server.url) as world:
        written = await world.writer.append("s", 2)
        own_server.kill()
        room, watch = world.watch("s")
        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)

        own_server.start()
        await watch.synced()

        assert room.entries == written
        assert room.stall is None


async def test_a_killed_server_that_comes_back_with_its_log_loses_nothing(own_server: ValkeyServer) -> None:
    async with open_tail(own_server.url) as world:
        room, _ = await world.watch_live("s")
        written = await world.writer.append("s", 3)
        await room.holds(written)

        own_server.kill()
        own_server.start()
        await world.connection.redis.connection_pool.disconnect()
        written += await world.writer.append("s", 2, push="none")

        await room.holds(written)
        assert [what for what in room.notices if isinstance(what, tuple) and what[0] == "rewound"] == []


# ----------------------------------------------------------------------------------------------------------- the worker


async def test_a_lost_worker_is_reported_until_another_holds_the_lease(checked: TailWorld) -> None:
    room, _ = await checked.watch_live("s")
    await checked.writer.set_worker("s", leased=True)
    await checked.writer.append("s")
    await checked.writer.set_worker("s", leased=False)
    await room.until(lambda: room.stall is StallReason.WORKER_LOST)

    await checked.writer.set_worker("s", leased=True)

    await room.until(lambda: room.stall is None)


async def test_a_lost_worker_is_reported_no_longer_when_entries_come(checked: TailWorld) -> None:
    room, _ = await checked.watch_live("s")
    await checked.writer.set_worker("s", leased=False)
    await checked.writer.append("s")
    await room.until(lambda: room.stall is StallReason.WORKER_LOST)

    written = await checked.writer.finish("s")

    await room.until(lambda: room.stall is None and room.entries[-1] == written)


async def test_a_lapse_of_the_lease_that_ends_in_time_is_not_reported(redis_url: str) -> None:
    async with open_tail(redis_url, times=replace(TAILS, stall_notice_s=NEVER_S)) as world:
        room, watch = await world.watch_live("s")
        await world.writer.set_worker("s", leased=False)
        await until(lambda: watch.is_suspect)

        await world.writer.set_worker("s", leased=True)

        await until(lambda: not watch.is_suspect)
        assert ("stalled", StallReason.WORKER_LOST) not in room.notices


async def test_a_queued_stream_is_not_a_stalled_one(checked: TailWorld) -> None:
    queued, _ = await checked.watch_live("queued")
    running, _ = await checked.watch_live("running")
    await checked.writer.set_worker("queued", status="queued", leased=False)
    await checked.writer.set_worker("running", status="running", leased=False)

    await running.until(lambda: running.stall is StallReason.WORKER_LOST)

    assert queued.notices == []


async def test_a_stream_that_vanished_altogether_is_reported_as_stalled(checked: TailWorld) -> None:
    room, _ = await checked.watch_live("s")
    await checked.writer.append("s")

    await checked.connection.redis.flushall()

    await room.until(lambda: room.stall is StallReason.WORKER_LOST)


async def test_a_waiting_stream_that_vanished_is_reported_as_stalled(checked: TailWorld) -> None:
    room, _ = await checked.watch_live("s")
    await checked.writer.set_worker("s", status="queued", leased=False)
    await until(lambda: checked.tail._watches["s"]._known is not None)

    await checked.connection.redis.flushall()

    await room.until(lambda: room.stall is StallReason.WORKER_LOST)


async def test_a_worker_is_reported_lost_by_a_second_check_soon_after_the_first(redis_url: str) -> None:
    times = replace(TAILS, tail_check_min_s=0.05, tail_check_max_s=NEVER_S)
    counting, rng = Counting(), SoonUntilSeen()
    rng.has_seen = lambda: bool(counting.log.tails_seen)
    async with open_tail(redis_url, times=times, rng=rng, wrap_log=counting) as world:
        await world.writer.set_worker("s", leased=False)
        room, _ = world.watch("s")

        await room.until(lambda: room.stall is StallReason.WORKER_LOST)


class SoonUntilSeen(random.Random):
    """Tail checks come at their earliest until one has seen a tail, and then at their latest."""

    has_seen: Callable[[], bool]

    def uniform(self, a: float, b: float) -> float:
        if b != NEVER_S:
            return super().uniform(a, b)
        return b if self.has_seen() else a


class FailingLog:
    """A log whose reads fail from the second on, in the way that the test chooses, until ``is_mended``."""

    def __init__(self, streams: Streams, *, hangs: bool) -> None:
        self._streams = streams
        self._hangs = hangs
        self.tails = streams.tails
        self.reads = 0
        self.is_mended = False

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        self.reads += 1
        if self.reads > 1 and not self.is_mended:
            if self._hangs:
                await asyncio.Event().wait()
            raise LogUnavailable("the test fails this read")
        return await self._streams.read(stream_id, after=after, count=count)


@pytest.mark.parametrize("hangs", [True, False], ids=["no answer", "an error"])
async def test_a_read_that_fails_between_two_pages_is_reported_and_repeated(redis_url: str, hangs: bool) -> None:
    logs: list[FailingLog] = []

    def failing(streams: Streams) -> FailingLog:
        logs.append(FailingLog(streams, hangs=hangs))
        return logs[0]

    times = replace(PUSHES_ONLY, read_s=0.1)
    async with open_tail(redis_url, times=times, limits=TailLimits(page=2), wrap_log=failing) as world:
        written = await world.writer.append("s", 5)
        room, watch = world.watch("s")
        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)
        assert room.entries == written[:2]
        assert logs[0].reads > 2

        logs[0].is_mended = True
        await watch.synced()

        assert room.entries == written
        assert room.stall is None


async def test_a_log_that_cannot_be_read_is_reported_and_retried(checked: TailWorld) -> None:
    """The key holds something else: every read fails, while the server answers all others."""
    key = checked.connection.keys.log("s")
    await checked.connection.redis.set(key, "not a stream")
    room, watch = checked.watch("s")
    await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)

    await checked.connection.redis.delete(key)
    written = await checked.writer.append("s", 2)

    await room.holds(written)
    await watch.synced()
    assert room.stall is None
