"""The harness itself: a generation watched whole leaves a history without a fault, and with everything in it."""

from __future__ import annotations

from pathlib import Path

from tests.faults.history import Closed, Got, Opened
from tests.faults.world import open_world
from tests.support.log.valkey import ValkeyServer

TEXTS = [f"word{n} " for n in range(20)]


async def test_a_generation_watched_whole_through_one_front_end_leaves_a_good_history(
    tmp_path: Path, server: ValkeyServer
) -> None:
    async with open_world(tmp_path, redis=server) as world:
        await world.worker()
        await world.front_end()
        stream = await world.start(*TEXTS, every_s=0.01)
        viewer, other = world.view(stream, 2)
        await world.settle()
        (late,) = world.view(stream, after=viewer.entries[-1][0])
        await world.settle()
        history = await world.check()
    entries = history.log[stream]
    assert viewer.entries == other.entries == [(str(entry.cursor), entry.event) for entry in entries]
    assert [event for acked in history.acked for event in acked.events] == [entry.event for entry in entries]
    assert viewer.trace.happenings[0] == Opened(None, 200)
    assert viewer.trace.happenings[-1] == Closed("clean")
    assert sum(isinstance(each, Got) for each in viewer.trace.happenings) == len(entries)
    assert late.trace.happenings == [Opened(viewer.entries[-1][0], 204), Closed("clean")]
