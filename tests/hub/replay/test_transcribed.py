"""Viewers in a dialect that must know what came before: snapshots, cursors, falling behind, and what is void."""

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
from tests.support.memory.fake_tail import FakeTail
from tests.support.memory.tally_dialect import TallyDialect, TallyWitness, sums_of
from tests.support.socket_reader import SocketReader, open_socket_reader

TALLY = TallyDialect()
BEARING = TallyDialect(bears_gaps=True)


@pytest.fixture
def tail() -> FakeTail:
    return FakeTail()


@pytest.fixture
async def hub(tail: FakeTail) -> AsyncIterator[Hub]:
    opened = Hub(tail, tail, limits=dataclasses.replace(LIMITS, room_bytes=2**17))
    yield opened
    await opened.aclose()


async def read(
    hub: Hub, dialect: TallyDialect = TALLY, *, after: str | None = None, with_snapshot: bool = True
) -> Reader:
    """A reader by hand."""
    cursor = Cursor.parse(after) if after else None
    viewer = await hub.join("g", cursor=cursor, timeout_s=5, dialect=dialect, with_snapshot=with_snapshot)
    assert isinstance(viewer, Viewer)
    reader = Reader(viewer, cursor=cursor)
    reader.witness = TallyWitness(sends_every=dialect.sends_every)  # type: ignore[assignment]
    if cursor is not None:
        reader.witness.last_seq = cursor.seq  # type: ignore[misc]
    return reader


async def read_on_socket(hub: Hub, dialect: TallyDialect = TALLY, *, after: str | None = None) -> SocketReader:
    cursor = Cursor.parse(after) if after else None
    viewer = await hub.join("g", cursor=cursor, timeout_s=5, dialect=dialect)
    assert isinstance(viewer, Viewer)
    reader = await open_socket_reader(viewer, cursor=None)
    witness = TallyWitness(sends_every=dialect.sends_every, last_seq=0 if cursor is None else cursor.seq)
    reader.witness = witness  # type: ignore[assignment]
    return reader


def witness_of(reader: Reader | SocketReader) -> TallyWitness:
    assert isinstance(reader.witness, TallyWitness)
    return reader.witness


async def settle(*readers: Reader | SocketReader) -> None:
    """Let all readers read until nothing more comes."""
    silent = 0
    while silent < 100:  # pages are read between two that bring something
        received = [reader.pull_all() for reader in readers]
        silent = 0 if any(received) else silent + 1
        await turns(1)


async def test_a_viewer_from_the_start_receives_every_entry(hub, tail):
    reader = await read(hub)
    entries = answer(50)
    for entry in entries:
        tail.append("g", entry)
        await settle(reader)
    assert witness_of(reader).sums == sums_of(entries)
    assert (witness_of(reader).snapshots, reader.viewer.is_over, reader.viewer.ends_cleanly) == (0, True, True)


@pytest.mark.parametrize("late_after", [1, 7, 300, 2_000])
async def test_a_late_joiner_receives_a_snapshot_and_then_everything(hub, tail, late_after):
    entries = answer(late_after + 20)
    tail.append("g", *entries[:late_after])
    reader = await read(hub)
    await settle(reader)
    expected = sums_of(entries)
    assert witness_of(reader).sums == {late_after: expected[late_after]}
    tail.append("g", *entries[late_after:])
    await settle(reader)
    assert witness_of(reader).snapshots == 1
    assert witness_of(reader).sums == {seq: expected[seq] for seq in range(late_after, late_after + 21)}
    assert reader.viewer.ends_cleanly


async def test_a_viewer_after_the_end_receives_a_snapshot_and_the_end(hub, tail):
    entries = answer(500)
    tail.log["g"].extend(entries)
    reader = await read(hub)
    await settle(reader)
    expected = sums_of(entries)
    assert witness_of(reader).sums == {499: expected[499], 500: expected[500]}
    assert reader.viewer.stop_reason is StopReason.TERMINAL


async def test_an_answer_that_is_nothing_but_its_end_has_no_snapshot(hub, tail):
    tail.log["g"].append(finish(5, 1))
    reader = await read(hub)
    await settle(reader)
    assert (witness_of(reader).snapshots, list(witness_of(reader).sums)) == (0, [1])


async def test_every_event_is_sent_to_a_viewer_that_requests_them(hub, tail):
    entries = answer(900)
    tail.log["g"].extend(entries)
    reader = await read(hub, with_snapshot=False)
    await settle(reader)
    assert witness_of(reader).sums == sums_of(entries)


@pytest.mark.parametrize("seen", [1, 255, 256, 257, 1_500, 2_999])
async def test_after_a_cursor_comes_what_was_not_seen(hub, tail, seen):
    entries = answer(3_000)
    tail.log["g"].extend(entries)
    reader = await read(hub, after=f"5-{seen}")
    await settle(reader)
    expected = sums_of(entries)
    assert witness_of(reader).sums == {seq: expected[seq] for seq in range(seen + 1, 3_001)}
    assert witness_of(reader).snapshots == 0


