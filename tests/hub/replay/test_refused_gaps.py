"""A gap that a dialect cannot express in mid-stream: its viewers end there, and later ones receive what is left."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects import DIALECTS
from broadcaster.hub.hub import Hub
from broadcaster.hub.replay.replay import Replay
from broadcaster.hub.stop_reasons import StopReason
from tests.hub.conftest import LIMITS
from tests.hub.replay.test_lost_attempts import body_of
from tests.hub.replay.test_lost_attempts import read_on_socket as read_bytes
from tests.hub.replay.test_replay import room_of
from tests.hub.replay.test_transcribed import BEARING, TALLY, read, read_on_socket, settle, witness_of
from tests.hub.support import DEADLINE_S, finish, join, text, texts, turns
from tests.support.memory.fake_tail import FakeTail
from tests.support.memory.tally_dialect import TallyDialect, sums_of

DIALECT = TallyDialect(begins_behind_gaps=True)
LIMITED = dataclasses.replace(LIMITS, room_bytes=2**17)

pytestmark = pytest.mark.usefixtures("unpaced")


@pytest.fixture
def tail() -> FakeTail:
    return FakeTail()


@pytest.fixture
async def hub(tail: FakeTail) -> AsyncIterator[Hub]:
    opened = Hub(tail, tail, limits=LIMITED)
    yield opened
    await opened.aclose()
    assert opened.statistics().bytes == 0


def replay_of(hub: Hub, dialect: TallyDialect = DIALECT) -> Replay:
    source = room_of(hub).replays.of(dialect)
    assert isinstance(source, Replay)
    return source


def lose(tail: FakeTail, *, through: int) -> None:
    """The feed trims all entries up to this one before the front-end has read the newest 10 of them."""
    tail.fast_paths["g"].close()
    tail.log["g"].clear()
    tail.sinks["g"].gap(Gap(GapReason.TRIMMED, Cursor(5, through), through - 9, through))


async def test_a_viewer_that_comes_behind_a_refused_gap_receives_what_is_left(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 10))
    native, bearing, had_text = await join(hub), await read(hub, BEARING), await read_on_socket(hub, DIALECT)
    await settle(bearing, had_text)
    lose(tail, through=20)
    tail.append("g", *texts(5, 21, 30))
    await settle(bearing, had_text)
    assert (witness_of(had_text).bye, had_text.viewer.stop_reason) == ("gap", StopReason.GAP)

    by_hand, on_socket = await read(hub, DIALECT), await read_on_socket(hub, DIALECT)
    await settle(by_hand, on_socket)
    tail.append("g", text(5, 31), finish(5, 32))
    await settle(bearing, by_hand, on_socket)

    expected = sums_of([*texts(5, 21, 31), finish(5, 32)])
    for reader in (by_hand, on_socket):
        witness = witness_of(reader)
        assert (witness.bye, witness.gaps, witness.snapshots) == (None, [(1, 20)], 1)
        assert witness.sums == {seq: expected[seq] for seq in (30, 31, 32)}
        assert reader.viewer.stop_reason is StopReason.TERMINAL
    assert (witness_of(bearing).bye, witness_of(bearing).gaps, witness_of(bearing).last_seq) == (None, [(11, 20)], 32)
    native.pull_all()
    assert native.viewer.stop_reason is StopReason.TERMINAL
    had_text.close()
    on_socket.close()


async def test_a_viewer_that_has_nothing_is_not_ended_by_the_gap_that_it_meets_first(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 10))
    await join(hub)
    lose(tail, through=20)
    tail.append("g", *texts(5, 21, 30))
    crowd = [await read(hub, DIALECT) for _ in range(3)]
    await settle(*crowd)
    expected = sums_of(texts(5, 21, 30))
    for reader in crowd:
        assert (witness_of(reader).bye, witness_of(reader).sums) == (None, {30: expected[30]})


async def test_a_second_refused_gap_is_passed_as_the_first_one(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 10))
    reader = await read(hub, DIALECT)
    await settle(reader)
    for lost in (20, 40):
        lose(tail, through=lost)
        tail.append("g", *texts(5, lost + 1, lost + 10))
        before, reader = reader, await read(hub, DIALECT)
        await settle(before, reader)
        assert witness_of(before).bye == "gap"
        assert (witness_of(reader).bye, witness_of(reader).gaps) == (None, [(1, lost)])
    room_of(hub).shed()
    late = await read(hub, DIALECT)
    await settle(late)
    assert witness_of(late).sums == {50: sums_of(texts(5, 41, 50))[50]}


async def test_a_dialect_that_cannot_begin_behind_a_gap_ends_every_viewer_there(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 10))
    had_text = await read(hub, TALLY)
    await settle(had_text)
    lose(tail, through=20)
    tail.append("g", *texts(5, 21, 30))
    late = await read(hub, TALLY)
    await settle(had_text, late)
    assert [witness_of(reader).bye for reader in (had_text, late)] == ["gap"] * 2
    assert witness_of(late).snapshots == 0


async def test_a_viewer_behind_a_refused_gap_is_sent_no_end_that_is_all_that_is_left(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 10))
    had_text = await read(hub, DIALECT)
    await settle(had_text)
    lose(tail, through=20)
    tail.append("g", finish(5, 21))
    late = await read(hub, DIALECT)
    await settle(had_text, late)
    assert [witness_of(reader).bye for reader in (had_text, late)] == ["expired"] * 2


@pytest.mark.parametrize("name", ["openai-chat", "openai-responses", "anthropic"])
async def test_an_error_that_is_all_that_is_left_reaches_viewers_that_come_behind_the_gap(
    hub: Hub, tail: FakeTail, name: str
) -> None:
    tail.append("g", *texts(5, 1, 10))
    had_text = await read_bytes(hub, DIALECTS[name])
    await body_of(had_text)
    lose(tail, through=20)
    tail.append("g", Entry(5, 21, b'{"type":"error","errorText":"Redis lost it","code":"log_lost"}'))
    await body_of(had_text)
    late = await read_bytes(hub, DIALECTS[name])
    body = await body_of(late)
    assert (had_text.viewer.stop_reason, late.viewer.stop_reason) == (StopReason.GAP, StopReason.TERMINAL)
    assert b"Redis lost it" in body or b"log_lost" in body
    had_text.close()
    late.close()


async def test_entries_that_are_written_anew_from_before_the_gap_are_read_from_the_start(
    hub: Hub, tail: FakeTail
) -> None:
    tail.append("g", *texts(5, 1, 10))
    await settle(await read(hub, DIALECT))
    lose(tail, through=20)
    tail.append("g", *texts(5, 21, 30))
    behind = await read(hub, DIALECT)
    await settle(behind)

    tail.sinks["g"].rewound(Cursor(0, 0))
    tail.log["g"].clear()
    tail.append("g", *texts(6, 1, 5))
    late = await read(hub, DIALECT)
    await settle(behind, late)

    assert witness_of(behind).bye == "gap"
    assert (witness_of(late).gaps, witness_of(late).sums) == ([], {5: sums_of(texts(6, 1, 5))[5]})


async def test_slow_viewers_from_before_the_gap_are_ended_and_those_that_resume_hold_nothing_void(
    hub: Hub, tail: FakeTail
) -> None:
    tail.append("g", *texts(5, 1, 3_000, size=100))
    slow = [await read(hub, DIALECT, with_snapshot=False) for _ in range(2)]
    replay = replay_of(hub)
    async with asyncio.timeout(DEADLINE_S):
        while not all(reader.viewer.seq for reader in slow):
            for reader in slow:
                reader.viewer.pull(2**16)
            await turns(1)
    lost = replay._head.seq + 100
    room_of(hub)._pages.keep_through(0)
    del tail.log["g"][:lost]  # the tail does not report it
    before, behind = [await read(hub, DIALECT, after=f"5-{seq}") for seq in (lost - 50, lost + 400)]

    late = await read(hub, DIALECT)
    await settle(late)
    assert (witness_of(late).bye, witness_of(late).gaps) == (None, [(1, lost)])
    replay._stretches.keep_through(0)
    await settle(*slow, before, behind)

    assert [reader.viewer.stop_reason for reader in slow] == [StopReason.GAP] * 2
    assert (witness_of(before).bye, witness_of(before).discards, witness_of(before).snapshots) == (None, 1, 1)
    assert (witness_of(behind).bye, witness_of(behind).discards, witness_of(behind).last_seq) == (None, 0, 3_000)
    every = await read(hub, DIALECT, with_snapshot=False)
    await settle(every)
    assert (witness_of(every).bye, witness_of(every).gaps) == (None, [(1, lost)])


@pytest.mark.parametrize("name", ["openai-chat", "openai-responses", "anthropic"])
@pytest.mark.parametrize("count", [5, 3_000], ids=["in the ring", "behind the ring"])
async def test_an_attempt_behind_a_gap_is_read_where_the_gap_has_no_sign(
    hub: Hub, tail: FakeTail, name: str, count: int
) -> None:
    """What is missing is void: the feed was replaced."""
    replaced = Entry(6, 21, b'{"type":"attempt","attempt":2,"reason":"replaced"}')
    tail.log["g"].extend([replaced, *texts(6, 22, 21 + count, size=100), finish(6, 22 + count)])
    readers = [await read_bytes(hub, DIALECTS[name]) for _ in range(2)]
    for reader in readers:
        async with asyncio.timeout(DEADLINE_S):
            while not reader.viewer.is_over:
                await body_of(reader)
        body = await body_of(reader)
        assert (b"6-22x" in body, b'"code":"gap"' in body) == (True, False)
        assert reader.viewer.stop_reason is StopReason.TERMINAL
        reader.close()


async def test_a_viewer_with_text_of_before_a_gap_ends_at_the_attempt_behind_it(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 10))
    had_text = await read_bytes(hub, DIALECTS["openai-chat"])
    await body_of(had_text)
    lose(tail, through=20)
    tail.append("g", Entry(6, 21, b'{"type":"attempt","attempt":2}'), text(6, 22))
    body = await body_of(had_text)
    assert (had_text.viewer.stop_reason, b"6-22" in body) == (StopReason.NEW_ATTEMPT, False)
    late = await read_bytes(hub, DIALECTS["openai-chat"])
    body = await body_of(late)
    assert (late.viewer.stop_reason, b"5-1" in body, b"6-22" in body) == (None, False, True)
    had_text.close()
    late.close()


async def test_a_slow_viewer_of_an_attempt_that_was_lost_is_not_sent_the_next_one(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 600, size=100), Entry(6, 601, b'{"type":"attempt","attempt":2}'))
    tail.append("g", *texts(6, 602, 3_000, size=100))
    first = await read_bytes(hub, DIALECTS["openai-chat"])
    while not await body_of(first):
        await turns(1)
    replay = room_of(hub).replays.of(DIALECTS["openai-chat"])
    replay._stretches.keep_through(0)
    replay._checkpoints.clear()
    room_of(hub)._pages.keep_through(0)
    del tail.log["g"][:600]

    slow = await read_bytes(hub, DIALECTS["openai-chat"], cursor=Cursor(5, 300))
    body = await body_of(slow)
    assert (slow.viewer.stop_reason, b'"code":"gap"' in body, b"6-602" in body) == (StopReason.GAP, True, False)
    first.close()
    slow.close()
