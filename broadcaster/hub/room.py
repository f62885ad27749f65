"""A room: one watched stream inside a hub, what is held of it, and who watches.

Rules
1. The feed tells a room the whole stream once, however many viewers come: the newest entries stay in the ring, all ids
   in the lineage. What fell out of the ring is read back in pages by those who need it.
2. A room decides nothing for a viewer but what voids its past: after ``rewound`` every viewer is told at once. All else
   a viewer finds out from where it stands: the next entry is in the ring, in a page, still to come, or gone.
3. However much is delivered within one turn of the loop, viewers are woken once (flusher.py). Who is live is not even
   woken: its group is written to (live.py). Whatever is no entry is told to each by itself, so it makes all cursors.
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
from broadcaster.core.events import TERMINAL_PREFIXES
from broadcaster.core.lineage import Lineage
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.core.stream_ids import public_id
from broadcaster.dialects import Encoder
from broadcaster.hub.flusher import Turns
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.live import LiveGroup, Member
from broadcaster.hub.pages import PageAsker, Pages
from broadcaster.hub.ports import LogReader
from broadcaster.hub.replay import Replay
from broadcaster.hub.replays import Replays
from broadcaster.hub.resolve import Extent, Held, Resolution, resolve
from broadcaster.hub.ring import Ledger, Ring, Segment, Unsent
from broadcaster.hub.stop_reasons import StopReason

_STATUSES: Final = (
    (b'{"type":"finish"', "finished"),
    (b'{"type":"error"', "failed"),
    (b'{"type":"abort"', "aborted"),
)

log: Final = logging.getLogger(__name__)


def _status_after(terminal: bytes) -> str:
    return next(status for prefix, status in _STATUSES if terminal.startswith(prefix))


class Watcher(PageAsker, Member, Protocol):
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

    def room_is_due(self, room: Room) -> None:
        """Flush it soon, but not within this call."""

    def room_grew(self) -> None:
        """The room holds more than before, and is not due: see to the bound of all, but not within this call."""

    def room_may_lag(self, room: Room) -> None:
        """A viewer has seen entries that the room does not have: have the log read again, but not within this call."""

    def room_failed(self, room: Room, reason: StopReason) -> None:
        """The room's supply has failed for this reason: close the room, but not within this call."""

    def viewer_left(self, room: Room, viewer: Watcher) -> None:
        """The viewer is gone from the room."""


