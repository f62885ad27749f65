"""Connections that request a large JSON answer and read nothing: how much memory the front-end needs for them.

    python -m tests.attacks.unread_json [--connections 200] [--megabytes 7] [--mounted]

The bound: MAX_JSON_BYTES (256 MB) in all, and half a megabyte for each connection.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from tests.attacks.measuring import costs, opened
from tests.attacks.unread import BYTES_PER_CONNECTION, growth_bytes
from tests.attacks.world import Target, kilobyte, write_feed, write_generation
from tests.support.log.valkey import start_valkey

MAX_JSON_BYTES: Final = 256 * 2**20
SETTINGS: Final = {"queue_timeout_s": 1800}
FEED: Final = "unread"
MEGABYTE: Final = "x" * 1_040_000


def paths(id: str) -> list[str]:
    """What answers with the whole of it."""
    return [f"/v1/generations/{id}", f"/v1/responses/resp_{id}"]


def feed_paths(name: str, *, is_mounted: bool) -> list[str]:
    """What answers with the whole of a feed; a mounted router serves no Durable Streams."""
    return [f"/v1/streams/{name}?parts=true", *([] if is_mounted else [f"/ds/{name}?offset=-1"])]


async def _written_paths(target: Target, *, redis_url: str, megabytes: int, is_mounted: bool) -> list[str]:
    """Answers over a log of many small events, and over one of few events as large as MAX_EVENT_BYTES admits."""
    id = await write_generation(target, redis_url=redis_url, count=megabytes * 1000, delta=kilobyte)
    await write_feed(target, FEED, count=megabytes, delta=lambda _: MEGABYTE, at_once=1)
    return paths(id) + feed_paths(FEED, is_mounted=is_mounted)


async def main(connections: int, megabytes: int, *, is_mounted: bool) -> None:
    """Attack, and print what it did."""
    bound = MAX_JSON_BYTES + connections * BYTES_PER_CONNECTION
    with tempfile.TemporaryDirectory() as folder, start_valkey(Path(folder)) as server:
        opening = partial(opened, Path(folder), redis_url=server.url, is_mounted=is_mounted, **SETTINGS)
        async with opening() as (running, prefix):
            target = Target(running, running.url, prefix)
            written = await _written_paths(target, redis_url=server.url, megabytes=megabytes, is_mounted=is_mounted)
        for path in written:
            async with opening() as (running, prefix):
                target = Target(running, running.url, prefix)
                async with costs(running) as cost:
                    grown = await growth_bytes(target, path, viewers=connections, serves_all=False)
                print(
                    f"{path:60} +{grown / 2**20:6.0f} MB (bound {bound / 2**20:.0f})  "
                    f"waited {cost.wait_s * 1000:.0f} ms  cpu {cost.cpu_s:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--connections", type=int, default=200)
    arguments.add_argument("--megabytes", type=int, default=7)
    arguments.add_argument("--mounted", action="store_true")
    given = arguments.parse_args()
    asyncio.run(main(given.connections, given.megabytes, is_mounted=given.mounted))
