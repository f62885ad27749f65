"""Where a viewer stands in its room's stream, and what it is sent next: the part of a viewer that knows no transport.

Rules
1. What comes next follows from the position: a notice that moves delivery (``hub.gap``) goes before the entries that it
   speaks of. Ids rise strictly, and nothing is left out without a gap that names it. A gap is sent when it is met, so
   the client of a slow viewer receives one gap and not its pieces.
2. In a stateless dialect every event from the cursor on is sent, and a rewind moves the position back.
3. In every other dialect a viewer without a cursor begins with a snapshot of the stream as it is now. So does a viewer
   whose cursor is void, but its client holds text: first comes the dialect's message that makes it drop that text.
   ``with_snapshot`` False: every event from the first that is left; ``begin_after``: every event with a higher number.
   Where the transcript here has not encoded entries that the client holds (the log was trimmed before the room was
   opened), some of these dialects cannot resume, and none can before a newer attempt (``Transcript.resumes``). The
   cursor then counts as void.
   A viewer whose cursor was trimmed may hold entries that the transcript here has encoded. Then the snapshot would
   repeat them: it continues from its cursor, and meets the gap on its way.
4. What was sent cannot be taken back in these dialects. When it becomes void, or entries are missing and the dialect
   cannot express that, the response ends with the dialect's error; the next request is served by rule 3, where the
   dialect can begin behind the gap. So does the response of a lost attempt, where the dialect ends it there
   (``Transcript.breaks_off``).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import NamedTuple

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.core.sse import http_chunk
from broadcaster.dialects import Dialect
from broadcaster.hub.frames import Outlet
from broadcaster.hub.ports import PushDriver
from broadcaster.hub.replay.replay import Replay
from broadcaster.hub.replay.resolve import Finished, Follow, Hold, ParkedCursor
from broadcaster.hub.replay.sources import FrameSource
from broadcaster.hub.ring import Segment, Unsent
from broadcaster.hub.room import Room
from broadcaster.hub.stop_reasons import StopReason


class _Resumed(NamedTuple):
    """The client holds what came before. It must be known first whether this replay has encoded that as well.

    ``gap``: the log has trimmed what follows, but this replay may have it.
    """

    replay: Replay
    gap: Gap | None = None


class _Late(NamedTuple):
    """This replay's snapshot comes first; before it, what makes the client drop what it holds, where that is void."""

    replay: Replay
    gap: Gap | None
    is_void: bool


