"""A WebSocket's connection on our runner: dead peers, floods of pings, and handshakes that are none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from broadcaster.core.events import TextDelta
from broadcaster.web.server import websocket_protocol
from broadcaster.web.server.connections import ConnectionLimits
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S, own_app, until_watched
from tests.support.servers.programs import lacking
from tests.support.streaming import on_our_runner

PATH = "/v1/streams/gen_1/ws"
FIELDS = {
    "host": "127.0.0.1",
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
# A masked ping with 125 bytes; the mask is zero.
PING = b"\x89\xfd\x00\x00\x00\x00" + b"x" * 125
CLOSE = b"\x88\x80\x00\x00\x00\x00"
GARBAGE = b"\xff" * 8
TOO_LARGE = b"\x81\xfe\xff\xff\x00\x00\x00\x00"
FRAGMENT = b"\x01\x80\x00\x00\x00\x00"
NO_TEXT = b"\x81\x81\x00\x00\x00\x00\xff"
# More than the buffers of both kernels hold.
FLOOD_BYTES = 64 * 2**20


@pytest.fixture(autouse=True)
def _needs_websockets() -> None:
    if not find_spec("websockets"):
        lacking("no package websockets found: make install")


@asynccontextmanager
async def runner(services: Services, world: MemoryWorld, **limits: Any) -> AsyncIterator[int]:
    world.add("gen_1")
    async with on_our_runner(
        own_app(services), on_drain=lambda: services.hub.drain(window_s=0), limits=ConnectionLimits(**limits)
    ) as port:
        yield port


@asynccontextmanager
async def raw_connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client, limit=2**20)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def head(path: str = PATH, **changes: str | None) -> bytes:
    fields = {**FIELDS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


async def response_to(port: int, request: bytes) -> tuple[int, str]:
    """The status, and the problem's code."""
    async with asyncio.timeout(DEADLINE_S), raw_connection(port) as (reader, writer):
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        if status == 101:
            return status, ""
        lines = [line.lower().split(": ", 1) for line in answer.decode().split("\r\n")[1:] if ": " in line]
        fields = dict(lines)
        assert [name for name, _ in lines if name.startswith("content-")] == ["content-length", "content-type"]
        return status, json.loads(await reader.readexactly(int(fields["content-length"])))["code"]


async def test_a_peer_that_answers_no_ping_is_disconnected(services: Services, world: MemoryWorld) -> None:
    async with runner(services, world, ping_s=0.2, pong_s=0.2) as port, raw_connection(port) as (reader, writer):
        writer.write(head())
        await until_watched(services, "gen_1")
        await until_watched(services, "gen_1", 0)
        async with asyncio.timeout(DEADLINE_S):
            received = b""
            try:
                while piece := await reader.read(2**16):
                    received += piece
            except ConnectionError:
                pass
        assert b"\x89\x04" in received  # a ping of four bytes


async def test_a_peer_that_sends_pings_and_reads_nothing_is_disconnected(
    services: Services, world: MemoryWorld
) -> None:
    async with runner(services, world) as port, raw_connection(port) as (_, writer):
        writer.write(head())
        await until_watched(services, "gen_1")
        flood = PING * 500
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(DEADLINE_S):
                for _ in range(FLOOD_BYTES // len(flood)):
                    writer.write(flood)
                    await writer.drain()
        await until_watched(services, "gen_1", 0)


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (head(), (101, "")),
        (head(f"{PATH}?after=x"), (400, "bad_cursor")),
        (head(f"{PATH}?after=7-1&token={'x' * 8192}"), (431, "head_too_large")),
        (head(x_large="x" * 9000), (431, "head_too_large")),
        (head(sec_websocket_version="8"), (426, "websocket_required")),
        (head(content_length="0"), (426, "websocket_required")),
        (head() + b"\x81\x80\x00\x00\x00\x00", (400, "malformed_http")),
        (head().replace(b"GET", b"POST"), (405, "method_not_allowed")),
        (head("/v1/streams/gen_1/events"), (426, "websocket_not_served")),
        (head(upgrade="h2c"), (426, "websocket_required")),
        (head(upgrade=None), (426, "websocket_required")),
    ],
    ids=[
        "whole",
        "bad-cursor",
        "long-line",
        "long-field",
        "old",
        "body",
        "early-frame",
        "post",
        "other-path",
        "h2c",
        "no-upgrade",
    ],
)
async def test_only_a_handshake_at_the_path_of_a_stream_becomes_a_websocket(
    services: Services, world: MemoryWorld, request_bytes: bytes, expected: tuple[int, str]
) -> None:
    async with runner(services, world) as port:
        assert await response_to(port, request_bytes) == expected
        await until_watched(services, "gen_1", 0)


