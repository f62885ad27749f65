"""Redis away in the middle of writing and reading: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

from broadcaster import Broadcaster, Cursor
from broadcaster.client.errors import GaveUp
from broadcaster.client.stream import EntryReceived, GapReceived
from broadcaster.errors import LogUnavailable
from broadcaster.library.feed import CANCELLED_S
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import until
from tests.support.log.valkey import ValkeyServer, start_valkey
from tests.support.servers.redis_relay import Moment, open_redis_relay

COUNT = 40
DEADLINE_S = 30.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with start_valkey(tmp_path, port=0, appendonly=True) as running:
        yield running


@pytest.fixture
async def broadcaster(server: ValkeyServer) -> AsyncIterator[Broadcaster]:
    async with Broadcaster.from_url(server.url, redis_timeout_s=0.5, drain_s=0) as opened:
        yield opened


class Watched:
    """A reader that keeps what it was given."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        self.numbers: list[int] = []
        self.cursors: list[Cursor] = []
        self.gaps: list[GapReceived] = []
        self.end = ""
        self._broadcaster = broadcaster
        self.task = asyncio.create_task(self._read())

    async def until(self, count: int) -> None:
        """Until it has so many numbers."""
        await until(lambda: len(self.numbers) >= count, DEADLINE_S)

    async def _read(self) -> None:
        async for event in self._broadcaster.events("job", wait_s=DEADLINE_S):
            if isinstance(event, GapReceived):
                self.gaps.append(event)
            else:
                self.cursors.append(event.cursor)
                if event.type == "data-n":
                    self.numbers.append(event.data)
                self.end = event.type


class Writing:
    """A writer that appends number after number; at each of ``gates`` it waits for ``go_on``."""

    def __init__(self, broadcaster: Broadcaster, *, gates: Sequence[int] = ()) -> None:
        self._feed = broadcaster.feed("job")
        self._gates = gates
        self._passes = asyncio.Semaphore(0)
        self.task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        async with self._feed:
            for number in range(COUNT):
                if number in self._gates:
                    await self._passes.acquire()
                await self._feed.data("n", number)

    def go_on(self) -> None:
        self._passes.release()

    @property
    def retries(self) -> int:
        return self._feed.statistics().retries


async def is_whole(watched: Watched, writing: Writing) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await writing.task
        await watched.task
    assert watched.numbers == list(range(COUNT))
    assert watched.cursors == sorted(set(watched.cursors))
    assert watched.gaps == []
    assert watched.end == "finish"


@pytest.mark.second_engine
async def test_redis_killed_and_restarted_under_writer_and_reader(
    broadcaster: Broadcaster, server: ValkeyServer
) -> None:
    watched, writing = Watched(broadcaster), Writing(broadcaster, gates=(5, 20))
    for seen in (5, 20):
        await watched.until(seen)
        retries = writing.retries
        await asyncio.to_thread(server.kill)
        writing.go_on()
        await until(partial(_is_above, writing, retries), DEADLINE_S)
        await asyncio.to_thread(server.start)
    await is_whole(watched, writing)


def _is_above(writing: Writing, retries: int) -> bool:
    return writing.retries > retries


async def test_redis_paused_for_longer_than_its_answers_may_take(
    broadcaster: Broadcaster, server: ValkeyServer
) -> None:
    watched, writing = Watched(broadcaster), Writing(broadcaster, gates=(5,))
    await watched.until(5)
    server.pause()
    writing.go_on()
    await until(lambda: writing.retries >= 2, DEADLINE_S)
    server.resume()
    await is_whole(watched, writing)


@pytest.mark.parametrize("moment", list(Moment))
async def test_a_connection_that_breaks_under_an_append_doubles_nothing(
    connection: LogConnection, moment: Moment
) -> None:
    async with (
        open_redis_relay(connection.url) as relay,
        Broadcaster.from_url(relay.url, redis_timeout_s=1) as broadcaster,
    ):
        watched, writing = Watched(broadcaster), Writing(broadcaster, gates=(3, 10, 20))
        for seen in (3, 10, 20):
            await watched.until(seen)
            relay.cut_at(b'"type":"data-n"', moment)
            writing.go_on()
        await is_whole(watched, writing)


