"""A watched stream arrives whole: history, hand-over, live tail, end; on a real server, with nothing failing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.errors import LogUnavailable
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tails import Tail
from broadcaster.log.tail.options import TailLimits
from tests.support.log.tail_world import DEADLINE_S, FINISH, Room, TailWorld, delta, open_tail, until


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[TailWorld]:
    async with open_tail(redis_url) as opened:
        yield opened


class SlowLog:
    """The log, with a gate before the pages of the stream ``s``: a test decides what happens during their read."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self.requested = asyncio.Event()
        self.gate = asyncio.Event()
        self.reads: list[Cursor] = []

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        entries = await self._streams.read(stream_id, after=after, count=count)
        if stream_id == "s":
            self.reads.append(after)
            self.requested.set()
            await self.gate.wait()
        return entries

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]:
        return await self._streams.tails(stream_ids)


async def test_a_stream_without_a_log_is_live_at_once_and_then_delivers(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    assert (room.entries, room.lives, room.notices) == ([], 1, [])

    written = await world.writer.append("s", 3)

    await room.holds(written)


async def test_the_history_comes_first_and_the_live_tail_follows(world: TailWorld) -> None:
    history = await world.writer.append("s", 5)
    room, _ = await world.watch_live("s")
    assert room.entries == history

    tail = await world.writer.append("s") + await world.writer.append("s", 2)

    await room.holds(history + tail)
    assert world.reads == ["s"]


async def test_a_long_history_is_read_in_pages(redis_url: str) -> None:
    async with open_tail(redis_url, limits=TailLimits(page=10)) as world:
        history = await world.writer.append("s", 35)

        room, _ = await world.watch_live("s")

        assert room.entries == history


async def test_entries_written_while_the_history_is_read_come_once_and_in_order(redis_url: str) -> None:
    logs: list[SlowLog] = []

    def slow(streams: Streams) -> SlowLog:
        logs.append(SlowLog(streams))
        return logs[0]

    async with open_tail(redis_url, wrap_log=slow) as world:
        written = await world.writer.append("s", 3)
        beside, _ = await world.watch_live("t")
        room, watch = world.watch("s")
        async with asyncio.timeout(DEADLINE_S):
            await logs[0].requested.wait()
        written += await world.writer.append("s", 2)
        written += await world.writer.append("s")
        await beside.holds(await world.writer.append("t"))  # so the pushes before it have come, too
        assert room.entries == []

        logs[0].gate.set()
        await watch.synced()

        assert room.entries == written
        assert logs[0].reads == [START]


async def test_the_log_is_read_only_after_the_subscription_is_confirmed(redis_url: str) -> None:
    """What is pushed between a read and a later subscription would be lost."""
    subscribed: list[int] = []

    class Subscribed(SlowLog):
        async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
            subscribed.append(await writer.subscribers(stream_id))
            return await self._streams.read(stream_id, after=after, count=count)

    async with open_tail(redis_url, wrap_log=Subscribed) as opened:
        writer = opened.writer
        await opened.watch_live("s")

    assert subscribed == [1]


async def test_the_terminal_ends_the_watch_and_its_subscription(world: TailWorld) -> None:
    room, watch = await world.watch_live("s")
    written = await world.writer.append("s", 2)
    written.append(await world.writer.finish("s"))

    await room.holds(written)

    assert watch.is_over
    await _no_subscriber(world, "s")


async def test_a_stream_that_has_ended_is_delivered_whole_and_not_kept_subscribed(world: TailWorld) -> None:
    written = await world.writer.append("s", 4)
    written.append(await world.writer.finish("s"))

    room, watch = await world.watch_live("s")

    assert (room.entries, room.lives, watch.is_over) == (written, 1, True)
    await _no_subscriber(world, "s")


async def test_a_poke_is_read_from_the_log(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")

    written = await world.writer.append("s", 3, push="poke")

    await room.holds(written)


async def test_a_push_of_another_version_is_taken_as_a_poke(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 2, push="none")

    await world.connection.redis.spublish(world.connection.keys.live("s"), b"7 1 1 2 extra\n\x00\x01")

    await room.holds(written)


async def test_a_push_that_makes_no_sense_is_ignored(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    connection = await world.subscriber_ids()
    await world.connection.redis.spublish(world.connection.keys.live("s"), b"nonsense")

    written = await world.writer.append("s")

    await room.holds(written)
    assert (world.reads, await world.subscriber_ids()) == (["s"], connection)


async def test_a_history_that_was_trimmed_begins_with_its_gap(world: TailWorld) -> None:
    written = await world.writer.append("s", 10, epoch=3)
    await world.connection.redis.xtrim(world.connection.keys.log("s"), maxlen=4, approximate=False)

    room, _ = await world.watch_live("s")

    assert room.notices == [Gap(GapReason.TRIMMED, at=Cursor(3, 6), first_seq=1, last_seq=6)]
    assert room.entries == written[6:]


async def test_a_second_watch_of_the_same_stream_is_refused(world: TailWorld) -> None:
    _, watch = world.watch("s")
    with pytest.raises(ValueError):
        world.watch("s")

    watch.close()
    watch.close()

    room, second = world.watch("s")
    await second.synced()
    written = await world.writer.append("s")
    await room.holds(written)


async def test_a_closed_watch_unsubscribes_and_sends_nothing_more(world: TailWorld) -> None:
    room, watch = await world.watch_live("s")

    watch.close()
    await world.writer.append("s")

    await _no_subscriber(world, "s")
    assert room.entries == []


async def test_a_watch_closed_while_its_log_is_read_sends_nothing_more(redis_url: str) -> None:
    logs: list[SlowLog] = []

    def slow(streams: Streams) -> SlowLog:
        logs.append(SlowLog(streams))
        return logs[0]

    async with open_tail(redis_url, wrap_log=slow) as world:
        await world.writer.append("s", 3)
        room, watch = world.watch("s")
        async with asyncio.timeout(DEADLINE_S):
            await logs[0].requested.wait()

        watch.close()
        logs[0].gate.set()

        with pytest.raises(LogUnavailable):
            await watch.synced()
        second, other = world.watch("s")
        await other.synced()
        assert (len(room.entries), len(second.entries)) == (0, 3)


async def test_a_stream_is_never_read_twice_at_once(redis_url: str) -> None:
    logs: list[SlowLog] = []

    def slow(streams: Streams) -> SlowLog:
        logs.append(SlowLog(streams))
        return logs[0]

    async with open_tail(redis_url, wrap_log=slow) as world:
        _, watch = world.watch("s")
        async with asyncio.timeout(DEADLINE_S):
            await logs[0].requested.wait()
        beside, _ = await world.watch_live("t")  # subscribed after it, each time
        for _ in range(3):
            lives = beside.lives
            assert await world.kill_subscribers() == 1
            await beside.until(lambda: beside.lives > lives)  # noqa: B023
        assert logs[0].reads == [START]

        logs[0].gate.set()
        await watch.synced()

        assert logs[0].reads == [START, START]


async def test_a_room_may_close_its_watch_from_within_a_delivery(world: TailWorld) -> None:
    await world.writer.append("s", 3)
    room, watch = world.watch("s")
    room.on_call = lambda name: watch.close()
    await room.until(lambda: len(room.entries) == 3)

    await _no_subscriber(world, "s")
    assert room.lives == 0


async def test_leaving_the_tail_closes_every_watch(redis_url: str) -> None:
    async with open_tail(redis_url) as world:
        live_room, live = await world.watch_live("a")
        tail = world.tail
        _, unsynced = world.watch("b")

    await live.synced()
    with pytest.raises(LogUnavailable):
        await unsynced.synced()
    with pytest.raises(LogUnavailable):
        tail.watch("c", live_room)


async def test_an_error_in_the_body_comes_out_of_the_tail_as_it_is(redis_url: str) -> None:
    with pytest.raises(KeyError):
        async with open_tail(redis_url):
            raise KeyError("mine")


async def test_200_streams_share_one_connection_and_the_subscriptions_of_a_turn_one_write(world: TailWorld) -> None:
    ids = [f"s{number}" for number in range(200)]
    rooms = {stream_id: world.watch(stream_id) for stream_id in ids}
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*[watch.synced() for _, watch in rooms.values()])
    written: dict[str, list[Entry]] = {}
    for stream_id in ids:
        written[stream_id] = await world.writer.append(stream_id, 3)
    for stream_id in ids:
        written[stream_id] += await world.writer.append(stream_id, 2, epoch=2)

    for stream_id, (room, _) in rooms.items():
        await room.holds(written[stream_id])

    clients = await world.connection.redis.client_list(_type="pubsub")
    assert len(clients) == 1
    assert sorted(world.reads) == sorted(ids)


async def test_an_epoch_that_continues_is_delivered_without_a_read(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 2) + await world.writer.append("s", 2, epoch=9)

    await room.holds(written)
    assert world.reads == ["s"]


async def test_a_push_of_a_fenced_writer_is_dropped(world: TailWorld) -> None:
    written = await world.writer.append("s", 2, epoch=5)
    room, _ = await world.watch_live("s")

    await world.connection.redis.spublish(world.connection.keys.live("s"), b"1 4 3 1\n" + delta("zombie"))
    written += await world.writer.append("s", epoch=5)

    await room.holds(written)
    assert world.reads == ["s"]


async def test_a_sink_that_fails_is_sent_everything_anew(world: TailWorld) -> None:
    """What it has kept of a call that raised is not known: all is void, and is sent anew."""
    room, _ = await world.watch_live("s")
    connection = await world.subscriber_ids()
    written = await world.writer.append("s", 2)
    await room.holds(written)
    failures = iter([True])

    def fail_once(name: str) -> None:
        if name == "deliver" and next(failures, False):
            raise RuntimeError("the sink fails")

    room.on_call = fail_once
    written += await world.writer.append("s")
    await room.holds(written)
    written += await world.writer.append("s", push="none") + await world.writer.append("s")

    await room.holds(written)
    assert room.notices == [("rewound", START)]
    assert await world.subscriber_ids() == connection


async def test_a_sink_that_fails_during_a_read_is_sent_everything_anew(world: TailWorld) -> None:
    written = await world.writer.append("s", 2)
    failures = iter([True, True])
    room, watch = world.watch("s")

    def fail_twice(name: str) -> None:
        if name == "deliver" and next(failures, False):
            raise RuntimeError("the sink fails")

    room.on_call = fail_twice
    await watch.synced()

    assert room.entries == written
    assert list(failures) == []


async def test_a_failing_sink_does_not_disturb_the_others(world: TailWorld) -> None:
    bad, _ = await world.watch_live("bad")
    good, _ = await world.watch_live("good")

    def fail(name: str) -> None:
        raise RuntimeError("the sink fails")

    bad.on_call = fail
    await world.writer.append("bad")
    written = await world.writer.append("good", 2)

    await good.holds(written)
    assert good.lives == 1  # its connection was not replaced


async def test_the_terminal_alone_ends_a_stream_and_not_its_status(world: TailWorld) -> None:
    room, watch = await world.watch_live("s")
    await world.writer.set_worker("s", status="finished", leased=False)
    written = await world.writer.append("s")
    await room.holds(written)
    assert not watch.is_over

    await world.writer.append("s", events=[FINISH])
    await until(lambda: watch.is_over)


async def _no_subscriber(world: TailWorld, stream_id: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await world.writer.subscribers(stream_id):
            await asyncio.sleep(0.005)


def test_a_room_double_refuses_a_gap_in_what_it_is_sent() -> None:
    """The tests of this file stand on the double's own checks."""
    with pytest.raises(AssertionError):
        Room().deliver([Entry(1, 2, FINISH)])
