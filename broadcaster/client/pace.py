"""When to try again, and when to give up. Pure: the time and the dice are the caller's.

Rules
1. The first delay is the server's ``retry`` (or half a second), each further failure doubles it, up to ten seconds or
   the server's own wish if that is longer. On top comes up to half of it by chance: clients that fail together must
   not come back together.
2. Progress is an entry, a gap, or a byte on a connection that has held for a tenth of ``give_up_after_s``: the
   heartbeats of a long queue count, a server that accepts and closes again and again does not.
3. Without progress for ``give_up_after_s`` it is over; the last try happens at that moment, not before.
"""

from __future__ import annotations

from typing import Final

FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 10.0
JITTER: Final = 0.5
SETTLED_SHARE: Final = 0.1


class Pace:
    """The delays of one reader; times are seconds of any monotonic clock."""

    def __init__(self, *, give_up_after_s: float, now: float) -> None:
        self._give_up_after_s = give_up_after_s
        self._progress_at = now
        self._opened_at = now
        self._failures = 0

    def connected(self, now: float) -> None:
        """A connection begins."""
        self._opened_at = now

    def received(self, now: float) -> None:
        """Bytes came: progress only if the connection has held."""
        if now - self._opened_at >= self._give_up_after_s * SETTLED_SHARE:
            self.progressed(now)

    def progressed(self, now: float) -> None:
        """The reader moved on."""
        self._progress_at = now
        self._failures = 0

    def next_delay(self, now: float, *, told_s: float | None, dice: float) -> float | None:
        """Seconds until the next try after a connection ended, or None: give up. ``dice`` is in [0, 1)."""
        left_s = self._give_up_after_s - (now - self._progress_at)
        if left_s <= 0:
            return None
        base_s = FIRST_DELAY_S if told_s is None else told_s
        # The exponent is bounded: 2.0 ** 1024 would overflow.
        delay_s = min(base_s * 2.0 ** min(self._failures, 32), max(MAX_DELAY_S, base_s))
        self._failures += 1
        return min(delay_s * (1 + JITTER * dice), left_s)
