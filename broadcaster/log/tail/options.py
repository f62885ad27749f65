"""The times and bounds of a live tail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broadcaster.core.backoff import BackOff

_BACK_OFF: Final = BackOff(first_s=0.05, cap_s=2.0)


@dataclass(frozen=True, slots=True)
class TailTimes:
    """Durations in seconds.

    The defaults keep the promised bounds (docs/faults.md, promise 5). A lost last push is found by the next tail check
    (≤ 3.5 s, and ``fresh_s`` when the push before it came that shortly before a check) and read: < 5 s. A dead worker
    is reported after its lease (≤ 5 s), a tail check (≤ 3.5 s) and one more check (``stall_notice_s``): < 10 s.
    """

    read_s: float = 5.0  # one page of the log, or one batch of tails
    backoff: BackOff = _BACK_OFF  # between reads that fail
    tail_check_min_s: float = 2.0
    tail_check_max_s: float = 3.5
    fresh_s: float = 0.5  # a stream that moved this shortly before a tail check is left out of it
    tail_patience_s: float = 0.5  # when the tails of a node take longer, the check of the other nodes goes ahead
    push_grace_s: float = 0.1  # the log is ahead: a push under way has this long before the log is read instead
    silence_s: float = 3.0  # without a success of the log for this long, log_unavailable is reported
    stall_notice_s: float = 1.0  # when a lease has been seen missing for this long, worker_lost is reported
    lapse_check_s: float = 0.5  # leases of feeds are checked when they lapse, though not more often than this


@dataclass(frozen=True, slots=True)
class TailLimits:
    """Bounds. Beyond each of them the tail reads the log instead of keeping more in memory."""

    page: int = 1000  # entries of one read, at least 2: the first is the last one that was delivered
    reads: int = 16  # reads at once, over all streams: after a reconnect every stream is reread
    tails: int = 500  # streams of one tail request
    parked_entries: int = 4096  # per stream, while its log is read
    parked_bytes: int = 2**20  # per stream, while its log is read
