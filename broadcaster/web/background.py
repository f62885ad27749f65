"""What runs beside a front-end for as long as it lives: begun again when a defect ends it.

A front-end without its sweep, its probe or its topology goes on serving and is not what it seems. So whatever one of
them raises is logged and it is begun again, after a pause that grows while it keeps failing: a defect that is met at
every beginning costs a log line a minute, and one that is met once costs a second. What returns is done.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from broadcaster.logs import get_logger

_log = get_logger(__name__)

_MOST_DOUBLINGS: Final = 16

Begin: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long to wait before the next beginning, in seconds; who ran for longer than ``cap_s`` fails anew."""

    first_s: float = 1.0
    cap_s: float = 60.0

    def after(self, failures: int, rng: random.Random) -> float:
        """The pause after the n-th failure in a row: doubled each time, capped, jittered to half at least."""
        return min(self.cap_s, self.first_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)) * rng.uniform(0.5, 1.0)


@asynccontextmanager
async def kept_running(
    begins: Mapping[str, Begin], *, pauses: Pauses | None = None, rng: random.Random | None = None
) -> AsyncIterator[None]:
    """Run these, by their names, beside the block, and cancel them at its end."""
    pauses, rng = pauses or Pauses(), rng or random.Random()
    tasks = [asyncio.create_task(_keep_running(name, begin, pauses, rng=rng)) for name, begin in begins.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_running(name: str, begin: Begin, pauses: Pauses, *, rng: random.Random) -> None:
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        begun_at = loop.time()
        try:
            await begin()
            return
        except Exception as error:
            failures = 1 if loop.time() - begun_at > pauses.cap_s else failures + 1
            pause_s = pauses.after(failures, rng)
            _log.critical("front_end_task_failed", task=name, again_in_s=round(pause_s, 1), exc_info=error)
        await asyncio.sleep(pause_s)
