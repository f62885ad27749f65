"""The hub's one timer: all deadlines of rooms and viewers are checked on its ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from broadcaster.hub.limits import HubLimits
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

# Deadlines are met within an eighth of the shortest of them; never worth more than twenty checks a second.
TICKS_PER_DEADLINE: Final = 8
SHORTEST_TICK_S: Final = 0.05
LONGEST_TICK_S: Final = 1.0
# The loop was blocked before a tick that is later than this.
LATE_TICK_S: Final = 0.5


class Ticks:
    """Calls ``tick`` once for each ``schedule``, with the loop's time and whether it is late.

    After a blocked loop the delay of sockets is our own: they get one tick to take their bytes.
    """

    def __init__(self, limits: HubLimits, tick: Callable[[float, bool], None]) -> None:
        shortest_s = min(limits.heartbeat_s, limits.lost_feed_s, limits.slow_viewer_s, limits.linger_s)
        self._every_s = min(LONGEST_TICK_S, max(SHORTEST_TICK_S, shortest_s / TICKS_PER_DEADLINE))
        self._tick = tick
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._was_late = False

    def schedule(self) -> None:
        """Have the next tick, if it is not scheduled yet."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._due = loop.time() + self._every_s
            self._timer = loop.call_at(self._due, self._run)

    def cancel(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _run(self) -> None:
        now = asyncio.get_running_loop().time()
        is_late = now - self._due > LATE_TICK_S and not self._was_late
        self._was_late = is_late
        self._timer = None
        try:
            self._tick(now, is_late)
        except Exception:  # without a next tick no viewer would have a heartbeat or a deadline any more
            _log.exception("tick_failed")
            self.schedule()
