"""Each alert fires over real processes when its fault happens, and none before.

The rules are the shipped ones with shorter durations (``quicker`` in tests/support/servers/prometheus.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from broadcaster.client import AsyncClient
from broadcaster.client.errors import ClientError
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Answer, Script, ScriptedProvider
from tests.e2e.observing.watched import Watched
from tests.support.log.valkey import ValkeyServer, start_valkey
from tests.support.scraping import port_of, scrape, scrape_until
from tests.support.servers.processes import Running, Stack, open_stack
from tests.support.servers.prometheus import CONFIGURATION
from tests.support.servers.webhook_receiver import SECRET, Reply, open_receiver
from tests.support.watching import viewers_of, watch

# Several alerts one after the other, each of which may take FIRING_TIMEOUT_S.
pytestmark = pytest.mark.timeout(600)

MODEL = "claude-scripted"
LEASE_TTL_S = 2
MOST_VIEWERS = 12
QUIET_VIEWERS = 10
FEED_EVENTS = 4000
PACE_S = 0.1


@asynccontextmanager
async def repeating(step: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run ``step`` again and again while the block runs: a fault that lasts."""

    async def run() -> None:
        while True:
            await step()
            await asyncio.sleep(PACE_S)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_lost_workers(stack: Stack, scripted: ScriptedProvider, tmp_path: Path) -> None:
    running = [scripted.conversation(MODEL) for _ in range(6)]
    watched = Watched(stack)
    front_end = await watched.front_end(lease_ttl_s=LEASE_TTL_S)
    victim = await watched.worker(lease_ttl_s=LEASE_TTL_S)
    async with AsyncClient(front_end.url) as client:
        for _ in range(3):
            await client.start("to be taken over")
        for each in running[:3]:
            await each.send_text("begun")
        survivor = await watched.worker(lease_ttl_s=LEASE_TTL_S)
        async with watched.prometheus(tmp_path / "prometheus") as prometheus:
            await victim.kill()
            firing = await prometheus.until_firing("BroadcasterTakeOvers", "BroadcasterProcessDown")
            assert firing["BroadcasterProcessDown"]["job"] == "broadcaster-worker"
            assert "BroadcasterNoWorker" not in firing
            await survivor.kill()
            await client.start("to wait")
            firing = await prometheus.until_firing("BroadcasterNoWorker", "BroadcasterQueueWaits")
            assert "BroadcasterNoFrontEnd" not in firing


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with start_valkey(tmp_path) as started:
        yield started


@pytest.mark.second_engine
async def test_a_redis_that_loses_events_is_full_unsteady_and_gone(
    server: ValkeyServer, scripted: ScriptedProvider, tmp_path: Path
) -> None:
    async with open_stack(
        tmp_path, redis_url=server.url, provider_url=scripted.base_url, default_model=MODEL, lease_ttl_s=LEASE_TTL_S
    ) as stack:
        watched = Watched(stack)
        front_end = await watched.front_end()
        await watched.worker()
        async with (
            LogConnection(server.url) as connection,
            AsyncClient(front_end.url) as client,
            watched.prometheus(tmp_path / "prometheus") as prometheus,
        ):
            await lose_events(client, front_end, connection)
            await prometheus.until_firing("BroadcasterEventsLost")

            await connection.redis.config_set("maxmemory", "1")

            async def refused() -> None:
                with contextlib.suppress(ClientError):
                    await client.start("refused")

            async with repeating(refused):
                await prometheus.until_firing("BroadcasterRedisFull")
            await connection.redis.config_set("maxmemory", "0")

            for _ in range(4):
                await break_off(server, await port_of(front_end))
            await prometheus.until_firing("BroadcasterRedisUnsteady")
            server.kill()
            await prometheus.until_firing("BroadcasterRedisAway")


async def break_off(server: ValkeyServer, port: int) -> None:
    """Redis stands still until the front-end has seen it."""
    before = await scrape(port)
    probes, breaks = (before.value(f"broadcaster_redis_{each}") for each in ("probe_seconds_count", "breaks_total"))
    await scrape_until(port, lambda now: now.value("broadcaster_redis_probe_seconds_count") > probes)
    server.pause()
    await scrape_until(port, lambda now: now.value("broadcaster_redis_breaks_total") > breaks)
    server.resume()


