"""Viewers that come back at once to a long stream: what they cost the front-end, and how long its loop is blocked.

    python -m tests.attacks.resumes [--viewers 1000] [--events 50000] [--dialects ag-ui,native]

In every dialect, of a Response by the number of an event (``starting_after``), and of a Durable Stream: all at the end,
all at one place after the front-end was restarted, each at another place of the last tenth, and each at another place
of the whole. A client that gets ``/healthz`` all the while sees how long one turn of the loop is at most. It is
connected before the crowd comes: the front-end accepts one connection a turn, so a new client waits for those before
it, and not for one turn. The bound: 10 s of CPU in all, and 250 ms for a turn.
"""

from __future__ import annotations

import argparse
import asyncio
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from broadcaster.core.cursor import Cursor
from broadcaster.dialects.durable.offsets import format_offset
from tests.attacks.world import DEADLINE_S, DIALECTS, Target, open_target, write_feed, write_generation
from tests.support.log.valkey import start_valkey

CPU_BOUND_S: Final = 10.0
HOLD_BOUND_S: Final = 0.25
FEED: Final = "resumed"
BY_NUMBER: Final = "starting_after"
DURABLE: Final = "durable"
NUMBERS_BEFORE: Final = 4  # the events of a Response before its first delta
QUIET_S: Final = 1.0
QUIET_CPU_S: Final = 0.3  # a third of a core, for this long: it is at work still
_HEALTH: Final = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Cost(NamedTuple):
    """What a crowd of resuming viewers cost."""

    cpu_s: float
    longest_turn_s: float
    took_s: float
    received_bytes: int


class Watch(threading.Thread):
    """Gets ``/healthz`` repeatedly, on a connection that it has; ``longest_s`` is the longest response time."""

    def __init__(self, target: Target) -> None:
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self._is_over = threading.Event()
        self._client = socket.create_connection(target.address, timeout=DEADLINE_S)
        self._send()

    def run(self) -> None:
        """Until ``stop``."""
        with self._client:
            while not self._is_over.wait(0.02):
                sent_s = time.monotonic()
                self._send()
                self.longest_s = max(self.longest_s, time.monotonic() - sent_s)

    def _send(self) -> None:
        self._client.sendall(_HEALTH)
        assert self._client.recv(65536)

    def stop(self) -> float:
        """The longest answer."""
        self._is_over.set()
        self.join()
        return self.longest_s


def read_all(target: Target, paths: Sequence[str]) -> tuple[int, float]:
    """Resume by all these paths at once and read until nothing more comes; bytes, and when the last came."""
    selector, buffer, received = selectors.DefaultSelector(), bytearray(2**18), 0
    for path in paths:
        client = socket.create_connection(target.address)
        client.sendall(f"GET {target.prefix}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ)
    silent = {key.fd for key in selector.get_map().values()}
    last_s = busy_s = time.monotonic()
    cpu_s = target.cpu_s()
    while silent or time.monotonic() - busy_s < QUIET_S or target.cpu_s() - cpu_s > QUIET_CPU_S:
        if time.monotonic() - busy_s >= QUIET_S:
            busy_s, cpu_s = time.monotonic(), target.cpu_s()
        for key, _ in selector.select(0.1):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            received += connection.recv_into(buffer)
            silent.discard(key.fd)
            last_s = busy_s = time.monotonic()
    for key in list(selector.get_map().values()):
        selector.unregister(key.fileobj)
        key.fileobj.close()  # type: ignore[union-attr]
    selector.close()
    return received, last_s


async def cost_of(target: Target, paths: Sequence[str]) -> Cost:
    """The cost of viewers that resume by these paths, until everything was sent and it is quiet."""
    begun_s, cpu_s = time.monotonic(), target.cpu_s()
    watch = Watch(target)
    watch.start()
    received, last_s = await asyncio.to_thread(read_all, target, paths)
    return Cost(target.cpu_s() - cpu_s, watch.stop(), last_s - begun_s, received)


def delta_text(number: int) -> str:
    """The deltas."""
    return f"word {number} "


def path_of(dialect: str, place: int, *, ids: Sequence[str], response: str) -> str:
    """Where a viewer resumes after this delta."""
    if dialect == BY_NUMBER:
        return f"/v1/responses/{response}?stream=true&starting_after={place + NUMBERS_BEFORE}"
    if dialect == DURABLE:
        return f"/ds/{FEED}?live=sse&offset={format_offset(Cursor.parse(ids[place]))}"
    return f"/v1/streams/{FEED}/events?dialect={dialect}&after={ids[place]}"


async def main(viewers: int, events: int, dialects: Sequence[str]) -> None:
    """Attack, and print what it cost."""
    print(f"{viewers} viewers, {events} events; bounds {CPU_BOUND_S:.0f} s of CPU, {HOLD_BOUND_S * 1000:.0f} ms")
    with tempfile.TemporaryDirectory() as folder, start_valkey(Path(folder)) as server:
        async with open_target(Path(folder), redis_url=server.url) as target:
            ids = await write_feed(target, FEED, count=events, delta=delta_text)
            response = await write_generation(target, redis_url=server.url, count=events, delta=delta_text)
        crowds = {
            "at the end": [events - 1] * viewers,
            "at one place": [events * 9 // 10] * viewers,
            "in the last tenth": [events - 1 - at * events // 10 // viewers for at in range(viewers)],
            "everywhere": [events - 1 - at * events // viewers for at in range(viewers)],
        }
        for dialect in dialects:
            for name, places in crowds.items():
                paths = [path_of(dialect, place, ids=ids, response=response) for place in places]
                async with open_target(Path(folder), redis_url=server.url) as target:
                    cost = await cost_of(target, paths)
                is_kept = cost.cpu_s <= CPU_BOUND_S and cost.longest_turn_s <= HOLD_BOUND_S
                print(
                    f"{dialect:17} {name:18} {cost.cpu_s:6.2f} s CPU, turn {cost.longest_turn_s * 1000:5.0f} ms, "
                    f"{cost.took_s:5.1f} s, {cost.received_bytes / 2**20:7.1f} MB  {'ok' if is_kept else 'too much'}",
                    flush=True,
                )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--viewers", type=int, default=1000)
    arguments.add_argument("--events", type=int, default=50_000)
    arguments.add_argument("--dialects", default=",".join((*DIALECTS, BY_NUMBER, DURABLE)))
    given = arguments.parse_args()
    asyncio.run(main(given.viewers, given.events, given.dialects.split(",")))
