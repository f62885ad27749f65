"""A front-end that is replaced behind a proxy of deploy/: new calls go to the other one, also those of clients that
repeat nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx2
import pytest

from broadcaster.client import AsyncClient
from broadcaster.testing import Script, ScriptedProvider
from tests.deploy.caddy import caddy
from tests.support.event_source import EventSource, events_of, watching
from tests.support.servers.nginx import open_nginx
from tests.support.servers.processes import Running, Stack

ID: Final = "build-42"
MODEL: Final = "claude-scripted"
BODY: Final = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
CALLS: Final = 6
# The second of two viewers is sent away after half of it: it outlasts the calls.
WINDOW_S: Final = 60


@pytest.fixture
async def front_ends(stack: Stack, scripted: ScriptedProvider) -> list[Running]:
    scripted.script(MODEL, *(Script.of_text("hello") for _ in range(10 * CALLS)))
    await stack.worker()
    return [await stack.front_end(drain_window_s=WINDOW_S) for _ in range(2)]


@asynccontextmanager
async def draining(front_end: Running) -> AsyncIterator[None]:
    """SIGTERM; inside, its drain has begun and is not over."""
    async with AsyncClient(front_end.url) as client:
        await client.create_stream(ID)
    viewers = [EventSource(front_end.url, events_of(ID)) for _ in range(2)]
    async with watching(viewers) as audience:
        await audience.until(lambda each: "hub.live" in each.notices)
        front_end.signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            while not any("hub.bye" in each.notices for each in viewers):
                await asyncio.sleep(0.01)
        yield
        assert front_end.process.returncode is None
        front_end.signal(signal.SIGTERM)


def client_of(url: str) -> httpx2.AsyncClient:
    """A client that repeats nothing."""
    return httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20)


async def call(http: httpx2.AsyncClient) -> int:
    """The status of a chat call."""
    return (await http.post("/v1/chat/completions", json=BODY)).status_code


async def calls(http: httpx2.AsyncClient) -> list[int]:
    """The statuses of some calls, one after the other."""
    return [await call(http) for _ in range(CALLS)]


async def test_every_call_through_nginx_is_answered_while_one_of_two_front_ends_drains(
    tmp_path: Path, front_ends: list[Running]
) -> None:
    async with open_nginx(tmp_path / "nginx", [each.url for each in front_ends]) as nginx, client_of(nginx.url) as http:
        assert await calls(http) == [200] * CALLS
        async with draining(front_ends[0]):
            assert await calls(http) == [200] * CALLS


async def test_one_call_through_caddy_fails_when_a_front_end_is_gone_and_the_other_one_serves_the_rest(
    tmp_path: Path, front_ends: list[Running]
) -> None:
    addresses = " ".join(urlsplit(each.url).netloc for each in front_ends)
    # Only a failed call finds it, and is remembered for the rest of the test.
    edits = {"health_interval 2s": "health_interval 1h", "fail_duration 5s": "fail_duration 1h"}
    async with caddy(tmp_path, addresses, edits=edits) as url, client_of(url) as http:
        assert await calls(http) == [200] * CALLS
        async with draining(front_ends[0]):
            async with asyncio.timeout(20):
                while (status := await call(http)) == 200:  # Caddy draws lots between front-ends without connections
                    pass
            assert status == 502
            assert await calls(http) == [200] * CALLS
