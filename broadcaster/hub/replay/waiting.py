"""Viewers that wait until a replay has the frames they need (replay.py)."""

from __future__ import annotations

from collections.abc import Iterable

from broadcaster.hub.flusher import Turns
from broadcaster.hub.pages import PageReader
from broadcaster.hub.stop_reasons import StopReason


class WaitingViewers:
    """``at``: those that need what follows a seq, by that seq. ``late``: those that need the head at the end."""

    __slots__ = ("_turns", "at", "late")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.at: dict[int, dict[PageReader, None]] = {}
        self.late: dict[PageReader, None] = {}

    def __bool__(self) -> bool:
        return bool(self.at or self.late)

    def add(self, viewer: PageReader, seq: int) -> None:
        """The viewer needs what follows this seq."""
        self.at.setdefault(seq, {})[viewer] = None

    def wake(self, seqs: Iterable[int]) -> None:
        """What follows these seqs is there, or will never be: each viewer finds out at its next read."""
        for seq in seqs:
            self._wake(self.at.pop(seq))

    def wake_within(self, first_seq: int, last_seq: int) -> None:
        """What follows each seq from the one before ``first_seq`` to the one before ``last_seq`` is there."""
        if len(self.at) < last_seq - first_seq:
            seqs = [seq for seq in self.at if first_seq - 1 <= seq < last_seq]
        else:
            seqs = [seq for seq in range(first_seq - 1, last_seq) if seq in self.at]
        self.wake(seqs)

    def wake_late(self) -> None:
        """The head is at the end."""
        late, self.late = self.late, {}
        self._wake(late)

    def keep_through(self, seq: int) -> None:
        """Forget those that have entries after this one: the room stops them."""
        self.at = {at: viewers for at, viewers in self.at.items() if at <= seq}

    def stop(self, reason: StopReason) -> None:
        """Nothing will come for any of them."""
        waiting = [*self.late, *(viewer for viewers in self.at.values() for viewer in viewers)]
        self.clear()
        for viewer in waiting:
            viewer.stop(reason)

    def clear(self) -> None:
        """Forget all."""
        self.at.clear()
        self.late.clear()

    def _wake(self, viewers: Iterable[PageReader]) -> None:
        for viewer in viewers:
            self._turns.add(viewer.wake)
