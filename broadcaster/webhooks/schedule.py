"""When the delivery of a webhook is retried, and when it is given up.

| the receiver responds with | then |
|---|---|
| 2xx | it is delivered |
| 408, 409, 425, 429, 5xx, or nothing | retried, after the back-off or its ``Retry-After``, whichever is longer |
| 410, any other 4xx, a redirect, anything else | given up: the same call would end the same way |
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from broadcaster.core.backoff import BackOff

# 1, 4, 16, 64, 256 s, then every ten minutes: eight attempts span about 26 minutes, longer than a deployment takes.
BACK_OFF_MOST_S: Final = 600.0
_BACK_OFF: Final = BackOff(1.0, BACK_OFF_MOST_S, factor=4.0, least=0.75, most=1.25)
# How long all workers may be down without a webhook of a generation with a short retention losing its text.
WITHOUT_WORKERS_S: Final = 3600.0

_RETRIED: Final = frozenset({408, 409, 425, 429})


class DeliveryVerdict(Enum):
    """What follows from a response."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GIVE_UP = "give up"


def verdict_of(status: int) -> DeliveryVerdict:
    """See the module's table."""
    if 200 <= status < 300:
        return DeliveryVerdict.DELIVERED
    return DeliveryVerdict.RETRY if status in _RETRIED or status >= 500 else DeliveryVerdict.GIVE_UP


def back_off_s(attempt: int, *, luck: float, requested_s: float = 0.0) -> float:
    """Seconds between the failed ``attempt`` (from 1) and the next; ``luck`` is from 0 to 1."""
    return min(max(_BACK_OFF.pause_s(attempt, luck=luck), requested_s), BACK_OFF_MOST_S)


def longest_s(max_attempts: int, *, timeout_s: float) -> float:
    """How long after a generation's end its webhook may still be delivered: each response requests the longest wait."""
    return WITHOUT_WORKERS_S + max_attempts * (BACK_OFF_MOST_S + 2 * timeout_s)
