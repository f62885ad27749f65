"""A viewer: one connected reader. It has a cursor and no queue.

Rules
1. A driver pulls bytes when its transport has taken the last ones, and waits when there are none. Nothing is pushed: a
   viewer that is not pulled costs nothing and delays nobody.
2. What comes next follows from where the viewer stands: the rest of a piece that was too large for one pull; the
   farewell; notices; the next entries. A notice that moves delivery (``hub.gap``) goes before the entries it speaks of.
3. Ids rise strictly, and nothing is left out without a gap that names it. A gap is told when it is met, so a viewer
   that is slow to ask hears of one gap, not of its pieces.
4. The end is orderly (``stop``: a farewell can be pulled) or not (``cut``: the transport is torn down, so that nobody
   takes it for the stream's end). Whoever drives a viewer calls ``leave`` at the end, whatever happened.
5. A driver that has pulled and neither pulls again nor waits is stuck in its transport: after ``slow_viewer_s`` it is
   cut. A driver without a transport, inside this process, says ``taken`` and may be as slow as it likes.
6. A driver that owns its socket has no coroutine (``push_through``): the room says when to pump, pulls HTTP chunks, and
   once it has pulled everything the room writes to its socket (live.py). Until then its viewer is a cursor.

A coroutine's loop: ``pull``; bytes → send them, again; none and ``is_over`` → end, cleanly if ``ends_cleanly``; none →
``wait``; False → send ``heartbeat()``; again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broadcaster.core.cursor import Cursor
from broadcaster.core.http_chunks import http_chunk
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.dialects import Encoder
from broadcaster.hub.frames import Outlet
from broadcaster.hub.live import LiveGroup
from broadcaster.hub.ports import PushDriver
from broadcaster.hub.resolve import Finished, Follow, Held, Hold
from broadcaster.hub.ring import Segment
from broadcaster.hub.room import Room
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.writes import REFUSED


class Viewer:
    """One reader of a room. A viewer that is cut aborts its PushDriver, or calls ``on_cut``: the transport must go."""

    __slots__ = (
        "_bye",
        "_driver",
        "_encoder",
        "_gap",
        "_group",
        "_heartbeat",
        "_held",
        "_is_woken",
        "_live_told",
        "_loop",
        "_outlet",
        "_owes_since",
        "_page",
        "_room",
        "_seq",
        "_stall_told",
        "_wait_until",
        "_waiter",
        "_was_greeted",
        "_was_left",
        "ends_cleanly",
        "on_cut",
        "stop_reason",
    )

    def __init__(self, room: Room, encoder: Encoder, *, begin: Follow | Hold) -> None:
        """Enter the room. Must be driven at once: from here on rule 5 counts."""
        self.stop_reason: StopReason | None = None
        self.ends_cleanly = False
        self.on_cut: Callable[[], None] | None = None
        self._room = room
        self._encoder = encoder
        self._heartbeat = encoder.heartbeat
        self._held: Held | None = None
        self._seq = 0
        self._gap: Gap | None = None
        self._begin(begin)
        self._was_greeted = self._live_told = self._was_left = False
        self._stall_told: StallReason | None = None
        self._page: Segment | None = None
        self._outlet = Outlet(room.unsent)
        self._bye = b""
        self._driver: PushDriver | None = None
        self._group: LiveGroup | None = None
        self._loop = asyncio.get_running_loop()
        self._is_woken = True
        self._waiter: asyncio.Future[bool] | None = None
        self._wait_until = 0.0
        self._owes_since: float | None = self._loop.time()
        room.enter(self)

    # -- for the driver

    @property
    def is_over(self) -> bool:
        """Nothing more will come; ``stop_reason`` says why."""
        return self.stop_reason is not None and not self._outlet and not self._bye

    @property
    def seq(self) -> int:
        """Seq of the last entry pulled (or told to be gone)."""
        return self._seq if self._group is None else self._group.seq

    @property
    def heartbeat_s(self) -> float:
        """How long to ``wait`` before a heartbeat is due."""
        return self._room.limits.heartbeat_s

    def pull(self, max_bytes: int) -> bytes:
        """The next bytes, at most ``max_bytes``; ``b""``: nothing now. Never blocks."""
        piece = self._pull(max_bytes)
        self._outlet.note_unsent(len(piece))
        return bytes(piece)

    def push_through(self, driver: PushDriver) -> None:
        """From here on ``driver`` is told when to pump (rule 6)."""
        self._driver = driver

    def pull_chunk(self) -> bytes | memoryview:
        """The next slice of HTTP chunks, for a PushDriver; ``b""``: none now, the room writes or calls ``pump``."""
        if self._group is not None:  # a wake-up that was on its way when it went live: the room writes what comes
            return b""
        piece = self._pull(self._outlet.slice_bytes)
        if not piece:
            self._wait_until = self._loop.time() + self.heartbeat_s
            if self._driver is not None and self._is_live():
                self._group = self._join_group(self._driver.fd)
        return piece

    def in_a_turn(self, piece: Callable[[], None]) -> None:
        """Do this when it is this viewer's turn again."""
        self._room.turns.add(piece)

    def note_unsent(self, count: int) -> None:
        """The driver's transport holds so many bytes that its client has not taken."""
        self._outlet.note_unsent(count)

    def taken(self) -> None:
        """What was pulled has arrived: nothing is owed until the next ``pull``, however late it comes."""
        self._owes_since = None
        self._outlet.note_unsent(0)

    async def wait(self, timeout_s: float) -> bool:
        """Until there may be something to pull; False after ``timeout_s`` (a heartbeat's: by the hub's tick)."""
        self.taken()
        if self._is_woken:
            return True
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiter = waiter
        self._wait_until = self._loop.time() + timeout_s
        # Heartbeats of thousands ride on the hub's tick; who cannot wait so long has a timer of its own.
        timer = self._loop.call_later(timeout_s, self._time_is_up) if timeout_s < self.heartbeat_s else None
        try:
            return await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def heartbeat(self) -> bytes:
        """What to send when nothing came for ``heartbeat_s``."""
        self._owes_since = self._loop.time()
        return self._heartbeat

    def leave(self) -> None:
        """The driver is done, or its client is gone. Leaving again does nothing."""
        if self._was_left:
            return
        self._was_left = True
        if self.stop_reason is None:
            self.stop_reason = StopReason.CLIENT_GONE
        self._leave_group()
        self._driver = self._owes_since = self._page = None
        self._bye = b""
        self._outlet.close()
        self._room.exit(self)
        self.wake()

    # -- for the hub and the room

    def stop(self, reason: StopReason) -> None:
        """End in good order: what was begun is completed, then a farewell says why and when to come back."""
        if self.stop_reason is None:
            if self._leave_group():
                self._room.fall_behind(self)
            self.stop_reason = reason
            self._bye = self._farewell(reason)
            # A dialect that cannot say it must not look as if the stream had ended.
            self.ends_cleanly = bool(self._bye)
            self.wake()

    def cut(self, reason: StopReason) -> None:
        """End now: the transport is torn down."""
        if self._was_left:
            return
        if self.stop_reason is None:
            self.stop_reason = reason
        self.ends_cleanly, driver = False, self._driver
        self.leave()
        abort = self.on_cut if driver is None else driver.abort
        if abort is not None:
            abort()

    def wake(self) -> None:
        """There may be something to pull."""
        self._is_woken = True
        if self._driver is not None:
            self._driver.pump()
            return
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(True)

    def check(self, now: float) -> None:
        """Cut a stuck viewer; tell a waiting one that its time is up."""
        if self._owes_since is not None and now - self._owes_since > self._room.limits.slow_viewer_s:
            self.cut(StopReason.SLOW)
        elif now >= self._wait_until and self._owes_since is None:
            self._time_is_up()

    def left_behind(self, seq: int, chunk: bytes, taken: int) -> None:
        """It was live, and its socket took only a part of what it was written."""
        self.recalled(seq)
        self._owes_since = self._loop.time()
        if self._driver is None:
            return
        if taken == REFUSED:
            self._driver.abort()
            return
        self._outlet.put(memoryview(chunk)[taken:])
        self._driver.pump()

    def recalled(self, seq: int) -> None:
        """It was live, and is a cursor again."""
        self._take_back()
        self._seq = seq
        self._room.fall_behind(self)

    def take_page(self, page: Segment) -> None:
        """The page that was asked for."""
        if not self._was_left:
            self._page = page
            self.wake()

    def rewind(self, keep: Cursor, reason: GapReason) -> None:
        """What was delivered after ``keep`` is void: forget it, and say so before anything else is delivered."""
        if self._page is not None and self._page.last_seq > keep.seq:
            self._page = None
        if self._held is not None or self._seq <= keep.seq:
            return
        void, self._seq = self._seq, keep.seq
        untold, self._gap = self._gap, None
        if untold is not None and untold.reason in (GapReason.TRIMMED, GapReason.EXPIRED):
            # Not seen, and not told yet either: if it is still gone, that is told when it is met again.
            void = untold.first_seq - 1
            self._seq = min(void, keep.seq)
        elif untold is not None:
            void = max(void, untold.last_seq)
        if void > keep.seq:
            self._gap = Gap(reason, keep, keep.seq + 1, void)

    def _leave_group(self) -> bool:
        """Whether it was live."""
        group = self._take_back()
        if group is None or self._driver is None:
            return False
        group.exit(self._driver.fd)
        self._seq = group.seq
        return True

    def _time_is_up(self) -> None:
        if self._driver is not None:
            self._wait_until = self._loop.time() + self.heartbeat_s
            self._driver.beat(self._wire(self._heartbeat))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)

    # -- what comes next

    def _pull(self, max_bytes: int) -> bytes | memoryview:
        self._is_woken = False
        if self._outlet:
            self._owes_since = self._loop.time()
            return self._outlet.slice(max_bytes)
        self._outlet.let_go()
        chunk = self._next()
        self._owes_since = self._loop.time() if chunk else None
        return chunk if len(chunk) <= max_bytes else self._outlet.begin(chunk, max_bytes)

    def _next(self) -> bytes | memoryview:
        if self.stop_reason is not None:
            bye, self._bye = self._bye, b""
            return self._wire(bye)
        if self._held is not None:
            self._begin(self._room.place_held(self._held))
        chunk: bytes | memoryview = self._notices()
        while not chunk and self._held is None and self._seq < self._room.last_seq:
            seq = self._seq
            chunk = self._entries()
            if seq == self._seq:  # a page must be read first
                return chunk
        if not chunk and self._held is None and self._room.is_over:
            self.stop_reason = StopReason.TERMINAL
            self.ends_cleanly = True
        return chunk

    def _begin(self, begin: Follow | Hold | Finished) -> None:
        match begin:
            case Hold(cursor):
                self._held = self._held or self._room.hold(cursor)
            case Follow(after, gap):
                self._held = None
                self._seq = after.seq
                self._gap = gap
            case Finished(terminal):
                self._held = None
                self._seq = terminal.seq

    def _is_live(self) -> bool:
        """Whether there is nothing to say to it but what the room gets next."""
        room = self._room
        is_at_end = self._held is None and self._seq == room.last_seq and not room.is_over
        has_heard = self._gap is None and self._live_told and self._stall_told is room.stall
        return is_at_end and has_heard and self.stop_reason is None

    def _wire(self, block: bytes) -> bytes:
        """As the driver writes it."""
        return http_chunk(block) if block and self._driver is not None else block

    def _notices(self) -> bytes:
        room = self._room
        if self._was_greeted and self._gap is None and self._live_told and self._stall_told is room.stall:
            return b""  # nearly always
        encoder = self._encoder
        notices = []
        if not self._was_greeted:
            self._was_greeted = True
            notices.append(encoder.hello(room.public_id, status=room.status, retry_ms=room.limits.draw_retry_ms()))
        if self._gap is not None:
            notices.append(encoder.gap(self._gap))
            self._gap = None
        if self._stall_told is not room.stall:
            self._stall_told = room.stall
            notices.append(encoder.stalled(room.stall))
        if not self._live_told and self._is_caught_up():
            self._live_told = True
            notices.append(encoder.live())
        return self._wire(b"".join(notices))

    def _is_caught_up(self) -> bool:
        room = self._room
        at_end = self._held is None and self._seq == room.last_seq and not room.is_over
        return at_end and room.stall is not StallReason.LOG_UNAVAILABLE

    def _entries(self) -> bytes | memoryview:
        """The next entries up to the end of their segment, or the gap before them; moves on if there was either."""
        room = self._room
        if (page := self._page) is not None and self._seq < page.last_seq:
            segment: Segment | None = page
        else:
            self._page = None
            segment = room.find(self._seq + 1)
        if segment is None:
            if room.floor is not None and self._seq < room.floor.last_seq:
                return self._skip_to(room.floor.at)
            room.ask_page(self, self._seq + 1)
            return b""
        if segment.first_seq > self._seq + 1:
            return self._skip_to(segment.before)
        chunk = self._frames(segment)
        self._seq = segment.last_seq
        return chunk

    def _skip_to(self, at: Cursor) -> bytes:
        gap = self._room.gap_before(at, first_seq=self._seq + 1)
        self._seq = at.seq
        return self._wire(self._gap_block(gap))

    # -- what is its dialect's own (transcribed.py)

    def _frames(self, segment: Segment) -> bytes:
        """The segment's frames after ``_seq``, as the driver writes them."""
        return self._room.chunk(segment, self._encoder, after_seq=self._seq, for_http=self._driver is not None)

    def _gap_block(self, gap: Gap) -> bytes:
        return self._encoder.gap(gap)

    def _farewell(self, reason: StopReason) -> bytes:
        retry_ms = self._room.limits.draw_retry_ms()
        return self._encoder.bye(reason.code, reconnect=reason.reconnect, retry_ms=retry_ms)

    def _join_group(self, fd: int) -> LiveGroup | None:
        return self._room.go_live(self, fd, self._encoder)

    def _take_back(self) -> LiveGroup | None:
        """Be in no group any more; the one it was in."""
        group, self._group = self._group, None
        return group
