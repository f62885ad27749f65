"""Forks of a transcript at intervals of its stream, from which a part of the stream can be encoded once more.

Rules
1. One fork is kept for every ``INTERVAL_ENTRIES`` entries. All forks share the text, so a fork costs a place in a list,
   or a small object, for each part of the answer.
2. When the forks cost more than ``max_bytes``, every second one is dropped and the interval doubles.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import Final, NamedTuple

from broadcaster.dialects import Transcript
from broadcaster.hub.ring import Ledger

INTERVAL_ENTRIES: Final = 1000
# What a fork costs: itself, and for each part. Measured: 0.6 to 3 KB, and 8 to 120 bytes.
FORK_BYTES: Final = 4096
PART_BYTES: Final = 128
# Nearly all events only add to a part that is there.
DELTAS: Final = (b'{"type":"text-delta"', b'{"type":"reasoning-delta"', b'{"type":"tool-input-delta"')

_seq: Final = attrgetter("seq")
_last_number: Final = attrgetter("transcript.last_number")


class Checkpoint(NamedTuple):
    """A transcript that has encoded everything up to ``seq``: it is forked, and encodes nothing itself.

    ``encoded_bytes`` is the size of its events, ``parts`` how many of them may have begun a part.
    """

    seq: int
    transcript: Transcript
    encoded_bytes: int = 0
    parts: int = 0

    @property
    def cost_bytes(self) -> int:
        """Rule 1."""
        return FORK_BYTES + PART_BYTES * self.parts


class NumberedPlace(NamedTuple):
    """The last event up to ``seq`` has this number, at most the requested one; ``newest`` is the highest."""

    seq: int
    number: int
    newest: int


class Checkpoints:
    """The checkpoints of one replay, by seq."""

    def __init__(self, *, ledger: Ledger, max_bytes: int) -> None:
        self._ledger = ledger
        self._max_bytes = max_bytes
        self._kept: list[Checkpoint] = []
        self._bytes = 0
        self._interval = INTERVAL_ENTRIES

    def is_due(self, seq: int) -> bool:
        """Whether the next one should be kept."""
        return seq - (self._kept[-1].seq if self._kept else 0) >= self._interval

    def add(self, checkpoint: Checkpoint) -> None:
        """Keep it; it lies behind all that are kept."""
        self._kept.append(checkpoint)
        self._count(checkpoint.cost_bytes)
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            self._interval *= 2
            dropped = self._kept[-2::-2]
            self._kept = self._kept[::-2][::-1]
            self._count(-sum(each.cost_bytes for each in dropped))

    def nearest(self, seq: int) -> Checkpoint | None:
        """The last one at or before ``seq``."""
        at = bisect_right(self._kept, seq, key=_seq)
        return self._kept[at - 1] if at else None

    def nearest_number(self, number: int) -> Checkpoint | None:
        """The last one before which no event has a higher number."""
        at = bisect_right(self._kept, number, key=_last_number)
        return self._kept[at - 1] if at else None

    def keep_through(self, seq: int) -> None:
        """Forget those after ``seq``."""
        while self._kept and self._kept[-1].seq > seq:
            self._count(-self._kept.pop().cost_bytes)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._interval = INTERVAL_ENTRIES
        self._count(-self._bytes)

    def _count(self, count: int) -> None:
        self._bytes += count
        self._ledger.add(count)
