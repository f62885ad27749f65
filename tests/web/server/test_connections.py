"""Connections on which a request does not arrive, and more connections than there may be."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from broadcaster.web.server.connections import RESERVED_DESCRIPTORS, Arrivals, ConnectionLimits
from broadcaster.web.viewing.client_connection import TRANSPORT_EXTENSION
from tests.support.memory.fake_tail import FakeTail
from tests.support.streaming import on_our_runner, open_viewer, stream_app

DEADLINE_S = 20.0
LIMITS = ConnectionLimits(head_timeout_s=0.3, body_timeout_s=0.3, body_min_bytes_per_s=100, sweep_s=0.05)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Client(NamedTuple):
    """A connection of an attacker, or of a slow client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, port: int, sent: bytes = b"") -> Client:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.writer.write(sent)
        return client

    async def to_the_end(self) -> bytes:
        """All that the server sends until it closes."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""
            finally:
                self.writer.close()

    async def answer(self) -> bytes:
        """The next answer; its body is ``hello``."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readuntil(b"hello")

    async def drip(self, portion: bytes, *, every_s: float) -> bytes:
        """Send that repeatedly until the server closes; what the server has sent."""

        async def dripping() -> None:
            while True:
                await asyncio.sleep(every_s)
                self.writer.write(portion)

        task = asyncio.create_task(dripping())
        try:
            return await self.to_the_end()
        finally:
            task.cancel()


