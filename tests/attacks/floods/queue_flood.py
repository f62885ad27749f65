"""One tenant fills the queue and takes every viewer's place: when does another tenant's first token arrive?

    python -m tests.attacks.floods.queue_flood [--queued 10000] [--viewers 10000] [--workers 2] [--slots 4]

Real workers and a front-end over a Redis of their own. Tenant a queues long generations, watches one of them until it
is refused, and keeps trying while tenant b is measured. The bound: twice the usual time of tenant b.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx2

from broadcaster.client import AsyncClient, EntryReceived
from broadcaster.core.events import TextDelta
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Hang, Script, ScriptedProvider, Send, wire
from tests.support.log.valkey import start_valkey
from tests.support.servers.processes import open_stack

LONG: Final = "claude-long"
SHORT: Final = "claude-short"
KEYS: Final = {tenant: f"the-key-of-tenant-{tenant}" for tenant in ("a", "b")}
POSTS_AT_ONCE: Final = 16
DEADLINE_S: Final = 20.0
RETRY_S: Final = 0.01
FILES_BESIDE_VIEWERS: Final = 1000
_EVENT: Final = b"event: "
_GRANTED: Final = b"hub.hello\n"
_REFUSED: Final = b"hub.bye\n"


class Places:
    """The viewers' places that tenant a holds at one front-end; ``refused`` counts the requests that got none."""

    def __init__(self, url: str, id: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 0
        head = f"GET /v1/streams/{id}/events HTTP/1.1\r\nHost: {address.netloc}\r\nX-Api-Key: {KEYS['a']}\r\n\r\n"
        self._head = head.encode()
        self._held: list[asyncio.StreamWriter] = []
        self.refused = 0

    def __len__(self) -> int:
        """Places taken."""
        return len(self._held)

    async def attempt(self) -> bool:
        """One more; whether it was granted."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(self._head)
        async with asyncio.timeout(DEADLINE_S):
            frame = await reader.readuntil(_EVENT)
            frame += await reader.readline()
        if frame.endswith(_GRANTED):
            self._held.append(writer)
            return True
        assert frame.endswith(_REFUSED), frame
        self.refused += 1
        writer.close()
        return False

    async def keep_trying(self) -> None:
        """Try repeatedly; every request is refused."""
        while True:
            assert not await self.attempt()
            await asyncio.sleep(RETRY_S)

    def close(self) -> None:
        """Give all places back."""
        for writer in self._held:
            writer.transport.abort()


@dataclass
class Shared:
    """A front-end that two tenants share."""

    url: str
    connection: LogConnection

    def http(self, tenant: str) -> httpx2.AsyncClient:
        """Calls of this tenant, without repetitions."""
        headers = {"x-api-key": KEYS[tenant]}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=DEADLINE_S, trust_env=False)

    async def first_token_s(self, *, times: int) -> list[float]:
        """From tenant b's call to its answer's first text, once after the other."""
        took: list[float] = []
        async with AsyncClient(self.url, KEYS["b"]) as client:
            for _ in range(times):
                began = time.monotonic()
                async with asyncio.timeout(DEADLINE_S):
                    generation = await client.start("hi", model=SHORT)
                    async for event in client.events(generation.id):
                        if isinstance(event, EntryReceived) and isinstance(event.event, TextDelta):
                            break
                took.append(time.monotonic() - began)
        return took

    async def flood(self, count: int) -> list[str]:
        """Queue this many long generations of tenant a; the ids of what was accepted."""
        places, accepted = asyncio.Semaphore(POSTS_AT_ONCE), list[str]()

        async def post() -> None:
            async with places:
                response = await http.post("/v1/generations", json={"prompt": "hi", "model": LONG})
            if response.status_code == httpx2.codes.ACCEPTED:
                accepted.append(response.json()["id"])

        async with self.http("a") as http:
            await asyncio.gather(*(post() for _ in range(count)))
        return accepted

    @asynccontextmanager
    async def every_place(self, id: str) -> AsyncIterator[Places]:
        """Watch a's open generation until a place is refused, and keep trying for more until the block ends."""
        places = Places(self.url, id)
        try:
            async with asyncio.timeout(DEADLINE_S * 6):
                while await places.attempt():
                    pass
            trying = asyncio.create_task(places.keep_trying())
            try:
                yield places
            finally:
                trying.cancel()
                await asyncio.wait({trying})
            if not trying.cancelled():
                trying.result()
        finally:
            places.close()

    async def until_running(self, count: int) -> None:
        """Wait until so many jobs are delivered."""
        async with asyncio.timeout(DEADLINE_S):
            while await self.connection.redis.zcard(self.connection.keys.running) < count:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def open_shared(
    folder: Path, *, redis_url: str, workers: int, slots: int, max_queue: int, max_viewers: int
) -> AsyncIterator[Shared]:
    """Workers, a front-end and a provider whose long answers never end."""
    async with ScriptedProvider() as provider:
        provider.script(LONG, Script(Send(*wire.message(wire.text("It "))[:3]), Hang()))
        provider.script(SHORT, Script.of_text("yes"))
        settings = {"auth": "keys", "api_keys": json.dumps({tenant: [key] for tenant, key in KEYS.items()})}
        async with (
            open_stack(folder, redis_url=redis_url, provider_url=provider.base_url, max_queue=max_queue) as stack,
            LogConnection(redis_url) as connection,
        ):
            for _ in range(workers):
                await stack.worker(concurrency=slots, drain_s=0)
            yield Shared((await stack.front_end(**settings, max_viewers=max_viewers)).url, connection)


async def main(queued: int, viewers: int, workers: int, slots: int) -> None:
    """Attack, and print what it did."""
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(viewers + FILES_BESIDE_VIEWERS, most_files), most_files))
    with tempfile.TemporaryDirectory() as name, start_valkey(Path(name)) as server:
        folder, max_queue = Path(name), queued * 10 // 9 + 100
        async with open_shared(
            folder, redis_url=server.url, workers=workers, slots=slots, max_queue=max_queue, max_viewers=viewers
        ) as shared:
            await shared.first_token_s(times=3)
            usual = await shared.first_token_s(times=20)
            began = time.monotonic()
            accepted = await shared.flood(queued)
            print(f"{len(accepted)} generations of tenant a queued in {time.monotonic() - began:.1f} s")
            async with shared.every_place(accepted[-1]) as places:
                flooded = await shared.first_token_s(times=20)
                print(f"{len(places)} of {viewers} viewers' places held by tenant a, {places.refused} requests refused")
            for label, took in (("usual", usual), ("beside the flood", flooded)):
                print(
                    f"first token of tenant b, {label}: p50 {statistics.median(took) * 1000:.1f} ms, "
                    f"max {max(took) * 1000:.1f} ms"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.floods.queue_flood", description=__doc__)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--viewers", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=4)
    asyncio.run(main(**vars(parser.parse_args())))
