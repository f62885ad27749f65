"""Lifetimes: viewers whose response ends at a time that was known when they came.

Rules
1. One check of all for each tick of the hub; nothing runs for an event, and no viewer has a timer.
2. A viewer has one end. A second one that is earlier replaces the first.
3. A viewer whose end is announced receives the notice once, ``notice_s`` before its end, or at once if less is left.
   A credential that lives shortly is announced in the second half of its life: a new one is not announced at once.
4. Ends are on the loop's clock. When the wall clock has moved by ``STEP_S`` against it (a step, a machine that slept),
   the ends of credentials, which are times of the wall clock, are computed from it once more; none becomes later.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Protocol

from broadcaster.hub.stop_reasons import StopReason
from broadcaster.observability.limits import limit_reached

STEP_S: Final = 1.0


class TimedViewer(Protocol):
    """A viewer, as its lifetime sees it."""

    def announce_expiry(self, expires_s: float) -> None:
        """Report when the response will end (seconds since 1970)."""

    def stop(self, reason: StopReason) -> None:
        """End in good order."""


class Lifetime(NamedTuple):
    """When a response ends, on the loop's clock, and why. ``expires_s``: the time to announce; None: no notice.

    ``life_s``: how long the credential lives that ends it.
    """

    ends_at: float
    reason: StopReason
    expires_s: float | None = None
    life_s: float = math.inf


class Lifetimes:
    """Of all viewers of a hub that have one."""

    def __init__(self, *, notice_s: float) -> None:
        self._notice_s = notice_s
        self._of: dict[TimedViewer, Lifetime] = {}
        self._credentials: dict[TimedViewer, tuple[float, float]] = {}  # expires_s by the wall clock, life_s
        self._ahead_s = -math.inf  # the wall clock before the loop's, when the ends were computed
        self._due_at = math.inf  # nothing is due before

    def __len__(self) -> int:
        return len(self._of)

    def begin(self, viewer: TimedViewer, lifetime: Lifetime) -> None:
        """The viewer ends then, unless it ends earlier (rule 2). Call ``end`` when it has left."""
        if lifetime.expires_s is not None:
            self._credentials[viewer] = (lifetime.expires_s, lifetime.life_s)
        known = self._of.get(viewer)
        if known is None or lifetime.ends_at < known.ends_at:
            self._of[viewer] = lifetime
            self._due_at = min(self._due_at, self._next(lifetime))

    def end(self, viewer: TimedViewer) -> None:
        """The viewer has left."""
        self._of.pop(viewer, None)
        self._credentials.pop(viewer, None)

    def check(self, now: float, *, now_s: float) -> None:
        """Send the notices that are due, and stop the viewers whose time is over.

        ``now``: on the loop's clock; ``now_s``: on the wall clock.
        """
        if abs(now_s - now - self._ahead_s) >= STEP_S:
            self._compute_ends(now_s - now)
        if now < self._due_at:
            return
        for viewer, lifetime in tuple(self._of.items()):
            if now >= lifetime.ends_at:
                self.end(viewer)
                if lifetime.reason is StopReason.LIFETIME:
                    limit_reached("CONNECTION_LIFETIME_S")
                viewer.stop(lifetime.reason)
            elif now >= self._next(lifetime) and lifetime.expires_s is not None:
                self._of[viewer] = lifetime._replace(expires_s=None)
                viewer.announce_expiry(lifetime.expires_s)
        self._due_at = min(map(self._next, self._of.values()), default=math.inf)

    def _compute_ends(self, ahead_s: float) -> None:
        """Rule 4."""
        self._ahead_s = ahead_s
        for viewer, (expires_s, life_s) in self._credentials.items():
            known = self._of[viewer]
            is_announced = known.reason is StopReason.TOKEN_EXPIRED and known.expires_s is None
            announced_s = None if is_announced else expires_s
            self.begin(viewer, Lifetime(expires_s - ahead_s, StopReason.TOKEN_EXPIRED, announced_s, life_s))

    def _next(self, lifetime: Lifetime) -> float:
        """When there is something to do for it next."""
        is_announced = lifetime.expires_s is not None and self._notice_s > 0
        return lifetime.ends_at - (min(self._notice_s, lifetime.life_s / 2) if is_announced else 0.0)
