"""Connections that request a long stream and read nothing: how much memory the front-end needs for them.

    python -m tests.attacks.unread [--viewers 200] [--megabytes 7]

Every dialect, from its snapshot on and event by event, a WebSocket and a Durable Stream, each on a fresh front-end, on
our own runner and on stock uvicorn. The bound: HUB_BYTES in all, and half a megabyte for each connection.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Final

from tests.attacks.world import DIALECTS, Target, open_request, open_target, until_answered, write_feed
from tests.support.log.valkey import start_valkey

BYTES_PER_CONNECTION: Final = 2**19
HUB_BYTES: Final = 256 * 2**20
UNREAD_BYTES: Final = 4096
DELTA: Final = "x" * 1000
FEED: Final = "unread"


async def growth_bytes(target: Target, path: str, *, viewers: int) -> int:
    """How much the process grows by connections that request this and read nothing."""
    warm = open_request(target, "/v1/streams/unread?warm", receive_bytes=UNREAD_BYTES)
    await until_answered([warm])
    warm.close()
    before = await target.settled_memory_bytes()
    clients = [open_request(target, path, receive_bytes=UNREAD_BYTES) for _ in range(viewers)]
    try:
        await until_answered(clients)
        return await target.settled_memory_bytes() - before
    finally:
        for client in clients:
            client.close()


def paths(*, is_stock: bool) -> list[str]:
    """Everything that may be requested; the host's app on stock uvicorn serves no WebSocket."""
    replays = ("", "&replay=snapshot", "&replay=events")
    return [
        *(f"/v1/streams/{FEED}/events?dialect={dialect}{replay}" for dialect in DIALECTS for replay in replays),
        *(f"/v1/streams/{FEED}/ws?dialect=native{replay}" for replay in replays if not is_stock),
        f"/ds/{FEED}?offset=-1&live=sse",
    ]


async def main(viewers: int, megabytes: int) -> None:
    """Attack, and print what it did."""
    bound = min(HUB_BYTES, viewers * BYTES_PER_CONNECTION)
    print(f"{viewers} connections, {megabytes} MB unread each; bound {bound / 2**20:.0f} MB")
    with tempfile.TemporaryDirectory() as folder, start_valkey(Path(folder)) as server:
        async with open_target(Path(folder), redis_url=server.url) as target:
            await write_feed(target, FEED, count=megabytes * 1000, delta=lambda _: DELTA)
        for is_stock in (False, True):
            for path in paths(is_stock=is_stock):
                async with open_target(Path(folder), redis_url=server.url, is_stock=is_stock) as target:
                    grown = await growth_bytes(target, path, viewers=viewers)
                verdict = "too much" if grown > bound else "ok"
                where = "stock uvicorn" if is_stock else "own runner"
                print(f"{where:14} {path:70} {grown / 2**20:7.1f} MB  {verdict}", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--viewers", type=int, default=200)
    arguments.add_argument("--megabytes", type=int, default=7)
    given = arguments.parse_args()
    asyncio.run(main(given.viewers, given.megabytes))
