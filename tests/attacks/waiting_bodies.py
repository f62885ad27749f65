"""Large request bodies whose calls wait, or that stop halfway: what a front-end holds, and how long others wait.

    python -m tests.attacks.waiting_bodies [--connections 200] [--mounted]

Each connection sends 4 MB: a call that waits for its answer, or one whose last byte never comes. No worker runs.
The bound: MAX_JSON_BYTES (256 MB) in all, and half a megabyte for each connection. Others wait for 250 ms at most.

A mounted router is served by the host's server, which receives such bodies for any route. So with --mounted the same
bodies are sent to two routes of the host as well, one that reads them and one that refuses them unread. Where one of
these makes others wait for longer than 250 ms, the bound is what it took, and 50 ms.
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
from tests.support.log.valkey import start_valkey

MAX_JSON_BYTES: Final = 256 * 2**20
BODY: Final = b'{"prompt": "%s"}' % (b"x" * (4 * 2**20 - 64))
HELD_S: Final = 10.0
GENERATIONS: Final = "/v1/generations?wait_s=60"
CONTROLS: Final = ("/control/read", "/control/refuse")
MOST_WAIT_S: Final = 0.25
CONTROL_MARGIN_S: Final = 0.05


async def attack(port: int, path: str, *, connections: int, is_whole: bool) -> Counter[str]:
    """Send the bodies and wait; how many connections got which status ("held": none within the time)."""
    outcomes = await asyncio.gather(*(_send(port, path, is_whole=is_whole) for _ in range(connections)))
    return Counter(outcomes)


async def _send(port: int, path: str, *, is_whole: bool) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
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
    """Whether the process used no more memory than it may."""
    return cost.grown_bytes < MAX_JSON_BYTES + connections * BYTES_PER_CONNECTION


async def main(connections: int, *, is_mounted: bool) -> None:
    """Attack, and print what it did."""
    with tempfile.TemporaryDirectory() as folder, start_valkey(Path(folder)) as server:
        for is_whole in (True, False):
            most_wait_s = MOST_WAIT_S
            for path in (*CONTROLS, GENERATIONS) if is_mounted else (GENERATIONS,):
                opening = opened(Path(folder), redis_url=server.url, is_mounted=is_mounted)
                async with opening as (running, prefix), costs(running) as cost:
                    path_there = path if path in CONTROLS else prefix + path
                    answers = await attack(port_of(running), path_there, connections=connections, is_whole=is_whole)
                if path in CONTROLS:
                    most_wait_s = max(most_wait_s, cost.wait_s + CONTROL_MARGIN_S)
                    verdict = "the host's own"
                else:
                    is_ok = is_within(cost, connections=connections) and cost.wait_s <= most_wait_s
                    verdict = f"{'ok' if is_ok else 'too much'} (bound {most_wait_s * 1000:.0f} ms)"
                print(
                    f"{'waiting' if is_whole else 'half sent':10} {path_there:30} +{cost.grown_bytes / 2**20:6.0f} MB  "
                    f"waited {cost.wait_s * 1000:.0f} ms  cpu {cost.cpu_s:.1f} s  {dict(answers)}  {verdict}",
                    flush=True,
                )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--connections", type=int, default=200)
    arguments.add_argument("--mounted", action="store_true")
    given = arguments.parse_args()
    asyncio.run(main(given.connections, is_mounted=given.mounted))
