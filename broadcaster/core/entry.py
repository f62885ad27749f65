"""An entry: an event with its place in the log."""

from __future__ import annotations

from typing import NamedTuple

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import is_terminal


class Entry(NamedTuple):
    """One log entry: its id's two halves and the event's JSON bytes, untouched."""

    epoch: int
    seq: int
    event: bytes

    @property
    def cursor(self) -> Cursor:
        """The entry's id as a cursor: "seen up to and including this"."""
        return Cursor(self.epoch, self.seq)

    @property
    def is_terminal(self) -> bool:
        """Whether this entry ends its stream."""
        return is_terminal(self.event)
