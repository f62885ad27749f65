"""A front-end that drains closes its port, and no connection of it gets a second request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from broadcaster.core.entry import Entry
from broadcaster.hub.hub import Hub
from broadcaster.web.server.listener import open_listener
from broadcaster.web.server.runner import FrontEndServer
from tests.support.memory.fake_tail import FakeTail
from tests.support.streaming import open_viewer, stream_app

DEADLINE_S: Final = 20.0
GET: Final = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
FINISH: Final = b'{"type":"finish","finishReason":"stop"}'


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


@dataclass
class Draining:
    """A drain that the test sees begin, and ends."""

    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        self.has_begun.set()
        await self.may_end.wait()


@asynccontextmanager
async def served(app: Starlette, on_drain: Callable[[], Awaitable[None]]) -> AsyncIterator[FrontEndServer]:
    listener = open_listener("127.0.0.1", 0)
    server = FrontEndServer(app, listener=listener, on_drain=on_drain, drain_timeout_s=DEADLINE_S)
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(DEADLINE_S):
            await server.until_started()
            yield server
    finally:
        server.request_drain()
        await serving


async def test_a_front_end_that_drains_refuses_connections_and_closes_each_one_between_two_requests() -> None:
    draining, begun, go_on = Draining(), asyncio.Event(), asyncio.Event()

    async def slow(_request: Request) -> Response:
        begun.set()
        await go_on.wait()
        return PlainTextResponse("done")

    async with served(Starlette(routes=[Route("/", hello), Route("/slow", slow)]), draining.run) as server:
        port = server.port
        (idle, idle_writer), (busy, busy_writer), (new, new_writer) = [
            await asyncio.open_connection("127.0.0.1", port) for _ in range(3)
        ]
        idle_writer.write(GET)
        assert b"connection: close" not in await idle.readuntil(b"hello")
        busy_writer.write(GET.replace(b"/ ", b"/slow ", 1))
        await begun.wait()
        server.request_drain()
        await draining.has_begun.wait()
        try:
            assert await is_refused(port)
            assert await idle.read() == b""
            go_on.set()
            answer = await busy.read()
            new_writer.write(GET)
            first_answer = await new.read()
        finally:
            draining.may_end.set()
            for writer in (idle_writer, busy_writer, new_writer):
                writer.close()
    assert answer.endswith(b"done")
    assert first_answer.endswith(b"hello")


async def is_refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_the_connection_of_a_viewer_closes_with_its_stream_while_the_front_end_drains() -> None:
    draining, tail = Draining(), FakeTail()
    hub = Hub(tail, tail)
    async with served(stream_app(hub), draining.run) as server:
        viewer = await open_viewer(server.port)
        await viewer.until_live()
        server.request_drain()
        await draining.has_begun.wait()
        try:
            tail.append("g", Entry(5, 1, FINISH))
            await viewer.until_over()
            assert viewer.ended_cleanly
            assert await viewer.reader.read() == b""
        finally:
            draining.may_end.set()
            viewer.close()
    await hub.aclose()


async def test_connections_that_wait_to_be_accepted_when_the_port_closes_are_answered() -> None:
    waiting: list[socket.socket] = []

    def connect() -> None:
        waiting.append(socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S))
        waiting[-1].sendall(GET)

    async def drain() -> None:
        """Nothing to send away."""

    async with served(Starlette(routes=[Route("/", hello)]), drain) as server:
        # In the turn in which the server sees the request: the loop accepts nothing between the two.
        for _ in range(3):
            asyncio.get_running_loop().call_soon(connect)
        server.request_drain()
    for each in waiting:
        with each, each.makefile("rb") as received:
            answer = await asyncio.to_thread(received.read)
            assert answer.endswith(b"hello")
    assert len(waiting) == 3