async def test_a_long_history_is_read_once_however_many_come(hub, tail):
    tail.append("g", *texts(5, 1, 3_000, size=200))  # far more than the ring holds
    first = await read(hub)
    await settle(first)
    pages = len(tail.pages)
    assert pages > 5
    late = [await read(hub) for _ in range(20)]
    await settle(*late)
    assert len(tail.pages) == pages
    assert all(witness_of(reader).sums.keys() == {3_000} for reader in late)


async def test_viewers_that_come_at_once_wait_for_one_read(hub, tail):
    tail.append("g", *texts(5, 1, 3_000, size=200))
    late = [await read(hub) for _ in range(20)]
    await settle(*late)
    expected = sums_of(tail.log["g"])
    assert all(witness_of(reader).sums == {3_000: expected[3_000]} for reader in late)
    assert len({at for at, _ in tail.pages}) == len(tail.pages)


@pytest.mark.usefixtures("unpaced")
async def test_live_viewers_share_a_transcript_and_one_that_falls_behind_leaves_it(hub, tail):
    quick, slow = await read_on_socket(hub), await read_on_socket(hub)
    tail.append("g", text(5, 1))
    await settle(quick, slow)
    for seq in range(2, 1_500):
        tail.append("g", text(5, seq))
        await turns(1)
        quick.pull_all()
    assert slow.viewer._group is None
    assert witness_of(slow).last_seq == 1
    await settle(slow)
    for seq in range(1_500, 1_510):
        tail.append("g", text(5, seq))
        await turns(2)
    await settle(quick, slow)
    expected = sums_of(tail.log["g"])
    assert witness_of(quick).sums == witness_of(slow).sums == expected
    assert slow.viewer._group is quick.viewer._group is not None
    quick.close()
    slow.close()


@pytest.mark.usefixtures("unpaced")
async def test_entries_without_frames_in_a_dialect_are_not_written(hub, tail):
    dialect = TallyDialect(sends_every=10)
    reader = await read_on_socket(hub, dialect)
    for seq in range(1, 36):
        tail.append("g", text(5, seq))
        await turns(1)
    late = await read_on_socket(hub, dialect)
    for seq in range(36, 45):
        tail.append("g", text(5, seq))
        await turns(1)
    await settle(reader, late)
    expected = sums_of(tail.log["g"])
    assert witness_of(reader).sums == {seq: expected[seq] for seq in (10, 20, 30, 40)}
    assert witness_of(late).sums == {seq: expected[seq] for seq in (35, 40)}
    reader.close()
    late.close()


async def test_a_viewer_that_was_sent_void_entries_is_ended_by_the_dialects_error(hub, tail):
    tail.append("g", *texts(5, 1, 10))
    reader, behind = await read(hub), await read(hub)
    await settle(reader)
    behind.viewer.pull(1)
    tail.log["g"][5:] = [text(6, 6)]
    tail.sinks["g"].rewound(Cursor(5, 5))
    tail.sinks["g"].deliver([text(6, 6)])
    await settle(reader, behind)
    assert (witness_of(reader).bye, reader.viewer.stop_reason) == ("gap", StopReason.GAP)
    second = await read(hub)
    await settle(second)
    assert witness_of(second).sums == {6: sums_of(tail.log["g"])[6]}
    assert witness_of(behind).sums == {6: sums_of(tail.log["g"])[6]}


async def test_a_viewer_that_waits_for_the_past_is_ended_when_its_cursor_becomes_void(hub, tail):
    tail.append("g", *texts(5, 1, 3_000, size=200))  # far more than the ring holds
    await read(hub)
    tail.is_readable.clear()
    reader = await read(hub, after="5-2500")
    await settle(reader)
    assert witness_of(reader).sums == {}
    tail.log["g"] = tail.log["g"][:2_000]
    tail.sinks["g"].rewound(Cursor(5, 2_000))
    tail.append("g", *texts(6, 2_001, 2_600))
    tail.is_readable.set()
    await settle(reader)
    assert (witness_of(reader).bye, witness_of(reader).sums) == ("gap", {})

    second = await read(hub, after="5-2500")
    await settle(second)
    assert (witness_of(second).discards, witness_of(second).snapshots) == (1, 1)
    assert witness_of(second).sums == {2_600: sums_of(tail.log["g"])[2_600]}


async def test_a_viewer_before_the_void_entries_is_not_disturbed(hub, tail):
    tail.append("g", *texts(5, 1, 5))
    reader = await read(hub)
    await settle(reader)
    tail.append("g", *texts(5, 6, 10))
    tail.sinks["g"].rewound(Cursor(5, 5))
    tail.log["g"][5:] = [text(6, 6)]
    tail.sinks["g"].deliver([text(6, 6)])
    await settle(reader)
    assert witness_of(reader).bye is None
    assert witness_of(reader).sums[6] == sums_of(tail.log["g"])[6]


