"""The times and bounds of subscriber connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broadcaster.core.backoff import BackOff

_BACK_OFF: Final = BackOff(first_s=0.05, cap_s=2.0)


@dataclass(frozen=True, slots=True)
class SubscriberOptions:
    """Durations in seconds, sizes in bytes."""

    connect_s: float = 5.0  # dial, AUTH and the first subscription of a connection, together
    backoff: BackOff = _BACK_OFF  # between connections, and of channels that a node refuses
    probe_every_s: float = 2.0
    probe_s: float = 2.0  # a probe that takes longer to arrive ends its connection
    reply_bytes: int = 16 * 2**20  # a longer unfinished reply of Redis ends its connection
