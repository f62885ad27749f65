"""The head of a viewer's response begins the viewer on its connection, in one write, whatever layers stand between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.viewer import Viewer
from broadcaster.web.server.socket_driver import SocketDriver
from tests.hub.support import finish, text, texts
from tests.support.memory.fake_tail import FakeTail
from tests.support.streaming import on_our_runner, open_viewer, stream_app


@pytest.fixture
def tail() -> FakeTail:
    return FakeTail()


@pytest.fixture
async def hub(tail: FakeTail) -> AsyncIterator[Hub]:
    opened = Hub(tail, tail, limits=HubLimits(heartbeat_s=60, slow_viewer_s=60, linger_s=60))
    yield opened
    await opened.aclose()


class NotingTransport(asyncio.Transport):
    """One end of a pair of sockets; notes what is written to it."""

    def __init__(self, ours: socket.socket) -> None:
        super().__init__({"socket": ours})
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...


class Layer:
    """An ASGI layer that changes heads; ``holds``: each is sent with the first bytes of its body."""

    def __init__(self, app: Any, *, adds: Iterable[tuple[bytes, bytes]] = (), holds: bool = False) -> None:
        self._app = app
        self._adds = list(adds)
        self._holds = holds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        held: list[Any] = []

        async def changing(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._adds]}
                if self._holds:
                    held.append(message)
                    return
            while held:
                await send(held.pop())
            await send(message)

        await self._app(scope, receive, changing)


def requests_under_way() -> list[Any]:
    """Tasks of requests that a server has not forgotten."""
    return [each for each in asyncio.all_tasks() if "run_asgi" in repr(each.get_coro())]


async def test_the_head_and_all_that_a_viewer_has_to_send_at_once_are_one_write(hub: Hub, tail: FakeTail) -> None:
    tail.log["g"] = texts(5, 1, 3)
    viewer = await hub.join("g", cursor=None, timeout_s=5)
    assert isinstance(viewer, Viewer)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport = NotingTransport(ours)
    SocketDriver(transport, viewer, registry=set(), successor=None).begin(b"the head\r\n\r\n")
    (written,) = transport.written
    assert written.startswith(b"the head\r\n\r\n")
    assert [written.count(name) for name in (b"event: hub.hello", b"id: 5-", b"event: hub.live")] == [1, 3, 1]
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    assert viewer._group is not None
    viewer.leave()
    ours.close()
    theirs.close()


async def test_a_header_of_a_layer_is_in_the_head_and_the_viewer_has_the_connection(hub: Hub, tail: FakeTail) -> None:
    app = Layer(stream_app(hub), adds=[(b"x-layer", b"was here")])
    async with on_our_runner(app, on_drain=lambda: hub.drain(window_s=0)) as port:
        viewer = await open_viewer(port)
        assert (viewer.headers["x-layer"], viewer.headers["transfer-encoding"]) == ("was here", "chunked")
        await viewer.until_live()
        assert requests_under_way() == []
        viewer.close()


@pytest.mark.parametrize("layer", [{"holds": True}, {"adds": [(b"connection", b"close")]}], ids=["late", "framed"])
async def test_a_head_that_cannot_begin_its_viewer_leaves_it_to_the_request(
    hub: Hub, tail: FakeTail, layer: dict[str, Any]
) -> None:
    tail.log["g"] = texts(5, 1, 3)
    async with on_our_runner(Layer(stream_app(hub), **layer), on_drain=lambda: hub.drain(window_s=0)) as port:
        viewer = await open_viewer(port)
        await viewer.until_live()
        assert len(requests_under_way()) == 1
        tail.append("g", text(5, 4), finish(5, 5))
        await viewer.until_over()
        assert viewer.ended_cleanly
        assert list(viewer.witness.entries) == [1, 2, 3, 4, 5]
        viewer.close()


async def test_a_control_character_in_a_header_sends_nothing_and_leaves_no_viewer(hub: Hub, tail: FakeTail) -> None:
    app = Layer(stream_app(hub), adds=[(b"x-layer", b"a\r\nset-cookie: b")])
    async with on_our_runner(app, on_drain=lambda: hub.drain(window_s=0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /g HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
        assert (head.split()[1], b"set-cookie" in head) == (b"500", False)
        assert hub.viewers() == {}
        writer.close()


async def test_the_head_ends_the_connection_of_a_client_that_requests_its_end(hub: Hub, tail: FakeTail) -> None:
    tail.log["g"] = texts(5, 1, 2)
    async with on_our_runner(stream_app(hub), on_drain=lambda: hub.drain(window_s=0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /g HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"hub.live")
            assert requests_under_way() == []
            tail.append("g", finish(5, 3))
            assert (await reader.read()).endswith(b"0\r\n\r\n")
        assert b"\r\nconnection: close\r\n" in head
        writer.close()
