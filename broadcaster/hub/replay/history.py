"""What a room knows of its stream: all ids (the lineage) and the newest entries (the ring).

While the stream's fast path is open, the newest events are there. Whatever is asked of a history closes the path first,
so no reader can see a history that lacks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.lineage import Lineage
from broadcaster.core.notices import FastPath
from broadcaster.hub.ring import Ledger, Ring

# So many lineages from before gaps are kept: a room seldom has one, and it may cost 2 MiB.
KEPT_PASTS: Final = 4


class History:
    """See the module's text. ``fast_path``: None until the room has one. ``pasts``: the ids before gaps, in order."""

    __slots__ = ("_event_bytes", "_events", "_last_seq", "_lineage", "_ring", "fast_path", "pasts")

    def __init__(self, ledger: Ledger) -> None:
        self.fast_path: FastPath | None = None
        self.pasts: tuple[Lineage, ...] = ()
        self._lineage = Lineage()
        self._ring = Ring(ledger)
        self._last_seq = 0
        self._events = 0  # all that ever came, also those that are not held any more
        self._event_bytes = 0

    @property
    def lineage(self) -> Lineage:
        """All ids behind the last gap."""
        self._catch_up()
        return self._lineage

    @property
    def ring(self) -> Ring:
        """The newest entries."""
        self._catch_up()
        return self._ring

    @property
    def last_seq(self) -> int:
        """Seq of the newest entry, or of the last one that is known to be gone."""
        self._catch_up()
        return self._last_seq

    @property
    def mean_event_bytes(self) -> int:
        """Of all events that came."""
        self._catch_up()
        return self._event_bytes // max(1, self._events)

    def append(self, entries: Sequence[Entry]) -> Entry | None:
        """Take the next entries. Returns the first that does not follow: neither it nor what is behind it is taken."""
        self._catch_up()
        lineage, ring = self._lineage, self._ring
        for entry in entries:
            epoch, seq, event = entry
            if not lineage.advance(epoch, seq):  # the first one, and another attempt's
                if seq != self._last_seq + 1 or epoch < lineage.last.epoch:
                    return entry
                lineage.append(entry.cursor)
            ring.append(entry)
            self._last_seq = seq
            self._event_bytes += len(event)
        self._events += len(entries)
        return None

    def settle(self, first: Cursor, events: Sequence[bytes]) -> None:
        """Take what came by the fast path: the next entries, of the last epoch."""
        self._lineage.extend(first, count=len(events))
        self._ring.extend(first, events)
        self._last_seq = self._lineage.last_seq
        self._events += len(events)
        self._event_bytes += sum(map(len, events))

    def skip_through(self, seq: int) -> None:
        """All entries up to this one are gone from the log. The ring keeps those it has."""
        if self.lineage:
            self.pasts = (*self.pasts, self.lineage)[-KEPT_PASTS:]
            self._lineage = Lineage()
        self._last_seq = seq

    def keep_through(self, cursor: Cursor) -> None:
        """Forget the entries after this one, which is held, or START."""
        self.lineage.keep_through(cursor)
        if cursor == START:
            self.pasts = ()
        self._ring.keep_through(cursor.seq)
        self._last_seq = cursor.seq

    def _catch_up(self) -> None:
        if self.fast_path is not None and self.fast_path.is_open:
            self.fast_path.close()
