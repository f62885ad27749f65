"""What a room receives of its stream: entries, and notices of gaps and stalls, which are immutable facts.

A gap is permanent, and delivery continues behind it. A stall is temporary and moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry

W = TypeVar("W")


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
    0 to 0 when it is not known. ``since_epoch``: the stream was created under this epoch, so an older cursor is of
    another stream that had its id; 0: not known.
    """

    reason: GapReason
    at: Cursor
    first_seq: int
    last_seq: int
    since_epoch: int = 0

    @property
    def voids(self) -> bool:
        """Whether what a viewer received before is void; otherwise entries are missing and the rest stays valid."""
        return self.reason in (GapReason.REWOUND, GapReason.RESET)


class StallReason(StrEnum):
    """Why nothing new comes although the stream has not ended."""

    LOG_UNAVAILABLE = "log_unavailable"  # Redis does not answer; what it holds is delivered when it does
    WORKER_LOST = "worker_lost"  # no worker holds the lease; another takes over, or the stream ends with an error
    STREAM_LOST = "stream_lost"  # Redis no longer holds the feed; it continues when a publisher creates it anew


class FastPath(Protocol):
    """A stream's events on the shortest way, as its sink sees it (log/tail/fast_path.py).

    ``events``: what came since the path was opened, of the epoch ``epoch`` and up to the seq ``last_seq``;
    ``held_bytes`` as it came.
    ``flushed_at``: when the sink wrote last (loop time), set by the sink. ``is_due``: set when ``due`` is called.
    """

    epoch: int
    last_seq: int
    events: list[bytes]
    held_bytes: int
    flushed_at: float
    is_due: bool
    is_open: bool

    def open(self, writer: W, due: Callable[[W], None]) -> bool:
        """Open it if the source allows that; it calls ``due(writer)`` with the first event, and again after a flush.

        The sink sets ``is_due`` to False in each flush.
        """

    def close(self) -> None:
        """Close it; ``settle`` of the sink is called within this call. Nothing happens when it is closed."""


class StreamSink(Protocol):
    """Receives one stream. All calls come from the event loop and must not block; a sink may close its watch in a call.

    When a call other than ``stalled`` raises, everything that the sink has received is void: the watch sends the stream
    anew from its start, ``rewound(START)`` first. When ``stalled`` raises, nothing is void and nothing is repeated.
    """

    def deliver(self, entries: Sequence[Entry]) -> None:
        """The next entries, dense: they begin at ``seq + 1`` of the last one, of ``gap.last_seq`` or of ``keep``."""

    def follow(self, fast_path: FastPath) -> None:
        """Called once, before anything else: the sink may open this path, and must close it before it reads its state.

        It should open it only when it needs nothing from an event but to write it to sockets.
        """

    def settle(self, first: Cursor, events: Sequence[bytes]) -> None:
        """The fast path was closed. These events came by it, dense from ``first`` on and of one epoch; perhaps none."""

    def gap(self, gap: Gap) -> None:
        """Every entry up to ``gap.last_seq`` that was not delivered is gone for ever; delivery continues behind it."""

    def rewound(self, keep: Cursor) -> None:
        """What was delivered after ``keep`` is void (START: everything); delivery continues at ``keep.seq + 1``."""

    def live(self) -> None:
        """All that the log held when it was read has been delivered. Called again after each repair."""

    def stalled(self, reason: StallReason | None) -> None:
        """Why nothing new comes; None: entries come again."""
