"""How a topology is kept current: a look at once, then every few seconds, and whenever somebody suspects a change.

Rules
1. A suspicion that comes up during a look leads to another one: that look may have been too early.
2. Between two looks lies a pause: a storm of suspicions costs no more. After looks in vain nobody need suspect.
3. Whatever a look raises, the next one follows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broadcaster.errors import LogUnavailable
from broadcaster.logs import get_logger

_log = get_logger(__name__)

JITTER: Final = 0.3


@dataclass(frozen=True, slots=True)
class TopologyTimes:
    """Durations in seconds."""

    every_s: float = 3.0  # a change that nobody tells us of is found within this, jittered, and the look itself
    ask_s: float = 1.0  # one connection, or one answer, of one server
    pause_s: float = 0.1  # between two looks; when nobody answered the next is due after this, doubled each time
    pause_cap_s: float = 2.0

    def backoff_s(self, in_vain: int, rng: random.Random) -> float:
        """The pause after so many looks in vain."""
        return min(self.pause_cap_s, self.pause_s * 2.0 ** min(in_vain, 16)) * rng.uniform(1, 1 + JITTER)


class TopologyWatch:
    """The loop. ``look`` raises LogUnavailable, with the reasons, when nobody answered."""

    def __init__(self, look: Callable[[], Awaitable[None]], *, times: TopologyTimes, rng: random.Random) -> None:
        self._look = look
        self._times = times
        self._rng = rng
        self._suspected = asyncio.Event()

    def suspect(self) -> None:
        """Look again soon."""
        self._suspected.set()

    async def run(self) -> None:
        """Until cancelled."""
        in_vain = 0
        while True:
            self._suspected.clear()
            in_vain = 0 if await self._has_looked(in_vain) else in_vain + 1
            await asyncio.sleep(self._times.pause_s)
            await self._suspected_or_due(in_vain)

    async def _has_looked(self, in_vain: int) -> bool:
        try:
            await self._look()
        except LogUnavailable as error:
            if not in_vain:  # said once, not with every look
                _log.warning("topology_unknown", reasons=error.detail)
            return False
        except Exception as error:
            _log.error("topology_look_crashed", exc_info=error)
            return False
        return True

    async def _suspected_or_due(self, in_vain: int) -> None:
        times = self._times
        due_s = times.backoff_s(in_vain, self._rng) if in_vain else times.every_s * self._rng.uniform(1 - JITTER, 1)
        try:
            async with asyncio.timeout(due_s):
                await self._suspected.wait()
        except TimeoutError:
            return  # due


async def cancel_all(questions: Sequence[asyncio.Task[Any]]) -> None:
    """End what is still being asked, and let go of what it raised."""
    for question in questions:
        question.cancel()
    await asyncio.gather(*questions, return_exceptions=True)


class Changes:
    """Whom a topology tells that it has changed."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call it in the loop after each change."""
        self._callbacks.append(callback)

    def tell(self) -> None:
        """One that fails keeps nobody else from being told."""
        for callback in self._callbacks:
            try:
                callback()
            except Exception as error:
                _log.error("topology_change_not_taken", exc_info=error)
