"""Viewers behind the head of a replay whose way has a gap: what the head has encoded is gone from the log."""

from __future__ import annotations

import dataclasses

from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import Gap, GapReason
from broadcaster.hub.hub import Hub
from tests.hub.conftest import LIMITS
from tests.hub.replay.test_replay import room_of
from tests.hub.replay.test_transcribed import read, read_on_socket, settle, witness_of
from tests.hub.support import Reader, finish, text, texts
from tests.support.memory.fake_tail import FakeTail
from tests.support.memory.tally_dialect import TallyDialect, sums_of

LIMITED = dataclasses.replace(LIMITS, room_bytes=2**17)


async def trimmed(tail: FakeTail, dialect: TallyDialect) -> tuple[Hub, Reader]:
    """A hub, and a viewer that has all 3000 entries. The log loses the first 600, of which the replay keeps nothing.

    The tail does not report that.
    """
    hub = Hub(tail, tail, limits=LIMITED)
    tail.append("g", *texts(5, 1, 3_000, size=100))
    first = await read(hub, dialect)
    await settle(first)
    replay = room_of(hub).replays.of(dialect)
    replay._stretches.keep_through(0)
    replay._checkpoints.clear()
    del tail.log["g"][:600]
    return hub, first


async def test_a_viewer_that_misses_what_others_received_is_sent_the_gap_and_continues(tail):
    dialect = TallyDialect(bears_gaps=True)
    hub, first = await trimmed(tail, dialect)
    behind = await read(hub, dialect, after="5-50")
    await settle(behind, first)
    assert witness_of(behind).gaps == [(1, 600)]
    assert witness_of(behind).last_seq == 3_000
    tail.append("g", text(5, 3_001, size=100))
    await settle(behind, first)
    assert (witness_of(behind).last_seq, witness_of(first).last_seq) == (3_001, 3_001)
    expected = sums_of([*texts(5, 1, 3_000, size=100), text(5, 3_001, size=100)])
    assert witness_of(first).sums == {seq: expected[seq] for seq in witness_of(first).sums}
    await hub.aclose()


async def test_a_viewer_whose_place_is_there_continues_although_what_came_before_it_is_gone(tail):
    dialect = TallyDialect(bears_gaps=True)
    hub, first = await trimmed(tail, dialect)
    behind = [await read_on_socket(hub, dialect, after=f"5-{seq}") for seq in (599, 600, 900)]
    await settle(*behind, first)
    assert [witness_of(reader).gaps for reader in behind] == [[(1, 600)], [], []]
    assert [witness_of(reader).last_seq for reader in behind] == [3_000] * 3
    tail.append("g", text(5, 3_001, size=100), finish(5, 3_002))
    await settle(*behind, first)
    assert [reader.viewer.is_over for reader in behind] == [True] * 3
    assert first.viewer.is_over
    for reader in behind:
        reader.close()
    await hub.aclose()


async def test_a_viewer_whose_frames_cannot_be_made_any_more_ends_where_its_dialect_has_no_gaps(tail):
    dialect = TallyDialect()
    hub, first = await trimmed(tail, dialect)
    behind = await read(hub, dialect, after="5-900")
    await settle(behind, first)
    assert (witness_of(behind).bye, witness_of(behind).sums, first.viewer.is_over) == ("gap", {}, False)
    await hub.aclose()


async def test_a_second_gap_that_begins_before_the_first_one_has_a_replay_of_its_own(tail):
    hub = Hub(tail, tail, limits=LIMITED)
    dialect = TallyDialect(bears_gaps=True)
    tail.append("g", *texts(5, 1, 30))
    await settle(await read(hub, dialect))
    replays, at = room_of(hub).replays, Cursor(5, 20)
    replays.add_branch(dialect, Gap(GapReason.TRIMMED, at, 11, 20))
    replays.add_branch(dialect, Gap(GapReason.TRIMMED, at, 1, 20))
    replays.add_branch(dialect, Gap(GapReason.TRIMMED, at, 5, 20))  # no viewer needs it
    first, second = (replays.branch(dialect, seq, begin_seq=0) for seq in (10, 9))
    assert None not in (first, second)
    assert first is not second
    assert replays.branch(dialect, 4, begin_seq=0) is second
    assert replays.branch(dialect, 25, begin_seq=20) is None
    await hub.aclose()
