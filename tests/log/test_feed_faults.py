"""Whatever is lost on the way to a room is repaired or told, in bounded time. Each fault is caused on a real server.

Every repair has its own means (the next push, the reconnect, the probe, the tail check); a test leaves on only the one
that it is about, so that no other can hide its absence.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.log.feed_address import NodeAddress
from broadcaster.log.feed_options import FeedLimits, FeedTimes
from broadcaster.log.streams import Streams, Tail
from tests.support.feed_log import NEVER_S, PUSHES_ONLY, FeedWorld, Push, delta, open_feed, until
from tests.support.relay import open_relay
from tests.support.valkey import ValkeyServer, start_valkey

TAILS = replace(PUSHES_ONLY, tail_check_min_s=0.05, tail_check_max_s=0.1, push_grace_s=0.02)
PROBES = replace(PUSHES_ONLY, probe_every_s=0.05, probe_s=0.3)
PROMISED_S = 5.0


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder)) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    """One that a test may kill, pause and restart; it remembers."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        with start_valkey(Path(folder), appendonly=True) as running:
            yield running


@pytest.fixture
async def world(server: ValkeyServer) -> AsyncIterator[FeedWorld]:
    async with open_feed(server.url) as opened:
        yield opened


@pytest.fixture
async def checked(server: ValkeyServer) -> AsyncIterator[FeedWorld]:
    """A feed with the tail check as its only means besides pushes and reconnects."""
    async with open_feed(server.url, times=TAILS) as opened:
        yield opened


# ------------------------------------------------------------------------------------------------------ lost messages


async def test_a_message_lost_in_the_middle_is_repaired_at_the_next_push(world: FeedWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 2)
    written += await world.writer.append("s", 3, push="none")
    await room.holds(written[:2])

    written += await world.writer.append("s")

    await room.holds(written)
    assert world.feed.stats.holes == 1


async def test_the_last_message_lost_is_repaired_by_the_tail_check(checked: FeedWorld) -> None:
    room, _ = await checked.watch_live("s")
    written = await checked.writer.append("s", 2)

    written += await checked.writer.append("s", 2, push="none")

    await room.holds(written)


async def test_a_lost_terminal_is_found_by_the_tail_check(checked: FeedWorld) -> None:
    room, watch = await checked.watch_live("s")
    written = await checked.writer.append("s", 2)

    written.append(await checked.writer.finish("s", push="none"))

    await room.holds(written)
    assert watch.is_over


async def test_the_default_times_repair_a_lost_last_message_within_the_promise(server: ValkeyServer) -> None:
    async with open_feed(server.url, times=FeedTimes()) as world:
        room, _ = await world.watch_live("s")

        written = await world.writer.append("s", push="none")

        await room.holds(written, within_s=PROMISED_S)


async def test_a_push_that_is_under_way_costs_no_read_at_the_tail_check(server: ValkeyServer) -> None:
    """The log is always a little ahead of the pushes: a busy stream must not be read at each check."""
    logs: list[CountedTails] = []

    def counted(streams: Streams) -> CountedTails:
        logs.append(CountedTails(streams))
        return logs[0]

    async with open_feed(server.url, times=replace(TAILS, push_grace_s=0.5), wrap_log=counted) as world:
        room, _ = await world.watch_live("s")
        written = await world.writer.append("s", push="none")
        seen = len(logs[0].tails_seen)
        await until(lambda: Cursor(1, 1) in logs[0].tails_seen[seen:])

        await world.connection.redis.spublish(world.connection.keys.live("s"), b"1 1 1 1\n" + written[0].event)
        await room.holds(written)

        checked = len(logs[0].tails_seen)
        await until(lambda: len(logs[0].tails_seen) > checked)
        assert world.feed.stats.repairs == 1


class CountedTails:
    """The log, remembering what its tails told."""

    def __init__(self, streams: Streams) -> None:
        self.read = streams.read
        self._tails = streams.tails
        self.tails_seen: list[Cursor | None] = []

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]:
        tails = await self._tails(stream_ids)
        self.tails_seen += [tail.last for tail in tails]
        return tails


