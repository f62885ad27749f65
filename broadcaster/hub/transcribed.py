"""A viewer in a dialect that must know what came before: a cursor in its room's replay, which has the transcript.

Rules
1. Without a cursor it begins with a snapshot of the stream as it is now, and what follows comes as to every viewer. A
   viewer whose cursor is void begins so too, but its client holds text: the dialect's message that makes it drop that
   text comes first.
2. With a cursor it is sent what comes after; without one and without a snapshot, every event from the first, or, where
   events are numbered, from the first with a higher number than its client has (``begin_after``).
3. What was sent cannot be taken back in these dialects. When that becomes void, or entries are missing and the dialect
   has no word for it, the viewer is ended with the dialect's error; a client that asks again is served by rule 1. So is
   a viewer whose attempt was lost, where the dialect ends its response there (``Transcript.breaks_off``).
4. While it is live its group is written to. One that falls behind is a cursor again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects import NATIVE, Dialect
from broadcaster.errors import LogUnavailable
from broadcaster.hub.live import LiveGroup
from broadcaster.hub.replay import Replay
from broadcaster.hub.resolve import Finished, Follow, Hold
from broadcaster.hub.room import Room
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer

_UNSAID: Final = (b'{"type":"usage"', b'{"type":"attempt"', b'{"type":"error"')
# Each attempt may leave a few; a stream with more is no refused request.
_OPENING_ENTRIES: Final = 256


class TranscribedViewer(Viewer):
    """See the module's rules; ``with_prelude`` False: every event (rule 2)."""

    __slots__ = ("_is_late", "_last_number", "_leaves_out", "_replay", "_void", "_with_prelude")

    def __init__(self, room: Room, dialect: Dialect, *, begin: Follow | Hold, with_prelude: bool = True) -> None:
        self._with_prelude = with_prelude
        self._is_late = False
        self._void: Gap | None = None  # what its client holds, and has not been made to drop yet
        self._leaves_out = False  # what it is sent has numbers up to ``_last_number`` yet, which its client has
        self._replay = room.replays.of(dialect)
        self._replay.users += 1
        self._last_number = -1
        super().__init__(room, NATIVE, begin=begin)
        self._heartbeat = dialect.heartbeat

    def leave(self) -> None:
        """See Viewer."""
        if not self._was_left:
            self._replay.users -= 1
        super().leave()

    def rewind(self, keep: Cursor, reason: GapReason) -> None:
        """Rule 3."""
        if self._held is None and not self._is_late and (self._seq > keep.seq or self._leaves_out):
            self.stop(StopReason.GAP)

    async def begin_after(self, number: int, *, timeout_s: float) -> int:
        """Begin behind the event with this number, before anything is pulled. Answers the newest event's number.

        A smaller one: the log is complete, and holds no such event. While the stream is open, an event that is missing
        is waited for: its worker may be about to send it again. A viewer that meets a gap says so when it is pulled.
        Raises LogUnavailable when the viewer is stopped otherwise, or after ``timeout_s``.
        """
        deadline = self._loop.time() + timeout_s
        self._last_number = number
        while self.stop_reason is None:
            self._is_woken = False
            place = self._replay.find_number(self, number)
            if place is not None and (number <= place.newest or self._room.is_over):
                self._seq, self._is_late, self._leaves_out = place.seq, False, place.number < number
                number = place.newest
                break
            if not await self.wait(max(0.0, deadline - self._loop.time())):
                raise LogUnavailable(f"the log holds no event with the number {number} yet")
            await self._room.turns.arrivals.enter()
        if self.stop_reason not in (None, StopReason.GAP):
            raise LogUnavailable("the stream is not served here any more")
        self._is_woken = True
        self._owes_since = self._loop.time()
        return number

    def opening(self) -> Sequence[Entry] | None:
        """The stream's entries while they hold nothing of an answer: counts, attempts, an error at their end.

        None: there is content, or more entries than an opening has. Pulls nothing; ``wait`` returns when more came.
        """
        self._is_woken = False
        found: list[Entry] = []
        while len(found) < self._room.last_seq:
            segment = self._room.find(len(found) + 1)
            if segment is None or segment.first_seq > len(found) + 1 or len(found) > _OPENING_ENTRIES:
                return None
            entries = segment.after(len(found))
            if not all(entry.event.startswith(_UNSAID) for entry in entries):
                return None
            found += entries
        return found

    # -- the dialect's own

    def _begin(self, begin: Follow | Hold | Finished) -> None:
        super()._begin(begin)
        if isinstance(begin, Follow):
            is_anew = begin.after == START and self._with_prelude and self._room.last_seq > 0
            self._is_late = begin.gap is not None or is_anew
            self._void = begin.gap if begin.gap is not None and begin.gap.voids else None
            self._gap = None
            if self._is_late:
                self._seq = 0

    def _next(self) -> bytes | memoryview:
        if self.stop_reason is None and self._held is not None:
            self._begin(self._room.place_held(self._held))
        if not self._is_late or self.stop_reason is not None:
            return super()._next()
        hello = self._notices()
        snapshot = None if hello else self._replay.snapshot(self)
        if snapshot is None:
            return hello
        if (void := self._void) is not None:
            self._void = None
            if dropped := self._replay.discard(void):
                return self._wire(dropped)
        self._is_late = False
        self._seq, self._last_number = snapshot.seq, snapshot.last_number
        return self._outlet.share(snapshot, for_http=self._driver is not None) or super()._next()

    def _notices(self) -> bytes:
        room, blank = self._room, self._replay.blank
        notices = []
        if not self._was_greeted:
            self._was_greeted = True
            notices.append(blank.hello(status=room.status, retry_ms=room.limits.draw_retry_ms()))
        if self._stall_told is not room.stall and not self._is_late:
            self._stall_told = room.stall
            notices.append(blank.stalled(room.stall))
        if not self._live_told and not self._is_late and self._is_caught_up():
            self._live_told = True
        return self._wire(b"".join(notices))

    def _entries(self) -> bytes | memoryview:
        came, seq = self._replay.read(self, self._seq), self._seq
        if came is None:
            return b""
        if isinstance(came, Replay):
            return self._go_over(came)
        self._seq, heard = came.last_seq, self._last_number
        if self._leaves_out and came.last_number <= heard:
            self._leaves_out = came.last_number < heard
            return b""
        self._last_number = came.last_number
        if came.breaks_off:
            # Not by `stop`, which wakes: it is being pulled.
            self.stop_reason, self.ends_cleanly = StopReason.NEW_ATTEMPT, True
        if self._leaves_out:
            self._leaves_out = False
            return came.after_number(heard, self._replay.blank, for_http=self._driver is not None)
        if came.first_seq > seq:
            return self._outlet.share(came, for_http=self._driver is not None)
        return came.tail(seq, for_http=self._driver is not None)

    def _go_over(self, branch: Replay) -> bytes:
        """Entries are missing that others have heard."""
        if branch.gap_frames is None:
            # Not by `stop`, which wakes: we are being pulled.
            self.stop_reason = StopReason.GAP
            self.ends_cleanly = True
            return self._wire(self._farewell(StopReason.GAP))
        self._replay.users -= 1
        self._replay = branch
        branch.users += 1
        self._seq = branch.begin_seq
        return self._wire(branch.gap_frames)

    def _farewell(self, reason: StopReason) -> bytes:
        return self._replay.blank.bye(reason.code, reconnect=reason.reconnect, last_number=self._last_number)

    def _join_group(self, fd: int) -> LiveGroup | None:
        return self._room.go_live(self, fd, self._replay)

    def _take_back(self) -> LiveGroup | None:
        group = super()._take_back()
        if group is not None:
            self._last_number = self._replay.last_number_at(group.seq)
        return group
