"""A viewer on a socket of its own: live with the others, a cursor when its socket is full, and the traps between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.hub.support import answer, finish, seen_by_client, text, texts, turns
from tests.support.memory.fake_tail import FakeTail
from tests.support.socket_reader import SocketReader, open_socket_reader
from tests.support.streaming import on_our_runner, open_viewer, stream_app

OPENED: list[SocketReader] = []
LIMITS = HubLimits(heartbeat_s=60, slow_viewer_s=60, linger_s=60)


@pytest.fixture
def tail() -> FakeTail:
    return FakeTail()


@pytest.fixture
async def hub(tail: FakeTail) -> AsyncIterator[Hub]:
    opened = Hub(tail, tail, limits=LIMITS)
    yield opened
    await opened.aclose()


@pytest.fixture(autouse=True)
def _no_client_stays_open() -> Iterator[None]:
    """Clients that a test leaves open are closed."""
    yield
    while OPENED:
        OPENED.pop().close()


async def read(reader: SocketReader, condition: Callable[[], bool]) -> None:
    """Read until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            reader.pull_all()
            await asyncio.sleep(0)


async def until_ended(reader: SocketReader) -> None:
    await read(reader, lambda: reader.body.has_ended)


async def watch(hub: Hub, *, after: str | None = None) -> SocketReader:
    cursor = Cursor.parse(after) if after else None
    viewer = await hub.join("g", cursor=cursor, timeout_s=5)
    assert isinstance(viewer, Viewer)
    OPENED.append(await open_socket_reader(viewer, cursor=cursor))
    return OPENED[-1]


async def live(hub: Hub) -> SocketReader:
    """One that has all, and is written to with the others."""
    reader = await watch(hub)
    await read(reader, lambda: "hub.live" in reader.witness.names)
    assert is_live(reader)
    return reader


def is_live(reader: SocketReader) -> bool:
    return reader.viewer._group is not None


async def fill(reader: SocketReader, tail: FakeTail, *, others: Sequence[SocketReader] = ()) -> int:
    """Append until the socket of one that does not read holds something back, while the others read; the last seq."""
    seq = 0
    async with asyncio.timeout(30):
        while is_live(reader):
            seq += 1
            tail.append("g", text(5, seq, size=1000))
            await turns()
            for other in others:
                other.pull_all()
    return seq


@pytest.mark.usefixtures("unpaced")
async def test_live_viewers_are_written_the_same_bytes_and_stand_where_their_group_stands(
    hub: Hub, tail: FakeTail
) -> None:
    tail.log["g"] = texts(5, 1, 3)
    readers = [await live(hub) for _ in range(3)]
    tail.append("g", text(5, 4), text(5, 5))
    await turns()
    for reader in readers:
        (chunk,) = reader.pull_all()
        assert chunk.count(b"data: ") == 2
        assert (reader.viewer.seq, reader.witness.last_seq) == (5, 5)
    assert len({id(reader.viewer._group) for reader in readers}) == 1


async def test_a_viewer_that_takes_a_part_only_is_a_cursor_until_it_has_the_rest_and_then_live(
    hub: Hub, tail: FakeTail
) -> None:
    slow, quick = await live(hub), await live(hub)
    seq = await fill(slow, tail, others=[quick])
    tail.append("g", *texts(5, seq + 1, seq + 400, size=100))
    await turns()
    assert is_live(quick) or quick.pull_all()
    await read(slow, lambda: slow.witness.last_seq == seq + 400)
    await read(quick, lambda: quick.witness.last_seq == seq + 400)
    await turns()
    assert is_live(slow)
    assert slow.witness.gaps == []
    assert list(slow.witness.entries.values()) == seen_by_client(tail.log["g"])


