"""Debian's nginx with the files of deploy/nginx before real front-ends: what passes, what is cut, what happens once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from broadcaster.client import AsyncClient
from broadcaster.testing import ScriptedProvider
from tests.support.event_source import EventSource, events_of, watching
from tests.support.servers.nginx import Nginx, open_nginx
from tests.support.servers.processes import Stack
from tests.support.servers.relay import Link, Relay, opened
from tests.support.servers.websocket_client import conversation as open_conversation
from tests.support.servers.websocket_client import refusal_of

ID = "build-42"
MODEL = "claude-scripted"
DEADLINE_S = 20.0


async def test_heartbeats_keep_a_quiet_stream_open_for_longer_than_nginxs_read_timeout(
    tmp_path: Path, stack: Stack
) -> None:
    front_end = await stack.front_end(heartbeat_s=0.4, retry_ms=100)
    waits, cuts = ({"proxy_read_timeout 75s;": f"proxy_read_timeout {each};"} for each in ("1s", "100ms"))
    async with (
        open_nginx(tmp_path / "waits", [front_end.url], edits=waits) as nginx,
        open_nginx(tmp_path / "cuts", [front_end.url], edits=cuts) as impatient,
        AsyncClient(front_end.url) as client,
    ):
        await client.create_stream(ID)
        viewer, other = (EventSource(each.url, events_of(ID)) for each in (nginx, impatient))
        async with watching([viewer, other]) as audience:
            # Six heartbeats are 2.4 s. A viewer that waits for less than one is cut meanwhile: the bound is a real one.
            await audience.until(lambda each: each.raw.count(b"\n:") >= 6 or each is other)
            await client.close(ID)
            await audience.until_over()
    assert (viewer.torn, viewer.connections) == (0, 2)  # the stream, and the 204
    assert other.torn >= 2
    assert viewer.terminals == other.terminals == 1


async def test_an_answer_without_a_stream_may_take_longer_than_a_quiet_stream(
    tmp_path: Path, stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    edits = {"proxy_read_timeout 75s;": "proxy_read_timeout 300ms;"}
    async with (
        open_nginx(tmp_path / "nginx", [front_end.url], edits=edits) as nginx,
        httpx2.AsyncClient(base_url=nginx.url, trust_env=False, timeout=DEADLINE_S) as http,
        AsyncClient(front_end.url) as client,
    ):
        answering = asyncio.create_task(http.post("/v1/chat/completions", json=body))
        await conversation.send_text("late")
        await client.create_stream(ID)
        viewer = EventSource(nginx.url, events_of(ID))
        async with watching([viewer]) as audience:
            await audience.until(lambda each: each.torn >= 2)  # so long, and longer, nothing came
            await conversation.finish()
            answer = await answering
            await client.close(ID)
            await audience.until_over()
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "late"
    assert len(scripted.requests) == 1


async def test_a_viewer_that_takes_nothing_is_cut_by_its_front_end_although_nginx_stands_between(
    tmp_path: Path, stack: Stack
) -> None:
    front_end = await stack.front_end(slow_viewer_s=1, presence_ttl_s=1)
    async with open_nginx(tmp_path / "nginx", [front_end.url]) as nginx, AsyncClient(front_end.url) as client:
        await client.create_stream(ID)
        for _ in range(7):
            await client.append(ID, {"type": "data-much", "data": "x" * 1_000_000})
        viewer = await open_unread(nginx, events_of(ID))
        try:
            await until_watched(client, 1)
            await until_watched(client, 0)
            # What it has not taken yet is still there for it, and then the response breaks: it will reconnect.
            rest = await asyncio.get_running_loop().run_in_executor(None, read_to_end, viewer)
        finally:
            viewer.close()
    print(f"it had {len(rest)} bytes of 7000000 before it was cut")
    assert b"hub.hello" in rest[:1000]
    assert len(rest) < 6 * 2**20
    assert not rest.endswith(b"0\r\n\r\n")


async def open_unread(nginx: Nginx, path: str) -> socket.socket:
    """A viewer whose kernel takes little, and that reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", nginx.plain_port))
    await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    connection.settimeout(DEADLINE_S)
    held = bytearray()
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(2**16):
            held += chunk
    return bytes(held)


async def until_watched(client: AsyncClient, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await client.stream(ID)).viewers != count:
            await asyncio.sleep(0.02)


async def test_a_post_whose_answer_was_lost_is_not_repeated_and_its_key_finds_what_it_started(
    tmp_path: Path, stack: Stack
) -> None:
    front_end, other = await stack.front_end(), await stack.front_end()
    async with (
        opened(LosingRelay(front_end.url)) as relay,
        open_nginx(tmp_path / "nginx", [relay.url, other.url]) as nginx,
        AsyncClient(other.url) as client,
        httpx2.AsyncClient(base_url=nginx.url, trust_env=False) as http,
    ):
        started: list[str] = []
        while not relay.responses_lost:
            click = {"idempotency-key": f"click {len(started)}"}
            answer = await http.post("/v1/generations", json={"prompt": "hi"}, headers=click)
            if not relay.responses_lost:
                started.append(answer.json()["id"])
        assert (answer.status_code, answer.json()["code"]) == (502, "no_front_end")
        # The one whose answer was lost was done, and done once.
        held = [each.id for each in (await client.list()).generations]
        assert set(started) < set(held)
        assert len(held) == len(started) + 1
        repeated = await client.start("hi", idempotency_key=click["idempotency-key"])
        assert repeated.id == held[0]
        assert len((await client.list()).generations) == len(held)