async def test_missing_entries_end_a_viewer_whose_dialect_cannot_express_them(hub, tail):
    tail.log["g"].extend(texts(5, 11, 20))
    reader = await read(hub)
    await settle(reader)
    assert (witness_of(reader).bye, reader.viewer.is_over, reader.viewer.ends_cleanly) == ("gap", True, True)


async def test_missing_entries_are_named_before_the_snapshot_where_the_dialect_can(hub, tail):
    tail.log["g"].extend(texts(5, 11, 20))
    reader = await read(hub, BEARING)
    await settle(reader)
    assert (witness_of(reader).bye, witness_of(reader).snapshots, witness_of(reader).gaps) == (None, 1, [(1, 10)])
    tail.append("g", text(5, 21))
    await settle(reader)
    assert witness_of(reader).last_seq == 21


async def test_a_cursor_that_stands_no_more_is_none(hub, tail):
    tail.append("g", *texts(7, 1, 10))
    reader = await read(hub, after="5-4")
    witness_of(reader).last_seq = 0
    await settle(reader)
    assert witness_of(reader).sums == {10: sums_of(tail.log["g"])[10]}


async def test_a_cursor_ahead_of_the_log_waits_until_the_log_has_passed_it(hub, tail):
    tail.append("g", *texts(5, 1, 3))
    reader = await read(hub, after="5-6")
    await settle(reader)
    assert witness_of(reader).sums == {}
    tail.append("g", *texts(5, 4, 8))
    await settle(reader)
    expected = sums_of(tail.log["g"])
    assert witness_of(reader).sums == {7: expected[7], 8: expected[8]}


async def test_a_drain_ends_a_response_in_its_dialect(hub, tail):
    tail.append("g", *texts(5, 1, 3))
    reader = await read(hub)
    await settle(reader)
    draining = asyncio.create_task(hub.drain(window_s=0))
    await turns()
    await settle(reader)
    reader.viewer.leave()
    await draining
    assert witness_of(reader).bye == "drain"


async def test_a_drain_stops_viewers_last_that_cannot_resume_elsewhere(hub, tail):
    tail.append("g", *texts(5, 1, 3))
    in_dialect = [await read(hub) for _ in range(5)]
    native = [await hub.join("g", cursor=None, timeout_s=5) for _ in range(5)]
    draining = asyncio.create_task(hub.drain(window_s=1))
    async with asyncio.timeout(20):
        while not all(isinstance(viewer, Viewer) and viewer.stop_reason for viewer in native):
            await asyncio.sleep(0.01)
    assert not all(reader.viewer.stop_reason for reader in in_dialect)
    for viewer in (*native, *(reader.viewer for reader in in_dialect)):
        assert isinstance(viewer, Viewer)
        viewer.leave()
    await draining


async def test_heartbeats_are_the_dialects_own(hub, tail):
    @dataclasses.dataclass(frozen=True)
    class Pinging(TallyDialect):
        heartbeat: bytes = b": ping\n\n"

    tail.append("g", *texts(5, 1, 3))
    reader = await read(hub, Pinging())
    await settle(reader)
    assert reader.viewer.heartbeat() == b": ping\n\n"


async def test_a_refusal_is_sent_in_the_dialect(hub, tail):
    await hub.drain(window_s=0)
    try:
        await hub.join("g", cursor=None, timeout_s=1, dialect=TALLY)
    except Exception as error:
        refused = hub.refuse(error, dialect=TALLY)
    assert refused == Refused(StopReason.DRAIN, b'data: ["bye","drain"]\n\n')


async def test_a_stall_is_sent_in_the_dialect_once_it_is_caught_up(hub, tail):
    tail.append("g", *texts(5, 1, 3))
    reader = await read(hub)
    tail.sinks["g"].stalled(StallReason.WORKER_LOST)
    await settle(reader)
    assert witness_of(reader).last_seq == 3


async def test_the_bytes_that_a_replay_holds_are_counted_and_released(hub, tail):
    tail.append("g", *texts(5, 1, 100, size=100))
    reader = await read(hub)
    before = hub.statistics().bytes
    await settle(reader)
    assert hub.statistics().bytes >= before + 100 * 100
    hub.tail_lost()
    reader.viewer.leave()
    assert hub.statistics().bytes == 0


async def test_a_log_that_does_not_answer_is_waited_for(hub, tail):
    tail.append("g", *texts(5, 1, 3_000, size=200))
    first = await read(hub)
    tail.is_readable.clear()
    await turns(20)
    first.pull_all()
    assert witness_of(first).sums == {}
    tail.is_readable.set()
    async with asyncio.timeout(20):
        while not witness_of(first).sums:
            await settle(first)
    assert witness_of(first).sums == {3_000: sums_of(tail.log["g"])[3_000]}
