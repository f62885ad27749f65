"""How late a killed worker's generations restart: ``python -m tests.faults.workers.take_overs [--generations
800]``.

All generations are of one tenant and of one worker. When that worker is killed, survivors with room for them have seen
Redis answer for one lease. The program prints the moments after the kill at which the log granted the next attempts
(an epoch is the time of its grant, on Redis's clock), and the moment at which the last one had written text.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broadcaster.core.entry import Entry
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.streams.reader import Streams
from broadcaster.testing import Script
from tests.faults.workers.worker_moments import LEASE_S, TAKE_OVER_S
from tests.faults.world import FaultWorld, PacedPieces, open_world
from tests.support.log.log_world import World
from tests.support.log.valkey import start_valkey

TENANT: Final = "acme"
MODEL: Final = "claude-held"
SHARE: Final = 0.9
"""The default of TENANT_SLOT_SHARE: a worker that runs so many of one tenant has more slots than that."""
MAX_BYTES: Final = 2**20
_BEGIN_S: Final = 120.0
_LATEST_S: Final = 120.0
_POLL_S: Final = 0.1
_CREATES_AT_ONCE: Final = 50


@dataclass(frozen=True)
class TakeOvers:
    """Seconds after the kill: when each next attempt was granted, in order, and when the last one had written text;
    and what the survivors computed meanwhile, which other work on the machine does not change."""

    granted_s: Sequence[float]
    answering_s: float
    computed_s: float

    @property
    def latest_s(self) -> float:
        """The last grant."""
        return self.granted_s[-1]

    def line(self) -> str:
        """For people."""
        middle = self.granted_s[len(self.granted_s) // 2]
        return (
            f"{len(self.granted_s)} generations, lease {LEASE_S:g} s: taken over after {self.granted_s[0]:.1f} s, "
            f"the median after {middle:.1f} s, the latest after {self.latest_s:.1f} s "
            f"(at most {LEASE_S + TAKE_OVER_S:g} s); all write again after {self.answering_s:.1f} s, "
            f"with {self.computed_s:.1f} s of CPU"
        )


async def take_overs(folder: Path, *, generations: int, survivors: int) -> TakeOvers:
    """One run; the folder must be empty. Raises TimeoutError when they do not begin."""
    with start_valkey(folder, port=0) as server:
        slots = int(generations / SHARE) + 1
        settings = {"max_bytes": MAX_BYTES, "buffer_bytes": slots * MAX_BYTES, "concurrency": slots}
        async with open_world(folder, redis=server, **settings) as world:
            world.scripted.script(MODEL, Script(PacedPieces(["some ", "words"], 10 * _LATEST_S)))
            victim = await world.worker()
            streams = await _create(world, generations)
            await _until(world, streams, attempt=1, deadline_s=_BEGIN_S)
            pids = [each.pid for each in await asyncio.gather(*(world.worker() for _ in range(survivors)))]
            await asyncio.sleep(LEASE_S + 1)  # until each has seen Redis answer for one lease
            killed_at, killed_ms, computed_s = time.monotonic(), await _now_ms(world), sum(map(_cpu_s, pids))
            await victim.kill()
            await _until(world, streams, attempt=2, deadline_s=_LATEST_S)
            answering_s, computed_s = time.monotonic() - killed_at, sum(map(_cpu_s, pids)) - computed_s
            granted = [
                next(each.epoch for each in await _entries(world, stream) if _begins(each)) for stream in streams
            ]
            await asyncio.gather(*(worker.kill() for worker in world.workers))
            return TakeOvers(sorted((epoch - killed_ms) / 1000 for epoch in granted), answering_s, computed_s)


async def _create(world: FaultWorld, count: int) -> list[str]:
    log, room = World(world.connection, max_queue=count + 1), asyncio.Semaphore(_CREATES_AT_ONCE)
    request = GenerationRequest(model=MODEL, request={"messages": [{"role": "user", "content": "hi"}]})

    async def create() -> str:
        async with room:
            return (await log.generations.create(request, tenant=TENANT)).id

    return list(await asyncio.gather(*(create() for _ in range(count))))


async def _until(world: FaultWorld, streams: Sequence[str], *, attempt: int, deadline_s: float) -> None:
    """Until each of them has written text under this attempt."""
    left = list(streams)
    async with asyncio.timeout(deadline_s):
        while left:
            left = [stream for stream in left if not await _has_text(world, stream, attempt)]
            await asyncio.sleep(_POLL_S)


async def _has_text(world: FaultWorld, stream: str, attempt: int) -> bool:
    entries = await _entries(world, stream)
    begun = 1 + sum(map(_begins, entries))
    return begun >= attempt and bool(entries) and b"text-delta" in entries[-1].event


async def _granted_ms(world: FaultWorld, stream: str) -> int:
    return next(entry.epoch for entry in await _entries(world, stream) if _begins(entry))


async def _entries(world: FaultWorld, stream: str) -> list[Entry]:
    return await Streams(world.connection).read(stream)


def _begins(entry: Entry) -> bool:
    return entry.event.startswith(b'{"type":"attempt"')


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _now_ms(world: FaultWorld) -> int:
    seconds, micros = await world.connection.redis.time()
    return int(seconds * 1000 + micros // 1000)


def main() -> None:
    """Print one line; the exit code is 1 when the latest take-over was later than a lease and three seconds."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.workers.take_overs")
    parser.add_argument("--generations", type=int, default=800)
    parser.add_argument("--survivors", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bc-take-overs-") as folder:
        found = asyncio.run(take_overs(Path(folder), generations=arguments.generations, survivors=arguments.survivors))
    print(found.line())
    if found.latest_s > LEASE_S + TAKE_OVER_S:
        sys.exit(1)


if __name__ == "__main__":
    main()