async def test_a_connection_that_became_a_websocket_counts_among_all_and_is_closed_at_the_end(
    services: Services, world: MemoryWorld
) -> None:
    async with runner(services, world, max_connections=1) as port:
        async with raw_connection(port) as (reader, writer):
            writer.write(head())
            await until_watched(services, "gen_1")
            assert (await response_to(port, b""))[1] == "busy"
            await services.hub.drain(window_s=0)
            async with asyncio.timeout(DEADLINE_S):
                assert b"hub.bye" in await reader.readuntil(b"hub.bye")


async def test_a_handshake_behind_an_unfinished_response_is_a_plain_request(
    services: Services, world: MemoryWorld
) -> None:
    async with runner(services, world, max_connections=1) as port:
        for path in (f"{PATH[:-3]}/events", f"{PATH[:-5]}2/ws?wait_s=20"):
            async with raw_connection(port) as (_, writer):
                writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode() + head())
                await writer.drain()
                await asyncio.sleep(0)
            await until_accepted(port)
            await until_watched(services, "gen_1", 0)


def take_nothing(writer: asyncio.StreamWriter) -> None:
    """Leave what arrives in the kernel's buffers."""
    assert isinstance(writer.transport, asyncio.Transport)
    writer.transport.pause_reading()


async def until_accepted(port: int) -> None:
    """Until the only connection that there may be is free."""
    async with asyncio.timeout(DEADLINE_S):
        while await response_to(port, head()) != (101, ""):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("frame", [CLOSE, GARBAGE, TOO_LARGE], ids=["close", "garbage", "too-large"])
async def test_a_peer_that_takes_nothing_and_closes_holds_no_connection(
    services: Services, world: MemoryWorld, frame: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_protocol, "CLOSE_S", 0.1)
    async with runner(services, world, max_connections=1) as port, raw_connection(port) as (_, writer):
        take_nothing(writer)
        writer.write(head())
        await until_watched(services, "gen_1")
        world.append("gen_1", *(TextDelta(id="0", delta="x" * 2**18) for _ in range(40)))
        await until_stuck(services)
        writer.write(frame)
        await until_watched(services, "gen_1", 0)
        await until_accepted(port)


async def until_stuck(services: Services) -> None:
    """Until the viewer's socket takes nothing more."""
    sent = 0
    async with asyncio.timeout(DEADLINE_S):
        while not sent or sent != services.hub.counts.replay_bytes:
            sent = services.hub.counts.replay_bytes
            await asyncio.sleep(0.1)


async def test_the_end_of_the_server_does_not_wait_for_a_peer_that_takes_nothing_and_has_closed(
    services: Services, world: MemoryWorld
) -> None:
    async with asyncio.timeout(DEADLINE_S), contextlib.AsyncExitStack() as stack, contextlib.AsyncExitStack() as server:
        port = await server.enter_async_context(runner(services, world))
        _, writer = await stack.enter_async_context(raw_connection(port))
        take_nothing(writer)
        writer.write(head())
        await until_watched(services, "gen_1")
        world.append("gen_1", *(TextDelta(id="0", delta="x" * 2**18) for _ in range(40)))
        await until_stuck(services)
        writer.write(CLOSE)
        await until_watched(services, "gen_1", 0)


@pytest.mark.parametrize("frame", [FRAGMENT, NO_TEXT], ids=["fragment", "no-utf-8"])
async def test_the_first_frame_of_a_message_closes_with_1008(
    services: Services, world: MemoryWorld, frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with runner(services, world) as port, raw_connection(port) as (reader, writer):
        writer.write(head())
        await until_watched(services, "gen_1")
        writer.write(frame)
        async with asyncio.timeout(DEADLINE_S):
            received = await reader.readuntil(b"this WebSocket only sends")
        assert received[-27:-25] == (1008).to_bytes(2)
    assert not caplog.records


@pytest.mark.parametrize("frame", [CLOSE, GARBAGE, PING], ids=["close", "garbage", "ping"])
async def test_a_peer_that_sends_before_its_handshake_is_complete_is_disconnected(
    services: Services, world: MemoryWorld, frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with runner(services, world) as port, raw_connection(port) as (reader, writer):
        writer.write(head(f"{PATH[:-5]}2/ws?wait_s=20"))
        async with asyncio.timeout(DEADLINE_S):
            while not world.lookups:
                await asyncio.sleep(0.001)
            writer.write(frame)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            while services.hub.statistics().viewers:
                await asyncio.sleep(0.001)
    assert not caplog.records