async def test_nothing_overtakes_what_the_transport_still_holds(hub: Hub, tail: FakeTail) -> None:
    """The client reads, so the socket has room, and before the transport knows the room is woken."""
    reader = await live(hub)
    seq = await fill(reader, tail)
    reader.receive(2000)
    reader.viewer.wake()
    tail.append("g", text(5, seq + 1))
    reader.viewer.wake()
    await read(reader, lambda: reader.witness.last_seq == seq + 1)
    assert list(reader.witness.entries.values()) == seen_by_client(tail.log["g"])


@pytest.mark.usefixtures("unpaced")
async def test_a_viewer_that_pulled_ahead_of_its_groups_write_does_not_receive_it_twice(
    hub: Hub, tail: FakeTail
) -> None:
    taken, other = await live(hub), await live(hub)
    seq = await fill(taken, tail, others=[other])
    await read(taken, lambda: taken.witness.last_seq == seq)
    assert is_live(taken)
    taken.viewer._leave_group()
    taken.viewer._room.behind.add(taken.viewer)
    tail.append("g", text(5, seq + 1))  # the group is written to in the next turn
    taken.viewer.wake()
    assert (taken.viewer.seq, is_live(taken)) == (seq + 1, False)
    await turns()
    assert is_live(taken)
    tail.append("g", text(5, seq + 2))
    await read(taken, lambda: taken.witness.last_seq == seq + 2)


async def test_notices_reach_live_viewers_too(hub: Hub, tail: FakeTail) -> None:
    tail.log["g"] = texts(5, 1, 3)
    reader = await live(hub)
    sink = tail.sinks["g"]
    sink.stalled(StallReason.WORKER_LOST)
    await read(reader, lambda: reader.witness.names[-1] == "hub.stalled")
    sink.stalled(None)
    await read(reader, lambda: reader.witness.names.count("hub.stalled") == 2)
    sink.gap(Gap(GapReason.TRIMMED, Cursor(5, 7), 4, 7))
    tail.append("g", text(5, 8), text(5, 9))
    await read(reader, lambda: reader.witness.last_seq == 9)
    sink.rewound(Cursor(5, 8))
    del tail.log["g"][-1]
    tail.append("g", text(6, 9))
    await read(reader, lambda: reader.witness.after == Cursor(6, 9))
    assert [gap[0] for gap in reader.witness.gaps] == ["trimmed", "rewound"]


async def test_the_terminal_ends_every_live_response_cleanly(hub: Hub, tail: FakeTail) -> None:
    readers = [await live(hub) for _ in range(3)]
    tail.append("g", text(5, 1), finish(5, 2))
    for reader in readers:
        await until_ended(reader)
        assert reader.witness.has_ended
    assert hub.statistics().stopped == {StopReason.TERMINAL: 3}


async def test_a_client_that_is_gone_leaves_its_group_and_costs_the_others_nothing(hub: Hub, tail: FakeTail) -> None:
    gone, other = await live(hub), await live(hub)
    gone.close()
    for seq in range(1, 4):
        tail.append("g", text(5, seq))
        await turns()
    await read(other, lambda: other.witness.last_seq == 3)
    assert hub.viewers() == {"g": 1}
    assert gone.is_forgotten
    other.close()


async def test_a_client_that_does_not_take_its_opening_is_cut_and_one_that_takes_it_later_is_not(
    hub: Hub, tail: FakeTail
) -> None:
    tail.log["g"] = texts(5, 1, 100, size=350)  # more than the socket takes, and less than a slice
    later, stuck = await watch(hub), await watch(hub)
    assert stuck.viewer.seq == 100
    await read(later, lambda: is_live(later))
    for each in (later, stuck):
        each.viewer.check(asyncio.get_running_loop().time() + LIMITS.slow_viewer_s + 1)
    await turns()
    assert (later.viewer.stop_reason, stuck.viewer.stop_reason) == (None, StopReason.SLOW)
    assert stuck.is_forgotten
    assert hub.viewers() == {"g": 1}