# ---------------------------------------------------------------------------------------------------- the connection


async def test_a_subscriber_connection_killed_in_the_middle_loses_nothing(world: FeedWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 2)
    for _ in range(3):
        assert await world.kill_subscribers() == 1
        written += await world.writer.append("s", 2)
        written += await world.writer.append("s")
        await room.holds(written)

    assert world.feed.stats.reconnects == 3
    assert room.told == []


async def test_a_last_message_lost_with_its_connection_is_read_after_the_reconnect(world: FeedWorld) -> None:
    room, _ = await world.watch_live("s")
    pipeline = world.connection.redis.pipeline(transaction=True)
    pipeline.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    pipeline.xadd(world.connection.keys.log("s"), {"e": b'{"type":"text-delta","id":"t","delta":"x"}'}, id="1-1")
    await pipeline.execute()

    await room.until(lambda: room.last_seq == 1)


async def test_every_stream_is_read_again_after_a_reconnect(world: FeedWorld) -> None:
    rooms = {f"s{number}": (await world.watch_live(f"s{number}"))[0] for number in range(30)}
    written = {stream_id: await world.writer.append(stream_id, push="none") for stream_id in rooms}

    await world.kill_subscribers()

    for stream_id, room in rooms.items():
        await room.holds(written[stream_id])


async def test_a_subscriber_cut_for_its_full_output_buffer_loses_nothing() -> None:
    limit = ("--client-output-buffer-limit", "pubsub", "200kb", "0", "0")
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder), options=limit) as server:
        async with open_feed(server.url) as world:
            room, _ = await world.watch_live("s")
            written = await world.writer.append("s", events=[delta("x" * 1000)] * 500, push="each")

            await room.holds(written)
            assert world.feed.stats.reconnects == 1


async def test_pushes_beyond_what_may_be_parked_are_read_instead(server: ValkeyServer) -> None:
    async with open_feed(server.url, limits=FeedLimits(parked_entries=2, page=3)) as world:
        written = await world.writer.append("s", 10)
        room, _ = world.watch("s")
        for _ in range(20):
            written += await world.writer.append("s")

        await room.holds(written)


async def test_a_deaf_connection_is_found_by_its_probe_and_replaced(server: ValkeyServer) -> None:
    async with open_relay(server.url) as relay, _relayed(server, relay.url, PROBES) as world:
        room, _ = await world.watch_live("s")
        relay.is_deaf = True
        written = await world.writer.append("s", 2)
        await until(lambda: world.feed.stats.probe_failures == 1)

        relay.is_deaf = False

        await room.holds(written)
        await until(lambda: world.feed.stats.reconnects == 1)


async def test_probes_that_come_back_leave_the_connection_alone(server: ValkeyServer) -> None:
    async with open_relay(server.url) as relay, _relayed(server, relay.url, PROBES) as world:
        await until(lambda: sum(b"SSUBSCRIBE" in write for write in relay.writes) == 1)
        _, before = await _probes_heard(world)

        async with asyncio.timeout(PROMISED_S):
            while (await _probes_heard(world))[1] < before + 10:
                await asyncio.sleep(0.01)

        assert (relay.connections, world.feed.stats.probe_failures) == (1, 0)