async def test_a_reader_holds_its_cursor_while_redis_is_away_and_gives_up_in_the_end(
    broadcaster: Broadcaster, server: ValkeyServer
) -> None:
    async with broadcaster.feed("job", close=False) as feed:
        cursor = await feed.data("n", 0)
    async with aclosing(broadcaster.events("job", give_up_after_s=1.0)) as events:
        first = await anext(events)
        assert isinstance(first, EntryReceived)
        server.kill()
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(GaveUp) as gave_up:
                await anext(events)
    assert gave_up.value.cursor == first.cursor == cursor
    server.start()
    async with broadcaster.feed("job") as feed:
        await feed.data("n", 1)
    rest = [event async for event in broadcaster.events("job", after=cursor)]
    assert [event.data for event in rest if isinstance(event, EntryReceived)] == [1, None]


async def test_a_writer_raises_within_its_time_and_its_block_ends(
    broadcaster: Broadcaster, server: ValkeyServer
) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(LogUnavailable):
        async with broadcaster.feed("job", timeout_s=2) as feed:
            await feed.data("n", 0)
            server.kill()
            begun = loop.time()
            await feed.data("n", 1)
    # Its own time, and once more to end the feed: 4 s. Without a time of its own, a call waits 30 s.
    assert loop.time() - begun < 20
    with pytest.raises(LogUnavailable):
        async with broadcaster.feed("other", timeout_s=0.2):
            pass


async def _write(broadcaster: Broadcaster) -> None:
    async with broadcaster.feed("job", timeout_s=0.5) as feed:
        await feed.data("n", 0)


@pytest.mark.parametrize(
    "call",
    [
        _write,
        lambda broadcaster: broadcaster.start("Why?"),
        lambda broadcaster: broadcaster.get("gen_1"),
        lambda broadcaster: broadcaster.stop("gen_1"),
        lambda broadcaster: anext(broadcaster.events("job", give_up_after_s=0.5)),
    ],
    ids=["feed", "start", "get", "stop", "events"],
)
async def test_the_error_of_a_redis_that_refuses_connections_names_its_address(
    broadcaster: Broadcaster, server: ValkeyServer, call: Callable[[Broadcaster], Awaitable[object]]
) -> None:
    await asyncio.to_thread(server.kill)
    with pytest.raises((LogUnavailable, GaveUp), match=server.url.removeprefix("redis://")) as caught:
        async with asyncio.timeout(DEADLINE_S):
            await call(broadcaster)
    if isinstance(caught.value, LogUnavailable):
        assert caught.value.__cause__ is not None
        assert "127.0.0.1" not in caught.value.detail


async def test_a_cancelled_writer_ends_soon_though_redis_is_away(
    broadcaster: Broadcaster, server: ValkeyServer
) -> None:
    is_away = asyncio.Event()

    async def run() -> None:
        async with broadcaster.feed("job", timeout_s=DEADLINE_S) as feed:
            await feed.data("n", 0)
            server.kill()
            is_away.set()
            await feed.data("n", 1)

    task = asyncio.create_task(run())
    await is_away.wait()
    task.cancel()
    async with asyncio.timeout(2 * CANCELLED_S):
        await asyncio.wait({task})
    assert task.cancelled()


async def test_events_that_one_process_publishes_are_read_by_another(
    broadcaster: Broadcaster, server: ValkeyServer
) -> None:
    watched = Watched(broadcaster)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.apps.library_writer", server.url, "job", str(COUNT))
    )
    async with asyncio.timeout(DEADLINE_S):
        assert await process.wait() == 0
        await watched.task
    assert watched.numbers == list(range(COUNT))
    assert watched.end == "finish"


async def test_the_feed_of_a_killed_process_ends_with_an_error(broadcaster: Broadcaster, server: ValkeyServer) -> None:
    watched = Watched(broadcaster)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.apps.library_writer", server.url, "job", "1000000")
    )
    await watched.until(COUNT)
    process.kill()
    await process.wait()
    async with asyncio.timeout(DEADLINE_S):
        await watched.task
    assert watched.numbers == list(range(len(watched.numbers)))
    assert watched.end == "error"
