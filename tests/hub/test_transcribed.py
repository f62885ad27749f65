"""Viewers in a dialect that must know what came before: preludes, cursors, falling behind, and what is void."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import StallReason
from broadcaster.hub.hub import Hub
from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.hub.viewer import Viewer
from tests.hub.conftest import LIMITS
from tests.hub.support import Reader, answer, finish, text, texts, turns
from tests.support.fake_feed import FakeFeed
from tests.support.socket_reader import SocketReader, open_socket_reader
from tests.support.tally_dialect import TallyDialect, TallyWitness, sums_of

TALLY = TallyDialect()
BEARING = TallyDialect(bears_gaps=True)


@pytest.fixture
def feed() -> FakeFeed:
    return FakeFeed()


@pytest.fixture
async def hub(feed: FakeFeed) -> AsyncIterator[Hub]:
    opened = Hub(feed, feed, limits=dataclasses.replace(LIMITS, room_bytes=2**17))
    yield opened
    await opened.aclose()


async def read(
    hub: Hub, dialect: TallyDialect = TALLY, *, after: str | None = None, with_prelude: bool = True
) -> Reader:
    """A reader by hand."""
    cursor = Cursor.parse(after) if after else None
    viewer = await hub.join("g", cursor=cursor, timeout_s=5, encoder=dialect, with_prelude=with_prelude)
    assert isinstance(viewer, Viewer)
    reader = Reader(viewer, cursor=cursor)
    reader.witness = TallyWitness(says_every=dialect.says_every)  # type: ignore[assignment]
    if cursor is not None:
        reader.witness.last_seq = cursor.seq  # type: ignore[misc]
    return reader


async def read_on_socket(hub: Hub, dialect: TallyDialect = TALLY) -> SocketReader:
    viewer = await hub.join("g", cursor=None, timeout_s=5, encoder=dialect)
    assert isinstance(viewer, Viewer)
    reader = await open_socket_reader(viewer, cursor=None)
    reader.witness = TallyWitness(says_every=dialect.says_every)  # type: ignore[assignment]
    return reader


def heard(reader: Reader | SocketReader) -> TallyWitness:
    assert isinstance(reader.witness, TallyWitness)
    return reader.witness


async def settle(*readers: Reader | SocketReader) -> None:
    """Let everybody read until nothing more comes."""
    silent = 0
    while silent < 100:  # pages are read between two that bring something
        told = [reader.pull_all() for reader in readers]
        silent = 0 if any(told) else silent + 1
        await turns(1)


async def test_who_is_there_from_the_start_hears_every_entry(hub, feed):
    reader = await read(hub)
    entries = answer(50)
    for entry in entries:
        feed.append("g", entry)
        await settle(reader)
    assert heard(reader).sums == sums_of(entries)
    assert (heard(reader).preludes, reader.viewer.is_over, reader.viewer.ends_cleanly) == (0, True, True)


@pytest.mark.parametrize("late_after", [1, 7, 300, 2_000])
async def test_who_comes_late_hears_a_prelude_and_then_everything(hub, feed, late_after):
    entries = answer(late_after + 20)
    feed.append("g", *entries[:late_after])
    reader = await read(hub)
    await settle(reader)
    expected = sums_of(entries)
    assert heard(reader).sums == {late_after: expected[late_after]}
    feed.append("g", *entries[late_after:])
    await settle(reader)
    assert heard(reader).preludes == 1
    assert heard(reader).sums == {seq: expected[seq] for seq in range(late_after, late_after + 21)}
    assert reader.viewer.ends_cleanly


async def test_who_comes_after_the_end_hears_a_prelude_and_the_end(hub, feed):
    entries = answer(500)
    feed.log["g"].extend(entries)
    reader = await read(hub)
    await settle(reader)
    expected = sums_of(entries)
    assert heard(reader).sums == {499: expected[499], 500: expected[500]}
    assert reader.viewer.stop_reason is StopReason.TERMINAL


async def test_an_answer_that_is_nothing_but_its_end_has_no_prelude(hub, feed):
    feed.log["g"].append(finish(5, 1))
    reader = await read(hub)
    await settle(reader)
    assert (heard(reader).preludes, list(heard(reader).sums)) == (0, [1])


async def test_every_event_is_told_to_who_asks_for_them(hub, feed):
    entries = answer(900)
    feed.log["g"].extend(entries)
    reader = await read(hub, with_prelude=False)
    await settle(reader)
    assert heard(reader).sums == sums_of(entries)


@pytest.mark.parametrize("seen", [1, 255, 256, 257, 1_500, 2_999])
async def test_after_a_cursor_comes_what_was_not_seen(hub, feed, seen):
    entries = answer(3_000)
    feed.log["g"].extend(entries)
    reader = await read(hub, after=f"5-{seen}")
    await settle(reader)
    expected = sums_of(entries)
    assert heard(reader).sums == {seq: expected[seq] for seq in range(seen + 1, 3_001)}
    assert heard(reader).preludes == 0


async def test_a_long_history_is_read_once_however_many_come(hub, feed):
    feed.append("g", *texts(5, 1, 3_000, size=200))  # far more than the ring holds
    first = await read(hub)
    await settle(first)
    pages = len(feed.pages)
    assert pages > 5
    late = [await read(hub) for _ in range(20)]
    await settle(*late)
    assert len(feed.pages) == pages
    assert all(heard(reader).sums.keys() == {3_000} for reader in late)


async def test_all_who_come_at_once_wait_for_one_reading(hub, feed):
    feed.append("g", *texts(5, 1, 3_000, size=200))
    late = [await read(hub) for _ in range(20)]
    await settle(*late)
    expected = sums_of(feed.log["g"])
    assert all(heard(reader).sums == {3_000: expected[3_000]} for reader in late)
    assert len({at for at, _ in feed.pages}) == len(feed.pages)


async def test_live_viewers_share_a_transcript_and_who_falls_behind_takes_its_own(hub, feed):
    quick, slow = await read_on_socket(hub), await read_on_socket(hub)
    feed.append("g", text(5, 1))
    await settle(quick, slow)
    for seq in range(2, 1_500):
        feed.append("g", text(5, seq))
        await turns(1)
        quick.pull_all()
    assert slow.viewer._group is None
    assert heard(slow).last_seq == 1
    await settle(slow)
    for seq in range(1_500, 1_510):
        feed.append("g", text(5, seq))
        await turns(2)
    await settle(quick, slow)
    expected = sums_of(feed.log["g"])
    assert heard(quick).sums == heard(slow).sums == expected
    assert slow.viewer._group is quick.viewer._group is not None
    quick.close()
    slow.close()


async def test_entries_that_a_dialect_has_no_word_for_are_not_written(hub, feed):
    dialect = TallyDialect(says_every=10)
    reader = await read_on_socket(hub, dialect)
    for seq in range(1, 36):
        feed.append("g", text(5, seq))
        await turns(1)
    late = await read_on_socket(hub, dialect)
    for seq in range(36, 45):
        feed.append("g", text(5, seq))
        await turns(1)
    await settle(reader, late)
    expected = sums_of(feed.log["g"])
    assert heard(reader).sums == {seq: expected[seq] for seq in (10, 20, 30, 40)}
    assert heard(late).sums == {seq: expected[seq] for seq in (35, 40)}
    reader.close()
    late.close()


async def test_who_was_told_what_became_void_is_ended_by_the_dialects_error(hub, feed):
    feed.append("g", *texts(5, 1, 10))
    reader, behind = await read(hub), await read(hub)
    await settle(reader)
    behind.viewer.pull(1)
    feed.log["g"][5:] = [text(6, 6)]
    feed.sinks["g"].rewound(Cursor(5, 5))
    feed.sinks["g"].deliver([text(6, 6)])
    await settle(reader, behind)
    assert (heard(reader).bye, reader.viewer.stop_reason) == ("gap", StopReason.GAP)
    again = await read(hub)
    await settle(again)
    assert heard(again).sums == {6: sums_of(feed.log["g"])[6]}
    assert heard(behind).sums == {6: sums_of(feed.log["g"])[6]}


async def test_who_still_waits_for_the_past_behind_its_cursor_is_ended_when_that_becomes_void(hub, feed):
    feed.append("g", *texts(5, 1, 3_000, size=200))  # far more than the ring holds
    await read(hub)
    feed.is_readable.clear()
    reader = await read(hub, after="5-2500")
    await settle(reader)
    assert heard(reader).sums == {}
    feed.log["g"] = feed.log["g"][:2_000]
    feed.sinks["g"].rewound(Cursor(5, 2_000))
    feed.append("g", *texts(6, 2_001, 2_600))
    feed.is_readable.set()
    await settle(reader)
    assert (heard(reader).bye, heard(reader).sums) == ("gap", {})

    again = await read(hub, after="5-2500")
    await settle(again)
    assert (heard(again).discards, heard(again).preludes) == (1, 1)
    assert heard(again).sums == {2_600: sums_of(feed.log["g"])[2_600]}


async def test_who_has_not_come_so_far_does_not_notice_that_something_became_void(hub, feed):
    feed.append("g", *texts(5, 1, 5))
    reader = await read(hub)
    await settle(reader)
    feed.append("g", *texts(5, 6, 10))
    feed.sinks["g"].rewound(Cursor(5, 5))
    feed.log["g"][5:] = [text(6, 6)]
    feed.sinks["g"].deliver([text(6, 6)])
    await settle(reader)
    assert heard(reader).bye is None
    assert heard(reader).sums[6] == sums_of(feed.log["g"])[6]


async def test_missing_entries_end_who_cannot_say_so(hub, feed):
    feed.log["g"].extend(texts(5, 11, 20))
    reader = await read(hub)
    await settle(reader)
    assert (heard(reader).bye, reader.viewer.is_over, reader.viewer.ends_cleanly) == ("gap", True, True)


async def test_missing_entries_are_told_behind_the_prelude_by_who_can(hub, feed):
    feed.log["g"].extend(texts(5, 11, 20))
    reader = await read(hub, BEARING)
    await settle(reader)
    assert (heard(reader).bye, heard(reader).preludes, heard(reader).gaps) == (None, 1, [(1, 10)])
    feed.append("g", text(5, 21))
    await settle(reader)
    assert heard(reader).last_seq == 21


async def test_a_cursor_that_stands_no_more_is_none(hub, feed):
    feed.append("g", *texts(7, 1, 10))
    reader = await read(hub, after="5-4")
    heard(reader).last_seq = 0
    await settle(reader)
    assert heard(reader).sums == {10: sums_of(feed.log["g"])[10]}


async def test_a_cursor_ahead_of_the_log_is_held_until_the_log_has_passed_it(hub, feed):
    feed.append("g", *texts(5, 1, 3))
    reader = await read(hub, after="5-6")
    await settle(reader)
    assert heard(reader).sums == {}
    feed.append("g", *texts(5, 4, 8))
    await settle(reader)
    expected = sums_of(feed.log["g"])
    assert heard(reader).sums == {7: expected[7], 8: expected[8]}


async def test_a_drain_says_goodbye_in_the_dialect(hub, feed):
    feed.append("g", *texts(5, 1, 3))
    reader = await read(hub)
    await settle(reader)
    draining = asyncio.create_task(hub.drain(window_s=0))
    await turns()
    await settle(reader)
    reader.viewer.leave()
    await draining
    assert heard(reader).bye == "drain"


async def test_a_drain_sends_those_away_last_who_cannot_go_on_elsewhere(hub, feed):
    feed.append("g", *texts(5, 1, 3))
    in_dialect = [await read(hub) for _ in range(5)]
    native = [await hub.join("g", cursor=None, timeout_s=5) for _ in range(5)]
    draining = asyncio.create_task(hub.drain(window_s=1))
    async with asyncio.timeout(5):
        while not all(isinstance(viewer, Viewer) and viewer.stop_reason for viewer in native):
            await asyncio.sleep(0.01)
    assert not all(reader.viewer.stop_reason for reader in in_dialect)
    for viewer in (*native, *(reader.viewer for reader in in_dialect)):
        assert isinstance(viewer, Viewer)
        viewer.leave()
    await draining


async def test_heartbeats_are_the_dialects_own(hub, feed):
    @dataclasses.dataclass(frozen=True)
    class Pinging(TallyDialect):
        heartbeat: bytes = b": ping\n\n"

    feed.append("g", *texts(5, 1, 3))
    reader = await read(hub, Pinging())
    await settle(reader)
    assert reader.viewer.heartbeat() == b": ping\n\n"


async def test_a_refusal_is_told_in_the_dialect(hub, feed):
    await hub.drain(window_s=0)
    try:
        await hub.join("g", cursor=None, timeout_s=1, encoder=TALLY)
    except Exception as error:
        refused = hub.refuse(error, encoder=TALLY)
    assert refused == Refused(StopReason.DRAIN, b'data: ["bye","drain"]\n\n')


async def test_a_stall_is_told_to_the_dialect_once_it_is_caught_up(hub, feed):
    feed.append("g", *texts(5, 1, 3))
    reader = await read(hub)
    feed.sinks["g"].stalled(StallReason.WORKER_LOST)
    await settle(reader)
    assert heard(reader).last_seq == 3


async def test_what_a_replay_holds_is_counted_and_given_back(hub, feed):
    feed.append("g", *texts(5, 1, 100, size=100))
    reader = await read(hub)
    before = hub.statistics().bytes
    await settle(reader)
    assert hub.statistics().bytes >= before + 100 * 100
    hub.feed_lost()
    reader.viewer.leave()
    assert hub.statistics().bytes == 0


async def test_a_log_that_does_not_answer_is_waited_for(hub, feed):
    feed.append("g", *texts(5, 1, 3_000, size=200))
    first = await read(hub)
    feed.is_readable.clear()
    await turns(20)
    first.pull_all()
    assert heard(first).sums == {}
    feed.is_readable.set()
    async with asyncio.timeout(10):
        while not heard(first).sums:
            await settle(first)
    assert heard(first).sums == {3_000: sums_of(feed.log["g"])[3_000]}