async def lose_events(client: AsyncClient, front_end: Running, connection: LogConnection) -> None:
    """A feed that a viewer watches is gone, and then created anew."""
    await client.create_stream("job")
    await client.append("job", {"type": "data-step", "data": "before"})
    (viewer,) = await viewers_of(front_end.url, "job", having="before", count=1)
    await connection.redis.flushall()
    await client.create_stream("job")
    await client.append("job", {"type": "data-step", "data": "after"})
    await client.close("job")
    assert [name for name, _ in (await viewer).notices if name == "hub.gap"]


async def test_a_provider_and_a_receiver_of_webhooks_that_fail(
    tmp_path: Path, connection: LogConnection, scripted: ScriptedProvider
) -> None:
    scripted.script(MODEL, Script(Answer(529)))
    settings = {
        "webhook_hosts": "127.0.0.1:*",
        "webhook_secret": SECRET,
        "provider_retries": 0,
        "lease_ttl_s": LEASE_TTL_S,
    }
    async with (
        open_receiver(default=Reply(500)) as receiver,
        open_stack(
            tmp_path, redis_url=connection.url, provider_url=scripted.base_url, default_model=MODEL, **settings
        ) as stack,
    ):
        watched = Watched(stack)
        front_end = await watched.front_end()
        await watched.worker()
        body = {"prompt": "hi", "webhook": {"url": receiver.url}}
        async with (
            httpx2.AsyncClient(base_url=front_end.url) as client,
            watched.prometheus(tmp_path / "prometheus") as prometheus,
            repeating(lambda: client.post("/v1/generations", json=body)),
        ):
            firing = await prometheus.until_firing(
                "BroadcasterAnswersFail", "BroadcasterProviderFails", "BroadcasterWebhooksFail"
            )
    assert firing["BroadcasterProviderFails"]["provider"] == "anthropic"
    assert "BroadcasterQueueWaits" not in firing


async def test_a_front_end_that_is_full_cuts_slow_viewers_hangs_and_dies(stack: Stack, tmp_path: Path) -> None:
    watched = Watched(stack)
    front_end = await watched.front_end(max_viewers=MOST_VIEWERS, slow_viewer_s=0.5, lease_ttl_s=LEASE_TTL_S)
    await watched.worker(lease_ttl_s=LEASE_TTL_S)
    async with AsyncClient(front_end.url) as client, watched.prometheus(tmp_path / "prometheus") as prometheus:
        await client.create_stream("quiet")
        await client.create_stream("long")
        for _ in range(FEED_EVENTS // 1000):
            events = [{"type": "text-delta", "id": "t", "delta": "x" * 1000}] * 1000
            await client.append("long", events)
        viewers = [asyncio.create_task(watch(front_end.url, "quiet", timeout_s=120)) for _ in range(QUIET_VIEWERS)]

        unread: list[socket.socket] = []

        async def come_and_not_read() -> None:
            unread.extend(without_reading(front_end, "long") for _ in range(2))

        async with repeating(come_and_not_read):
            firing = await prometheus.until_firing(
                "BroadcasterFrontEndFull", "BroadcasterLimitReached", "BroadcasterSlowViewers"
            )
        assert firing["BroadcasterLimitReached"]["limit"] == "MAX_VIEWERS"

        async def hang() -> None:
            front_end.signal(signal.SIGSTOP)
            await asyncio.sleep(0.35)
            front_end.signal(signal.SIGCONT)
            await asyncio.sleep(0.35)

        async with repeating(hang):
            firing = await prometheus.until_firing("BroadcasterEventLoopLag")
        assert firing["BroadcasterEventLoopLag"]["job"] == "broadcaster-front-end"

        await front_end.kill()
        await prometheus.until_firing("BroadcasterNoFrontEnd")
        await asyncio.gather(*viewers, return_exceptions=True)
        for each in unread:
            each.close()


def without_reading(front_end: Running, feed: str) -> socket.socket:
    """A connection that requests a feed and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = front_end.url.removeprefix("http://").split(":")
    client.connect((host, int(port)))
    client.sendall(f"GET /v1/streams/{feed}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return client


def test_every_alert_is_fired_here() -> None:
    rules = (CONFIGURATION / "rules" / "alerts.yml").read_text("utf-8")
    alerts = set(re.findall(r"- alert: (\w+)", rules))
    assert alerts
    assert alerts == set(re.findall(r'"(Broadcaster[A-Z]\w+)"', Path(__file__).read_text("utf-8")))
