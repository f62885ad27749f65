"""A feed as front-ends watch it: every entry in order, trims reported, forks found, and never a lost worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from broadcaster.core.cursor import START
from broadcaster.core.entry import Entry
from broadcaster.core.events import DataEvent, Finish, encode_event
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tails import Tail
from tests.support.log.feed_writers import BOUNDS, TENANT
from tests.support.log.tail_world import TAILS, TailWorld, open_tail, until

ID = "build-42"
FINISH = encode_event(Finish())


def note(text: object) -> bytes:
    return encode_event(DataEvent(type="data-note", data=text))


class Watched:
    """A feed's publisher beside a front-end's supply."""

    def __init__(self, world: TailWorld, log: CountingLog) -> None:
        self.world = world
        self.log = log
        self.redis: Any = world.connection.redis
        self.keys = world.connection.keys
        self.streams = Streams(world.connection)
        self.feeds = Feeds(world.connection, BOUNDS, streams=self.streams)

    async def create(self, **config: Any) -> None:
        await self.feeds.create(ID, FeedConfig(**config), tenant=TENANT)

    async def since_epoch(self) -> int:
        """The least epoch of this creation."""
        return int(await self.redis.hget(self.keys.meta(ID), "since_epoch"))

    async def append(self, *events: bytes) -> list[Entry]:
        taken = await self.feeds.append(ID, events, tenant=TENANT)
        return [Entry(*cursor, event) for cursor, event in zip(taken.ids, events, strict=True)]

    async def tail_checks(self, count: int) -> None:
        """Wait for this many more tail checks."""
        enough = self.log.checks + count
        await until(lambda: self.log.checks >= enough)

    async def close(self) -> Entry:
        return Entry(*(await self.feeds.close(ID, FINISH, tenant=TENANT)).last, FINISH)


@pytest.fixture
async def watched(redis_url: str) -> AsyncIterator[Watched]:
    logs: list[CountingLog] = []

    def counting(streams: Streams) -> CountingLog:
        logs.append(CountingLog(streams))
        return logs[0]

    async with open_tail(redis_url, times=TAILS, wrap_log=counting) as world:
        yield Watched(world, logs[0])


async def until_later(redis: Any, epoch: int) -> None:
    """Until Redis's clock is behind this epoch."""
    async with asyncio.timeout(5):
        while (time := await redis.time())[0] * 1000 + time[1] // 1000 <= epoch:
            await asyncio.sleep(0)


class CountingLog:
    """The log, and how often its tails were read."""

    def __init__(self, streams: Streams) -> None:
        self.checks = 0
        self.read = streams.read
        self._tails = streams.tails

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]:
        tails = await self._tails(stream_ids)
        self.checks += 1
        return tails


async def test_the_entries_of_many_writers_arrive_once_and_in_order(watched: Watched) -> None:
    await watched.create()
    room, _ = await watched.world.watch_live(ID)
    written = await asyncio.gather(*(watched.append(note([n, 1]), note([n, 2])) for n in range(50)))
    end = await watched.close()
    await room.holds([*sorted(entry for batch in written for entry in batch), end])
    assert (watched.world.reads, room.notices) == ([ID], [])


async def test_a_late_watch_gets_everything_also_after_the_end(watched: Watched) -> None:
    await watched.create()
    entries = [*await watched.append(note(1)), *await watched.append(note(2)), await watched.close()]
    room, watch = await watched.world.watch_live(ID)
    await room.holds(entries)
    assert watch.is_over


async def test_trimmed_entries_are_reported_as_a_gap(watched: Watched) -> None:
    await watched.create(max_events=2, on_full="trim")
    entries = [(await watched.append(note(number)))[0] for number in range(5)]
    room, _ = await watched.world.watch_live(ID)
    await room.holds(entries[3:])
    before = entries[3].cursor._replace(seq=3)
    assert room.notices == [Gap(GapReason.TRIMMED, before, 1, 3, await watched.since_epoch())]


