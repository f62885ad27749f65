"""A WebSocket's connection on our runner: dead peers, floods of pings, and handshakes that are none."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import pytest

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
        fields = dict(line.lower().split(": ", 1) for line in answer.decode().split("\r\n")[1:] if ": " in line)
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
    ids=["whole", "long-line", "long-field", "old", "body", "early-frame", "post", "other-path", "h2c", "no-upgrade"],
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
