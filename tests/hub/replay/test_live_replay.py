"""The head of a replay while live viewers move it: what it encodes for them, and what it leaves behind."""

from __future__ import annotations

import pytest

from broadcaster.dialects import Dialect
from broadcaster.hub.hub import Hub
from broadcaster.hub.replay.checkpoints import INTERVAL_ENTRIES
from broadcaster.hub.replay.replay import Replay
from tests.hub.replay.test_replay import Counting
from tests.hub.replay.test_transcribed import read, read_on_socket, settle, witness_of
from tests.hub.support import answer, texts, turns
from tests.support.memory.fake_tail import FakeTail
from tests.support.memory.tally_dialect import TallyDialect, sums_of
from tests.support.socket_reader import SocketReader

pytestmark = pytest.mark.usefixtures("unpaced")


async def read_live(hub: Hub, dialect: TallyDialect) -> SocketReader:
    """A viewer that its room writes to."""
    reader = await read_on_socket(hub, dialect)
    while reader.viewer._group is None:
        await turns(1)
    return reader


def replay_of(hub: Hub, dialect: Dialect) -> Replay:
    replay = hub._tenancies["g"].room.replays.of(dialect)
    assert isinstance(replay, Replay)
    return replay


async def test_what_live_viewers_read_is_encoded_once_counted_and_left_as_checkpoints(hub: Hub, tail: FakeTail) -> None:
    dialect, entries = Counting(), texts(5, 1, 2 * INTERVAL_ENTRIES + 10)
    readers = [await read_live(hub, dialect) for _ in range(2)]
    for entry in entries:
        tail.append("g", entry)
        await turns()
        for reader in readers:
            reader.pull_all()
    assert all(witness_of(reader).sums == sums_of(entries) for reader in readers)
    assert dialect.counts["entries"] == len(entries)
    replay, room = replay_of(hub, dialect), hub._tenancies["g"].room
    kept = [checkpoint.seq for checkpoint in replay._checkpoints._kept]
    assert kept == [INTERVAL_ENTRIES, 2 * INTERVAL_ENTRIES]
    text_bytes = sum(len(entry.event) for entry in entries)
    assert room.unsent.bytes >= 2 * text_bytes
    for reader in readers:
        reader.viewer.leave()
        reader.close()
    room.shed()
    assert room.unsent.bytes == 0


async def test_what_live_viewers_read_in_batches_is_counted_and_left_as_checkpoints(hub: Hub, tail: FakeTail) -> None:
    dialect, entries = Counting(), texts(5, 1, INTERVAL_ENTRIES + 100)
    reader = await read_live(hub, dialect)
    tail.fast_paths["g"].close()
    for first in range(0, len(entries), 50):
        tail.append("g", *entries[first : first + 50])
        await turns()
        reader.pull_all()
    assert witness_of(reader).sums == sums_of(entries)
    assert dialect.counts["entries"] == len(entries)
    assert [checkpoint.seq for checkpoint in replay_of(hub, dialect)._checkpoints._kept] == [INTERVAL_ENTRIES]
    assert hub._tenancies["g"].room.unsent.bytes >= 2 * sum(len(entry.event) for entry in entries)
    reader.close()


async def test_what_is_copied_for_live_viewers_is_in_the_checkpoints_snapshots_and_the_end(
    hub: Hub, tail: FakeTail
) -> None:
    dialect, entries = TallyDialect(copies=True), answer(2 * INTERVAL_ENTRIES)
    live = [await read_live(hub, dialect) for _ in range(2)]
    for entry in entries[:-1]:
        tail.append("g", entry)
        await turns()
        for reader in live:
            reader.pull_all()
        if entry.seq == INTERVAL_ENTRIES + 40:
            head = replay_of(hub, dialect)._head
            assert head._copied, "the transcript has not read the newest"
            late = await read(hub, dialect)
            await settle(*live, late)
            assert not head._copied
    tail.append("g", entries[-1])
    await settle(*live, late)
    expected = sums_of(entries)
    assert all(witness_of(reader).sums == expected for reader in live)
    assert witness_of(late).snapshots == 1
    assert witness_of(late).sums == {seq: expected[seq] for seq in range(INTERVAL_ENTRIES + 40, len(entries) + 1)}
    for reader in live:
        reader.close()


async def test_what_a_viewer_behind_reads_too_is_encoded_once(hub: Hub, tail: FakeTail) -> None:
    dialect, entries = Counting(), texts(5, 1, 30)
    live = await read_live(hub, dialect)
    behind = await read(hub, dialect)  # driven by hand: it is never live
    for entry in entries:
        tail.append("g", entry)
        await turns()  # the room writes to the live viewer before the other one pulls
        await settle(live, behind)
    assert witness_of(live).sums == witness_of(behind).sums == sums_of(entries)
    assert dialect.counts["entries"] == len(entries)
    live.viewer.leave()
    live.close()
    behind.viewer.leave()


async def test_the_end_that_live_viewers_read_leaves_a_late_viewer_its_snapshot(hub: Hub, tail: FakeTail) -> None:
    entries, dialect = answer(20), TallyDialect()
    live = await read_live(hub, dialect)
    for entry in entries:
        tail.append("g", entry)
    await settle(live)
    late = await read(hub, dialect)
    await settle(late)
    assert witness_of(live).sums == sums_of(entries)
    assert witness_of(late).snapshots == 1
    assert witness_of(late).last_seq == 20
    live.viewer.leave()
    live.close()
