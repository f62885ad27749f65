"""Bad input, row by row, over a real socket: refused with the right code and place, documented, and without effect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from broadcaster.core.events import Finish
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.documents.problem_table import PROBLEMS
from broadcaster.web.documents.problems import MEDIA_TYPE
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, served
from tests.web.bad_requests import JSON, KNOWN, MARK, MAX_BODY_BYTES, TABLE, WRONG_WORD, Bad

KEYS = {"authorization": f"Bearer {MARK}", "x-api-key": MARK, "cookie": f"key={MARK}"}
DOCUMENT = create_app(Settings()).openapi()


# One server for the whole table: hundreds of rows are refused within seconds.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[tuple[MemoryWorld, httpx2.AsyncClient]]:
    """A served front-end, and a client of it that sends the mark in every key header."""
    world = MemoryWorld()
    async with memory_services(world, max_body_bytes=MAX_BODY_BYTES) as services:
        app = create_app(Settings(), services=services)
        async with served(app, services) as client:
            client.headers.update(KEYS)
            yield world, client


@pytest.fixture
def world(shared: tuple[MemoryWorld, httpx2.AsyncClient]) -> MemoryWorld:
    """Its world, with one finished generation and nothing else."""
    world, _ = shared
    world.clear()
    world.add(KNOWN)
    world.append(KNOWN, Finish())
    return world


@pytest.fixture
def bad_client(shared: tuple[MemoryWorld, httpx2.AsyncClient], world: MemoryWorld) -> httpx2.AsyncClient:
    return shared[1]


async def send(client: httpx2.AsyncClient, world: MemoryWorld, row: Bad) -> httpx2.Response:
    if row.before is not None:
        good = await client.post("/v1/generations", json=row.before, headers=dict(row.headers))
        assert good.status_code == 202
    row.prepare(world)
    return await client.request(row.method, row.url, content=row.content, headers=dict(row.headers))


def problem_of(response: httpx2.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == MEDIA_TYPE
    document: dict[str, Any] = response.json()
    return document


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_each_bad_request_gets_its_documented_code_and_place_and_nothing_but_a_wrong_word_is_repeated_or_done(
    bad_client: httpx2.AsyncClient, world: MemoryWorld, row: Bad
) -> None:
    requested = 0 if row.before is None else 1
    response = await send(bad_client, world, row)
    problem = problem_of(response)
    assert (response.status_code, problem["code"]) == (row.status, row.code), problem
    assert problem["status"] == row.status
    assert ("retry-after" in response.headers) is problem["retry"] is PROBLEMS[row.code].retry
    places = [fault.get("pointer", fault.get("name")) for fault in problem.get("errors", ())]
    assert (row.place in places) if row.place else not places
    if row.route is not None:
        method, path = row.route.split()
        documented = DOCUMENT["paths"][path][method.lower()]["responses"][str(row.status)]
        assert row.code in documented["content"][MEDIA_TYPE]["examples"]
    assert MARK not in response.text.replace(WRONG_WORD, "")
    assert MARK not in str(response.headers)
    assert (await bad_client.get("/healthz")).status_code == 200
    assert len(world.requests) == requested
    assert len(world.streams) == 1 + requested
    assert not world.deleted


# ------------------------------------------------------------------------------------------------------- below the app

POST = b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HOST = b"Host: localhost\r\n"
HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\n" + HOST
GARBAGE = {
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed_http"),
    "noise": (bytes(range(1, 256)) + b"\r\n\r\n", 400, "malformed_http"),
    "no path": (b"GET\r\n\r\n", 400, "malformed_http"),
    "a method to come": (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 400, "malformed_http"),
    "no version": (b"GET /\r\n\r\n", 403, "forbidden_host"),
    "another protocol": (b"GET / SMTP/1.1\r\n\r\n", 400, "malformed_http"),
    "a version to come": (b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 400, "malformed_http"),
    "raw bytes in the path": (b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n", 400, "malformed_http"),
    "a header without a colon": (b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n", 400, "malformed_http"),
    "a header name with a space": (b"GET / HTTP/1.1\r\n" + HOST + b"a b: c\r\n\r\n", 400, "malformed_http"),
    "NUL in a header": (HALF_A_HEAD + b"x-y: a\x00b\r\n\r\n", 400, "malformed_http"),
    "NUL in a cursor": (
        b"GET /v1/streams/x/events HTTP/1.1\r\n" + HOST + b"last-event-id: 1-\x001\r\n\r\n", 400, "malformed_http",
    ),
    "no Host": (b"GET /v1/generations HTTP/1.1\r\n\r\n", 403, "forbidden_host"),
    "two Hosts": (b"GET /v1/generations HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 403, "forbidden_host"),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "malformed_http"),
    "a length and chunks": (
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400, "malformed_http",
    ),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", 400, "malformed_http"),
    "a length beyond all numbers": (POST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400, "malformed_http"),
    "a length beyond the limit": (POST + b"Content-Length: 999999999999\r\n\r\n", 413, "body_too_large"),
    "a chunk of no size": (POST + b"Transfer-Encoding: chunked\r\n\r\nsoon\r\n", 400, "malformed_http"),
    "a chunk beyond all numbers": (
        POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", 400, "malformed_http",
    ),
    "chunks beyond the limit": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"40000\r\n" + b" " * 2**18 + b"\r\n") * 5,
        413, "body_too_large",
    ),
    "a large header": (HALF_A_HEAD + b"x-large: " + b"a" * 2**17 + b"\r\n\r\n", 431, "head_too_large"),
    "many headers": (HALF_A_HEAD + b"x-y: a\r\n" * 20_000 + b"\r\n", 431, "head_too_large"),
    "a large path": (b"GET /" + b"a" * 2**17 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431, "head_too_large"),
    "a head without an end": (HALF_A_HEAD + b"x-endless: " + b"a" * 2**20, 431, "head_too_large"),
}  # fmt: skip


async def answer_to(client: httpx2.AsyncClient, raw: bytes) -> tuple[int, dict[str, Any]]:
    """Status and problem of the one answer to these bytes, after which the connection is closed or closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    try:
        writer.write(raw)
        async with asyncio.timeout(DEADLINE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await reader.readexactly(int(length.split(b":")[1]))
    finally:
        writer.close()
    return int(head.split(b" ", 2)[1]), json.loads(body)


@pytest.mark.parametrize("name", GARBAGE)
async def test_a_request_that_is_hardly_http_is_answered_with_a_problem_and_harms_no_other_client(
    bad_client: httpx2.AsyncClient, world: MemoryWorld, name: str
) -> None:
    texts, status, code = GARBAGE[name]
    answered, problem = await answer_to(bad_client, texts)
    assert (answered, problem["status"], problem["code"]) == (status, status, code)
    assert (await bad_client.get("/healthz")).status_code == 200
    assert world.requests == []


async def test_a_head_that_comes_in_pieces_may_be_as_large_as_one_that_comes_at_once(
    bad_client: httpx2.AsyncClient,
) -> None:
    """Counted is what belongs to the head: neither the body before it on the connection, nor where the reads fell."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bad_client.base_url.port)
    body = b'{"prompt": "' + b"a" * 200_000 + b'"}'
    writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body + HALF_A_HEAD + b"x-large: " + b"a" * 20_000)
    async with asyncio.timeout(DEADLINE_S):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202")
        writer.write(b"a" * 20_000 + b"\r\n\r\n")
        assert b"HTTP/1.1 200" in await reader.readuntil(b'{"status":"ok"}')
    writer.close()


async def test_garbage_behind_a_stream_never_stands_in_it_and_is_refused_at_its_end(
    bad_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("gen_open")
    reader, writer = await asyncio.open_connection("127.0.0.1", bad_client.base_url.port)
    async with asyncio.timeout(DEADLINE_S):
        writer.write(b"GET /v1/streams/gen_open/events HTTP/1.1\r\n" + HOST + b"\r\n")
        await reader.readuntil(b"hub.live")
        writer.write(b"\x00garbage\r\n\r\n")
        world.append("gen_open", Finish())
        stream = await reader.readuntil(b"\r\n0\r\n\r\n")
        refused = await reader.read()
    assert b"HTTP/1.1" not in stream
    assert b'"type":"finish"' in stream
    assert refused.startswith(b"HTTP/1.1 400 ")
    assert b'"malformed_http"' in refused
    writer.close()


# ---------------------------------------------------------------------------------------------------- what is no error


async def test_an_empty_cursor_is_none_and_an_unknown_one_is_placed(
    bad_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    url = f"/v1/streams/{KNOWN}/events"
    for path, headers in (
        (f"{url}?after=", {}), (url, {"last-event-id": ""}), (f"{url}?after=9999999-42", {}), (f"{url}?after=0-0", {}),
        (f"{url}?after={2**64 - 1}-{2**64 - 1}", {}),
    ):  # fmt: skip
        response = await bad_client.get(path, headers=headers)
        assert response.status_code == 200, path
        assert '"type":"finish"' in response.text


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON;v=1"])
async def test_json_is_json_whatever_its_parameters(bad_client: httpx2.AsyncClient, kind: str) -> None:
    response = await bad_client.post("/v1/generations", content=b'{"prompt": "a"}', headers={"content-type": kind})
    assert response.status_code == 202


async def test_whatever_can_be_written_down_is_taken(bad_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    odd = {"prompt": "\u2028 \U0001f600 \x7f é 漢", "metadata": {"": [None, True, 1e308, -0.0, 2**53], "a\nb": {}}}
    response = await bad_client.post("/v1/generations", content=json.dumps(odd).encode(), headers=JSON)
    assert response.status_code == 202
    assert response.json()["metadata"] == odd["metadata"]