class Room:
    """One watched stream; the ``StreamSink`` of its watch."""

    __slots__ = (
        "_event_bytes",
        "_events",
        "_is_due",
        "_lineage",
        "_live",
        "_lost_at",
        "_owner",
        "_pages",
        "_reads",
        "_ring",
        "behind",
        "empty_since",
        "floor",
        "is_over",
        "last_seq",
        "ledger",
        "limits",
        "public_id",
        "replays",
        "stall",
        "status",
        "stream_id",
        "turns",
        "unsent",
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
        unsent: Unsent,
        turns: Turns,
        places: asyncio.Semaphore,
    ) -> None:
        self.stream_id = stream_id
        self.public_id = public_id(stream_id)
        self.limits = limits
        self.ledger = ledger
        self.unsent = unsent
        self.turns = turns
        self.viewers: set[Watcher] = set()
        self.behind: set[Watcher] = set()  # all viewers but the live ones
        self.empty_since: float | None = None
        self.last_seq = self._reads = 0  # the newest entry; how often the log was read to its end
        self.floor: Gap | None = None
        self.stall: StallReason | None = None
        self._lost_at: float | None = None  # Redis knows nothing of this feed
        self.is_over = self._is_due = False
        self.status, self._owner = status, owner
        self._event_bytes = self._events = 0  # of all entries ever delivered here
        self._lineage = Lineage()
        self._ring = Ring(ledger)
        self._pages = Pages(stream_id, lineage=self._lineage, reader=reader, ledger=ledger, places=places)
        self._live: dict[Encoder | Replay, LiveGroup] = {}
        self.replays = Replays(self)

    # -- what the feed tells

    def deliver(self, entries: Sequence[Entry]) -> None:
        """The next entries, dense."""
        lineage, ring = self._lineage, self._ring
        for entry in entries:
            epoch, seq, event = entry
            if not lineage.advance(epoch, seq):  # the first one, and another attempt's
                if seq != self.last_seq + 1 or epoch < lineage.last.epoch:
                    self._fail(f"delivered {entry.cursor} after seq {self.last_seq}")
                    return
                lineage.append(entry.cursor)
            ring.append(entry)
            self.last_seq = seq
            self._event_bytes += len(event)
        if entries:
            self._events += len(entries)
            self.is_over = event.startswith(TERMINAL_PREFIXES)
            self.status = _status_after(event) if self.is_over else "running"
            if self.ledger.bytes > self.limits.room_bytes:
                self._keep_bounds()
            if not self._is_due:
                self._is_due = True
                self._owner.room_is_due(self)

    def gap(self, gap: Gap) -> None:
        """Entries up to ``gap.last_seq`` are gone; the ring keeps what it has for who is on the way (rule 4)."""
        if gap.last_seq < self.last_seq or gap.at.seq != gap.last_seq:
            self._fail(f"told a gap up to {gap.last_seq} at {gap.at} after seq {self.last_seq}")
            return
        self._recall_live()
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
        self._recall_live()
        if keep == START:
            self.floor = None
        self._lineage.keep_through(keep)
        self._ring.keep_through(keep.seq)
        self._pages.keep_through(keep.seq)
        self.last_seq = keep.seq
        self.is_over = False
        self.status = "running"
        reason = GapReason.RESET if keep == START else GapReason.REWOUND
        self.replays.rewind(keep.seq)
        for viewer in tuple(self.viewers):
            viewer.rewind(keep, reason)
        self._wake_soon()

    def live(self) -> None:
        """All that the log held has been delivered."""
        self._reads += 1
        self._wake_soon()

    def stalled(self, reason: StallReason | None) -> None:
        """Nothing new comes, or it moves again."""
        if reason is not self.stall:
            self._recall_live()
        self.stall = reason
        self._lost_at = self._now() if reason is StallReason.STREAM_LOST else None
        self._wake_soon()

    # -- what a viewer asks

    @property
    def epoch(self) -> int:
        """The epoch of the newest entry."""
        return self._lineage.last.epoch

    def place(self, cursor: Cursor | None) -> Resolution:
        """Where a viewer with this cursor continues."""
        return resolve(cursor, Extent(self._lineage, self.floor, self.is_over))

    def hold(self, cursor: Cursor) -> Held:
        """Hold this viewer, and have the log read again: another front-end may have received what this one has not."""
        self._owner.room_may_lag(self)
        return Held(cursor, self._reads)

    def place_held(self, held: Held) -> Resolution:
        """Where a viewer that is held continues."""
        was_read = self._reads > held.reads
        return resolve(held.cursor, Extent(self._lineage, self.floor, self.is_over, was_read))

    def find(self, seq: int) -> Segment | None:
        """The segment that holds ``seq``, or the next one after it if ``seq`` is gone; None: not at hand."""
        if seq > self.last_seq:
            return None
        return self._ring.find(seq) or self._pages.find(seq)

    def chunk(self, segment: Segment, encoder: Encoder, *, after_seq: int, for_http: bool = False) -> bytes:
        """The segment's frames after ``after_seq``, shared by all who stand there."""
        held = self.ledger.bytes
        chunk = segment.chunk(encoder, after_seq=after_seq, for_http=for_http)
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
        self.behind.add(viewer)
        self.unsent.viewers += 1
        self.empty_since = None

    def go_live(self, viewer: Watcher, fd: int, source: Encoder | Replay) -> LiveGroup | None:
        """Write to this socket from here on: its viewer has pulled everything. None: not before the next flush."""
        group = self._live.get(source)
        if group is None or not group.members:
            if isinstance(source, Replay) and not source.reach_end(viewer):
                return None
            group = self._live[source] = LiveGroup(source, self.last_seq, now=self._now())
        elif group.seq != self.last_seq:
            return None
        group.enter(fd, viewer)
        self.behind.discard(viewer)
        return group

    def fall_behind(self, viewer: Watcher) -> None:
        """It is live no more."""
        self.behind.add(viewer)

    def exit(self, viewer: Watcher) -> None:
        """A viewer goes. Going again does nothing."""
        if viewer in self.viewers:
            self.viewers.remove(viewer)
            self.unsent.viewers -= 1
            self.behind.discard(viewer)
            self._owner.viewer_left(self, viewer)

    def note_growth(self) -> None:
        """What the hub holds for this room's viewers has grown."""
        self._owner.room_grew()

    def keep_bounds(self) -> None:
        """Let go of something if more is held than may be."""
        if self.ledger.bytes > self.limits.room_bytes:
            self._keep_bounds()

    # -- what the hub does

    def flush(self, now: float) -> None:
        """Give all viewers what came since the last time: bytes to the live ones, a wake-up to the others."""
        self._is_due = False
        for group in self._live.values():
            if group.members:
                self._write_live(group, now)
        if self.behind:
            for viewer in tuple(self.behind):
                viewer.wake()

    def check(self, now: float) -> None:
        """See to heartbeats and deadlines."""
        for group in self._live.values():
            if group.members:
                group.beat(now, heartbeat_s=self.limits.heartbeat_s)
        for viewer in tuple(self.behind):
            viewer.check(now)
        if self._lost_at is not None and now - self._lost_at >= self.limits.lost_feed_s:
            self._owner.room_failed(self, StopReason.LOG_GONE)

    def shed(self) -> None:
        """Forget what can be made again."""
        self._pages.clear()
        self.replays.shed()

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
        reads = self._pages.close()
        self.replays.close()
        self._ring.clear()
        return reads

    def _fail(self, story: str) -> None:
        log.error("the feed of stream %s broke its promise: %s", self.stream_id, story)
        self._owner.room_failed(self, StopReason.FEED_LOST)

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
        if not self._is_due:
            self._is_due = True
            self._owner.room_is_due(self)

    def _write_live(self, group: LiveGroup, now: float) -> None:
        while group.seq < self.last_seq and group.members:
            segment = self._ring.find(group.seq + 1)
            if segment is None or segment.first_seq > group.seq + 1:
                break
            through_seq, source = segment.last_seq, group.source
            if isinstance(source, Replay):
                stretch = source.read_live(group.seq, is_kept=bool(self.behind))
                if stretch is None or stretch.breaks_off:
                    break  # each member reads its error and ends
                through_seq, chunk = stretch.last_seq, stretch.http_after(group.seq)
                if not chunk:
                    group.seq = through_seq
                    continue
            elif self.behind or len(self._live) > 1:  # others may come to stand where this group stands
                chunk = self.chunk(segment, source, after_seq=group.seq, for_http=True)
            else:
                chunk = segment.passing_chunk(source, after_seq=group.seq)
            group.write(chunk, through_seq=through_seq, now=now)
        if group.seq < self.last_seq or self.is_over:
            group.dissolve()

    def _recall_live(self) -> None:
        for group in self._live.values():
            group.dissolve()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
