"""What a feed may be told (times, bounds) and what it counts."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FeedTimes:
    """Durations in seconds.

    The defaults keep the promised bounds (design §2): a lost last push is found by the next tail check (≤ 3.5 s, and
    ``fresh_s`` when the push before it came that shortly before a check) and read, which makes < 5 s; a dead worker is
    told after its lease (≤ 5 s), a tail check (≤ 3.5 s) and one more look (``stall_notice_s``), which makes < 10 s.
    """

    connect_s: float = 5.0  # dial, AUTH and the first subscription of a connection, together
    read_s: float = 5.0  # one page of the log, or one batch of tails
    backoff_first_s: float = 0.05
    backoff_cap_s: float = 2.0
    probe_every_s: float = 2.0
    probe_s: float = 2.0  # a probe that takes longer to come back ends its connection
    tail_check_min_s: float = 2.0
    tail_check_max_s: float = 3.5
    fresh_s: float = 0.5  # a stream that moved so shortly before a tail check is left out of it
    tail_patience_s: float = 0.5  # a node that takes longer over its tails keeps those of others waiting no more
    push_grace_s: float = 0.1  # the log is ahead: a push under way has this long before the log is read instead
    silence_s: float = 3.0  # no success with the log for this long is told as log_unavailable
    stall_notice_s: float = 1.0  # a lease must be seen missing for this long before it is told as worker_lost
    lapse_look_s: float = 0.5  # leases of feeds are looked at when they lapse, though not more often than this

    def backoff_s(self, failures: int, rng: random.Random) -> float:
        """How long to wait after the n-th failure in a row: doubled each time, capped, jittered to half at least."""
        full = min(self.backoff_cap_s, self.backoff_first_s * 2.0 ** min(failures - 1, 16))
        return full * rng.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """Bounds; beyond each of them the feed reads the log instead of keeping more in memory."""

    page: int = 1000  # entries of one read, at least 2: the first is the last one that was delivered
    reads: int = 16  # reads at once, over all streams: after a reconnect every stream is read again
    tails: int = 500  # streams of one tail request
    parked_entries: int = 4096  # per stream, while its log is read
    parked_bytes: int = 2**20  # per stream, while its log is read
    reply_bytes: int = 16 * 2**20  # a longer unfinished reply of Redis ends its connection


@dataclass(slots=True)
class FeedStats:
    """Counters since the feed began, and two gauges; read by metrics."""

    pushes: int = 0  # messages on watched channels
    unreadable: int = 0  # of them, those whose head made no sense
    entries: int = 0  # handed to rooms, from pushes and reads
    dropped: int = 0  # pushes that held nothing new (known already, or of a fenced writer)
    holes: int = 0  # pushes or tail checks that found entries missing
    forks: int = 0  # rewinds told
    gaps: int = 0  # trimmed ranges told
    repairs: int = 0  # times a stream was read from the log, the first time included
    read_failures: int = 0  # reads and tail requests without an answer
    crashes: int = 0  # repairs or pushes that ended in an unexpected error
    connects: int = 0  # connections that came up
    reconnects: int = 0  # of them, those that replaced another
    probe_failures: int = 0  # probes that did not come back
    stalls: int = 0  # stalls told
    lapses: int = 0  # streams ended here: feeds without a writer, generations that Redis has lost
    watched: int = 0  # streams watched now
    connected: int = 0  # node connections up now
