"""What a feed tells a room besides entries: gaps and stalls, as immutable facts.

A gap is for ever and moves delivery on; a stall is for now and moves nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from broadcaster.core.cursor import Cursor


class GapReason(StrEnum):
    """Why the entries that a gap names cannot be delivered."""

    TRIMMED = "trimmed"  # the log no longer holds them: retention removed the oldest
    REWOUND = "rewound"  # the log lost its tail, or another attempt wrote other entries under the same seqs
    RESET = "reset"  # nothing of what was delivered is in the log: it was re-created from nothing
    EXPIRED = "expired"  # the whole log is gone, its meta lives


class Gap(NamedTuple):
    """Entries that will not be delivered (any more).

    ``at`` is the cursor that delivery continues from; it goes out as the SSE id, else a browser that reconnects
    would come back to the same gap for ever. ``first_seq`` to ``last_seq`` is the missing range, both included;
    0 to 0 when it is not known.
    """

    reason: GapReason
    at: Cursor
    first_seq: int
    last_seq: int

    @property
    def voids(self) -> bool:
        """Whether what a viewer received before is void; otherwise entries are missing and the rest stands."""
        return self.reason in (GapReason.REWOUND, GapReason.RESET)


class StallReason(StrEnum):
    """Why nothing new comes though the stream has not ended."""

    LOG_UNAVAILABLE = "log_unavailable"  # Redis does not answer; what it holds is delivered when it does
    WORKER_LOST = "worker_lost"  # no worker holds the lease; another takes over, or the stream ends honestly
    STREAM_LOST = "stream_lost"  # nothing is known of the feed any more; it goes on when a publisher creates it anew
