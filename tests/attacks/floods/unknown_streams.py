"""Requests that wait for streams which are never created: what they cost a front-end, and what is left for others.

python -m tests.attacks.floods.unknown_streams [--requests 2000] [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from tests.attacks.measuring import costs, opened, port_of
from tests.support.log.valkey import start_valkey

WAIT_S = 60


async def attack(folder: Path, *, redis_url: str, requests: int, seconds: float, max_viewers: int) -> None:
    """Hold them, and print what that costs."""
    async with opened(folder, redis_url=redis_url, max_viewers=max_viewers) as (running, _):
        port = port_of(running)
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(requests)]
        for n, (_, writer) in enumerate(clients):
            writer.write(b"GET /v1/streams/none%d/events?wait_s=%d HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % (n, WAIT_S))
        await asyncio.sleep(5)  # until all have been read
        async with costs(running) as cost:
            await asyncio.sleep(seconds)
        answered = sum(bool(reader._buffer) for reader, _ in clients)  # type: ignore[attr-defined]
        share = 100 * cost.cpu_s / seconds
        print(
            f"MAX_VIEWERS={max_viewers}: {requests - answered} wait, {answered} were refused with a delay; "
            f"{share:.0f} % of a core; others waited {1000 * cost.wait_s:.0f} ms at most"
        )
        for _, writer in clients:
            writer.close()


async def main(requests: int, seconds: float) -> None:
    """Attack a front-end with few places, and one with many."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder)) as server:
        for max_viewers in (50, 10_000):
            await attack(
                Path(folder), redis_url=server.url, requests=requests, seconds=seconds, max_viewers=max_viewers
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    asyncio.run(main(given.requests, given.seconds))