@dataclass(slots=True, eq=False, repr=False)
class Position(Outlet):
    """See the module's rules. Frames are as the driver writes them."""

    _room: Room
    dialect: InitVar[Dialect]
    _: KW_ONLY
    begin: InitVar[Follow | Hold]
    with_snapshot: bool = True
    stop_reason: StopReason | None = field(default=None, init=False)
    ends_cleanly: bool = field(default=False, init=False)
    page: Segment | None = field(default=None, init=False)
    _source: FrameSource = field(init=False)
    _driver: PushDriver | None = field(default=None, init=False)  # writes to the socket itself; None: another driver
    _seq: int = field(default=0, init=False)
    _begin_seq: int = field(default=0, init=False)  # where it stood at its beginning
    # What comes before the next entries.
    _pending: ParkedCursor | Gap | _Resumed | _Late | None = field(default=None, init=False)
    _leaves_out: bool = field(default=False, init=False)  # the client has the next events up to ``_last_number``
    _last_number: int = field(default=-1, init=False)
    _hello_sent: bool = field(default=False, init=False)
    _live_sent: bool = field(default=False, init=False)
    _stall_sent: StallReason | None = field(default=None, init=False)

    def __post_init__(self, dialect: Dialect, begin: Follow | Hold) -> None:
        self._source = self._room.replays.of(dialect)
        self._source.users += 1
        self._begin(begin)

    @property
    def _unsent(self) -> Unsent:
        return self._room.unsent

    @abstractmethod
    def take_page(self, page: Segment) -> None:
        """The page that was requested."""

    @abstractmethod
    def wake(self) -> None:
        """There may be more to send."""

    @abstractmethod
    def stop(self, reason: StopReason) -> None:
        """Nothing more can be sent."""

    @property
    def resumes_anywhere(self) -> bool:
        """Whether another front-end continues exactly where this one stopped."""
        return self._source.replay is None

    def rewind(self, keep: Cursor, reason: GapReason) -> None:
        """Entries after ``keep`` are void: the next bytes name them, or the viewer stops (rules 2 and 4)."""
        if self.page is not None and self.page.last_seq > keep.seq:
            self.page = None
        if isinstance(self._pending, ParkedCursor | _Late):
            return
        if self._source.replay is None:
            self._move_back(keep, reason)
        elif self._seq > keep.seq or self._leaves_out:
            self.stop(StopReason.GAP)

    def _next_frames(self) -> bytes | memoryview:
        """The next notices or entries; ``b""``: none now, the viewer is woken when there may be some."""
        room = self._room
        frames: bytes | memoryview = b""
        if self._pending is not None or not self._live_sent or self._stall_sent is not room.stall:  # seldom
            frames = self._notices()
            if self._pending is not None:
                return frames or self._opening()
        while not frames and self._seq < room.last_seq:
            seq = self._seq
            frames = self._entries()
            if seq == self._seq or self.stop_reason is not None:  # a page must be read first, or the response ends here
                return frames
        if not frames and room.is_over:
            self._end(StopReason.TERMINAL)
        return frames

    def _is_live(self) -> bool:
        """Whether nothing is left to send but what the room receives next."""
        is_notified = self._live_sent and self._stall_sent is self._room.stall
        return is_notified and self._is_at_end() and self.stop_reason is None

    def _stand_at(self, seq: int) -> None:
        """The live group was sent everything up to ``seq``."""
        self._seq = seq
        self._last_number = self._source.last_number_at(seq)

    def _stand_after(self, number: int) -> int | None:
        """Begin behind the event with this number; returns the newest event's number.

        None: that event may still come. The viewer is woken when the stream moves, or stopped.
        """
        self._last_number = number
        replay = self._source.replay
        place = None if replay is None else replay.find_number(self, number)
        if place is None or (number > place.newest and not self._room.is_over):
            return None
        self._seq, self._pending, self._leaves_out = place.seq, None, place.number < number
        self._begin_seq = place.seq
        return place.newest

    def _farewell(self, reason: StopReason) -> bytes:
        """The block that ends a response before its stream ends; ``b""`` if the dialect has none."""
        retry_ms = self._room.limits.draw_retry_ms()
        bye = self._source.blank.bye
        return bye(reason.code, reconnect=reason.reconnect, retry_ms=retry_ms, last_number=self._last_number)

    @property
    def _for_http(self) -> bool:
        """Whether the driver writes HTTP chunks."""
        return self._driver is not None

    def _wire(self, block: bytes) -> bytes:
        """The block as the driver writes it."""
        return http_chunk(block) if block and self._for_http else block

    # -- on the way

    def _begin(self, begin: Follow | Hold | Finished) -> None:
        match begin:
            case Hold(cursor):
                if not isinstance(self._pending, ParkedCursor):
                    self._pending = self._room.hold(cursor)
            case Finished(terminal):
                self._seq, self._pending = terminal.seq, None
            case Follow(after, gap):
                self._follow(after, gap)
        self._begin_seq = self._seq

    def _follow(self, after: Cursor, gap: Gap | None) -> None:
        replay = self._source.replay
        is_cut = replay is not None and replay.begin_seq > 0  # it has no event of the beginning
        is_whole = not (self.with_snapshot or is_cut)
        if replay is not None and gap is not None and gap.first_seq == 1 and is_whole and not gap.voids:
            after, gap = START, None  # the replay meets it
        is_anew = after == START and not is_whole and self._room.last_seq > 0
        if replay is None:
            self._seq, self._pending = after.seq, gap
        elif gap is not None and gap.first_seq > 1 and not gap.voids:
            self._seq, self._pending = gap.first_seq - 1, _Resumed(replay, gap)
        elif gap is not None or is_anew:
            self._seq, self._pending = 0, _Late(replay, gap, is_void=gap is not None and gap.voids)
        else:
            self._seq, self._pending = after.seq, _Resumed(replay) if after.seq else None

    def _move_back(self, keep: Cursor, reason: GapReason) -> None:
        if self._seq <= keep.seq:
            return
        void, self._seq = self._seq, keep.seq
        unsent, self._pending = self._pending, None
        if isinstance(unsent, Gap) and unsent.reason in (GapReason.TRIMMED, GapReason.EXPIRED):
            # Neither those entries nor their gap was sent. If they are still gone, the gap is met once more.
            void = unsent.first_seq - 1
            self._seq = min(void, keep.seq)
        elif isinstance(unsent, Gap):
            void = max(void, unsent.last_seq)
        if void > keep.seq:
            self._pending = Gap(reason, keep, keep.seq + 1, void)

    def _notices(self) -> bytes:
        room, blank = self._room, self._source.blank
        if isinstance(self._pending, ParkedCursor):
            self._begin(room.place_parked(self._pending))
        pending = self._pending
        notices = []
        if not self._hello_sent:
            self._hello_sent = True
            notices.append(blank.hello(status=room.status, retry_ms=room.limits.draw_retry_ms()))
        if isinstance(pending, Gap):
            notices.append(blank.gap(pending) or b"")
            self._pending = None
        if self._stall_sent is not room.stall and not isinstance(pending, _Late):
            self._stall_sent = room.stall
            notices.append(blank.stalled(room.stall))
        if not self._live_sent and self._is_at_end() and room.stall is not StallReason.LOG_UNAVAILABLE:
            self._live_sent = True
            notices.append(blank.live())
        return self._wire(b"".join(notices))

    def _is_at_end(self) -> bool:
        return self._pending is None and self._seq == self._room.last_seq and not self._room.is_over

    def _opening(self) -> bytes | memoryview:
        """Rule 3; nothing while the cursor is held, or the replay is not there yet."""
        if isinstance(pending := self._pending, _Resumed):
            if not pending.replay.has_reached(self, self._seq):
                return b""
            is_void = pending.gap is None or not pending.replay.begins_behind(self._seq)
            gap = pending.replay.void_by(self._seq) if is_void else pending.gap
            if gap is None:
                self._pending = None
                return self._next_frames()
            self._seq = self._begin_seq = 0
            self._pending = _Late(pending.replay, gap, is_void=is_void)
        return self._snapshot()

    def _snapshot(self) -> bytes | memoryview:
        """Rule 3; nothing while the cursor is held."""
        if not isinstance(late := self._pending, _Late) or (snapshot := late.replay.snapshot(self)) is None:
            return b""
        gap, transcript = late.gap, late.replay.transcript
        if gap is not None and (late.is_void or (gap.first_seq > 1 and not transcript.resumes(gap.first_seq - 1, gap))):
            self._pending = late._replace(gap=None)
            if dropped := transcript.discard(gap):
                return self._wire(dropped)
        self._pending = None
        self._seq, self._last_number = snapshot.seq, snapshot.last_number
        return self._share(snapshot, for_http=self._for_http) or self._next_frames()

    def _entries(self) -> bytes | memoryview:
        """The next entries up to the end of their segment, or the gap before them; moves on if there was either."""
        found = self._source.read(self, self._seq, for_http=self._for_http)
        if found is None:
            return b""
        if isinstance(found, tuple):
            frames, self._seq = found
            return frames
        if isinstance(found, Replay):
            return self._change_to(found)
        seq, self._seq = self._seq, found.last_seq
        seen_number = self._last_number
        if self._leaves_out and found.last_number <= seen_number:
            self._leaves_out = found.last_number < seen_number
            return b""
        self._last_number = found.last_number
        if found.breaks_off:
            self._end(StopReason.NEW_ATTEMPT)
        if self._leaves_out:
            self._leaves_out = False
            return found.after_number(seen_number, self._source.blank, for_http=self._for_http)
        if found.first_seq > seq:
            return self._share(found, for_http=self._for_http)
        return found.tail(seq, for_http=self._for_http)

    def _change_to(self, branch: Replay) -> bytes | memoryview:
        """Entries are gone that the other viewers were sent; this one may have been sent them, too."""
        replay = self._source.replay
        if branch.gap_frames is None or (replay is not None and replay.void_by(self._seq) is not None):
            self._end(branch.gap_reason)
            return self._wire(self._farewell(branch.gap_reason))
        self._source.users -= 1
        self._source = branch
        branch.users += 1
        if self._seq >= branch.begin_seq:
            return self._entries()
        self._seq = branch.begin_seq
        return self._wire(branch.gap_frames)

    def _end(self, reason: StopReason) -> None:
        """The last frames of the response. Not by ``stop``, which wakes: the viewer is being pulled."""
        self.stop_reason, self.ends_cleanly = reason, True
