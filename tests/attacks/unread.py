"""Connections that request a long stream and read nothing: how much memory the front-end needs for them.

    python -m tests.attacks.unread [--viewers 200] [--megabytes 7]

Every dialect, from its snapshot on and event by event, a WebSocket and a Durable Stream, each on a fresh front-end, on
our own runner and on stock uvicorn. The bound: HUB_BYTES in all, and half a megabyte for each connection. A server that
sends a snapshot over a WebSocket whole has MAX_JSON_BYTES on top.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import tempfile
from pathlib import Path
from typing import Final

from broadcaster.web.guards.json_ledger import MAX_JSON_BYTES
from tests.attacks.world import DIALECTS, Target, open_request, open_target, until_answered, write_feed
from tests.support.log.valkey import start_valkey

BYTES_PER_CONNECTION: Final = 2**19
HUB_BYTES: Final = 256 * 2**20
UNREAD_BYTES: Final = 4096
DELTA: Final = "x" * 1000
FEED: Final = "unread"
SERVED: Final = (b"HTTP/1.1 200", b"HTTP/1.1 101")


async def growth_bytes(target: Target, path: str, *, viewers: int, serves_all: bool = True) -> int:
    """How much the process grows by connections that request this and read nothing.

    Raises AssertionError if one of them was refused, unless some may be (``serves_all`` False).
    """
    warm = open_request(target, "/v1/streams/unread?warm", receive_bytes=UNREAD_BYTES)
    await until_answered([warm])
    warm.close()
    before = await target.settled_memory_bytes()
    clients = [open_request(target, path, receive_bytes=UNREAD_BYTES) for _ in range(viewers)]
    try:
        await until_answered(clients)
        refusals = {head for client in clients if (head := client.recv(12, socket.MSG_PEEK)) not in SERVED}
        if refusals and serves_all:
            raise AssertionError(f"{path} was refused: {refusals}")
        return await target.settled_memory_bytes() - before
    finally:
        for client in clients:
            client.close()


def paths(*, is_stock: bool) -> list[str]:
    """Everything that may be requested; a router serves no Durable Streams."""
    replays = ("", "&replay=snapshot", "&replay=events")
    return [
        *(f"/v1/streams/{FEED}/events?dialect={dialect}{replay}" for dialect in DIALECTS for replay in replays),
        *(f"/v1/streams/{FEED}/ws?dialect=native{replay}" for replay in replays),
        *([] if is_stock else [f"/ds/{FEED}?offset=-1&live=sse"]),
    ]


async def main(viewers: int, megabytes: int) -> None:
    """Attack, and print what it did."""
    print(f"{viewers} connections, {megabytes} MB unread each")
    with tempfile.TemporaryDirectory() as folder, start_valkey(Path(folder)) as server:
        async with open_target(Path(folder), redis_url=server.url) as target:
            await write_feed(target, FEED, count=megabytes * 1000, delta=lambda _: DELTA)
        for is_stock in (False, True):
            for path in paths(is_stock=is_stock):
                async with open_target(Path(folder), redis_url=server.url, is_stock=is_stock) as target:
                    grown = await growth_bytes(target, path, viewers=viewers)
                is_whole = is_stock and path.endswith("ws?dialect=native&replay=snapshot")
                bound = min(HUB_BYTES, viewers * BYTES_PER_CONNECTION) + is_whole * MAX_JSON_BYTES
                verdict = f"{'beyond' if grown > bound else 'within'} {bound / 2**20:.0f} MB"
                where = "stock uvicorn" if is_stock else "own runner"
                print(f"{where:14} {path:70} {grown / 2**20:7.1f} MB  {verdict}", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--viewers", type=int, default=200)
    arguments.add_argument("--megabytes", type=int, default=7)
    given = arguments.parse_args()
    asyncio.run(main(given.viewers, given.megabytes))
