"""When a webhook is tried again, and when no more.

| the receiver answers | then |
|---|---|
| 2xx | it has been told |
| 408, 409, 425, 429, 5xx, or not at all | again, after the back-off or its ``Retry-After``, whichever is longer |
| 410, any other 4xx, a redirect, anything else | given up: the same call would end the same way |
"""

from __future__ import annotations

from enum import Enum
from typing import Final

# 1, 4, 16, 64, 256 s, then every ten minutes: eight attempts span about 26 minutes, longer than a deployment takes.
BACK_OFF_FIRST_S: Final = 1.0
BACK_OFF_FACTOR: Final = 4.0
BACK_OFF_MOST_S: Final = 600.0
# Receivers that failed together must not be called together again.
JITTER: Final = 0.25
# How long a worker may be away before a short retention costs a webhook its text.
WITHOUT_WORKERS_S: Final = 3600.0

_AGAIN: Final = frozenset({408, 409, 425, 429})


class Verdict(Enum):
    """What an answer means."""

    DELIVERED = "delivered"
    AGAIN = "again"
    GIVE_UP = "give up"


def verdict_of(status: int) -> Verdict:
    """See the module's table."""
    if 200 <= status < 300:
        return Verdict.DELIVERED
    return Verdict.AGAIN if status in _AGAIN or status >= 500 else Verdict.GIVE_UP


def back_off_s(attempt: int, *, luck: float, asked_s: float = 0.0) -> float:
    """Seconds between the failed ``attempt`` (from 1) and the next; ``luck`` from 0 to 1, ``asked_s`` Retry-After."""
    # The exponent is bounded: a float overflows at 4**512.
    plain_s = BACK_OFF_FIRST_S * BACK_OFF_FACTOR ** min(attempt - 1, 16)
    jittered_s = min(plain_s, BACK_OFF_MOST_S) * (1 + JITTER * (2 * luck - 1))
    return min(max(jittered_s, asked_s), BACK_OFF_MOST_S)


def longest_s(max_attempts: int, *, timeout_s: float) -> float:
    """How long after its end a generation may still be told: the receiver asks for the longest wait each time."""
    return WITHOUT_WORKERS_S + max_attempts * (BACK_OFF_MOST_S + 2 * timeout_s)
