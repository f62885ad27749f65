"""What a room receives of its stream: entries, and notices of gaps and stalls, which are immutable facts.

A gap is permanent, and delivery continues behind it. A stall is temporary and moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry


class GapReason(StrEnum):
    """Why the entries that a gap names cannot be delivered."""

    TRIMMED = "trimmed"  # the log no longer holds them: retention removed the oldest
    REWOUND = "rewound"  # the log lost its tail, or another attempt wrote other entries under the same seqs
    RESET = "reset"  # nothing of what was delivered is in the log: it was re-created from nothing
    EXPIRED = "expired"  # the whole log is gone, its meta lives


class Gap(NamedTuple):
    """Entries that will not be delivered (any more).

    ``at`` is the cursor that delivery continues from. It is sent as the SSE id; otherwise a browser that reconnects
    would meet the same gap each time. ``first_seq`` to ``last_seq`` is the missing range, both included;
    0 to 0 when it is not known.
    """

    reason: GapReason
    at: Cursor
    first_seq: int
    last_seq: int

    @property
    def voids(self) -> bool:
        """Whether what a viewer received before is void; otherwise entries are missing and the rest stays valid."""
        return self.reason in (GapReason.REWOUND, GapReason.RESET)


class StallReason(StrEnum):
    """Why nothing new comes although the stream has not ended."""

    LOG_UNAVAILABLE = "log_unavailable"  # Redis does not answer; what it holds is delivered when it does
    WORKER_LOST = "worker_lost"  # no worker holds the lease; another takes over, or the stream ends with an error
    STREAM_LOST = "stream_lost"  # Redis no longer holds the feed; it continues when a publisher creates it anew


class StreamSink(Protocol):
    """Receives one stream. All calls come from the event loop and must not block; a sink may close its watch in a call.

    When a call other than ``stalled`` raises, everything that the sink has received is void: the watch sends the stream
    anew from its start, ``rewound(START)`` first. When ``stalled`` raises, nothing is void and nothing is repeated.
    """

    def deliver(self, entries: Sequence[Entry]) -> None:
        """The next entries, dense: they begin at ``seq + 1`` of the last one, of ``gap.last_seq`` or of ``keep``."""

    def deliver_next(self, epoch: int, seq: int, event: bytes) -> None:
        """The next entry; it has the epoch of the one before it, and does not end the stream. The hot path."""

    def gap(self, gap: Gap) -> None:
        """Every entry up to ``gap.last_seq`` that was not delivered is gone for ever; delivery continues behind it."""

    def rewound(self, keep: Cursor) -> None:
        """What was delivered after ``keep`` is void (START: everything); delivery continues at ``keep.seq + 1``."""

    def live(self) -> None:
        """All that the log held when it was read has been delivered. Called again after each repair."""

    def stalled(self, reason: StallReason | None) -> None:
        """Why nothing new comes; None: entries come again."""
