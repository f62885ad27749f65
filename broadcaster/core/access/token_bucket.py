"""A token bucket: how often something may happen, with bursts of one second's worth."""

from __future__ import annotations


class TokenBucket:
    """``per_s`` tokens flow in each second, up to one second's worth (at least one). Times are seconds of any clock."""

    __slots__ = ("_at", "_most", "_per_s", "_tokens")

    def __init__(self, per_s: float, *, now: float) -> None:
        """Full at first."""
        self._per_s = per_s
        self._most = max(1.0, per_s)
        self._tokens = self._most
        self._at = now

    def take(self, count: int, *, now: float) -> float:
        """Take ``count`` tokens and return 0; if there are too few, take none and return the seconds until then.

        A count over the bucket's size is taken from a full bucket, and what is missing has to flow in before the next.
        """
        wait_s = self.wait_s(count, now=now)
        if not wait_s:
            self._tokens -= count
        return wait_s

    def put_back(self, count: int) -> None:
        """Return tokens that were taken for nothing."""
        self._tokens = min(self._most, self._tokens + count)

    def wait_s(self, count: int, *, now: float) -> float:
        """In how many seconds ``count`` tokens can be taken; 0: now."""
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self._per_s)
        self._at = now
        missing = min(float(count), self._most) - self._tokens
        return missing / self._per_s if missing > 1e-9 else 0.0
