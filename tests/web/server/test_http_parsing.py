"""Requests that two readers of HTTP may cut differently are refused, and a connection is never another caller's.

What a proxy before us takes for one request and we for two would let a client send requests in another's name.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from broadcaster.core.events import Finish
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S, own_app, served

MINE, OTHERS = b"the-key-of-mine-0", b"the-key-of-others"
HOST = b"Host: 127.0.0.1\r\nAuthorization: Bearer " + MINE + b"\r\n"
POST = b"POST /v1/generations HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
GET = b"GET /v1/generations HTTP/1.1\r\n" + HOST
# Stands behind each: it must never be answered.
SMUGGLED = b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n"

REFUSED = {
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a length in hex": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "a length, then chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks, then a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "an encoding that only ends in chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks that are not the last encoding": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Content-Length : 2\r\n\r\n{}",
    "a bare LF in the head": b"GET /v1/generations HTTP/1.1\nHost: 127.0.0.1\n\n",
    "a bare LF in a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "a folded header": GET + b"x-folded: a\r\n b\r\n\r\n",
    "a CR in a value": GET + b"x-split: a\rb: c\r\n\r\n",
    "NUL in a value": GET + b"x-split: a\x00b\r\n\r\n",
    "an endless size of a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 100_000 + b"2\r\n{}\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": b"CONNECT 127.0.0.1:6379 HTTP/1.1\r\n" + HOST + b"\r\n",
}
HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "WebSocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
UPGRADES = {
    "a web socket": (b"".join(b"%s: %s\r\n" % (k.encode(), v.encode()) for k, v in HANDSHAKE.items()), 426),
    "h2c": (H2C, 200),
}


@pytest.fixture
def app(services: Services) -> FastAPI:
    keys = json.dumps({"local": [MINE.decode()], "others": [OTHERS.decode()]})
    return own_app(services, auth="keys", api_keys=keys)


@pytest.fixture
async def http(app: FastAPI, services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(app, services) as opened:
        yield opened


async def statuses(http: httpx2.AsyncClient, *packets: bytes) -> list[int]:
    """Of all answers on one connection, until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
    try:
        for packet in packets:
            writer.write(packet)
        async with asyncio.timeout(DEADLINE_S):
            received = await reader.read()
    except ConnectionResetError:
        received = b""
    finally:
        writer.close()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


async def test_a_request_that_can_be_cut_in_two_ways_is_refused_and_nothing_behind_it_is_answered(
    http: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    for name, texts in REFUSED.items():
        result = await statuses(http, texts + SMUGGLED)
        assert len(result) <= 1, name
        assert not result or 400 <= result[0] < 500, (name, result)
    assert world.requests == []


async def test_a_request_that_offers_another_protocol_is_answered_and_is_the_last_of_its_connection(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    for name, (headers, status) in UPGRADES.items():
        assert await statuses(http, GET + headers + b"\r\n", SMUGGLED) == [status], name
    assert caplog.messages == []


async def test_the_body_of_a_request_that_offers_another_protocol_is_read(
    http: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    body = b'{"prompt": "Hi"}'
    framings = {
        "a length": (b"Content-Length: %d\r\n\r\n" % len(body), body),
        "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)),
    }
    for name, (framing, framed) in framings.items():
        whole = POST + H2C + framing + framed
        for at in (len(whole), len(POST), len(whole) - len(framed), len(whole) - 3):  # where the client pauses
            world.requests.clear()
            assert await statuses(http, whole[:at], whole[at:] + SMUGGLED) == [202], (name, at)
            assert [each.request["messages"][0]["content"] for each in world.requests] == ["Hi"], (name, at)


async def test_an_offer_of_another_protocol_makes_no_ambiguous_body_readable(
    http: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    for name, texts in REFUSED.items():
        offered = texts.replace(HOST, HOST + H2C)
        result = await statuses(http, offered + SMUGGLED)
        assert len(result) <= 1, name
        assert not result or 400 <= result[0] < 500, (name, result)
    assert await statuses(http, (GET + H2C + b"\r\n") * 50) == [200]
    assert world.requests == []


async def test_a_web_socket_is_refused_without_a_key_in_the_shape_of_its_path(http: httpx2.AsyncClient) -> None:
    shapes = {
        "/v1/responses": lambda reply: reply["error"]["code"] == "websocket_not_served",
        "/v1/messages": lambda reply: reply["type"] == "error" and reply["error"]["type"] == "invalid_request_error",
        "/v1/streams/gen_1/events": lambda reply: reply["code"] == "websocket_not_served",
    }
    for path, has_shape in shapes.items():
        # A proxy between leaves out Connection and Upgrade.
        for headers in (HANDSHAKE, {"sec-websocket-key": HANDSHAKE["sec-websocket-key"]}):
            refused = await http.get(path, headers=headers)
            assert refused.status_code == 426, path
            assert has_shape(refused.json()), path
            assert refused.headers["upgrade"] == "HTTP/1.1"
            assert "upgrade" in refused.headers["connection"]


async def test_a_request_that_follows_a_stream_on_its_connection_is_judged_by_its_own_key(
    http: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    for id, is_pipelined in (("gen_1", True), ("gen_2", False)):
        world.add(id)
        follow = b"GET /v1/streams/%s/events HTTP/1.1\r\n" % id.encode()
        without_key = follow + b"Host: x\r\n\r\n"
        of_others = follow + b"Host: x\r\nx-api-key: " + OTHERS + b"\r\nConnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        try:
            async with asyncio.timeout(DEADLINE_S):
                writer.write(follow + HOST + b"\r\n" + (without_key + of_others if is_pipelined else b""))
                received = await reader.readuntil(b"hub.live")
                if not is_pipelined:
                    writer.write(without_key + of_others)
                world.append(id, Finish())
                received += await reader.read()
        finally:
            writer.close()
        assert re.findall(rb"HTTP/1\.1 (\d{3}) ", received) == [b"200", b"401", b"404"], is_pipelined
