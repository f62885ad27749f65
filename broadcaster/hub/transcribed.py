"""A viewer in a dialect that must know what came before: it has a transcript, and may begin with a prelude.

Rules
1. Without a cursor it begins where the stream is now: its room's scribe reads the history, the prelude tells it, and
   what follows comes as to everybody. A cursor that does not stand any more is none: its client begins anew.
2. With a cursor it hears in silence what its client has seen, and says what comes after; so it does when every event
   is wanted, from the first.
3. What was said cannot be taken back in these dialects. When that becomes void, or entries are missing and the dialect
   has no word for it, the viewer is ended with the dialect's error; who comes again gets a prelude of what there is.
4. While it is live the group's transcript speaks for it. One that falls behind takes a fork of that.
"""

from __future__ import annotations

from typing import Final

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects import NATIVE, Dialect
from broadcaster.hub.live import LiveGroup
from broadcaster.hub.resolve import Finished, Follow, Hold
from broadcaster.hub.ring import Segment
from broadcaster.hub.room import Room
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer

# Segments of which nothing is said, in one pull: a long history shall not hold the loop.
SILENT_SEGMENTS: Final = 4


class TranscribedViewer(Viewer):
    """See the module's rules; ``with_prelude`` False: every event (rule 2)."""

    __slots__ = ("_dialect", "_heard", "_is_late", "_silent_through", "_transcript", "_with_prelude")

    def __init__(self, room: Room, dialect: Dialect, *, begin: Follow | Hold, with_prelude: bool = True) -> None:
        self._dialect = dialect
        self._with_prelude = with_prelude
        self._transcript = dialect.open(room.public_id)
        self._is_late = False
        self._silent_through = 0
        self._heard = 0
        super().__init__(room, NATIVE, begin=begin)
        self._heartbeat = dialect.heartbeat

    def rewind(self, keep: Cursor, reason: GapReason) -> None:
        """Rule 3."""
        if self._page is not None and self._page.last_seq > keep.seq:
            self._page = None
        if self._held is None and not self._is_late and self._seq > keep.seq:
            self.stop(StopReason.GAP)

    # -- the dialect's own

    def _begin(self, begin: Follow | Hold | Finished) -> None:
        match begin:
            case Follow(after, gap):
                self._held = None
                self._seq = 0
                is_anew = after == START and self._with_prelude and self._room.last_seq > 0
                self._is_late = gap is not None or is_anew
                self._silent_through = 0 if self._is_late else after.seq
                self._gap = None
            case _:
                super()._begin(begin)

    def _next(self) -> bytes | memoryview:
        if self.stop_reason is None and self._held is not None:
            self._begin(self._room.place(self._held))
        if not self._is_late or self.stop_reason is not None:
            self._heard = 0
            return super()._next()
        hello = self._notices()
        place = None if hello else self._room.scribe(self._dialect).place_at_end(self)
        if place is None:
            return hello
        self._is_late = False
        self._transcript, self._seq = place.transcript, place.seq
        return self._outlet.share(place.opening, for_http=self._driver is not None) or super()._next()

    def _notices(self) -> bytes:
        room = self._room
        notices = []
        if not self._was_greeted:
            self._was_greeted = True
            notices.append(self._transcript.hello(status=room.status, retry_ms=room.limits.draw_retry_ms()))
        if self._stall_told is not room.stall and not self._is_late and self._seq >= self._silent_through:
            self._stall_told = room.stall
            notices.append(self._transcript.stalled(room.stall))
        if not self._live_told and not self._is_late and self._is_caught_up():
            self._live_told = True
        return self._wire(b"".join(notices))

    def _frames(self, segment: Segment) -> bytes:
        self._room.keep_bounds()  # it may be a page that was read for us
        entries = segment.after(self._seq)
        silent = max(0, self._silent_through - self._seq)
        self._transcript.encode(entries[:silent])
        return self._wire(self._transcript.encode(entries[silent:]))

    def _entries(self) -> bytes:
        if self._heard >= SILENT_SEGMENTS:
            self._loop.call_soon(self.wake)
            return b""
        self._heard += 1
        return super()._entries()

    def _gap_block(self, gap: Gap) -> bytes:
        told = self._transcript.gap(gap)
        if told is None:
            # Not by `stop`, which wakes: we are being pulled.
            self.stop_reason = StopReason.GAP
            self.ends_cleanly = True
            return self._farewell(StopReason.GAP)
        return told if gap.last_seq > self._silent_through else b""  # its client was told, or has seen them

    def _farewell(self, reason: StopReason) -> bytes:
        return self._transcript.bye(reason.code, reconnect=reason.reconnect)

    def _join_group(self, fd: int) -> LiveGroup | None:
        return self._room.go_live(self, fd, self._dialect, transcript=self._transcript)

    def _take_back(self) -> LiveGroup | None:
        group = super()._take_back()
        if group is not None and group.transcript is not None:
            self._transcript = group.transcript.fork()
        return group
