"""A room: one watched stream inside a hub, its recent entries, and its viewers.

Rules
1. The room receives the whole stream once, however many viewers enter: the newest entries stay in the ring, all ids in
   the lineage. A viewer that needs what fell out of the ring has it read back in pages.
2. A room decides nothing for a viewer but that its past is void: ``rewound`` reaches every viewer at once. Everything
   else a viewer derives from its position: the next entry is in the ring, in a page, still to come, or gone.
3. However much is delivered within one turn of the loop, viewers are woken once (flusher.py). Live viewers are not even
   woken: their group is written to (live/group.py). A notice goes to each viewer by itself, so it ends all groups.
4. Entries up to the floor are gone from the log. The ring may still hold some of them, for viewers on their way.
5. A tail that breaks the contract of ``StreamSink`` loses the room: its viewers are stopped, resumably, and the next
   viewer opens a new room. The tail's call returns before the room is closed: a tail need not be re-entrant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import TYPE_CHECKING

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import TERMINAL_PREFIXES
from broadcaster.core.notices import FastPath, Gap, GapReason, StallReason
from broadcaster.core.requests.stream_ids import public_id
from broadcaster.core.status import status_after
from broadcaster.dialects import Transcript
from broadcaster.hub.flusher import Turns
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.live.counts import HubCounts
from broadcaster.hub.live.fast_writer import FastWriter
from broadcaster.hub.live.group import LiveGroup, LiveWrites
from broadcaster.hub.pages import PageReader, Pages
from broadcaster.hub.ports import LogReader
from broadcaster.hub.replay.history import History
from broadcaster.hub.replay.replays import Replays
from broadcaster.hub.replay.resolve import Extent, ParkedCursor, Resolution, resolve
from broadcaster.hub.replay.sources import FrameSource
from broadcaster.hub.ring import Ledger, Segment, Unsent
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger

if TYPE_CHECKING:
    from broadcaster.hub.hub import Hub
    from broadcaster.hub.viewer import Viewer

_log = get_logger(__name__)


@dataclass(slots=True, eq=False, repr=False)
class Room:
    """One watched stream; the ``StreamSink`` of its watch."""

    stream_id: str
    _: KW_ONLY
    status: str = "queued"
    owner: Hub
    reader: InitVar[LogReader]
    limits: HubLimits
    ledger: Ledger
    unsent: Unsent
    turns: Turns
    counts: HubCounts
    places: InitVar[asyncio.Semaphore]
    public_id: str = field(init=False)
    viewers: dict[Viewer, None] = field(default_factory=dict, init=False)  # of thousands: a third of a set's memory
    behind: set[Viewer] = field(default_factory=set, init=False)  # all viewers but the live ones
    empty_since: float | None = field(default=None, init=False)
    floor: Gap | None = field(default=None, init=False)
    stall: StallReason | None = field(default=None, init=False)
    is_over: bool = field(default=False, init=False)
    replays: Replays = field(init=False)
    _reads: int = field(default=0, init=False)  # how often the log was read to its end
    _lost_at: float | None = field(default=None, init=False)  # since when Redis does not know this feed
    _is_due: bool = field(default=False, init=False)
    was_served: bool = field(default=False, init=False)  # a viewer has been given an entry
    _history: History = field(init=False)
    _fast_path: FastPath | None = field(default=None, init=False)
    _fast_writer: FastWriter | None = field(default=None, init=False)
    _pages: Pages = field(init=False)
    _live: dict[FrameSource, LiveGroup] = field(default_factory=dict, init=False)

    def __post_init__(self, reader: LogReader, places: asyncio.Semaphore) -> None:
        self.public_id = public_id(self.stream_id)
        self._history = History(self.ledger)
        self._pages = Pages(self.stream_id, history=self._history, reader=reader, ledger=self.ledger, places=places)
        self.replays = Replays(self)

    # -- called by the tail

    def follow(self, fast_path: FastPath) -> None:
        """See StreamSink."""
        self._fast_path = self._history.fast_path = fast_path
        self._fast_writer = FastWriter(fast_path, self._open_fast_path)

    def settle(self, first: Cursor, events: Sequence[bytes]) -> None:
        """See StreamSink."""
        writer = self._fast_writer
        if events:
            self._history.settle(first, events)
            if self.ledger.bytes > self.limits.room_bytes:
                self.keep_bounds()
        if writer is not None and not writer.settle(len(events)):
            self._wake_soon()

    def deliver(self, entries: Sequence[Entry]) -> None:
        """The next entries, dense."""
        wrong = self._history.append(entries)
        if wrong is not None:
            self._fail(f"delivered {wrong.cursor} after seq {self.last_seq}")
        elif entries:
            event = entries[-1].event
            self.is_over = event.startswith(TERMINAL_PREFIXES)
            self.status = status_after(event) if self.is_over else "running"
            if self.ledger.bytes > self.limits.room_bytes:
                self.keep_bounds()
            self._wake_soon()

    def gap(self, gap: Gap) -> None:
        """Entries up to ``gap.last_seq`` are gone; the ring keeps those it has (rule 4)."""
        if gap.last_seq < self.last_seq or gap.at.seq != gap.last_seq:
            self._fail(f"reported a gap up to {gap.last_seq} at {gap.at} after seq {self.last_seq}")
            return
        self._recall_live()
        self.counts.gaps[gap.reason] += 1
        self.floor = gap
        self.status = "running"
        self._history.skip_through(gap.last_seq)
        self._pages.keep_through(0)
        self._wake_soon()

    def rewound(self, keep: Cursor) -> None:
        """What was delivered after ``keep`` is void; only viewers past it receive a notice."""
        if keep != START and not self._history.lineage.contains(keep):
            self._fail(f"rewound to {keep}, which was not delivered")
            return
        self._recall_live()
        if keep == START:
            self.floor = None
        self._history.keep_through(keep)
        self._pages.keep_through(keep.seq)
        self.is_over = False
        self.status = "running"
        reason = GapReason.RESET if keep == START else GapReason.REWOUND
        self.counts.gaps[reason] += 1
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
            if reason is not None:
                self.counts.stalls[reason] += 1
        self.stall = reason
        self._lost_at = asyncio.get_running_loop().time() if reason is StallReason.STREAM_LOST else None
        self._wake_soon()

    # -- called by viewers

    @property
    def last_seq(self) -> int:
        """Seq of the newest entry."""
        return self._history.last_seq

    @property
    def epoch(self) -> int:
        """The epoch of the newest entry."""
        return self._history.lineage.last.epoch

    def place(self, cursor: Cursor | None) -> Resolution:
        """Where a viewer with this cursor continues."""
        return resolve(cursor, Extent(self._history.lineage, self.floor, self.is_over, pasts=self._history.pasts))

    def hold(self, cursor: Cursor) -> ParkedCursor:
        """Park this cursor, and have the log reread: another front-end may have received what this one has not."""
        self.owner.room_may_lag(self)
        return ParkedCursor(cursor, self._reads)

    def place_parked(self, parked: ParkedCursor) -> Resolution:
        """Where a viewer with a parked cursor continues."""
        was_read = self._reads > parked.reads
        history = self._history
        return resolve(parked.cursor, Extent(history.lineage, self.floor, self.is_over, was_read, history.pasts))

    def find(self, seq: int) -> Segment | None:
        """The segment that holds ``seq``, or the next one after it if ``seq`` is gone; None: not at hand."""
        if seq > self.last_seq:
            return None
        return self._history.ring.find(seq) or self._pages.find(seq)

    def find_or_request(self, reader: PageReader, seq: int) -> Segment | Gap | None:
        """The segment that holds ``seq``, or the gap in which it lies; None: a page must be read first."""
        page = reader.page
        if page is not None and seq <= page.last_seq:
            segment: Segment | None = page
        else:
            reader.page = None
            segment = self.find(seq)
        if segment is not None:
            return segment if segment.first_seq <= seq else self._gap_before(segment.before, first_seq=seq)
        if self.floor is not None and seq <= self.floor.last_seq:
            return self._gap_before(self.floor.at, first_seq=seq)
        if seq <= self.last_seq:
            self._pages.request(seq, reader, mean_bytes=self._history.mean_event_bytes)
        return None

    def chunk(self, segment: Segment, transcript: Transcript, *, after_seq: int, for_http: bool) -> bytes:
        """The segment's frames after ``after_seq`` in a stateless dialect, shared by all viewers at that place."""
        before_bytes = self.ledger.bytes
        chunk = segment.chunk(transcript, after_seq=after_seq, for_http=for_http)
        if self.ledger.bytes != before_bytes:
            self.keep_bounds()
        return chunk

    def enter(self, viewer: Viewer) -> None:
        """A viewer enters."""
        self.viewers[viewer] = None
        self.behind.add(viewer)
        self.unsent.viewers += 1
        self.empty_since = None

    def go_live(self, viewer: Viewer, fd: int, source: FrameSource, *, is_served: bool = True) -> LiveGroup | None:
        """Write to the socket of this viewer, which has pulled everything. None: not before the next flush."""
        group = self._live.get(source)
        if group is None or not group.members:
            if not source.reach_end(viewer):
                return None
            now = asyncio.get_running_loop().time()
            group = LiveGroup(source, self.last_seq, now=now, counts=self.counts, fast_path=self._fast_path)
            self._live = {**self._live, source: group}  # a new one: a flush may be going through the old one
        elif group.seq != self.last_seq:
            return None
        group.enter(fd, viewer, is_served=is_served)
        self.behind.discard(viewer)
        return group

    def exit(self, viewer: Viewer) -> None:
        """A viewer leaves. A second call does nothing."""
        if viewer in self.viewers:
            del self.viewers[viewer]
            self.unsent.viewers -= 1
            self.behind.discard(viewer)
            self.owner.viewer_left(self, viewer)

    def note_growth(self) -> None:
        """What the hub holds for this room's viewers has grown."""
        self.owner.room_grew()

    def keep_bounds(self) -> None:
        """Beyond ``room_bytes``, forget what can be made again, then the oldest, and a little more than needed."""
        limit = self.limits.room_bytes
        if self.ledger.bytes > limit:
            limit_reached("ROOM_BYTES")
            self._pages.clear()
            ring = self._history.ring
            ring.forget_chunks()
            while self.ledger.bytes > limit - limit // 16 and len(ring) > 1:
                ring.drop_oldest()
        self.owner.room_grew()

    # -- called by the hub

    def gather(self, writes: LiveWrites) -> bool:
        """Begin a flush: put what came since the last one into the writes. True: ``flush`` must follow them."""
        self._is_due = False
        if self._is_fast:  # opened since this room became due: it serves all viewers
            return False
        must_follow = self.is_over or bool(self.behind)
        for group in self._live.values():
            if group.members and not self._put_next(group, writes):
                must_follow = True
        self._open_fast_path()
        return must_follow

    def flush(self, now: float) -> None:
        """End it: more bytes for the live viewers, or their end, and a wake-up for the others."""
        for group in self._live.values():
            if group.members and (self.is_over or group.seq < self.last_seq):
                self._write_rest(group, LiveWrites(now))
        if self.behind:
            for viewer in tuple(self.behind):
                viewer.wake()

    def fail(self) -> None:
        """See Flushable: the room is closed, and its viewers resume."""
        self.owner.room_failed(self, StopReason.FEED_LOST)

    def beat(self, writes: LiveWrites) -> None:
        """Put the heartbeats that are due into the writes."""
        writer, heartbeat_s = self._fast_writer, self.limits.heartbeat_s
        if self._is_fast and writer is not None and not writer.is_quiet(writes.now, heartbeat_s=heartbeat_s):
            return
        for group in self._live.values():
            if group.members:
                group.beat(writes, heartbeat_s=heartbeat_s)

    def check(self, now: float) -> None:
        """Check the deadlines of viewers that are not live, and of a lost feed."""
        if self.behind:
            for viewer in tuple(self.behind):
                viewer.check(now)
        if self._lost_at is not None and now - self._lost_at >= self.limits.lost_feed_s:
            self.owner.room_failed(self, StopReason.LOG_GONE)

    def settle_counts(self) -> None:
        """Add to ``counts`` what live viewers were sent."""
        for group in self._live.values():
            group.settle()

    def shed(self) -> None:
        """Forget what can be made again."""
        self._pages.clear()
        self.replays.shed()
        self._live = {source: group for source, group in self._live.items() if group.members}

    def drop_oldest(self) -> bool:
        """Forget the oldest segment; False: there was none."""
        self._pages.clear()
        if not len(self._history.ring):
            return False
        self._history.ring.drop_oldest()
        return True

    def close(self, reason: StopReason) -> list[asyncio.Task[None]]:
        """Stop all viewers and release everything. Returns cancelled reads, to be awaited."""
        for viewer in tuple(self.viewers):
            viewer.stop(reason)
        reads = self._pages.close()
        self.replays.close()
        self._history.ring.clear()
        return reads

    def _fail(self, story: str) -> None:
        _log.error("tail_contract_broken", stream=self.stream_id, detail=story)
        self.owner.room_failed(self, StopReason.FEED_LOST)

    def _wake_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self.owner.flush_soon(self)

    @property
    def _is_fast(self) -> bool:
        """Whether the fast path is open."""
        return self._fast_path is not None and self._fast_path.is_open

    def _open_fast_path(self) -> None:
        """Open the fast path, anew if it is open, while all viewers are live and have everything."""
        path, writer = self._fast_path, self._fast_writer
        groups = [group for group in self._live.values() if group.members]
        if path is None or writer is None or self.behind or not groups:
            return
        path.close()
        last_seq = self.last_seq
        if all(group.seq == last_seq and not group.has_unserved for group in groups):
            writer.begin(groups)
            path.open(writer, self.owner.flush_soon)

    def _put_next(self, group: LiveGroup, writes: LiveWrites) -> bool:
        """Put the frames of the next segment into the writes. Returns whether they are the last."""
        seq, last_seq = group.seq, self.last_seq
        if seq < last_seq:
            segment = self._history.ring.find(seq + 1)
            if segment is None or segment.first_seq > seq + 1:
                return False
            chunk = group.source.read_live(segment, seq, is_kept=bool(self.behind))
            if chunk is None:
                return False  # each member reads the error of its attempt and ends
            frames, seq = chunk
            group.put(frames, through_seq=seq, writes=writes)
        return seq == last_seq

    def _write_rest(self, group: LiveGroup, writes: LiveWrites) -> None:
        before_seq = -1
        while before_seq != group.seq < self.last_seq and group.members:
            before_seq = group.seq
            self._put_next(group, writes)
            writes.write()
        if group.seq < self.last_seq or self.is_over:
            group.dissolve()

    def _gap_before(self, at: Cursor, *, first_seq: int) -> Gap:
        """The gap from ``first_seq`` up to ``at``."""
        reason = self.floor.reason if self.floor is not None and self.floor.at == at else GapReason.TRIMMED
        return Gap(reason, at, first_seq, at.seq)

    def _recall_live(self) -> None:
        for group in self._live.values():
            group.dissolve()
