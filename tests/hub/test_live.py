"""Live viewers: the room writes to their sockets, and nothing else does."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import StallReason
from broadcaster.dialects import NATIVE, Dialect
from broadcaster.hub.hub import Hub
from broadcaster.hub.viewer import Viewer
from tests.hub.replay.test_transcribed import TALLY
from tests.hub.support import text, texts, turns
from tests.support.memory.fake_tail import FakeTail
from tests.support.socket_reader import open_socket_reader


@pytest.mark.usefixtures("unpaced")
@pytest.mark.parametrize(("dialect", "frame"), [(NATIVE, b"id: 5-%d\n"), (TALLY, b"data: [%d,")])
async def test_a_live_viewer_that_is_woken_late_receives_no_entry_twice(
    hub: Hub, tail: FakeTail, dialect: Dialect, frame: bytes
) -> None:
    tail.append("g", *texts(5, 1, 10))
    viewer = await hub.join("g", cursor=Cursor(5, 10), timeout_s=5, dialect=dialect)
    assert isinstance(viewer, Viewer)
    reader = await open_socket_reader(viewer, cursor=None)
    while viewer._group is None:
        await turns(1)
    for seq in (11, 12):
        tail.append("g", text(5, seq))
        viewer.wake()  # what it requested before it went live is there only now
        await turns()
        viewer.wake()
    await turns()
    received = reader.client.recv(2**16)
    assert [received.count(frame % seq) for seq in (11, 12)] == [1, 1]
    reader.close()


@pytest.mark.usefixtures("unpaced")
async def test_a_room_that_must_shrink_keeps_nothing_of_live_viewers_that_have_left(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *texts(5, 1, 10))
    staying = await hub.join("g", cursor=Cursor(5, 10), timeout_s=5, dialect=TALLY)
    assert isinstance(staying, Viewer)
    room = hub._tenancies["g"].room
    for _ in range(3):
        viewer = await hub.join("g", cursor=Cursor(5, 10), timeout_s=5, dialect=NATIVE)
        assert isinstance(viewer, Viewer)
        reader = await open_socket_reader(viewer, cursor=None)
        while viewer._group is None:
            await turns(1)
        reader.close()
        while viewer in room.viewers:
            await turns(1)
        room.shed()
    assert not room._live
    staying.leave()


@pytest.mark.usefixtures("unpaced")
async def test_a_viewer_that_was_live_a_moment_ago_gets_no_heartbeat_before_it_is_due(hub: Hub, tail: FakeTail) -> None:
    """A tick of the hub comes between the notice, which ends the group, and the flush that sends it."""
    tail.append("g", *texts(5, 1, 10))
    viewer = await hub.join("g", cursor=Cursor(5, 10), timeout_s=5)
    assert isinstance(viewer, Viewer)
    reader = await open_socket_reader(viewer, cursor=None)
    while viewer._group is None:
        await turns(1)
    room = hub._tenancies["g"].room
    room.stalled(StallReason.LOG_UNAVAILABLE)
    assert viewer in room.behind
    room.check(asyncio.get_running_loop().time())
    await turns()
    received = reader.client.recv(2**16)
    assert b"hub.stalled" in received
    assert NATIVE.heartbeat not in received
    reader.close()
