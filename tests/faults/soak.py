"""A long run of traffic and faults that a seed draws: ``make soak [SOAK_S=600] [SEED=…]``.

1. The seed fixes what happens and how long after the one before: each step is drawn whole, whatever the system does.
   The system's own timing is its own: the same seed brings the same faults, not the same history.
2. Processes are killed, frozen and ended as they come; one that is gone is started again at once. Redis keeps what it
   acknowledged (``appendfsync always``), so nothing that was acknowledged may be lost.
3. When the time is over nothing more is broken: every stream must end, every viewer must have its end, and the whole
   history is judged (history.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broadcaster.client import AsyncClient
from tests.faults.history import Got, History, Violation, check
from tests.faults.soak_deeds import CALL_S, LEASE_S, Soak
from tests.faults.world import open_world
from tests.support.valkey import start_valkey

SETTLE_S: Final = 60.0
SETTINGS: Final = {
    "lease_ttl_s": LEASE_S,
    "heartbeat_s": 1,
    "slow_viewer_s": 3,
    "stall_timeout_s": 20,
    "max_attempts": 20,
    "drain_s": 1,
    "feed_append_rate": 1000,
}


@dataclass
class Outcome:
    """What a soak did and found."""

    seed: int
    soak_s: float
    settled_s: float
    done: Counter[str]
    refused: Counter[str]
    history: History
    violations: list[Violation]

    def lines(self) -> list[str]:
        """For people."""
        viewers = self.history.viewers.values()
        told = sum(isinstance(each, Got) for trace in viewers for each in trace.happenings)
        return [
            f"seed {self.seed}: {self.soak_s:g} s, settled after {self.settled_s:.1f} s more",
            "done: " + ", ".join(f"{name} {count}" for name, count in sorted(self.done.items())),
            "refused: " + (", ".join(f"{name} {count}" for name, count in sorted(self.refused.items())) or "nothing"),
            f"{len(self.history.log)} streams, {sum(map(len, self.history.log.values()))} entries, "
            f"{sum(len(acked.events) for acked in self.history.acked)} acknowledged events, "
            f"{len(self.history.viewers)} viewers, {told} events received",
            *map(str, self.violations),
            f"violations: {len(self.violations)}",
        ]


async def soak(folder: Path, *, seed: int, soak_s: float) -> Outcome:
    """One run; the folder must be empty. Raises when something never ended, having said the seed."""
    rng = random.Random(seed)
    with start_valkey(folder, port=0, appendonly=True) as server:
        async with open_world(folder, redis=server, **SETTINGS) as world:
            workers = [await world.worker(), await world.worker()]
            front_ends = [await world.front_end(), await world.front_end()]
            async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
                clients = [await stack.enter_async_context(AsyncClient(url, timeout_s=CALL_S)) for url in world.urls]
                running = Soak(world, server, workers, front_ends, clients, tasks)
                await running.run(rng, soak_s)
                await running.until_done(SETTLE_S)
            began = time.monotonic()
            with contextlib.suppress(AssertionError):  # what has no end is found by the check
                await world.settle(SETTLE_S)
            with contextlib.suppress(AssertionError):
                await world.settle_unheard(SETTLE_S)
            settled_s = time.monotonic() - began
            recorded = await world.history()
            fed = [acked for each in running.feeds.values() for acked in each]
            history = History([*recorded.acked, *fed], recorded.viewers, recorded.log, trimmed=recorded.trimmed)
            unfinished = [
                Violation("one_terminal", viewer.stream, None, f"a viewer still watches after {viewer.entries[-1:]}")
                for viewer in running.watching()
            ]
            return Outcome(
                seed, soak_s, settled_s, running.done, running.refused, history, [*check(history), *unfinished]
            )


def main() -> None:
    """``SOAK_S`` and ``SEED`` say how long and which."""
    seed = int(os.environ.get("SEED") or secrets.randbelow(10**6))
    soak_s = float(os.environ.get("SOAK_S") or 600)
    print(f"soak: seed {seed}, {soak_s:g} s; again with: make soak SEED={seed} SOAK_S={soak_s:g}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="bc-soak-"))
    outcome = asyncio.run(soak(folder, seed=seed, soak_s=soak_s))
    print("\n".join(outcome.lines()))
    if outcome.violations:
        sys.exit(f"the processes' logs are in {folder}")


if __name__ == "__main__":
    main()
