"""How late the driver's own loop is: what a hunt measures on a machine that is overloaded is the machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

EVERY_S: Final = 0.05
# A machine on which the loop is later than this is overloaded: no deadline of the system is judged there.
MOST_LAG_S: Final = 0.25


@dataclass
class Lag:
    """``turns``: when the loop was woken, and how late that was."""

    clock: Callable[[], float] = time.monotonic
    turns: list[tuple[float, float]] = field(default_factory=list)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self.clock() + EVERY_S
            await asyncio.sleep(EVERY_S)
            now = self.clock()
            self.turns.append((now, now - due))

    def longest(self, began: float, ended: float) -> float:
        """The longest lag of a turn that lay between these times, at least in part."""
        return max((late_s for at, late_s in self.turns if at >= began and at - late_s <= ended), default=0.0)

    def __str__(self) -> str:
        late = sorted(late_s for _, late_s in self.turns) or [0.0]
        return f"the driver's loop was late by {late[-1]:.2f} s at most, {late[len(late) * 99 // 100]:.3f} s at p99"