def post(length: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\ncontent-length: %d\r\n\r\n" % length


def problem_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["code"]


class Upload:
    """An app that reads the body; ``outcomes`` are what became of it."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.protocol: Any = None

    async def answer(self, request: Request) -> Response:
        self.protocol = request.scope["extensions"][TRANSPORT_EXTENSION]
        if "x-refused" in request.headers:
            return PlainTextResponse("hello", status_code=401)
        await self.may_read.wait()
        try:
            self.outcomes.append(str(len(await request.body())))
        except ClientDisconnect:
            self.outcomes.append("gone")
            raise
        return PlainTextResponse("hello")


async def no_drain() -> None:
    """Nothing to send away."""


@asynccontextmanager
async def serving(upload: Upload, limits: ConnectionLimits) -> AsyncIterator[int]:
    app = Starlette(routes=[Route("/", upload.answer, methods=["GET", "POST"])])
    async with on_our_runner(app, on_drain=no_drain, limits=limits) as port:
        yield port


async def until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not claim():
            await asyncio.sleep(0.01)


# ---------------------------------------------------------------------------------------------------- what is too late


async def test_connections_that_send_nothing_half_a_head_or_drops_of_one_are_closed() -> None:
    async with serving(Upload(), LIMITS) as port:
        silent = [await Client.connect(port) for _ in range(20)]
        half = [await Client.connect(port, GET[:-3]) for _ in range(20)]
        dripping = await Client.connect(port, GET[:-2])
        breaks = await Client.connect(port)
        used = await Client.connect(port, GET)
        await used.answer()
        used.writer.write(GET[:9])
        assert [await each.to_the_end() for each in silent] == [b""] * 20
        assert [problem_of(await each.to_the_end()) for each in (*half, used)] == [(408, "request_timeout")] * 21
        assert problem_of(await dripping.drip(b"x: y\r\n", every_s=0.05)) == (408, "request_timeout")
        assert await breaks.drip(b"\r\n", every_s=0.05) == b""


async def test_bodies_that_stop_or_only_drip_are_answered_with_408_and_their_request_ends() -> None:
    upload = Upload()
    async with serving(upload, LIMITS) as port:
        silent = [await Client.connect(port, post(4000) + b"{") for _ in range(20)]
        dripping = await Client.connect(port, post(4000) + b"{")
        chunked = b"POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n"
        chunks = await Client.connect(port, chunked)
        for each in (*silent, chunks):
            assert problem_of(await each.to_the_end()) == (408, "request_timeout")
        assert problem_of(await dripping.drip(b"x", every_s=0.05)) == (408, "request_timeout")
        await until(lambda: upload.outcomes == ["gone"] * 22)


async def test_a_refused_body_is_not_received_for_ever() -> None:
    refused = post(10**9).replace(b"Host: x", b"Host: x\r\nx-refused: 1")
    async with serving(Upload(), LIMITS) as port:
        silent, flooding = await Client.connect(port, refused + b"{"), await Client.connect(port, refused)
        for each in (silent, flooding):
            assert b" 401 " in await each.answer()
        assert await silent.to_the_end() == b""
        assert await flooding.drip(b"x" * 10_000, every_s=0.02) == b""


async def test_the_keep_alive_timer_restarts_when_a_refused_body_was_sent_to_its_end() -> None:
    upload = Upload()
    async with serving(upload, LIMITS) as port:
        client = await Client.connect(port, post(2).replace(b"Host: x", b"Host: x\r\nx-refused: 1") + b"{")
        assert b" 401 " in await client.answer()
        client.writer.write(b"}")
        await until(lambda: not upload.protocol._is_in_body)
        assert upload.protocol.timeout_keep_alive_task is not None
        client.writer.write(b"\r\n")
        client.writer.write(GET)
        assert b" 200 " in await client.answer()
        client.writer.close()


# ------------------------------------------------------------------------------------------------- what only takes long


async def test_slow_and_idle_connections_within_the_limits_are_served() -> None:
    upload = Upload()
    long_s = 3 * LIMITS.body_timeout_s
    async with serving(upload, LIMITS) as port:
        steady = await Client.connect(port, post(4000))
        idle = await Client.connect(port, GET)
        await idle.answer()
        for _ in range(20):
            steady.writer.write(b"x" * 200)
            await asyncio.sleep(long_s / 20)
        assert b" 200 " in await steady.answer()
        idle.writer.write(GET)
        assert b" 200 " in await idle.answer()
        # The app does not read, or is not done: what comes meanwhile is not late.
        upload.may_read.clear()
        pipelining = await Client.connect(port, GET + GET[:20])
        unread = await Client.connect(port, post(200_000) + b"x" * 190_000)
        await asyncio.sleep(long_s)
        upload.may_read.set()
        assert b" 200 " in await pipelining.answer()
        pipelining.writer.write(GET[20:])
        assert b" 200 " in await pipelining.answer()
        unread.writer.write(b"x" * 10_000)
        assert b" 200 " in await unread.answer()
        assert "4000" in upload.outcomes
        for client in (steady, idle, pipelining, unread):
            client.writer.close()


async def test_a_viewer_outlives_every_limit_and_its_connection_serves_a_request_much_later() -> None:
    tail = FakeTail()
    hub = Hub(tail, tail, limits=HubLimits(heartbeat_s=60, slow_viewer_s=60))
    long_s = 3 * LIMITS.body_timeout_s
    async with on_our_runner(stream_app(hub), on_drain=no_drain, limits=LIMITS) as port:
        viewer = await open_viewer(port)
        await viewer.until_live()
        await asyncio.sleep(long_s)
        assert not viewer.reader.at_eof()
        await hub.drain(window_s=0)
        await viewer.until_over()
        assert viewer.ended_cleanly
        await asyncio.sleep(long_s)
        viewer.writer.write(GET.replace(b"/ ", b"/a/b "))
        async with asyncio.timeout(DEADLINE_S):
            assert (await viewer.reader.readline()).startswith(b"HTTP/1.1 404 ")
        viewer.close()
    await hub.aclose()


def test_a_loop_that_stood_still_makes_nothing_late() -> None:
    class Quiet:
        transport = asyncio.Transport()
        is_responding = is_paused = is_response_complete = False
        was_given_up = False

        def give_up(self) -> None:
            self.was_given_up = True

    arrivals, connection = Arrivals(ConnectionLimits(head_timeout_s=3)), Quiet()
    arrivals.head_begins(connection)
    for _ in range(3):  # however much time lies between them
        arrivals.sweep(0)
    assert not connection.was_given_up
    arrivals.sweep(0)
    assert connection.was_given_up


# ---------------------------------------------------------------------------------------------------------- too many


async def test_one_connection_too_many_is_refused_with_503_counted_and_logged_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(Upload(), ConnectionLimits(max_connections=5, sweep_s=0.05)) as port:
        taken = [await Client.connect(port, GET) for _ in range(5)]
        for each in taken:
            await each.answer()
        for _ in range(10):
            answer = await (await Client.connect(port, GET)).to_the_end()
            assert problem_of(answer) == (503, "busy")
            assert b"retry-after: " in answer
            assert b"5 connections" in answer
        await until(lambda: "connections_refused" in caplog.text)
        taken[0].writer.close()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                newcomer = await Client.connect(port, GET)
                if b" 200 " in await newcomer.reader.readline():
                    break
                newcomer.writer.close()
        assert caplog.text.count("connections_refused") == 1
        for each in (*taken, newcomer):
            each.writer.close()


async def test_a_viewer_counts_as_a_connection() -> None:
    tail = FakeTail()
    hub = Hub(tail, tail, limits=HubLimits(heartbeat_s=60, slow_viewer_s=60))
    async with on_our_runner(
        stream_app(hub), on_drain=no_drain, limits=ConnectionLimits(max_connections=2, sweep_s=0.05)
    ) as port:
        viewers = [await open_viewer(port) for _ in range(2)]
        for viewer in viewers:
            await viewer.until_live()
        assert problem_of(await (await Client.connect(port, GET)).to_the_end()) == (503, "busy")
        for viewer in viewers:
            viewer.close()
        await hub.drain(window_s=0)
    await hub.aclose()


def test_the_bound_lies_below_the_limit_of_descriptors() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert ConnectionLimits(max_connections=7).most == 7
    assert ConnectionLimits().most == (None if soft == resource.RLIM_INFINITY else soft - RESERVED_DESCRIPTORS)


async def test_a_front_end_without_descriptors_logs_that_once_and_serves_when_it_has_some() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.servers.tiny_front_end", "0", "1", "64"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            port = int((await process.stdout.readline()).split()[1])
            silent = [await Client.connect(port) for _ in range(100)]
            assert b"connections_not_accepted" in await process.stderr.readline()
            for each in silent:
                each.writer.close()
                await asyncio.gather(each.writer.wait_closed(), return_exceptions=True)
            answer = b""
            while not answer.startswith(b"HTTP/1.1 404"):
                answer = await (
                    await Client.connect(port, b"GET /a/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                ).to_the_end()
            process.terminate()
            assert b"connections_not_accepted" not in await process.stderr.read()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
