"""What Debian's nginx with the files of deploy/nginx costs in time, and what it bears. The rest of it: tests/proxy."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from pathlib import Path
from urllib.parse import urlsplit

from broadcaster.client import AsyncClient
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.testing import ScriptedProvider
from tests.support.event_source import EventSource, events_of, watching
from tests.support.servers.nginx import open_nginx
from tests.support.servers.processes import Stack

MODEL = "claude-scripted"
VIEWERS = 500
SAMPLES = 250
DEADLINE_S = 20.0


async def test_500_viewers_have_the_whole_answer_though_one_front_end_is_restarted_and_one_is_killed(
    tmp_path: Path, stack: Stack, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_ends = [await stack.front_end(retry_ms=300) for _ in range(3)]
    began = time.monotonic()
    async with (
        open_nginx(tmp_path / "nginx", [each.url for each in front_ends]) as nginx,
        AsyncClient(nginx.url) as client,
    ):
        generation = await client.start("hi")
        path, trust = events_of(generation.id), nginx.trust()
        viewers = [
            EventSource(nginx.tls_url, path, tls=trust) if n % 5 == 0 else EventSource(nginx.url, path)
            for n in range(VIEWERS)
        ]
        async with watching(viewers) as audience:
            await conversation.send_text("before anything ")
            await audience.until(lambda viewer: "before anything" in viewer.text)
            front_ends[0].signal(signal.SIGTERM)
            for n in range(20):
                await conversation.send_text(f"leaving{n} ")
            assert await front_ends[0].process.wait() == 0
            await audience.until(lambda viewer: "leaving19 " in viewer.text)
            await stack.front_end(port=urlsplit(front_ends[0].url).port, retry_ms=300)
            await front_ends[1].kill()
            for n in range(20):
                await conversation.send_text(f"killed{n} ")
            await audience.until(lambda viewer: "killed19 " in viewer.text)
            await conversation.finish()
            await audience.until_over()
        requests = nginx.requests()
    took_s = time.monotonic() - began
    stored = [(str(each.cursor), each.event.decode()) for each in await Streams(connection).read(generation.id)]
    assert all(viewer.entries == stored for viewer in viewers)
    assert stored[-1][1].startswith('{"type":"finish"')
    assert all(viewer.terminals == 1 and "hub.gap" not in viewer.notices for viewer in viewers)
    assert sum(viewer.torn for viewer in viewers) > 0  # those of the killed one
    print(
        f"{VIEWERS} viewers, {len(stored)} events each: {took_s:.1f} s, "
        f"{sum(viewer.connections for viewer in viewers)} connections, "
        f"{sum(viewer.torn for viewer in viewers)} torn, "
        f"{sum(',' in each['upstream_addr'] for each in requests)} requests given to a second front-end"
    )


async def test_the_first_token_comes_through_nginx_as_it_comes_without(
    tmp_path: Path, stack: Stack, scripted: ScriptedProvider
) -> None:
    """Every event is awaited by both before the next is sent: each is a first token, alone on an idle connection.

    The claims are on differences, which a busy machine moves little: it stops both viewers alike.
    """
    await stack.worker()
    front_end = await stack.front_end()
    later_ms: list[float] = []
    async with open_nginx(tmp_path / "nginx", [front_end.url]) as nginx, AsyncClient(front_end.url) as client:
        # The first viewer is written to first: each goes first in half of the samples.
        for urls in ((front_end.url, nginx.url), (nginx.url, front_end.url)):
            conversation = scripted.conversation(MODEL)
            path = events_of((await client.start("hi")).id)
            arrivals = {url: Arrivals() for url in urls}
            first, second = (EventSource(url, path, on_entry=arrivals[url].note) for url in urls)
            async with watching([first]) as early:
                await early.until(lambda viewer: "hub.live" in viewer.notices)
                async with watching([second]) as late:
                    await late.until(lambda viewer: "hub.live" in viewer.notices)
                    for n in range(SAMPLES // 2):
                        await conversation.send_text(f"word{n} ")
                        direct, proxied = [await arrivals[url].next() for url in (front_end.url, nginx.url)]
                        later_ms.append((proxied - direct) * 1000)
                    await conversation.finish()
    later_ms.sort()
    p50, p95, p99 = statistics.median(later_ms), *(later_ms[len(later_ms) * each // 100] for each in (95, 99))
    print(f"later through nginx: p50 {p50:.2f} ms, p95 {p95:.2f} ms, p99 {p99:.2f} ms, {len(later_ms)} events")
    assert len(later_ms) >= 200
    assert p95 <= 5


class Arrivals:
    """When each text came."""

    def __init__(self) -> None:
        self._times: asyncio.Queue[float] = asyncio.Queue()

    def note(self, data: str) -> None:
        if '"type":"text-delta"' in data:
            self._times.put_nowait(time.perf_counter())

    async def next(self) -> float:
        async with asyncio.timeout(DEADLINE_S):
            return await self._times.get()


async def test_a_viewer_that_leaves_nginx_is_gone_from_its_front_end(tmp_path: Path, stack: Stack) -> None:
    front_end = await stack.front_end(presence_ttl_s=1)  # how soon it reports its viewers
    async with open_nginx(tmp_path / "nginx", [front_end.url]) as nginx, AsyncClient(front_end.url) as client:
        await client.create_stream("build-42")
        path = events_of("build-42")
        viewers = [EventSource(nginx.url, path), EventSource(nginx.tls_url, path, tls=nginx.trust())]
        async with watching(viewers) as audience:
            await audience.until(lambda viewer: "hub.live" in viewer.notices)
            await until_watched(client, 2)
        left = time.monotonic()
        await until_watched(client, 0)
        took_s = time.monotonic() - left
    print(f"gone from nginx → gone from its front-end: {took_s:.2f} s")
    assert took_s < 10  # a heartbeat would find it after 15 s


async def until_watched(client: AsyncClient, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await client.stream("build-42")).viewers != count:
            await asyncio.sleep(0.01)
