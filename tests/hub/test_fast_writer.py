"""The fast path inside the hub: while every viewer is live, events bypass the room. Viewers receive the same bytes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import StallReason
from broadcaster.dialects import NATIVE, Dialect
from broadcaster.hub.hub import Hub
from broadcaster.hub.live.fast_writer import MOST_UNSETTLED, MOST_UNSETTLED_BYTES
from broadcaster.hub.room import Room
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.hub.conftest import LIMITS
from tests.hub.replay.test_transcribed import TALLY
from tests.hub.support import finish, join, seen_by_client, text, texts, turns
from tests.support.memory.fake_tail import FakeTail
from tests.support.memory.tally_dialect import TallyWitness
from tests.support.socket_reader import SMALL_BYTES, SocketReader, open_socket_reader

pytestmark = pytest.mark.usefixtures("unpaced")


async def on_socket(hub: Hub, dialect: Dialect = NATIVE) -> SocketReader:
    """A viewer that is live."""
    viewer = await hub.join("g", cursor=None, timeout_s=5, dialect=dialect)
    assert isinstance(viewer, Viewer)
    reader = await open_socket_reader(viewer, cursor=None)
    if dialect is TALLY:
        reader.witness = TallyWitness(sends_every=TALLY.sends_every)  # type: ignore[assignment]
    while viewer._group is None:
        await turns(1)
    return reader


async def opened(hub: Hub, tail: FakeTail, *dialects: Dialect) -> list[SocketReader]:
    """Live viewers of a stream of three entries, whose fast path is open."""
    tail.append("g", *texts(5, 1, 2))
    readers = [await on_socket(hub, dialect) for dialect in dialects or (NATIVE, NATIVE)]
    tail.append("g", text(5, 3))
    await turns()
    assert tail.fast_paths["g"].is_open
    return readers


def room_of(hub: Hub) -> Room:
    return hub._tenancies["g"].room


def settled_seq(hub: Hub) -> int:
    """The last entry that the room itself has."""
    return room_of(hub)._history._last_seq


@pytest.mark.parametrize("dialects", [(NATIVE, NATIVE), (TALLY, TALLY), (NATIVE, TALLY), (TALLY, NATIVE, NATIVE)])
async def test_live_viewers_of_all_dialects_receive_every_event_and_the_room_none(
    hub: Hub, tail: FakeTail, dialects: Sequence[Dialect]
) -> None:
    readers = await opened(hub, tail, *dialects)
    for seq in range(4, 10):
        tail.append("g", text(5, seq))
        await turns()
    for each in readers:
        each.pull_all()
        assert each.witness.last_seq == 9
    assert tail.fast_paths["g"].is_open
    assert settled_seq(hub) == 3
    for each in readers:
        each.close()


async def test_the_path_stays_closed_while_a_viewer_is_not_on_a_socket(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 2))
    live, pulling = await on_socket(hub), await hub.join("g", cursor=None, timeout_s=5)
    assert isinstance(pulling, Viewer)
    for seq in range(3, 6):
        while pulling.pull(2**16):
            pass
        tail.append("g", text(5, seq))
        await turns()
        assert not tail.fast_paths["g"].is_open
        assert pulling.pull(2**16)
    pulling.leave()
    live.close()


@pytest.mark.parametrize("dialects", [(NATIVE,), (NATIVE, TALLY)])
async def test_the_room_catches_up_at_its_bound_and_the_path_stays_open(
    hub: Hub, tail: FakeTail, dialects: Sequence[Dialect]
) -> None:
    readers = await opened(hub, tail, *dialects)
    for seq in range(4, 4 + 3 * MOST_UNSETTLED):
        tail.append("g", text(5, seq))
        await turns()
        assert seq - settled_seq(hub) <= MOST_UNSETTLED
        assert tail.fast_paths["g"].is_open
        for each in readers:
            each.pull_all()
    assert settled_seq(hub) == 3 + 3 * MOST_UNSETTLED
    for each in readers:
        assert each.witness.last_seq == 3 + 3 * MOST_UNSETTLED
        each.close()


async def test_large_events_are_counted_soon(hub: Hub, tail: FakeTail) -> None:
    readers = await opened(hub, tail)
    before_bytes = room_of(hub).ledger.bytes
    for seq in range(4, 20):
        tail.append("g", text(5, seq, size=1500))
        await turns()
        for each in readers:
            each.pull_all()
    assert 16 * 1500 - (room_of(hub).ledger.bytes - before_bytes) <= MOST_UNSETTLED_BYTES
    assert tail.fast_paths["g"].is_open
    for each in readers:
        each.close()


CLOSERS: dict[str, Callable[[Hub, list[SocketReader]], object]] = {
    "the last seq is read": lambda hub, _: room_of(hub).last_seq,
    "a segment is looked for": lambda hub, _: room_of(hub).find(5),
    "a cursor is placed": lambda hub, _: room_of(hub).place(Cursor(5, 5)),
    "the newest epoch is read": lambda hub, _: room_of(hub).epoch,
    "numbers are read": lambda hub, _: hub.statistics(),
    "crowds are shown": lambda hub, _: hub.most_watched(3),
    "a viewer's place is read": lambda _, readers: readers[0].viewer.seq,
    "a viewer's bytes are read": lambda _, readers: readers[0].viewer.sent_bytes,
    "a viewer is stopped": lambda _, readers: readers[0].viewer.stop(StopReason.DRAIN),
    "a viewer is cut": lambda _, readers: readers[0].viewer.cut(StopReason.SLOW),
    "a token is about to expire": lambda _, readers: readers[0].viewer.announce_expiry(7.0),
    "memory is released": lambda hub, _: room_of(hub).drop_oldest(),
    "the stream stalls": lambda hub, _: room_of(hub).stalled(StallReason.WORKER_LOST),
    "the stream is rewound": lambda hub, _: room_of(hub).rewound(Cursor(5, 6)),
}


@pytest.mark.parametrize("is_flushed", [True, False], ids=["written", "not-yet-written"])
@pytest.mark.parametrize("close", CLOSERS.values(), ids=CLOSERS)
async def test_every_access_to_the_room_s_state_closes_the_path_first(
    hub: Hub, tail: FakeTail, close: Callable[[Hub, list[SocketReader]], object], is_flushed: bool
) -> None:
    readers = await opened(hub, tail)
    tail.append("g", *texts(5, 4, 4))
    tail.append("g", *texts(5, 5, 5))
    tail.append("g", *texts(5, 6, 6))
    if is_flushed:
        await turns()
    close(hub, readers)
    assert not tail.fast_paths["g"].is_open
    assert settled_seq(hub) == 6
    await turns()
    readers[1].pull_all()
    assert readers[1].witness.last_seq == 6
    tail.append("g", text(5, 7))
    await turns()
    readers[1].pull_all()
    assert list(readers[1].witness.entries) == [1, 2, 3, 4, 5, 6, 7]
    for each in readers:
        each.close()


async def test_a_viewer_that_joins_receives_what_came_by_the_path(hub: Hub, tail: FakeTail) -> None:
    readers = await opened(hub, tail)
    tail.append("g", text(5, 4))
    late = await join(hub, after="5-3")
    late.pull_all()
    assert late.contents() == seen_by_client([text(5, 4)])
    tail.append("g", text(5, 5))
    await turns()
    assert not tail.fast_paths["g"].is_open, "a viewer is not live"
    late.pull_all()
    for each in readers:
        each.pull_all()
    assert [each.witness.last_seq for each in readers] == [5, 5]
    assert late.witness.last_seq == 5
    late.viewer.leave()
    tail.append("g", text(5, 6))
    await turns()
    assert tail.fast_paths["g"].is_open
    for each in readers:
        each.close()


async def test_viewers_whose_sockets_are_full_leave_the_path_and_return(hub: Hub, tail: FakeTail) -> None:
    readers = await opened(hub, tail)
    seq = 3
    while tail.fast_paths["g"].is_open:
        seq += 1
        tail.append("g", text(5, seq, size=200))
        await turns()
        assert seq < SMALL_BYTES
    tail.append("g", text(5, seq + 1))
    await turns()
    for _ in range(20):  # the kernel's buffers drain, and the rest follows
        for each in readers:
            each.pull_all()
        await turns()
    for at in (seq + 2, seq + 3):
        tail.append("g", text(5, at))
        await turns()
    assert tail.fast_paths["g"].is_open
    for each in readers:
        each.pull_all()
        assert list(each.witness.entries) == list(range(1, seq + 4))
        each.close()


async def test_the_end_comes_after_what_came_by_the_path(hub: Hub, tail: FakeTail) -> None:
    readers = await opened(hub, tail)
    tail.append("g", text(5, 4))
    tail.append("g", finish(5, 5))
    await turns(8)
    for each in readers:
        each.pull_all()
        assert each.witness.last_seq == 5
        assert each.viewer.stop_reason is StopReason.TERMINAL
    assert not tail.fast_paths["g"].is_open
    for each in readers:
        each.close()


async def test_what_the_path_writes_counts_for_each_viewer(hub: Hub, tail: FakeTail) -> None:
    readers = await opened(hub, tail)
    hub.statistics()
    counts = hub.counts
    entries, size = counts.live_entries, counts.live_bytes
    for each in readers:
        each.pull_all()
    for seq in range(4, 8):
        tail.append("g", text(5, seq))
        await turns()
    received = sum(len(each.client.recv(2**16)) for each in readers)
    hub.statistics()
    assert counts.live_entries - entries == 4 * 2
    assert counts.live_bytes - size == received
    assert [each.viewer.entries for each in readers] == [7, 7]
    for each in readers:
        each.close()


async def test_a_heartbeat_comes_only_when_nothing_was_written_for_its_time(
    open_hub: Callable[..., Hub], tail: FakeTail
) -> None:
    hub = open_hub(dataclasses.replace(LIMITS, heartbeat_s=30))
    (reader,) = await opened(hub, tail, NATIVE)
    reader.pull_all()
    loop, room = asyncio.get_running_loop(), room_of(hub)
    tail.append("g", text(5, 4))
    await turns()
    hub._tick(loop.time() + 29, False)
    assert tail.fast_paths["g"].is_open, "it was written to"
    hub._tick(loop.time() + 31, False)
    received = reader.client.recv(2**16)
    assert received.count(NATIVE.heartbeat) == 1
    assert not room._is_fast
    tail.append("g", text(5, 5))
    await turns()
    assert b"id: 5-5\n" in reader.client.recv(2**16)
    assert room._is_fast
    reader.close()


class Served:
    """Notified of a viewer."""

    def __init__(self) -> None:
        self.count = 0

    def was_served(self, *, is_first_here: bool) -> None:
        self.count += 1

    def left(self) -> None:
        """It only counts."""


async def test_the_first_event_of_a_viewer_does_not_go_past_its_observer(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 3))
    viewer = await hub.join("g", cursor=Cursor(5, 3), timeout_s=5)
    assert isinstance(viewer, Viewer)
    viewer.observer = served = Served()
    reader = await open_socket_reader(viewer, cursor=Cursor(5, 3))
    while viewer._group is None:
        await turns(1)
    tail.sinks["g"].live()  # a flush without an event
    await turns()
    assert not tail.fast_paths["g"].is_open
    tail.append("g", text(5, 4))
    await turns()
    assert served.count == 1
    assert tail.fast_paths["g"].is_open
    reader.close()


async def test_a_room_that_was_closed_takes_nothing_by_its_path(hub: Hub, tail: FakeTail) -> None:
    readers = await opened(hub, tail)
    path = tail.fast_paths["g"]
    tail.append("g", text(5, 4))
    await turns()
    hub.tail_lost()
    assert not path.is_open
    await turns(8)
    for each in readers:
        each.pull_all()
        assert each.witness.last_seq == 4
        assert each.witness.names[-1] == "hub.bye"
        each.close()
