"""How fast the machine is while a step runs: one that others share does the same work in half the time a second later.

A thread times one small loop again and again, in its own CPU time. A figure in microseconds is compared with a goal as
it would have been at the best speed of the run (``Table.at_best_speed``); ratios within a round need nothing of it.
"""

from __future__ import annotations

import statistics
import threading
import time
from typing import Final, Self

NAME: Final = "yardstick_us"
"""The value of a row that says how long the loop took while it was measured."""

_TURNS: Final = 20_000  # about half a millisecond: 1 % of a core
_EVERY_S: Final = 0.05
_US: Final = 1e6


class Yardstick:
    """``with`` it to have the machine watched."""

    def __init__(self) -> None:
        self._took_us: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="yardstick", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def loops(self) -> int:
        """How often the loop was timed since the last lap."""
        return len(self._took_us)

    def lap(self) -> float:
        """How long the loop took, in microseconds: the mean since the last lap, or of one loop made now."""
        took, self._took_us = self._took_us, []
        return statistics.fmean(took or [_time_loop()])

    def _watch(self) -> None:
        while not self._is_over.wait(_EVERY_S):
            self._took_us.append(_time_loop())


def _time_loop() -> float:
    begun = time.thread_time()
    for _ in range(_TURNS):
        pass
    return (time.thread_time() - begun) * _US
