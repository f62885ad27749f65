"""Whatever is lost on the way to a room is repaired in bounded time. Each loss is caused on a real server.

Every repair has its own means (the next push, the reconnect, the probe, the tail check); a test leaves on only the one
that it is about, so that no other can hide its absence.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.log.pubsub.connection import SubscriberOptions
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tails import Tail
from broadcaster.log.tail.options import TailLimits, TailTimes
from tests.support.log.tail_world import (
    NO_PROBES,
    PROBES,
    PROMISED_S,
    TAILS,
    TailWorld,
    delta,
    open_tail,
    until,
)
from tests.support.log.valkey import start_valkey
from tests.support.servers.redis_relay import open_redis_relay


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[TailWorld]:
    async with open_tail(redis_url) as opened:
        yield opened


@pytest.fixture
async def checked(redis_url: str) -> AsyncIterator[TailWorld]:
    """A tail with the tail check as its only means besides pushes and reconnects."""
    async with open_tail(redis_url, times=TAILS) as opened:
        yield opened


# -------------------------------------------------------------------------------------------------------- lost messages


async def test_a_message_lost_in_the_middle_is_repaired_at_the_next_push(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 2)
    written += await world.writer.append("s", 3, push="none")
    await room.holds(written[:2])

    written += await world.writer.append("s")

    await room.holds(written)
    assert world.reads == ["s", "s"]


async def test_the_last_message_lost_is_repaired_by_the_tail_check(checked: TailWorld) -> None:
    room, _ = await checked.watch_live("s")
    written = await checked.writer.append("s", 2)

    written += await checked.writer.append("s", 2, push="none")

    await room.holds(written)


async def test_a_lost_terminal_is_found_by_the_tail_check(checked: TailWorld) -> None:
    room, watch = await checked.watch_live("s")
    written = await checked.writer.append("s", 2)

    written.append(await checked.writer.finish("s", push="none"))

    await room.holds(written)
    assert watch.is_over


async def test_the_default_times_repair_a_lost_last_message_within_the_promise(redis_url: str) -> None:
    async with open_tail(redis_url, times=TailTimes(), subscriber=SubscriberOptions()) as world:
        room, _ = await world.watch_live("s")

        written = await world.writer.append("s", push="none")

        await room.holds(written, within_s=PROMISED_S)


async def test_a_push_that_is_under_way_costs_no_read_at_the_tail_check(redis_url: str) -> None:
    """The log is always a little ahead of the pushes: a busy stream must not be read at each check."""
    counted = Counting()
    async with open_tail(redis_url, times=replace(TAILS, push_grace_s=0.5), wrap_log=counted) as world:
        room, _ = await world.watch_live("s")
        written = await world.writer.append("s", push="none")
        seen = len(counted.log.tails_seen)
        await until(lambda: Cursor(1, 1) in counted.log.tails_seen[seen:])

        await world.connection.redis.spublish(world.connection.keys.live("s"), b"1 1 1 1\n" + written[0].event)
        await room.holds(written)

        checked = len(counted.log.tails_seen)
        await until(lambda: len(counted.log.tails_seen) > checked)
        assert world.reads == ["s"]


async def test_a_stream_that_moved_a_moment_ago_is_left_out_of_a_tail_check(redis_url: str) -> None:
    counted = Counting()
    async with open_tail(redis_url, times=replace(TAILS, fresh_s=1.5), wrap_log=counted) as world:
        await world.know("s", "t")
        room, watch = await world.watch_live("s")
        await world.watch_live("t")
        await until(lambda: {"s", "t"} <= set(counted.log.requested))  # their metas are known
        written = await world.writer.append("s")
        await room.holds(written)
        assert watch.is_fresh

        written += await world.writer.append("s", push="none")
        counted.log.requested.clear()
        await until(lambda: "t" in counted.log.requested)
        assert "s" not in counted.log.requested or not watch.is_fresh

        await room.holds(written)  # it has stood still by then


async def test_a_message_lost_behind_a_fresh_one_is_repaired_within_the_promise(redis_url: str) -> None:
    async with open_tail(redis_url, times=TailTimes(), subscriber=SubscriberOptions()) as world:
        await world.know("s")
        room, _ = await world.watch_live("s")
        written = await world.writer.append("s")

        written += await world.writer.append("s", push="none")

        await room.holds(written, within_s=PROMISED_S)


class Counting:
    """Puts a CountedTails before a tail's log, and keeps it."""

    log: CountedTails

    def __call__(self, streams: Streams) -> CountedTails:
        self.log = CountedTails(streams)
        return self.log


class CountedTails:
    """The log; remembers the streams whose tails were requested, and the cursors returned."""

    def __init__(self, streams: Streams) -> None:
        self.read = streams.read
        self._tails = streams.tails
        self.tails_seen: list[Cursor | None] = []
        self.requested: list[str] = []

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]:
        self.requested += stream_ids
        tails = await self._tails(stream_ids)
        self.tails_seen += [tail.last for tail in tails]
        return tails


# ------------------------------------------------------------------------------------------------------- the connection


async def test_a_subscriber_connection_killed_in_the_middle_loses_nothing(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 2)
    for _ in range(3):
        assert await world.kill_subscribers() == 1
        written += await world.writer.append("s", 2)
        written += await world.writer.append("s")
        await room.holds(written)

    assert room.notices == []


