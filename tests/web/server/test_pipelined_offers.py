"""What a viewer's client sends behind its request is read after the viewer's end, and concerns its connection alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broadcaster.core.events import Finish, TextDelta
from broadcaster.web.server.connections import OpenConnections
from broadcaster.web.server.socket_driver import SocketDriver
from broadcaster.web.services import Services
from tests.hub.support import turns
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.first_requests import ENDED, LIVE, Clients, get, serving
from tests.support.servers.front_end import own_app

OFFER = (
    b"GET /v1/streams/run/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def world() -> MemoryWorld:
    world = MemoryWorld()
    for name in ("run", "other"):
        world.add(name)
        world.append(name, TextDelta(id="0", delta="a"))
    return world


@pytest.fixture
async def clients(services: Services) -> AsyncIterator[Clients]:
    async with serving(own_app(services), services) as opened:
        yield opened


async def test_two_handshakes_behind_the_request_of_a_viewer_cost_the_viewers_of_other_streams_nothing(
    clients: Clients, world: MemoryWorld
) -> None:
    other = await clients.connect(get("other"))
    await other.until(LIVE)
    viewer = await clients.connect(get("run"))
    await viewer.until(LIVE)
    viewer.writer.write(OFFER + OFFER)
    witness = await clients.connect(get("run"))  # both handshakes have arrived before its request
    await witness.until(LIVE)
    world.append("run", Finish())
    await viewer.until(ENDED)
    await viewer.until(b"426 Upgrade Required")
    world.append("other", TextDelta(id="0", delta="behind"))
    await other.until(b"behind")


async def test_two_handshakes_at_once_on_a_new_connection_get_one_response(clients: Clients) -> None:
    client = await clients.connect(OFFER + OFFER)
    received = await client.reader.read()
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in received


class PausableTransport(asyncio.Transport):
    """Knows whether it may pass on what arrives."""

    def __init__(self, opened: socket.socket) -> None:
        super().__init__()
        self._socket = opened
        self._may_read = True

    def is_reading(self) -> bool:
        return self._may_read

    def pause_reading(self) -> None:
        self._may_read = False

    def resume_reading(self) -> None:
        self._may_read = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is written."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket

    def is_closing(self) -> bool:
        return False


class NotingProtocol(asyncio.Protocol):
    received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


async def test_the_socket_is_not_read_before_the_next_protocol_has_what_came_earlier() -> None:
    """uvloop reads sockets before it calls what was scheduled in the turn before."""
    with socket.socket() as opened:
        transport, successor = PausableTransport(opened), NotingProtocol()
        driver = SocketDriver(transport, None, registry=OpenConnections(), successor=None)
        driver.data_received(b"what came earlier")
        driver._give_back(successor)
        assert (transport.is_reading(), successor.received) == (False, b"")
        await turns(2)
        assert (transport.is_reading(), successor.received) == (True, b"what came earlier")
