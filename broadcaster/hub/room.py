"""A room: one watched stream inside a hub, what is held of it, and who watches.

Rules
1. The feed tells a room the whole stream once, however many viewers come: the newest entries stay in the ring, all ids
   in the lineage. What fell out of the ring is read back in pages by those who need it.
2. A room decides nothing for a viewer but what voids its past: after ``rewound`` every viewer is told at once. All else
   a viewer finds out from where it stands: the next entry is in the ring, in a page, still to come, or gone.
3. However much is delivered within one turn of the loop, viewers are woken once.
4. Entries up to the floor are gone from the log. The ring may still hold some of them; they serve who is on the way.
5. A feed that breaks its promises (``StreamSink``) loses the room: its viewers are sent away, resumably, and the next
   one opens a new room. What the feed calls, returns before the room is closed: a feed need not be re-entrant.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.lineage import Lineage
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.dialects import Encoder
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.pages import PageAsker, Pages
from broadcaster.hub.ports import LogReader
from broadcaster.hub.resolve import Extent, Resolution, resolve
from broadcaster.hub.ring import Ledger, Ring, Segment
from broadcaster.hub.stop_reasons import StopReason

_STATUSES: Final = (
    (b'{"type":"finish"', "finished"),
    (b'{"type":"error"', "failed"),
    (b'{"type":"abort"', "aborted"),
)

log: Final = logging.getLogger(__name__)


class Watcher(PageAsker, Protocol):
    """A viewer, as its room sees it."""

    stop_reason: StopReason | None

    def rewind(self, keep: Cursor, reason: GapReason) -> None:
        """What was delivered after ``keep`` is void."""

    def check(self, now: float) -> None:
        """See whether a deadline has passed (``now`` on the loop's clock)."""

    def cut(self, reason: StopReason) -> None:
        """End at once, by tearing down the transport."""


class RoomOwner(Protocol):
    """The hub, as its rooms see it."""

    def room_grew(self) -> None:
        """The room holds more than before: see to the bound of all, but not within this call."""

    def room_failed(self, room: Room) -> None:
        """The room's feed cannot be believed any more: close the room, but not within this call."""

    def viewer_left(self, room: Room, reason: StopReason) -> None:
        """A viewer is gone from the room."""


class Room:
    """One watched stream; the ``StreamSink`` of its watch."""

    __slots__ = (
        "_event_bytes",
        "_events",
        "_lineage",
        "_owner",
        "_pages",
        "_ring",
        "_wake_up",
        "empty_since",
        "floor",
        "is_over",
        "last_seq",
        "ledger",
        "limits",
        "stall",
        "status",
        "stream_id",
        "viewers",
    )

    def __init__(
        self,
        stream_id: str,
        *,
        status: str = "queued",
        owner: RoomOwner,
        reader: LogReader,
        limits: HubLimits,
        ledger: Ledger,
        places: asyncio.Semaphore,
    ) -> None:
        self.stream_id = stream_id
        self.limits = limits
        self.ledger = ledger
        self.viewers: set[Watcher] = set()
        self.empty_since: float | None = None
        self.last_seq = 0
        self.floor: Gap | None = None
        self.stall: StallReason | None = None
        self.is_over = False
        self.status = status
        self._owner = owner
        self._event_bytes = 0  # of all entries ever delivered here
        self._events = 0
        self._lineage = Lineage()
        self._ring = Ring(ledger)
        self._pages = Pages(stream_id, lineage=self._lineage, reader=reader, ledger=ledger, places=places)
        self._wake_up: asyncio.Handle | None = None

    # -- what the feed tells

    def deliver(self, entries: Sequence[Entry]) -> None:
        """The next entries, dense."""
        for entry in entries:
            if entry.seq != self.last_seq + 1 or entry.epoch < self._lineage.last.epoch:
                self._fail(f"delivered {entry.cursor} after seq {self.last_seq}")
                return
            self._lineage.append(entry.cursor)
            self._ring.append(entry)
            self.last_seq = entry.seq
            self._event_bytes += len(entry.event)
        if entries:
            self._events += len(entries)
            self._look_at_end(entries[-1])
            self._keep_bounds()
            self._wake_soon()

    def gap(self, gap: Gap) -> None:
        """Entries up to ``gap.last_seq`` are gone; the ring keeps what it has for who is on the way (rule 4)."""
        if gap.last_seq < self.last_seq or gap.at.seq != gap.last_seq:
            self._fail(f"told a gap up to {gap.last_seq} at {gap.at} after seq {self.last_seq}")
            return
        self.floor = gap
        self.last_seq = gap.last_seq
        self.status = "running"
        self._lineage.keep_through(START)
        self._pages.keep_through(0)
        self._wake_soon()

    def rewound(self, keep: Cursor) -> None:
        """What was delivered after ``keep`` is void; who is past it is told, nobody else notices."""
        if keep != START and not self._lineage.contains(keep):
            self._fail(f"rewound to {keep}, which was not delivered")
            return
        if keep == START:
            self.floor = None
        self._lineage.keep_through(keep)
        self._ring.keep_through(keep.seq)
        self._pages.keep_through(keep.seq)
        self.last_seq = keep.seq
        self.is_over = False
        self.status = "running"
        reason = GapReason.RESET if keep == START else GapReason.REWOUND
        for viewer in self.viewers:
            viewer.rewind(keep, reason)
        self._wake_soon()

    def live(self) -> None:
        """All that the log held has been delivered."""
        self._wake_soon()

    def stalled(self, reason: StallReason | None) -> None:
        """Nothing new comes, or it moves again."""
        self.stall = reason
        self._wake_soon()

    # -- what a viewer asks

    def place(self, cursor: Cursor | None) -> Resolution:
        """Where a viewer with this cursor goes on."""
        return resolve(cursor, Extent(self._lineage, self.floor, self.is_over))

    def find(self, seq: int) -> Segment | None:
        """The segment that holds ``seq``, or the next one after it if ``seq`` is gone; None: not at hand."""
        if seq > self.last_seq:
            return None
        return self._ring.find(seq) or self._pages.find(seq)

    def chunk(self, segment: Segment, encoder: Encoder, *, after_seq: int) -> bytes:
        """The segment's frames after ``after_seq``, shared by all who stand there."""
        held = self.ledger.bytes
        chunk = segment.chunk(encoder, after_seq=after_seq)
        if self.ledger.bytes != held:
            self._keep_bounds()
        return chunk

    def gap_before(self, at: Cursor, *, first_seq: int) -> Gap:
        """The gap from ``first_seq`` up to ``at``."""
        is_floor = self.floor is not None and self.floor.at == at
        reason = self.floor.reason if self.floor is not None and is_floor else GapReason.TRIMMED
        return Gap(reason, at, first_seq, at.seq)

    def ask_page(self, asker: PageAsker, seq: int) -> None:
        """Have the page that holds ``seq`` read; the asker is told."""
        self._pages.ask(seq, asker, mean_bytes=self._event_bytes // max(1, self._events))

    def enter(self, viewer: Watcher) -> None:
        """A viewer comes."""
        self.viewers.add(viewer)
        self.empty_since = None

    def exit(self, viewer: Watcher) -> None:
        """A viewer goes. Going again does nothing."""
        if viewer in self.viewers:
            self.viewers.remove(viewer)
            self._owner.viewer_left(self, viewer.stop_reason or StopReason.CLIENT_GONE)

    # -- what the hub does

    def drop_oldest(self) -> bool:
        """Forget the oldest part of what is held; False: nothing was left."""
        self._pages.clear()
        if not len(self._ring):
            return False
        self._ring.drop_oldest()
        return True

    def close(self, reason: StopReason) -> list[asyncio.Task[None]]:
        """Send all viewers away and let go of everything. Answers cancelled reads, to be awaited."""
        for viewer in tuple(self.viewers):
            viewer.stop(reason)
        if self._wake_up is not None:
            self._wake_up.cancel()
        reads = self._pages.close()
        self._ring.clear()
        return reads

    def _fail(self, story: str) -> None:
        log.error("the feed of stream %s broke its promise: %s", self.stream_id, story)
        self._owner.room_failed(self)

    def _look_at_end(self, newest: Entry) -> None:
        self.is_over = newest.is_terminal
        self.status = "running"
        if self.is_over:
            self.status = next(status for prefix, status in _STATUSES if newest.event.startswith(prefix))

    def _keep_bounds(self) -> None:
        """Let go of what can be made again, then of the oldest; some more than needed, not to be back here at once."""
        limit = self.limits.room_bytes
        if self.ledger.bytes > limit:
            self._pages.clear()
            self._ring.forget_chunks()
            while self.ledger.bytes > limit - limit // 16 and len(self._ring) > 1:
                self._ring.drop_oldest()
        self._owner.room_grew()

    def _wake_soon(self) -> None:
        if self._wake_up is None:
            self._wake_up = asyncio.get_running_loop().call_soon(self._wake_all)

    def _wake_all(self) -> None:
        self._wake_up = None
        for viewer in self.viewers:
            viewer.wake()