async def test_a_watch_that_keeps_up_is_sent_nothing_of_a_trim(watched: Watched) -> None:
    await watched.create(max_events=2, on_full="trim")
    room, _ = await watched.world.watch_live(ID)
    entries = [(await watched.append(note(number)))[0] for number in range(20)]
    await room.holds(entries)
    assert room.notices == []


async def test_a_watch_that_was_cut_off_during_a_trim_is_sent_the_gap_and_continues(watched: Watched) -> None:
    await watched.create(max_events=2, on_full="trim")
    room, _ = await watched.world.watch_live(ID)
    (first,) = await watched.append(note(0))
    await room.holds([first])
    seqs = range(2, 8)
    for seq in seqs:  # written without a push: what a lost connection makes of them
        await watched.redis.xadd(
            watched.keys.log(ID), {"e": note(seq), "v": 1, "b": 9}, id=f"{first.epoch + seq}-{seq}"
        )
    await watched.redis.xtrim(watched.keys.log(ID), maxlen=2, approximate=False)
    later = [Entry(first.epoch + seq, seq, note(seq)) for seq in (6, 7)]
    await room.holds([first, *later])
    before = later[0].cursor._replace(seq=5)
    assert room.notices == [Gap(GapReason.TRIMMED, before, 2, 5, await watched.since_epoch())]


async def test_a_watch_that_was_cut_off_while_its_feed_was_created_anew_voids_what_it_has(watched: Watched) -> None:
    await watched.create(max_events=2, on_full="trim")
    room, _ = await watched.world.watch_live(ID)
    (old,) = await watched.append(note("old"))
    await room.holds([old])
    await until_later(watched.redis, old.epoch)
    await watched.redis.delete(watched.keys.log(ID), watched.keys.meta(ID))
    await watched.create(max_events=2, on_full="trim")
    since = await watched.since_epoch()
    later = [Entry(since + seq, seq, note(seq)) for seq in (6, 7)]
    async with watched.redis.pipeline(transaction=True) as pipeline:  # without a push, and what came before is trimmed
        for entry in later:
            pipeline.xadd(watched.keys.log(ID), {"e": entry.event, "v": 1, "b": 9}, id=str(entry.cursor))
        await pipeline.execute()
    await room.holds(later)
    gap = Gap(GapReason.TRIMMED, later[0].cursor._replace(seq=5), 1, 5, since)
    assert room.notices == [("rewound", START), gap]


async def test_a_tail_that_redis_lost_and_other_entries_replaced_is_reported_as_void(watched: Watched) -> None:
    await watched.create()
    (kept,) = await watched.append(note("kept"))
    room, _ = await watched.world.watch_live(ID)
    (lost,) = await watched.append(note("lost"))
    await room.holds([kept, lost])
    await watched.world.writer.lose_tail(ID, 1)
    other = await watched.append(note("other"), note("another"))
    assert other[0].cursor != lost.cursor
    await room.holds([kept, *other])
    assert ("rewound", kept.cursor) in room.notices


async def test_a_silent_feed_is_not_a_lost_worker(watched: Watched) -> None:
    await watched.create()
    empty, _ = await watched.world.watch_live(ID)
    await watched.tail_checks(4)
    await watched.append(note(1))
    await watched.tail_checks(4)
    assert empty.notices == []


async def test_a_feed_that_is_gone_is_reported_and_continues_when_it_is_created_anew(watched: Watched) -> None:
    await watched.create()
    room, _ = await watched.world.watch_live(ID)
    await watched.append(note(1), note(2))
    await watched.tail_checks(2)
    await watched.redis.flushall()
    await room.until(lambda: room.stall is StallReason.STREAM_LOST)
    await watched.create()
    entries = await watched.append(note("new"))
    await room.holds(entries)
    assert ("rewound", START) in room.notices
    await room.until(lambda: room.stall is None)
