"""Feeds under a lease: their writers die, pause and come back; what viewers of real front-ends see of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broadcaster.core.sse import SseDecoder, SseMessage
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.wiring import open_services
from tests.support.log.valkey import start_valkey
from tests.support.servers.front_end import DEADLINE_S, listen, served

LEASE_S = 2.0
REPORTED_S = 3.0  # at most so long after the lease a viewer has the end
URL = "/v1/streams/build-42"
EVENTS = f"{URL}/events"
CONFIG = {"lease_s": LEASE_S}
WRITER_LOST = {"type": "error", "errorText": "no writer has checked in for the feed's lease", "code": "writer_lost"}


@asynccontextmanager
async def front_end(redis_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    settings = Settings(redis_url=redis_url, retry_ms=100)
    async with open_services(settings) as services, served(create_app(settings, services=services), services) as client:
        yield client


@asynccontextmanager
async def writer(redis_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that holds the feed open; killed at the end of the block, unless it has ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.log.leased_writer", redis_url, "build-42", str(LEASE_S)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await prints(process, "open")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def prints(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        while (line := await process.stdout.readline()).strip() != text.encode():
            assert line, f"the writer ended without saying {text}"


class Viewer:
    """One open connection and all that it has brought."""

    def __init__(self) -> None:
        self.messages: list[SseMessage] = []
        self._changed = asyncio.Event()

    def take(self, messages: list[SseMessage]) -> None:
        self.messages += messages
        self._changed.set()

    async def has(self, name: str, *, within_s: float = DEADLINE_S) -> SseMessage:
        """The first message of this name."""
        async with asyncio.timeout(within_s):
            while not (found := [each for each in self.messages if each.event == name]):
                self._changed.clear()
                await self._changed.wait()
        return found[0]

    @property
    def names(self) -> list[str]:
        return [message.event for message in self.messages]

    @property
    def events(self) -> list[Any]:
        return [json.loads(message.data) for message in self.messages if message.event == "message"]


@asynccontextmanager
async def viewing(client: httpx2.AsyncClient) -> AsyncIterator[Viewer]:
    viewer = Viewer()

    async def read() -> None:
        decoder = SseDecoder()
        async with client.stream("GET", EVENTS, timeout=None) as response:
            async for chunk in response.aiter_bytes():
                viewer.take(decoder.decode(chunk))

    reading = asyncio.create_task(read())
    try:
        await viewer.has("hub.live")
        yield viewer
    finally:
        reading.cancel()
        await asyncio.wait({reading})


async def pass_leases(count: float) -> None:
    """Wait for what must not happen: a feed that is ended although a writer renews."""
    await asyncio.sleep(count * LEASE_S)


@pytest.fixture
async def redis(connection: LogConnection) -> str:
    """URL of an empty server."""
    return connection.url


async def test_viewers_of_a_killed_writer_are_notified_of_it_and_receive_one_end(redis: str) -> None:
    async with front_end(redis) as one, front_end(redis) as other:
        async with writer(redis) as process, viewing(one) as first, viewing(other) as second:
            await one.post(EVENTS, json={"type": "data-note", "data": 1})
            await pass_leases(1)  # both front-ends have seen Redis answer for one
            assert "hub.stalled" not in first.names + second.names
            process.kill()
            loop = asyncio.get_running_loop()
            killed_at = loop.time()
            for viewer in (first, second):
                async with asyncio.timeout(killed_at + LEASE_S + REPORTED_S - loop.time()):
                    while len(viewer.events) < 2:
                        await asyncio.sleep(0.01)
        for client in (one, other):
            entries = (await listen(client, EVENTS)).entries
            assert [json.loads(data)["type"] for _, data in entries] == ["data-note", "error"]
            assert json.loads(entries[-1][1]) == WRITER_LOST
        assert (await one.get(URL)).json()["status"] == "failed"
        closed = await other.post(EVENTS, json={"type": "data-note", "data": 2})
        assert (closed.status_code, closed.json()["code"]) == (409, "stream_closed")
        repeated = await one.put(URL, json=CONFIG)
        assert (repeated.status_code, repeated.json()["status"]) == (200, "failed")
    assert first.events == second.events
    # The end may come from the other front-end before this one has reported that the writer is lost.
    result = [viewer for viewer in (first, second) if "hub.stalled" in viewer.names]
    assert result
    for viewer in result:
        notice = await viewer.has("hub.stalled")
        assert json.loads(notice.data)["reason"] == "worker_lost"
        assert viewer.names[-1] == "message"


async def test_a_feed_goes_on_while_one_of_its_writers_lives_and_only_renews(redis: str) -> None:
    async with front_end(redis) as client, writer(redis) as one, writer(redis), viewing(client) as viewer:
        one.kill()
        await pass_leases(2)
        assert "hub.stalled" not in viewer.names
        assert (await client.get(URL)).json()["status"] == "running"


async def test_a_redis_that_was_paused_for_two_leases_ends_no_feed(tmp_path: Path) -> None:
    with start_valkey(tmp_path) as server:
        async with front_end(server.url) as client, writer(server.url) as process, viewing(client) as viewer:
            await pass_leases(1)
            server.pause()
            try:
                await prints(process, "log_unavailable")
                await pass_leases(2)
            finally:
                server.resume()
            await pass_leases(2)
            assert viewer.events == []
            assert (await client.get(URL)).json()["status"] == "running"
            await client.post(f"{URL}/close")
            await viewer.has("message")
            assert viewer.events == [{"type": "finish"}]


async def test_a_lapsed_feed_without_viewers_is_ended_by_a_get_of_it(redis: str) -> None:
    async with front_end(redis) as client:
        assert (await client.put(URL, json=CONFIG)).json()["lease_s"] == LEASE_S
        async with asyncio.timeout(LEASE_S + REPORTED_S):
            while (await client.get(URL)).json()["status"] == "running":
                await asyncio.sleep(0.05)
        assert [json.loads(data) for _, data in (await listen(client, EVENTS)).entries] == [WRITER_LOST]


async def test_creating_a_feed_repeatedly_keeps_it_open(redis: str) -> None:
    async with front_end(redis) as client:
        await client.put(URL, json=CONFIG)
        for _ in range(6):
            await pass_leases(1 / 3)
            assert (await client.put(URL, json=CONFIG)).json()["status"] == "running"
        assert (await client.put(URL, json={"lease_s": LEASE_S + 1})).json()["code"] == "stream_exists"
