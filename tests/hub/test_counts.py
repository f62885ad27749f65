"""What a hub counts of its viewers, and what it costs them."""

from __future__ import annotations

import pytest

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.notices import StallReason
from broadcaster.dialects import NATIVE
from broadcaster.hub.hub import Hub
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.hub.support import join, text, texts, turns
from tests.support.memory.fake_tail import FakeTail
from tests.support.socket_reader import open_socket_reader


async def test_viewers_are_counted_by_dialect_while_they_are_here(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 3))
    first, second = await join(hub), await join(hub, after="5-2")
    counts = hub.counts
    assert (counts.viewers["native"], counts.opened["native"], counts.resumed["native"]) == (2, 2, 1)
    first.viewer.leave()
    first.viewer.leave()
    assert (counts.viewers["native"], counts.opened["native"]) == (1, 2)
    assert hub.statistics().stopped == {StopReason.CLIENT_GONE: 1}
    second.viewer.leave()
    assert hub.statistics()[:2] == (0, 0)


async def test_what_a_viewer_pulls_is_a_replay_and_its_first_event_is_timed_once(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 10))
    reader = await join(hub)
    pieces = reader.pull_all()
    tail.append("g", text(5, 11))
    pieces += reader.pull_all()
    counts = hub.counts
    assert (counts.replay_entries, counts.live_entries) == (11, 0)
    assert counts.replay_bytes == sum(map(len, pieces))
    assert counts.first_event_s["native",].count == 1
    assert not counts.awaiting


async def test_a_viewer_that_waits_for_an_answer_to_begin_times_nothing(hub: Hub, tail: FakeTail) -> None:
    reader = await join(hub)
    tail.append("g", text(5, 1))
    await turns()
    reader.pull_all()
    assert not hub.counts.first_event_s
    gone = await join(hub)
    gone.viewer.leave()  # before it has pulled its first event
    assert not hub.counts.awaiting


@pytest.mark.usefixtures("unpaced")
async def test_what_a_flush_writes_to_live_viewers_counts_for_each(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 10))
    readers = []
    for _ in range(3):
        viewer = await hub.join("g", cursor=Cursor(5, 10), timeout_s=5, dialect=NATIVE)
        assert isinstance(viewer, Viewer)
        readers.append(await open_socket_reader(viewer, cursor=None))
        while viewer._group is None:
            await turns(1)
    for each in readers:
        each.client.recv(2**16)
    flushes = hub.flush_lag.count
    tail.append("g", *texts(5, 11, 14))
    await turns()
    received = [each.client.recv(2**16) for each in readers]
    hub.statistics()
    assert hub.counts.live_entries == 4 * 3
    assert hub.counts.live_bytes == sum(map(len, received))
    assert hub.flush_lag.count == flushes + 1  # one for all
    readers.pop().close()  # one leaves between two writes
    while hub.statistics().viewers > 2:
        await turns(1)
    for at in (15, 16):
        tail.append("g", *texts(5, at, at))
        await turns()
    received += [each.client.recv(2**16) for each in readers]
    hub.statistics()
    assert hub.counts.live_entries == 4 * 3 + 2 * 2
    assert hub.counts.live_bytes == sum(map(len, received))
    hub.statistics()  # nothing is counted twice
    assert hub.counts.live_entries == 4 * 3 + 2 * 2
    for each in readers:
        each.close()
    await turns()


async def test_gaps_and_stalls_are_counted_once_for_each_stream(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 10))
    readers = [await join(hub) for _ in range(2)]
    sink = tail.sinks["g"]
    sink.stalled(StallReason.WORKER_LOST)
    sink.stalled(StallReason.WORKER_LOST)
    sink.stalled(None)
    sink.rewound(Cursor(5, 4))
    sink.rewound(START)
    assert hub.counts.stalls == {"worker_lost": 1}
    assert hub.counts.gaps == {"rewound": 1, "reset": 1}
    for each in readers:
        each.viewer.leave()