async def test_heartbeats_of_live_viewers_are_their_groups(tail: FakeTail) -> None:
    hub = Hub(tail, tail, limits=HubLimits(heartbeat_s=0.2, slow_viewer_s=60, linger_s=60))
    reader = await live(hub)
    seen: list[bytes] = []
    async with asyncio.timeout(30):
        while b"".join(seen).count(b"3\r\n:\n\n\r\n") < 2:
            seen += reader.pull_all()
            await asyncio.sleep(0.01)
    assert is_live(reader)
    await hub.aclose()


async def test_a_connection_that_was_taken_leaves_no_request_behind(hub: Hub, tail: FakeTail) -> None:
    async with on_our_runner(stream_app(hub), on_drain=lambda: hub.drain(window_s=0)) as port:
        viewers = [await open_viewer(port) for _ in range(5)]
        for viewer in viewers:
            await viewer.until_live()
        tasks = [each for each in asyncio.all_tasks() if "run_asgi" in repr(each.get_coro())]
        assert tasks == []
        for viewer in viewers:
            viewer.close()


async def test_a_request_during_the_stream_is_answered_after_it(hub: Hub, tail: FakeTail) -> None:
    tail.log["h"] = answer(3)
    async with on_our_runner(stream_app(hub), on_drain=lambda: hub.drain(window_s=0)) as port:
        viewer = await open_viewer(port)
        await viewer.until_live()
        viewer.writer.write(b"GET /h HTTP/1.1\r\nHost: x\r\n\r\n")
        tail.append("g", finish(5, 1))
        await viewer.until_over()
        async with asyncio.timeout(30):
            assert b" 200 " in await viewer.reader.readuntil(b"\r\n\r\n")
        viewer.witness = type(viewer.witness)()
        await viewer.until_over()
        assert len(viewer.witness.entries) == 3
        viewer.close()


async def test_a_request_that_is_pipelined_before_the_head_is_sent_is_served_after_the_stream(
    hub: Hub, tail: FakeTail
) -> None:
    tail.log["g"], tail.log["h"] = answer(4), answer(3)
    async with on_our_runner(stream_app(hub), on_drain=lambda: hub.drain(window_s=0)) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET /g HTTP/1.1\r\nHost: x\r\n\r\nGET /h HTTP/1.1\r\nHost: x\r\n\r\n")
        reader, writer = await asyncio.open_connection(sock=client)
        for count in (4, 3):
            async with asyncio.timeout(30):
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
                body = await reader.readuntil(b"0\r\n\r\n")
            assert body.count(b'data: {"type"') == count
        writer.transport.abort()


async def test_a_request_of_which_a_part_came_before_the_head_was_sent_is_served_after_the_stream(
    hub: Hub, tail: FakeTail
) -> None:
    tail.log["g"], tail.log["h"] = texts(5, 1, 3), answer(3)
    async with on_our_runner(stream_app(hub), on_drain=lambda: hub.drain(window_s=0)) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET /g HTTP/1.1\r\nHost: x\r\n\r\nGET /h HT")
        reader, writer = await asyncio.open_connection(sock=client)
        async with asyncio.timeout(30):
            await reader.readuntil(b"hub.live")
            writer.write(b"TP/1.1\r\nHost: x\r\n\r\n")
            tail.append("g", finish(5, 4))
            await reader.readuntil(b"\r\n0\r\n\r\n")
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            body = await reader.readuntil(b"0\r\n\r\n")
        assert body.count(b'data: {"type"') == 3
        writer.transport.abort()


async def test_a_client_that_floods_its_connection_meanwhile_is_not_read_any_more(hub: Hub, tail: FakeTail) -> None:
    async with on_our_runner(stream_app(hub), on_drain=lambda: hub.drain(window_s=0)) as port:
        viewer = await open_viewer(port)
        await viewer.until_live()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    viewer.writer.write(b"x" * 65536)
                    await viewer.writer.drain()
        tail.append("g", text(5, 1))
        await viewer.until_seq(1)
        viewer.close()
