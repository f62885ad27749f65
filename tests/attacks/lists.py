"""Lists of feeds whose newest events are large: what they cost a front-end and Redis, and how long others wait.

    python -m tests.attacks.lists [--feeds 60] [--events 7] [--lists 40]

Each feed holds so many events of almost MAX_EVENT_BYTES, and a list is requested on so many connections at once. Beside
``/healthz`` another client of Redis gets ``PING`` all the while. The bound: 250 ms for each, and 100 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
from redis.asyncio import Redis

from broadcaster.settings import Settings
from tests.attacks.measuring import Cost, costs, exchange, opened, port_of
from tests.support.log.valkey import start_valkey
from tests.support.servers.processes import Running

_EVENT: Final = {"type": "data-a", "data": "x" * (Settings.model_fields["max_event_bytes"].default - 256)}
_LIST: Final = b"GET /v1/streams?limit=100 HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"


@dataclass(slots=True)
class ListCost(Cost):
    """``redis_s``: the longest wait of another client of Redis."""

    redis_s: float = 0.0


async def write_feeds(running: Running, *, feeds: int, events: int) -> None:
    """Feeds with so many large events each."""
    async with httpx2.AsyncClient(base_url=running.url, timeout=60) as client:
        for at in range(feeds):
            assert (await client.put(f"/v1/streams/f{at}")).status_code == 201
            for _ in range(events):
                assert (await client.post(f"/v1/streams/f{at}/events", json=_EVENT)).status_code == 200


async def list_at_once(running: Running, *, redis_url: str, lists: int) -> ListCost:
    """Request so many lists at once; what that costs."""
    async with _pinging(redis_url) as longest, costs(running) as cost:
        statuses = await asyncio.gather(*(exchange(port_of(running), _LIST) for _ in range(lists)))
    assert set(statuses) == {200}, statuses
    return ListCost(cost.wait_s, cost.cpu_s, cost.grown_bytes, redis_s=max(longest))


@asynccontextmanager
async def _pinging(redis_url: str) -> AsyncIterator[list[float]]:
    waits_s: list[float] = []

    async def ping() -> None:
        async with Redis.from_url(redis_url) as redis:
            while True:
                sent_s = time.perf_counter()
                await redis.ping()
                waits_s.append(time.perf_counter() - sent_s)
                await asyncio.sleep(0.001)

    pinging = asyncio.create_task(ping())
    try:
        yield waits_s
    finally:
        pinging.cancel()
        await asyncio.wait({pinging})


async def main(feeds: int, events: int, lists: int) -> None:
    """Attack, and print what it did."""
    with tempfile.TemporaryDirectory() as folder, start_valkey(Path(folder)) as server:
        async with opened(Path(folder), redis_url=server.url) as (running, _):
            await write_feeds(running, feeds=feeds, events=events)
            cost = await list_at_once(running, redis_url=server.url, lists=lists)
            print(
                f"+{cost.grown_bytes / 2**20:6.0f} MB  waited {cost.wait_s * 1000:.0f} ms  "
                f"cpu {cost.cpu_s:.1f} s  Redis waited {cost.redis_s * 1000:.0f} ms"
            )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--feeds", type=int, default=60)
    arguments.add_argument("--events", type=int, default=7)
    arguments.add_argument("--lists", type=int, default=40)
    given = arguments.parse_args()
    asyncio.run(main(given.feeds, given.events, given.lists))
