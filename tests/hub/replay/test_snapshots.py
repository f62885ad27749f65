"""Snapshots: how often one is made, and how long it is kept."""

from __future__ import annotations

import asyncio

from broadcaster.hub.replay import replay
from broadcaster.hub.ring import SLICE_BYTES
from tests.hub.replay.test_replay import Counting
from tests.hub.replay.test_transcribed import read, settle, witness_of
from tests.hub.support import text, texts


async def test_a_snapshot_is_made_once_for_its_place(hub, tail):
    dialect = Counting()
    tail.append("g", *texts(5, 1, 1_000))
    late = [await read(hub, dialect) for _ in range(20)]
    await settle(*late)
    assert dialect.counts["snapshots"] == 1
    tail.append("g", text(5, 1_001))
    late.append(await read(hub, dialect))
    await settle(*late)
    assert dialect.counts["snapshots"] == 2
    assert all(witness_of(each).last_seq == 1_001 for each in late)


async def test_a_small_snapshot_is_forgotten_after_a_moment_and_a_large_one_is_not(hub, tail, monkeypatch):
    monkeypatch.setattr(replay, "SMALL_KEPT_S", 0.01)
    tail.append("g", *texts(5, 1, 100))
    small, large = Counting(), Counting(padding=SLICE_BYTES)
    late = [await read(hub, dialect) for dialect in (small, large)]
    await settle(*late)
    room = hub._tenancies["g"].room
    async with asyncio.timeout(20):
        while room.replays.of(small)._snapshot is not None:
            await asyncio.sleep(0.01)
    assert room.replays.of(large)._snapshot is not None
    late.append(await read(hub, small))
    await settle(*late)
    assert (small.counts["snapshots"], large.counts["snapshots"]) == (2, 1)
    assert all(witness_of(each).last_seq == 100 for each in late)
