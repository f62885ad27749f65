"""A front-end that stands still while a caller watches an answer that is to be cancelled when it has no viewer.

    python -m tests.attacks.blocked_front_end [--seconds 120]

Our own front-end is stopped (SIGSTOP: no thread of it runs either); in a host's app with our router a route of the host
holds the loop. With the settings as they are by default, the answer must go on, reach its viewer, and end ``finish``.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx2

from broadcaster.core.events import Abort, encode_event
from broadcaster.log.streams.reader import Streams
from broadcaster.testing.conversation import Conversation
from broadcaster.testing.http1 import ClientGone
from tests.faults.world import FaultWorld, open_world
from tests.support.log.valkey import start_valkey
from tests.support.servers.processes import Running

SEEN_S = 20.0
TALK_EVERY_S = 5.0


async def last_event(world: FaultWorld, stream: str) -> bytes:
    """The newest event of the log."""
    entry = await Streams(world.connection).last(stream)
    return b"" if entry is None else entry.event


async def attack(folder: Path, *, seconds: float, is_mounted: bool) -> tuple[str, bool]:
    """How the answer ended, and whether its viewer got all of it."""
    with start_valkey(folder) as server:
        async with open_world(folder, redis=server) as world:
            await world.worker()
            await world.front_end()
            stream, provider = await world.converse(on_abandon="cancel")
            await provider.send_text("half an answer")
            await world.until_text(stream, "half an answer")
            running, prefix = await _front_end(world, is_mounted=is_mounted)
            viewer = asyncio.create_task(_watch(f"{running.url}{prefix}/v1/streams/{stream}/events", seconds))
            async with asyncio.timeout(SEEN_S):
                while await world.connection.redis.zcard(world.connection.keys.viewers(stream)) < 2:  # and the mark
                    await asyncio.sleep(0.05)
            talking = asyncio.create_task(_talk(provider))
            await _stand_still(running, seconds, is_mounted=is_mounted)
            talking.cancel()
            await asyncio.wait({talking})
            if await last_event(world, stream) != encode_event(Abort(reason="abandoned")):
                await provider.send_text("the rest")
                await provider.finish()
            async with asyncio.timeout(SEEN_S):
                seen = await viewer
            return (await last_event(world, stream)).decode(), "the rest" in seen and '"finish"' in seen


async def _talk(provider: Conversation) -> None:
    """A provider that is silent for a minute is given up, which is another story."""
    with suppress(ClientGone):
        while True:
            await asyncio.sleep(TALK_EVERY_S)
            await provider.send_text("word ")


async def _watch(url: str, seconds: float) -> str:
    """All that one connection brings."""
    async with httpx2.AsyncClient(timeout=seconds + 2 * SEEN_S) as client:
        return (await client.get(url)).text


async def _front_end(world: FaultWorld, *, is_mounted: bool) -> tuple[Running, str]:
    """The one that the viewer watches at, and the prefix of our paths there."""
    if not is_mounted:
        return await world.front_end(), ""
    running = await world.stack.start("uvicorn", "tests.attacks.host:app", "--port", "0")
    line = await running.logged("Uvicorn running on http")
    running.url = line.partition("running on ")[2].split()[0]
    return running, "/llm"


async def _stand_still(running: Running, seconds: float, *, is_mounted: bool) -> None:
    if is_mounted:
        async with httpx2.AsyncClient(base_url=running.url, timeout=seconds + SEEN_S) as client:
            await client.post("/stand-still", params={"seconds": seconds})
        return
    running.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        running.signal(signal.SIGCONT)


async def main(seconds: float) -> None:
    """Attack both, side by side, and print how the answers ended."""
    with tempfile.TemporaryDirectory(prefix="bc-") as own, tempfile.TemporaryDirectory(prefix="bc-") as mounted:
        began = time.monotonic()
        ends = await asyncio.gather(
            attack(Path(own), seconds=seconds, is_mounted=False),
            attack(Path(mounted), seconds=seconds, is_mounted=True),
        )
    for name, (end, is_whole) in zip(("our own front-end", "a mounted router"), ends, strict=True):
        print(f"{name}: stood still for {seconds:.0f} s; the viewer got all: {is_whole}; end: {end}")
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120)
    asyncio.run(main(parser.parse_args().seconds))
