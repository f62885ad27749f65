"""The lineage of a stream: every id it holds, in the space of a few numbers.

Seqs are dense, so all ids are known from the runs of equal epochs and the last seq: thousands of entries of one
attempt are a single run. A stream with several writers may begin a run per append: two numbers of 8 bytes each.

Rules
1. Ids are added in order: the next seq, with the same or a newer epoch. The very first may be any seq: the log may
   have been trimmed before it.
2. An id names its whole prefix: Redis refuses an epoch older than its last entry's, so the entries before
   ``<epoch>-<seq>`` are the same in every log that holds it. Two lineages therefore agree up to some seq, and
   nowhere after it.
3. It is bounded: beyond twice ``kept_runs`` runs only the newest ``kept_runs`` are kept. No log holds more entries with
   an epoch of their own (a feed's ``max_events`` is at most ``KEPT_RUNS``), so a dropped run was trimmed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

from broadcaster.core.cursor import START, Cursor

KEPT_RUNS: Final = 65_536
"""At most 2 MiB of a lineage's runs; a room and its tail have one each."""

NO_EPOCH: Final = -1
"""In place of the last epoch: no id is held. No entry has such an epoch."""

_UNSIGNED_64: Final = "Q"


class Lineage:
    """All ids of a stream (or of what was delivered of it), as runs of one epoch each.

    ``last_epoch`` and ``last_seq`` are the halves of the last id: ``NO_EPOCH`` and 0 when there is none. They are plain
    attributes for the hot path, which makes no Cursor.
    """

    __slots__ = ("_epochs", "_first_seqs", "_kept_runs", "last_epoch", "last_seq")

    def __init__(self, *, kept_runs: int = KEPT_RUNS) -> None:
        self._epochs = array(_UNSIGNED_64)
        self._first_seqs = array(_UNSIGNED_64)
        self._kept_runs = kept_runs
        self.last_epoch = NO_EPOCH
        self.last_seq = 0

    def __repr__(self) -> str:
        return f"Lineage(runs={self.runs}, last={self.last})"

    def __len__(self) -> int:
        """How many ids it holds."""
        return self.last_seq - self.first_seq + 1 if self._epochs else 0

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """(epoch, first seq) of each run, ascending."""
        return tuple(zip(self._epochs, self._first_seqs, strict=True))

    @property
    def first_seq(self) -> int:
        """Seq of the first id; 0 when there is none."""
        return self._first_seqs[0] if self._first_seqs else 0

    @property
    def last(self) -> Cursor:
        """The last id; START when there is none."""
        return Cursor(self.last_epoch, self.last_seq) if self._epochs else START

    def is_continued_by(self, epoch: int, first_seq: int) -> bool:
        """Whether this is the next id of the last epoch; for the hot path, without a Cursor."""
        return first_seq == self.last_seq + 1 and epoch == self.last_epoch

    def advance(self, epoch: int, seq: int) -> bool:
        """Add the next id of the last epoch; False: it is a different id, for ``append`` to judge."""
        if seq != self.last_seq + 1 or epoch != self.last_epoch:
            return False
        self.last_seq = seq
        return True

    def append(self, cursor: Cursor) -> None:
        """Add the next id. Raises ValueError as ``extend`` does."""
        self.extend(cursor, count=1)

    def extend(self, first: Cursor, *, count: int) -> None:
        """Add ``count`` ids of one epoch, beginning with ``first``.

        Raises ValueError when (1) count < 1, (2) the seq is not the next one, (3) the epoch is older than the last.
        """
        if count < 1:
            raise ValueError("nothing to add")
        if not self._epochs:
            self._begin_run(first)
        elif first.seq != self.last_seq + 1 or first.epoch < self._epochs[-1]:
            raise ValueError(f"{first} cannot follow {self.last}")
        elif first.epoch > self._epochs[-1]:
            self._begin_run(first)
        self.last_seq = first.seq + count - 1

    def epoch_at(self, seq: int) -> int:
        """The epoch of the entry with this seq. Raises KeyError when the lineage does not hold that seq."""
        if not self.first_seq <= seq <= self.last_seq or not self._epochs:
            raise KeyError(seq)
        return self._epochs[bisect_right(self._first_seqs, seq) - 1]

    def contains(self, cursor: Cursor) -> bool:
        """Whether exactly this id is held (START never is)."""
        if not self._epochs or not self.first_seq <= cursor.seq <= self.last_seq:
            return False
        return self.epoch_at(cursor.seq) == cursor.epoch

    def keep_through(self, cursor: Cursor) -> None:
        """Forget every id after ``cursor``; START forgets all. Raises ValueError for another cursor not held."""
        if cursor == START:
            del self._epochs[:], self._first_seqs[:]
            self.last_epoch, self.last_seq = NO_EPOCH, 0
            return
        if not self.contains(cursor):
            raise ValueError(f"{cursor} is not in the lineage")
        kept = bisect_right(self._first_seqs, cursor.seq)
        del self._epochs[kept:], self._first_seqs[kept:]
        self.last_epoch, self.last_seq = cursor

    def common_prefix(self, other: Lineage) -> Cursor:
        """The last id that both hold (rule 2: everything before it is the same); START when there is none.

        Where one of the two was trimmed, the ids that only the other holds prove nothing and are ignored.
        """
        for begin, end in reversed(self._spans()):
            epoch = self.epoch_at(begin)
            found = other._last_seq_of(epoch, begin, end)
            if found:
                return Cursor(epoch, found)
        return START

    def _begin_run(self, first: Cursor) -> None:
        self._epochs.append(first.epoch)
        self.last_epoch = first.epoch
        self._first_seqs.append(first.seq)
        if len(self._epochs) > 2 * self._kept_runs:
            del self._epochs[: -self._kept_runs], self._first_seqs[: -self._kept_runs]

    def _spans(self) -> list[tuple[int, int]]:
        ends = [seq - 1 for seq in self._first_seqs[1:]]
        return list(zip(self._first_seqs, [*ends, self.last_seq], strict=True)) if self._epochs else []

    def _last_seq_of(self, epoch: int, begin: int, end: int) -> int:
        """The highest seq of ``begin..end`` held under ``epoch``; 0 when there is none."""
        run = bisect_right(self._epochs, epoch) - 1
        if run < 0 or self._epochs[run] != epoch:
            return 0
        run_end = self._first_seqs[run + 1] - 1 if run + 1 < len(self._epochs) else self.last_seq
        last = min(end, run_end)
        return last if last >= max(begin, self._first_seqs[run]) else 0
