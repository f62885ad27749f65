"""When to reconnect, and when to give up. Pure: the caller passes the time and the random number.

Rules
1. The first delay is the server's ``retry`` (or half a second), each further failure doubles it, up to ten seconds or
   the server's own delay if that is longer. Up to half of it is added at random: clients that fail together must not
   reconnect together.
2. Progress is an entry, a gap, or a byte on a connection that has held for a tenth of ``give_up_after_s``: the
   heartbeats of a long queue count, a server that accepts and closes each time does not.
3. Without progress for ``give_up_after_s`` the reader gives up; the last try happens at that moment, not before.
"""

from __future__ import annotations

from typing import Final

from broadcaster.core.backoff import BackOff

FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 10.0
JITTER: Final = 0.5
STEADY_SHARE: Final = 0.1


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
        """Bytes arrived: progress only if the connection has held (rule 2)."""
        if now - self._opened_at >= self._give_up_after_s * STEADY_SHARE:
            self.progressed(now)

    def progressed(self, now: float) -> None:
        """The reader moved on."""
        self._progress_at = now
        self._failures = 0

    def waited(self, caller_s: float) -> None:
        """The caller was busy with an event for so long, which does not count as time without progress."""
        self._progress_at += caller_s

    def next_delay(self, now: float, *, requested_s: float | None, dice: float) -> float | None:
        """Seconds until the next try after a connection ended, or None: give up. ``dice`` is in [0, 1)."""
        left_s = self._give_up_after_s - (now - self._progress_at)
        if left_s <= 0:
            return None
        base_s = FIRST_DELAY_S if requested_s is None else requested_s
        self._failures += 1
        back_off = BackOff(base_s, max(MAX_DELAY_S, base_s), least=1, most=1 + JITTER)
        return min(back_off.pause_s(self._failures, luck=dice), left_s)
