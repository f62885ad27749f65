"""The runner: signals, drains, sockets; the signals on a real process."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from broadcaster.web.server.listener import open_listener
from broadcaster.web.server.runner import KEEP_ALIVE_S, LAST_RESORT_S, FrontEndServer
from tests.support.streaming import on_our_runner, open_viewer

DEADLINE_S = 60.0


class FrontEnd:
    """The process of ``tests.support.servers.tiny_front_end``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0

    async def printed(self, needle: str) -> str:
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            if line.startswith(needle):
                return line
        raise AssertionError(f"it never said {needle}")

    async def ended(self) -> tuple[int, float]:
        """Its exit code, and how long it took from now."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        code = await self.process.wait()
        return code, loop.time() - begin


@asynccontextmanager
async def front_end(*, window_s: float = 1.0, drain_timeout_s: float = 2.0):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.servers.tiny_front_end",
        str(window_s),
        str(drain_timeout_s),
        stdout=asyncio.subprocess.PIPE,
    )
    running = FrontEnd(process)
    try:
        async with asyncio.timeout(DEADLINE_S):
            running.port = int((await running.printed("port")).split()[1])
            yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_front_end_drains_100_viewers_stuck_ones_too_at_a_signal_and_ends(number):
    async with front_end(window_s=1.0) as running:
        stuck = [await open_viewer(running.port, "flood", receive_bytes=4096) for _ in range(5)]
        for viewer in stuck:
            viewer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        viewers = [await open_viewer(running.port) for _ in range(95)]
        for viewer in viewers:
            await viewer.until_live()
        loop = asyncio.get_running_loop()
        begin, over_at = loop.time(), []

        async def follow(viewer) -> None:
            await viewer.until_over()
            over_at.append(loop.time() - begin)

        following = [asyncio.create_task(follow(viewer)) for viewer in viewers]
        running.process.send_signal(number)
        code, took_s = await running.ended()
        await asyncio.gather(*following)
        assert code == 0
        assert took_s < 1.0 + 5  # the window, and 5 s for the stuck ones
        assert over_at[-1] - over_at[0] > 0.5  # spread over the window
        for viewer in viewers:
            assert viewer.ended_cleanly
            assert viewer.witness.notices[-1] == ("hub.bye", {"reason": "drain", "reconnect": True})
        for viewer in stuck:
            viewer.reader._transport.resume_reading()  # type: ignore[attr-defined]
            await viewer.until_over()
            assert viewer.ended_cleanly is False
        for viewer in (*viewers, *stuck):
            viewer.close()
        await running.printed("closed")  # the app's own end was run


async def test_a_second_signal_ends_at_once():
    async with front_end(window_s=180, drain_timeout_s=180) as running:
        viewers = [await open_viewer(running.port) for _ in range(10)]
        for viewer in viewers:
            await viewer.until_live()
        running.process.send_signal(signal.SIGTERM)
        await running.printed("draining")
        running.process.send_signal(signal.SIGTERM)
        code, _ = await running.ended()  # the deadline is a third of the window
        assert code == 0
        for viewer in viewers:
            await viewer.until_over()
            viewer.close()


async def test_a_drain_that_hangs_is_given_up():
    async with front_end(window_s=180, drain_timeout_s=0.2) as running:
        viewers = [await open_viewer(running.port) for _ in range(10)]
        running.process.send_signal(signal.SIGTERM)
        code, _ = await running.ended()  # the deadline is a third of the window
        assert code == 0
        for viewer in viewers:
            viewer.close()


def app_of(*routes: Route, lifespan=None) -> Starlette:
    return Starlette(routes=list(routes), lifespan=lifespan)


async def no_drain() -> None:
    """Nothing to send away."""


async def test_the_drain_runs_while_the_server_still_answers_and_its_failure_does_not_keep_it(caplog):
    answers: list[bytes] = []

    async def hello(_request: Request) -> Response:
        return PlainTextResponse("hello")

    async def drain() -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answers.append(await reader.read())
        writer.close()
        raise ValueError("a broken drain")

    async with on_our_runner(app_of(Route("/", hello)), on_drain=drain) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert answers[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert answers[0].endswith(b"hello")
    assert b"\r\ndate: " in answers[0]
    assert b"\r\nserver:" not in answers[0]
    assert "a broken drain" in caplog.text


async def test_an_ordinary_request_that_was_begun_is_completed():
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_request: Request) -> Response:
        begun.set()
        await go_on.wait()
        return PlainTextResponse("done")

    async def drain() -> None:
        asyncio.get_running_loop().call_soon(go_on.set)

    async with on_our_runner(app_of(Route("/", slow)), on_drain=drain) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
    assert (await reader.read()).endswith(b"done")
    writer.close()


async def test_idle_connections_are_kept_for_longer_than_proxies_keep_theirs_and_do_not_hold_the_end_up():
    async def hello(_request: Request) -> Response:
        return PlainTextResponse("hello")

    assert KEEP_ALIVE_S > 60
    loop = asyncio.get_running_loop()
    async with on_our_runner(app_of(Route("/", hello)), on_drain=no_drain) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        for reader, writer in idle:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"hello" in await reader.readuntil(b"hello")
            assert not reader.at_eof()
        begin = loop.time()
    assert loop.time() - begin < LAST_RESORT_S
    for reader, writer in idle:
        assert await reader.read() == b""
        writer.close()


async def test_a_request_that_never_ends_is_cancelled_at_last_and_torn_without_an_answer(caplog):
    """Any answer but 200, uvicorn's 500 too, would be the end of an EventSource."""
    begun, was_cancelled = asyncio.Event(), asyncio.Event()

    async def endless(_request: Request) -> Response:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled.set()
            raise
        raise AssertionError

    async with asyncio.timeout(DEADLINE_S):
        async with on_our_runner(app_of(Route("/", endless)), on_drain=no_drain) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await begun.wait()
        await was_cancelled.wait()
        with pytest.raises(asyncio.IncompleteReadError) as torn:
            await reader.readexactly(1)
    assert torn.value.partial == b""
    assert "Exception in ASGI application" not in caplog.text
    writer.close()


async def test_an_app_that_cannot_start_ends_the_server():
    @asynccontextmanager
    async def lifespan(_app):
        raise ValueError("no log")
        yield

    server = FrontEndServer(
        app_of(lifespan=lifespan), listener=open_listener("127.0.0.1", 0), on_drain=no_drain, drain_timeout_s=1
    )
    with pytest.raises(SystemExit):
        await server.serve()


async def test_the_port_is_known_before_anything_is_served_and_nothing_is_accepted_yet():
    with open_listener("127.0.0.1", 0) as listener:
        server = FrontEndServer(app_of(), listener=listener, on_drain=no_drain, drain_timeout_s=1)
        assert server.port > 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)


def test_accepted_sockets_inherit_what_finds_dead_and_stuck_peers():
    if sys.platform != "linux":
        return  # others have these options in part, and do not hand them on
    with open_listener("127.0.0.1", 0) as listener:
        listener.setblocking(True)
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 64 * 2**10


def test_ipv6_is_served_too():
    if not socket.has_ipv6:
        return
    with open_listener("::1", 0) as listener:
        assert listener.getsockname()[0] == "::1"


def test_a_port_that_is_taken_is_an_error():
    with open_listener("127.0.0.1", 0) as listener:
        listener.listen()
        with pytest.raises(OSError, match="in use"):
            open_listener("127.0.0.1", listener.getsockname()[1])