async def test_a_viewer_whose_front_end_breaks_before_it_answers_is_given_to_another(
    tmp_path: Path, stack: Stack
) -> None:
    front_end, other = await stack.front_end(), await stack.front_end(retry_ms=100)
    async with opened(LosingRelay(front_end.url)) as relay, AsyncClient(other.url) as client:
        await client.create_stream(ID)
        await client.close(ID)
        async with open_nginx(tmp_path / "nginx", [relay.url, other.url]) as nginx:
            viewers = [EventSource(nginx.url, events_of(ID)) for _ in range(4)]
            async with watching(viewers) as audience:
                await audience.until_over()
    assert relay.responses_lost >= 1
    assert [viewer.connections for viewer in viewers] == [2] * 4  # the stream, and the 204
    assert [viewer.terminals for viewer in viewers] == [1] * 4


class LosingRelay(Relay):
    """Between nginx and a front-end: the front-end takes each request, and its response is lost with the connection."""

    scheme = "http"

    async def on_request(self, link: Link, data: bytes) -> bytes:
        link.loses_response = True
        return data


async def test_a_websocket_of_a_stream_passes_and_no_other_offer_does(tmp_path: Path, stack: Stack) -> None:
    front_end = await stack.front_end()
    async with open_nginx(tmp_path / "nginx", [front_end.url]) as nginx, AsyncClient(front_end.url) as client:
        await client.create_stream(ID)
        stream = f"{nginx.url}/v1/streams/{ID}"
        async with open_conversation(f"{stream}/ws?token=secret") as talk:
            await talk.until_live()
            await client.append(ID, {"type": "data-line", "data": 1})
            await client.close(ID)
            await talk.until_over()
        assert (len(talk.entries), talk.code) == (2, 1000)
        assert await refusal_of(f"{stream}/events") == (426, "websocket_not_served")
        assert await refusal_of(f"{stream}x/ws") == (404, "unknown_stream")
    assert "secret" not in (nginx.folder / "access.log").read_text()


async def test_without_any_front_end_viewers_are_sent_to_retry_and_other_callers_receive_a_problem(
    tmp_path: Path, stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end(retry_ms=100)
    async with (
        open_nginx(tmp_path / "nginx", [front_end.url]) as nginx,
        httpx2.AsyncClient(base_url=nginx.url, trust_env=False) as http,
    ):
        generation = (await http.post("/v1/generations", json={"prompt": "hi"})).json()["id"]
        viewers = [EventSource(nginx.url, events_of(generation)) for _ in range(10)]
        async with watching(viewers) as audience:
            await conversation.send_text("before, ")
            await audience.until(lambda viewer: "before, " in viewer.text)
            await front_end.kill()
            await audience.until(lambda viewer: "hub.bye" in viewer.notices)
            refused = await http.post(events_of(generation), json={"type": "data-line", "data": 1})
            assert (refused.status_code, refused.json()["code"]) == (502, "no_front_end")
            assert refused.headers["content-type"] == "application/problem+json"
            await stack.front_end(port=urlsplit(front_end.url).port)
            await conversation.send_text("after")
            await conversation.finish()
            await audience.until_over()
    assert all(viewer.entries == viewers[0].entries and viewer.terminals == 1 for viewer in viewers)


async def test_metrics_and_too_large_bodies_are_refused_with_the_front_ends_problem_and_no_query_is_logged(
    tmp_path: Path, stack: Stack
) -> None:
    front_end = await stack.front_end()
    async with (
        open_nginx(tmp_path / "nginx", [front_end.url]) as nginx,
        httpx2.AsyncClient(base_url=nginx.url, trust_env=False) as http,
        httpx2.AsyncClient(base_url=front_end.url, trust_env=False) as direct,
    ):
        refused = [await http.get("/metrics"), await http.post("/v1/generations", json={"prompt": "x" * 2**22})]
        own = [await direct.get("/nowhere"), await direct.post("/v1/generations", json={"prompt": "x" * 2**22})]
        assert [(each.status_code, each.json()) for each in refused] == [
            (each.status_code, each.json()) for each in own
        ]
        assert (await http.get("/metrics?token=secret", headers={"x-request-id": "mine"})).status_code == 404
        ready = await http.get("/readyz?token=secret", headers={"x-request-id": "mine"})
        assert (ready.status_code, ready.headers["x-request-id"]) == (200, "mine")
        forms = ("metrics/", "metrics/all", "metrics;x", "%6detrics")
        for path in forms:
            assert (await http.get(f"/{path}")).json() == refused[0].json()
    lines = (nginx.folder / "access.log").read_text()
    assert "secret" not in lines
    assert [(each["request"], each["status"]) for each in nginx.requests()][-6:] == [
        ("GET /metrics", 404),
        ("GET /readyz", 200),
        *((f"GET /{path}", 404) for path in forms),
    ]
    assert nginx.requests()[-5]["request_id"] == "mine"
    # That it was nginx that refused: no front-end was called.
    assert all(each["upstream_addr"] == "" for each in nginx.requests()[-4:])
