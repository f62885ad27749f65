"""Viewers that wait until a replay has the frames they need (replay.py)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial

from broadcaster.hub.flusher import Turns
from broadcaster.hub.frames import Stretch
from broadcaster.hub.pages import PageReader
from broadcaster.hub.stop_reasons import StopReason


class WaitingViewers:
    """``at``: those that need what follows a seq, by that seq. ``late``: those that need the head at the end.

    ``unread``: stretches whose viewers were woken and have not had their turn.
    """

    __slots__ = ("_turns", "at", "late", "unread")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.at: dict[int, dict[PageReader, None]] = {}
        self.late: dict[PageReader, None] = {}
        self.unread: deque[Stretch] = deque()

    def __bool__(self) -> bool:
        return bool(self.at or self.late)

    def add(self, viewer: PageReader, seq: int) -> None:
        """The viewer needs what follows this seq."""
        self.at.setdefault(seq, {})[viewer] = None

    def wake(self, seqs: Iterable[int]) -> None:
        """What follows these seqs is there, or will never be: each viewer finds out at its next read."""
        for seq in seqs:
            self._wake(self.at.pop(seq))

    def wake_for(self, stretch: Stretch) -> None:
        """What follows each seq from the one before the stretch to the one before its last is there."""
        first_seq, last_seq = stretch.first_seq, stretch.last_seq
        if len(self.at) < last_seq - first_seq:
            seqs = [seq for seq in self.at if first_seq - 1 <= seq < last_seq]
        else:
            seqs = [seq for seq in range(first_seq - 1, last_seq) if seq in self.at]
        self.wake(seqs)
        if seqs:
            self.unread.append(stretch)
            # Behind the turns of these viewers: some wake a task then, which reads before the turn after it.
            self._turns.add(partial(self._turns.add, self._note_read))

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
        self.at.clear()
        self.late.clear()
        for viewer in waiting:
            viewer.stop(reason)

    def clear(self) -> None:
        """Forget all."""
        self.at.clear()
        self.late.clear()
        self.unread.clear()

    def _note_read(self) -> None:
        if self.unread:
            self.unread.popleft()

    def _wake(self, viewers: Iterable[PageReader]) -> None:
        for viewer in viewers:
            self._turns.add(viewer.wake)
