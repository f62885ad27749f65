"""The router on a stock uvicorn, as people run it: signals, several workers, a killed one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from broadcaster.log.redis.connect import LogConnection
from tests.support.servers.processes import Running, Stack
from tests.support.streaming import RawViewer, open_viewer

DEADLINE_S = 60.0
DRAIN_WINDOW_S = 0.5
FEED = "llm/v1/streams/job"
DELTA = {"type": "data-note", "data": 1}


@asynccontextmanager
async def stock_uvicorn(folder: Path, *, redis_url: str, workers: int) -> AsyncIterator[Running]:
    """The host app behind ``python -m uvicorn``, with a feed."""
    environment = {
        "BROADCASTER_REDIS_URL": redis_url,
        "BROADCASTER_DRAIN_WINDOW_S": str(DRAIN_WINDOW_S),
        "BROADCASTER_RETRY_MS": "100",
        "PYTHONUNBUFFERED": "1",
    }
    stack = Stack(folder, environment)
    several = ("--workers", str(workers)) if workers > 1 else ()
    command = ("uvicorn", "tests.support.apps.host_app:app", "--port", "0", *several)
    try:
        running = await stack.start(*command)
        line = await running.logged("Uvicorn running on http")
        running.url = line.partition("running on ")[2].split()[0]
        await until_answering(running, workers)
        async with httpx2.AsyncClient(base_url=running.url) as client:
            assert (await client.put(f"/{FEED}", json={})).status_code == 201
        yield running
    finally:
        await stack.aclose()


async def until_answering(running: Running, workers: int) -> set[int]:
    """Until so many processes have answered; a connection of its own each time, for it stays with one."""
    pids: set[int] = set()
    async with asyncio.timeout(DEADLINE_S):
        while len(pids) < workers:
            try:
                async with httpx2.AsyncClient(base_url=running.url) as client:
                    pids.add(int((await client.get(f"/{FEED}")).headers["x-pid"]))
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
    return pids


async def open_viewers(running: Running, count: int, *, after: str | None = None) -> list[RawViewer]:
    port = urlsplit(running.url).port
    assert port is not None
    viewers = [await open_viewer(port, f"{FEED}/events", after=after) for _ in range(count)]
    for viewer in viewers:
        await viewer.until_live()
    return viewers


async def append(running: Running, count: int = 1) -> None:
    async with httpx2.AsyncClient(base_url=running.url) as client:
        assert (await client.post(f"/{FEED}/events", json=[DELTA] * count)).status_code == 200


@pytest.mark.parametrize(
    ("workers", "number", "code"),
    # Of one process, uvicorn ends a SIGTERM by the signal itself, and catches what a SIGINT raises.
    [(2, signal.SIGTERM, 0), (2, signal.SIGINT, 0), (1, signal.SIGTERM, -signal.SIGTERM), (1, signal.SIGINT, 0)],
)
async def test_open_viewers_are_sent_away_and_do_not_hold_up_a_stock_servers_end(
    connection: LogConnection, redis_url: str, tmp_path: Path, workers: int, number: signal.Signals, code: int
) -> None:
    async with stock_uvicorn(tmp_path, redis_url=redis_url, workers=workers) as running:
        viewers = await open_viewers(running, 50)
        await append(running)
        for viewer in viewers:
            await viewer.until_seq(1)
        assert len({viewer.headers["x-pid"] for viewer in viewers}) == workers
        loop = asyncio.get_running_loop()
        begin = loop.time()
        running.signal(number)
        await asyncio.gather(*(viewer.until_over() for viewer in viewers))
        took_s = loop.time() - begin
        async with asyncio.timeout(DEADLINE_S):
            assert await running.process.wait() == code
        for viewer in viewers:
            assert viewer.ended_cleanly
            assert viewer.witness.notices[-1] == ("hub.bye", {"reason": "drain", "reconnect": True})
            viewer.close()
        print(f"signal → every viewer sent away: {took_s:.2f} s")
        assert took_s < DRAIN_WINDOW_S + 2
        assert "Traceback" not in running.log.read_text()


async def test_viewers_of_a_killed_process_resume_in_another_without_a_loss(
    connection: LogConnection, redis_url: str, tmp_path: Path
) -> None:
    async with stock_uvicorn(tmp_path, redis_url=redis_url, workers=2) as running:
        viewers = await open_viewers(running, 20)
        await append(running, 5)
        for viewer in viewers:
            await viewer.until_seq(5)
        doomed = viewers[0].headers["x-pid"]
        os.kill(int(doomed), signal.SIGKILL)
        cut = [viewer for viewer in viewers if viewer.headers["x-pid"] == doomed]
        for viewer in cut:
            await viewer.until_over()
            assert viewer.ended_cleanly is False
        await append(running, 3)
        resumed = await open_viewers(running, len(cut), after=str(cut[0].witness.after))
        for viewer in (*resumed, *(each for each in viewers if each not in cut)):
            await viewer.until_seq(8)
        assert doomed not in {viewer.headers["x-pid"] for viewer in resumed}
        for viewer in (*viewers, *resumed):
            viewer.close()