async def test_a_last_message_lost_with_its_connection_is_read_after_the_reconnect(world: TailWorld) -> None:
    room, _ = await world.watch_live("s")
    pipeline = world.connection.redis.pipeline(transaction=True)
    pipeline.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    pipeline.xadd(world.connection.keys.log("s"), {"e": b'{"type":"text-delta","id":"t","delta":"x"}'}, id="1-1")
    await pipeline.execute()

    await room.until(lambda: room.last_seq == 1)


async def test_every_stream_is_reread_after_a_reconnect(world: TailWorld) -> None:
    rooms = {f"s{number}": (await world.watch_live(f"s{number}"))[0] for number in range(30)}
    written = {stream_id: await world.writer.append(stream_id, push="none") for stream_id in rooms}

    await world.kill_subscribers()

    for stream_id, room in rooms.items():
        await room.holds(written[stream_id])


async def test_a_subscriber_cut_for_its_full_output_buffer_loses_nothing() -> None:
    limit = ("--client-output-buffer-limit", "pubsub", "200kb", "0", "0")
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder), options=limit) as server:
        async with open_tail(server.url) as world:
            room, _ = await world.watch_live("s")
            connection = await world.subscriber_ids()
            written = await world.writer.append("s", events=[delta("x" * 1000)] * 500, push="each")

            await room.holds(written)
            assert not connection & await world.subscriber_ids()


async def test_pushes_beyond_what_may_be_parked_are_read_instead(redis_url: str) -> None:
    async with open_tail(redis_url, limits=TailLimits(parked_entries=2, page=3)) as world:
        written = await world.writer.append("s", 10)
        room, _ = world.watch("s")
        for _ in range(20):
            written += await world.writer.append("s")

        await room.holds(written)


async def test_a_deaf_connection_is_found_by_its_probe_and_replaced(redis_url: str) -> None:
    async with (
        open_redis_relay(redis_url) as relay,
        open_tail(redis_url, subscriber=replace(PROBES, connect_s=0.3), via=relay.url) as world,
    ):
        room, _ = await world.watch_live("s")
        relay.is_deaf = True
        written = await world.writer.append("s", 2)
        await until(lambda: relay.connections == 2)

        relay.is_deaf = False

        await room.holds(written)


async def test_probes_that_come_back_leave_the_connection_alone(redis_url: str) -> None:
    async with (
        open_redis_relay(redis_url) as relay,
        open_tail(redis_url, subscriber=PROBES, via=relay.url) as world,
    ):
        await until(lambda: sum(b"SSUBSCRIBE" in write for write in relay.writes) == 1)
        before = await _probes_published(world)

        async with asyncio.timeout(PROMISED_S):
            while await _probes_published(world) < before + 10:
                await asyncio.sleep(0.01)

        assert relay.connections == 1


async def test_a_connection_to_another_server_than_the_primary_is_not_kept(redis_url: str) -> None:
    """After a failover the old primary may respond and push for a while; only the probe shows it."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder)) as demoted:
        async with open_redis_relay(demoted.url) as relay, open_tail(redis_url, subscriber=PROBES, via=relay.url):
            await until(lambda: relay.connections > 2)


@pytest.mark.parametrize(
    "reply",
    [b"-MOVED 1234 127.0.0.1:1\r\n", b"-NOPERM no\r\n", b"nonsense\r\n", b"$99999999\r\n" + b"x" * 200_000],
    ids=["moved", "error", "not RESP", "endless reply"],
)
async def test_an_answer_that_is_no_push_ends_the_connection_and_the_next_loses_nothing(
    redis_url: str, reply: bytes
) -> None:
    options = replace(NO_PROBES, reply_bytes=100_000)
    async with (
        open_redis_relay(redis_url) as relay,
        open_tail(redis_url, subscriber=options, via=relay.url) as world,
    ):
        room, _ = await world.watch_live("s")
        relay.inject(reply)
        written = await world.writer.append("s", push="none")

        await room.holds(written)
        assert relay.connections == 2


async def test_a_channel_that_the_server_takes_away_is_requested_anew_and_the_others_stay(redis_url: str) -> None:
    """In a cluster a slot that moves takes its channels along, unasked."""
    async with (
        open_redis_relay(redis_url) as relay,
        open_tail(redis_url, via=relay.url) as world,
    ):
        room, _ = await world.watch_live("s")
        other, _ = await world.watch_live("t")
        channel = world.connection.keys.live("s").encode()
        written = await world.writer.append("s", push="none")

        relay.inject(b"*3\r\n$12\r\nsunsubscribe\r\n$%d\r\n%s\r\n:0\r\n" % (len(channel), channel))

        await room.holds(written)
        assert (room.lives, other.lives, relay.connections) == (2, 1, 1)


async def test_the_subscriptions_of_one_turn_leave_in_one_write(redis_url: str) -> None:
    async with (
        open_redis_relay(redis_url) as relay,
        open_tail(redis_url, via=relay.url) as world,
    ):
        await world.watch_live("first")
        before = len(relay.writes)

        watches = [world.watch(f"s{number}")[1] for number in range(50)]
        world.watch("none")[1].close()
        await asyncio.gather(*[watch.synced() for watch in watches])

        assert [write.count(b"SSUBSCRIBE") for write in relay.writes[before:]] == [50]


async def _probes_published(world: TailWorld) -> int:
    stats = await world.connection.redis.info("commandstats")
    return int(stats.get("cmdstat_spublish", {"calls": 0})["calls"])