async def test_a_connection_to_another_server_than_the_primary_is_not_kept(server: ValkeyServer) -> None:
    """After a failover the old primary may answer and push for a while: only the probe tells."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder)) as demoted:
        async with _relayed(server, demoted.url, PROBES) as world:
            await until(lambda: world.feed.stats.probe_failures >= 2)


@pytest.mark.parametrize(
    "words",
    [b"-MOVED 1234 127.0.0.1:1\r\n", b"-NOPERM no\r\n", b"nonsense\r\n", b"$99999999\r\n" + b"x" * 200_000],
    ids=["moved", "error", "not RESP", "endless reply"],
)
async def test_an_answer_that_is_no_push_ends_the_connection_and_the_next_loses_nothing(
    server: ValkeyServer, words: bytes
) -> None:
    limits = FeedLimits(reply_bytes=100_000)
    async with open_relay(server.url) as relay, _relayed(server, relay.url, PUSHES_ONLY, limits) as world:
        room, _ = await world.watch_live("s")
        relay.say(words)
        written = await world.writer.append("s", push="none")

        await room.holds(written)
        await until(lambda: world.feed.stats.reconnects == 1)


async def test_a_channel_that_the_server_takes_away_ends_the_connection(server: ValkeyServer) -> None:
    """In a cluster a slot that moves takes its channels along, unasked."""
    async with open_relay(server.url) as relay, _relayed(server, relay.url, PUSHES_ONLY) as world:
        room, _ = await world.watch_live("s")
        channel = world.connection.keys.live("s").encode()
        written = await world.writer.append("s", push="none")

        relay.say(b"*3\r\n$12\r\nsunsubscribe\r\n$%d\r\n%s\r\n:0\r\n" % (len(channel), channel))

        await room.holds(written)
        await until(lambda: world.feed.stats.reconnects == 1)


async def test_the_subscriptions_of_one_turn_leave_in_one_write(server: ValkeyServer) -> None:
    async with open_relay(server.url) as relay, _relayed(server, relay.url, PUSHES_ONLY) as world:
        await world.watch_live("first")
        before = len(relay.writes)

        watches = [world.watch(f"s{number}")[1] for number in range(50)]
        world.watch("none")[1].close()
        await asyncio.gather(*[watch.synced() for watch in watches])

        assert [write.count(b"SSUBSCRIBE") for write in relay.writes[before:]] == [50]


# -------------------------------------------------------------------------------------------------- the server itself


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


async def test_a_log_that_came_back_empty_voids_nothing_until_something_new_is_written(checked: FeedWorld) -> None:
    """The worker will send it again: what was delivered stays, and nothing comes twice."""
    room, _ = await checked.watch_live("s")
    written = await checked.writer.append("s", 3)
    await room.holds(written)
    await checked.connection.redis.flushall()
    lives = room.lives
    await checked.kill_subscribers()
    await room.until(lambda: room.lives > lives)

    for entry in written:
        await checked.writer.append("s", seq=entry.seq, events=[entry.event])
    written += await checked.writer.append("s")

    await room.holds(written)
    assert ("rewound", START) not in room.told


async def test_a_log_re_created_by_a_newer_epoch_is_told_as_void_from_the_start(world: FeedWorld) -> None:
    room, _ = await world.watch_live("s")
    await room.holds(await world.writer.append("s", 5))
    await world.connection.redis.flushall()

    written = await world.writer.append("s", 2, epoch=2, seq=1)

    await room.holds(written)
    assert room.told == [("rewound", START)]


async def test_a_log_re_created_without_a_push_is_found_by_the_tail_check(checked: FeedWorld) -> None:
    room, _ = await checked.watch_live("s")
    await room.holds(await checked.writer.append("s", 5))
    await checked.connection.redis.flushall()

    written = await checked.writer.append("s", 2, epoch=2, seq=1, push="none")

    await room.holds(written)
    assert room.told[0] == ("rewound", START)


# ------------------------------------------------------------------------------------------------- trims and forks


async def test_entries_trimmed_before_they_were_read_are_told_exactly(world: FeedWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 3)
    await room.holds(written)
    written += await world.writer.append("s", 6, push="none")
    await world.connection.redis.xtrim(world.connection.keys.log("s"), maxlen=2, approximate=False)

    written += await world.writer.append("s")

    await room.holds(written[:3] + written[7:])
    assert room.told == [Gap(GapReason.TRIMMED, at=Cursor(1, 7), first_seq=4, last_seq=7)]


@pytest.mark.parametrize("push", ["events", "poke", "none"])
async def test_a_fork_voids_exactly_what_the_log_no_longer_holds(checked: FeedWorld, push: Push) -> None:
    room, _ = await checked.watch_live("s")
    written = await checked.writer.append("s", 3) + await checked.writer.append("s", 4, epoch=2)
    await room.holds(written)

    await checked.writer.lose_tail("s", 3)
    forked = await checked.writer.append("s", 2, epoch=3, seq=5, push=push)

    await room.holds(written[:4] + forked)
    assert room.told == [("rewound", Cursor(2, 4))]


async def test_a_fork_in_a_long_log_is_traced_in_pages(server: ValkeyServer) -> None:
    async with open_feed(server.url, limits=FeedLimits(page=4)) as world:
        room, _ = await world.watch_live("s")
        written = await world.writer.append("s", 30)
        await room.holds(written)

        await world.writer.lose_tail("s", 9)
        forked = await world.writer.append("s", 20, epoch=2, seq=22)

        await room.holds(written[:21] + forked)
        assert room.told == [("rewound", Cursor(1, 21))]


async def test_a_fork_during_a_lost_connection_is_found_after_it(world: FeedWorld) -> None:
    room, _ = await world.watch_live("s")
    written = await world.writer.append("s", 4)
    await room.holds(written)
    await world.writer.lose_tail("s", 2)
    forked = await world.writer.append("s", 6, epoch=2, seq=3, push="none")

    await world.kill_subscribers()

    await room.holds(written[:2] + forked)
    assert room.told == [("rewound", Cursor(1, 2))]


async def test_a_fork_whose_stem_was_trimmed_tells_the_rewind_and_then_the_gap(world: FeedWorld) -> None:
    room, _ = await world.watch_live("s")
    await room.holds(await world.writer.append("s", 5))
    await world.writer.lose_tail("s", 2)
    forked = await world.writer.append("s", 6, epoch=2, seq=4, push="none")
    await world.connection.redis.xtrim(world.connection.keys.log("s"), maxlen=5, approximate=False)

    forked += await world.writer.append("s", epoch=2)

    await room.holds(forked[1:])
    gap = Gap(GapReason.TRIMMED, at=Cursor(2, 4), first_seq=1, last_seq=4)
    assert room.told == [("rewound", START), gap]


async def test_a_lost_tail_is_held_while_its_worker_may_send_it_again(checked: FeedWorld) -> None:
    room, _ = await checked.watch_live("s")
    await checked.writer.set_worker("s")
    written = await checked.writer.append("s", 5)
    await room.holds(written)
    await checked.writer.lose_tail("s", 2)
    lives = room.lives
    await checked.kill_subscribers()
    await room.until(lambda: room.lives > lives)

    for entry in written[3:]:
        await checked.writer.append("s", seq=entry.seq, events=[entry.event])
    written += await checked.writer.append("s")

    await room.holds(written)
    assert room.told == []


async def test_the_lost_tail_of_an_ended_stream_is_told_as_void(checked: FeedWorld) -> None:
    """A zombie ended the log after a failover lost the grant of the newer epoch: nobody will append to it any more."""
    room, watch = await checked.watch_live("s")
    written = await checked.writer.append("s", 3) + await checked.writer.append("s", 3, epoch=2)
    await room.holds(written)
    await checked.writer.lose_tail("s", 3)

    end = await checked.writer.append("s", seq=4) + [await checked.writer.finish("s")]

    await room.holds(written[:3] + end)
    assert room.told == [("rewound", Cursor(1, 3))]
    assert watch.is_over


# ---------------------------------------------------------------------------------------------------------- the worker


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


async def test_a_lapse_of_the_lease_that_ends_in_time_is_not_told(server: ValkeyServer) -> None:
    async with open_feed(server.url, times=replace(TAILS, stall_notice_s=NEVER_S)) as world:
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


# -------------------------------------------------------------------------------------------------------------- helpers


def _relayed(
    server: ValkeyServer, subscriber_url: str, times: FeedTimes, limits: FeedLimits | None = None
) -> AbstractAsyncContextManager[FeedWorld]:
    return open_feed(server.url, times=times, limits=limits, dialer=NodeAddress.from_url(subscriber_url))


async def _probes_heard(world: FeedWorld) -> tuple[int, int]:
    stats = await world.connection.redis.info("commandstats")
    calls = int(stats.get("cmdstat_spublish", {"calls": 0})["calls"])
    return world.feed.stats.probe_failures, calls
