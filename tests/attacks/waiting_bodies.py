"""Large request bodies that are waited with, or that stop halfway: how much a front-end holds of them.

    python -m tests.attacks.waiting_bodies [--connections 200] [--mounted]

Each connection sends 4 MB: a call that waits for its answer, or one whose last byte never comes. No worker runs.
The bound: MAX_JSON_BYTES (256 MB) in all, and half a megabyte for each connection.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.attacks.measuring import Cost, costs, opened, port_of
from tests.attacks.unread import BYTES_PER_CONNECTION
from tests.support.valkey import start_valkey

MAX_JSON_BYTES: Final = 256 * 2**20
BODY: Final = b'{"prompt": "%s"}' % (b"x" * (4 * 2**20 - 64))
HELD_S: Final = 10.0


async def attack(port: int, prefix: str, *, connections: int, is_whole: bool) -> Counter[str]:
    """Send the bodies and wait; how many connections got which status ("held": none within the time)."""
    outcomes = await asyncio.gather(*(_send(port, prefix, is_whole=is_whole) for _ in range(connections)))
    return Counter(outcomes)


async def _send(port: int, prefix: str, *, is_whole: bool) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {prefix}/v1/generations?wait_s=60 HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    try:
        async with asyncio.timeout(HELD_S):
            with suppress(ConnectionError):  # refused while it is sent
                writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(BODY))
                writer.write(BODY if is_whole else BODY[:-1])
                await writer.drain()
            line = await reader.readline()
            return line.split()[1].decode() if line else "closed"
    except TimeoutError:
        return "held"
    except ConnectionError:
        return "closed"
    finally:
        writer.transport.abort()


def is_within(cost: Cost, *, connections: int) -> bool:
    """Whether the process held no more than it may."""
    return cost.grown_bytes < MAX_JSON_BYTES + connections * BYTES_PER_CONNECTION


async def main(connections: int, *, is_mounted: bool) -> None:
    """Attack, and print what it did."""
    with tempfile.TemporaryDirectory() as folder, start_valkey(Path(folder)) as server:
        for is_whole in (True, False):
            opening = opened(Path(folder), redis_url=server.url, is_mounted=is_mounted)
            async with opening as (running, prefix), costs(running) as cost:
                answers = await attack(port_of(running), prefix, connections=connections, is_whole=is_whole)
            print(
                f"{'waiting' if is_whole else 'half sent':10} +{cost.grown_bytes / 2**20:6.0f} MB  "
                f"waited {cost.wait_s * 1000:.0f} ms  {dict(answers)}  "
                f"{'ok' if is_within(cost, connections=connections) else 'too much'}",
                flush=True,
            )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--connections", type=int, default=200)
    arguments.add_argument("--mounted", action="store_true")
    given = arguments.parse_args()
    asyncio.run(main(given.connections, is_mounted=given.mounted))
