"""A viewer: one connected reader. It has a cursor and no queue.

Rules
1. A driver pulls bytes when its transport has taken the last ones, and waits when there are none. Nothing is pushed: a
   viewer that is not pulled costs nothing and delays no other.
2. What comes next: the rest of a piece that was too large for one pull; the farewell; what follows from where the
   viewer stands (``Position``).
3. While a viewer is live, its group is written to. A viewer that falls behind is a cursor again.
4. The end is orderly (``stop``: a farewell can be pulled) or not (``cut``: the transport is torn down, so that the
   client does not take it for the stream's end). The driver calls ``leave`` at the end, whatever happened.
5. A driver that has pulled and neither pulls more nor waits is stuck in its transport: after ``slow_viewer_s`` it is
   cut. A driver without a transport, inside this process, calls ``taken`` and may be as slow as it likes.
6. A driver that owns its socket has no coroutine (``push_through``). The viewer calls its ``pump``, which pulls HTTP
   chunks; once it has pulled everything the room writes to the socket (live/group.py).

A coroutine's loop: ``pull``; bytes → send them, repeat; none and ``is_over`` → end, cleanly if ``ends_cleanly``; none →
``wait``; False → send ``heartbeat()``, repeat.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broadcaster.core.entry import Entry
from broadcaster.dialects import Dialect
from broadcaster.errors import LogUnavailable
from broadcaster.hub.live.group import LiveGroup
from broadcaster.hub.live.writes import REFUSED
from broadcaster.hub.ports import PushDriver, ViewerObserver
from broadcaster.hub.position import Position
from broadcaster.hub.replay.resolve import Follow, Hold
from broadcaster.hub.ring import Segment
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.observability.limits import limit_reached

if TYPE_CHECKING:
    from broadcaster.hub.places import Place

# The group keeps the time of heartbeats, and a viewer that is recalled pulls before one is due. One object for all.
_IN_GROUP: Final = math.inf
_CONTENT_FREE: Final = (b'{"type":"usage"', b'{"type":"attempt"', b'{"type":"error"')
# Each attempt may leave a few; a stream with more is no refused request.
_CONTENT_FREE_ENTRIES: Final = 256


def _now() -> float:
    """On the loop's clock."""
    return asyncio.get_running_loop().time()


@dataclass(slots=True, eq=False, repr=False)
class Viewer(Position):
    """One reader of a room, which it enters. Must be driven at once: from its creation on rule 5 counts.

    A viewer that is cut aborts its PushDriver, or calls ``on_cut``: the transport must go. ``with_snapshot``: see
    position.py.
    """

    on_cut: Callable[[], None] | None = field(default=None, init=False)
    observer: ViewerObserver | None = field(default=None, init=False)
    place: Place | None = field(default=None, init=False)  # which the hub gives it
    _sent_bytes: int = field(default=0, init=False)  # while live, without what its group has sent in all
    _was_left: bool = field(default=False, init=False)
    _bye: bytes = field(default=b"", init=False)  # the farewell; before it, a notice
    _group: LiveGroup | None = field(default=None, init=False)
    _is_woken: bool = field(default=True, init=False)
    _waiter: asyncio.Future[bool] | None = field(default=None, init=False)
    _wait_until: float = field(default=0.0, init=False)
    _busy_since: float | None = field(init=False)

    def __post_init__(self, dialect: Dialect, begin: Follow | Hold) -> None:
        Position.__post_init__(self, dialect, begin)  # ``super()`` knows no class with slots that dataclass has made
        self._busy_since = _now()
        self._room.counts.entered(dialect.name)
        self._room.enter(self)

    def count_from(self, since: float) -> None:
        """Count the time to its first event from then (loop time), if the stream has one for it; before it pulls."""
        if self._room.last_seq > self._seq:
            self._room.counts.awaiting[self] = since

    # -- for the driver

    @property
    def is_over(self) -> bool:
        """Nothing more will come; ``stop_reason`` says why."""
        return self.stop_reason is not None and not self._rest and not self._bye

    @property
    def seq(self) -> int:
        """Seq of the last entry pulled, or reported to be gone."""
        return self._seq if self._group is None else self._group.seq

    @property
    def stream_id(self) -> str:
        """The id of its stream, as callers know it."""
        return self._room.public_id

    @property
    def dialect_name(self) -> str:
        """The form in which it is sent the stream."""
        return self._source.dialect.name

    @property
    def entries(self) -> int:
        """How many entries it has moved on."""
        return max(0, self.seq - self._begin_seq)

    @property
    def sent_bytes(self) -> int:
        """Bytes given to its transport, without heartbeats."""
        return self._sent_bytes if self._group is None else self._sent_bytes + self._group.sent_bytes

    @property
    def lag(self) -> int:
        """How many entries of the stream it has not been sent."""
        return max(0, self._room.last_seq - self.seq)

    @property
    def heartbeat_s(self) -> float:
        """How long to ``wait`` before a heartbeat is due."""
        return self._room.limits.heartbeat_s

    def pull(self, max_bytes: int) -> bytes:
        """The next bytes, at most ``max_bytes``; ``b""``: nothing now. Never blocks."""
        piece = self._pull(max_bytes)
        self.note_unsent(len(piece))
        return bytes(piece)

    def push_through(self, driver: PushDriver) -> None:
        """From here on the viewer calls the ``pump`` of ``driver`` (rule 6)."""
        self._driver = driver

    def pull_chunk(self) -> bytes | memoryview:
        """The next slice of HTTP chunks, for a PushDriver; ``b""``: none now, the room writes or calls ``pump``."""
        if self._group is not None:  # a wake-up that was on its way when it went live: the room writes what comes
            return b""
        piece = self._pull(self._unsent.slice_bytes)
        if not piece and not self._go_live():
            self._wait_until = _now() + self.heartbeat_s
        return piece

    def pull_opening(self) -> bytes:
        """As much as one slice holds of what would be several pulls, for a PushDriver; the viewer is not live yet."""
        left, pieces = self._unsent.slice_bytes, list[bytes | memoryview]()
        while left > 0 and (piece := self._pull(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def in_a_turn(self, piece: Callable[[], None]) -> None:
        """Do this at this viewer's next turn."""
        self._room.turns.add(piece)

    def taken(self, *, unsent: int = 0) -> None:
        """All but ``unsent`` bytes of what was pulled have arrived. If all have, the next ``pull`` may come late."""
        is_busy = unsent > 0 and not self._was_left
        self._busy_since = _now() if is_busy else None
        self.note_unsent(unsent if is_busy else 0)

    async def wait(self, timeout_s: float) -> bool:
        """Until there may be something to pull; False after ``timeout_s`` (a heartbeat's: by the hub's tick)."""
        self.taken()
        if self._is_woken:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter = waiter
        self._wait_until = loop.time() + timeout_s
        # Heartbeats of thousands ride on the hub's tick; a shorter wait has a timer of its own.
        timer = loop.call_later(timeout_s, self._time_is_up) if timeout_s < self.heartbeat_s else None
        try:
            return await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def heartbeat(self) -> bytes:
        """What to send when nothing came for ``heartbeat_s``."""
        self._busy_since = _now()
        return self._source.dialect.heartbeat

    def leave(self) -> None:
        """The driver is done, or its client is gone. A second call does nothing."""
        if self._was_left:
            return
        self._was_left = True
        self._source.users -= 1
        if self.stop_reason is None:
            self.stop_reason = StopReason.CLIENT_GONE
        self._leave_group()
        self._driver = self._busy_since = self.page = None
        self._bye = b""
        self._take_no_more()
        self._room.counts.left(self._source.dialect.name, self.stop_reason)
        self._room.counts.stop_awaiting(self)
        self._room.exit(self)
        self.wake()
        if self.observer is not None:
            self.observer.left()

    # -- for the hub and the room

    def announce_expiry(self, expires_s: float) -> None:
        """Report when the response will end (seconds since 1970), where the dialect has a place for that."""
        notice = self._source.blank.expiring(expires_s)
        if notice and self.stop_reason is None:
            if self._leave_group():
                self._room.behind.add(self)
            self._bye = notice
            self.wake()

    def stop(self, reason: StopReason) -> None:
        """End in good order: what was begun is completed, then a farewell says why and when to reconnect."""
        if self.stop_reason is None:
            if self._leave_group():
                self._room.behind.add(self)
            self.stop_reason = reason
            self._bye = self._farewell(reason)
            # Without a farewell the response must not look as if the stream had ended.
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
        """Cut a stuck viewer; end the wait of one whose heartbeat is due."""
        if self._busy_since is not None and now - self._busy_since > self._room.limits.slow_viewer_s:
            limit_reached("SLOW_VIEWER_S")
            self.cut(StopReason.SLOW)
        elif now >= self._wait_until and self._busy_since is None:
            self._time_is_up()

    def left_behind(self, seq: int, chunk: bytes, taken: int) -> None:
        """The viewer was live, and its socket took only ``taken`` bytes of ``chunk``."""
        self.recalled(seq)
        self._sent_bytes -= len(chunk) - max(0, taken)  # the rest is counted when it is pulled
        self._busy_since = _now()
        if self._driver is None:
            return
        if taken == REFUSED:
            self._driver.abort()
            return
        self._rest = memoryview(chunk)[taken:]
        self._driver.pump()

    def recalled(self, seq: int) -> None:
        """The viewer was live, and is a cursor from here on."""
        self._sent_bytes, self._group = self.sent_bytes, None
        self._stand_at(seq)
        self._room.behind.add(self)

    def served(self) -> None:
        """It was sent an entry; only the first one counts."""
        if self.observer is not None:
            self.observer.was_served(is_first_here=not self._room.was_served)
        self._room.was_served = True

    def take_page(self, page: Segment) -> None:
        """The page that was requested."""
        if not self._was_left:
            self.page = page
            self.wake()

    async def begin_after(self, number: int, *, timeout_s: float) -> int:
        """Begin behind the event with this number, before anything is pulled. Returns the newest event's number.

        A smaller one: the log is complete, and holds no such event. While the stream is open, the viewer waits for an
        event that is missing: its worker may be about to send it once more. The next pull reports a gap.
        Raises LogUnavailable when the viewer is stopped otherwise, or after ``timeout_s``.
        """
        deadline = _now() + timeout_s
        newest: int | None = None
        while self.stop_reason is None:
            self._is_woken = False
            newest = self._stand_after(number)
            if newest is not None:
                break
            if not await self.wait(max(0.0, deadline - _now())):
                raise LogUnavailable(f"the log holds no event with the number {number} yet")
            await self._room.turns.arrivals.enter()
        if self.stop_reason not in (None, StopReason.GAP):
            raise LogUnavailable("the stream is not served here any more")
        self._is_woken = True
        self._busy_since = _now()
        return number if newest is None else newest

    def entries_without_content(self) -> Sequence[Entry] | None:
        """The stream's entries while they hold no part of an answer: counts, attempts, an error at their end.

        None: there is content, or more entries than a refused request has. Pulls nothing; ``wait`` returns when more
        entries came.
        """
        self._is_woken = False
        found: list[Entry] = []
        while len(found) < self._room.last_seq:
            segment = self._room.find(len(found) + 1)
            if segment is None or segment.first_seq > len(found) + 1 or len(found) > _CONTENT_FREE_ENTRIES:
                return None
            entries = segment.after(len(found))
            if not all(entry.event.startswith(_CONTENT_FREE) for entry in entries):
                return None
            found += entries
        return found

    def first_entries(self) -> Sequence[Entry]:
        """The stream's first entries, as far as the room holds them and they are of the newest attempt."""
        segment = self._room.find(1)
        epoch = self._room.epoch
        return [] if segment is None else [entry for entry in segment.entries if entry.epoch == epoch]

    def _go_live(self) -> bool:
        """Whether the group writes what comes."""
        if self._driver is None or not self._is_live():
            return False
        group = self._room.go_live(self, self._driver.fd, self._source, is_served=self._seq != self._begin_seq)
        if group is None:
            return False
        self._group, self._wait_until = group, _IN_GROUP
        self._sent_bytes -= group.sent_bytes
        return True

    def _leave_group(self) -> bool:
        """Whether the viewer was live."""
        group = self._group
        self._sent_bytes, self._group = self.sent_bytes, None
        if group is None or self._driver is None:
            return False
        group.exit(self._driver.fd)
        self._stand_at(group.seq)
        return True

    def _time_is_up(self) -> None:
        if self._driver is not None:
            self._wait_until = _now() + self.heartbeat_s
            self._driver.beat(self._wire(self._source.dialect.heartbeat))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)

    # -- what comes next

    def _pull(self, max_bytes: int) -> bytes | memoryview:
        self._is_woken = False
        if self._rest:
            self._busy_since = _now()
            rest = self._slice(max_bytes)
            self._sent_bytes += len(rest)
            return rest
        self._let_go()
        before_seq = self._seq
        chunk = self._next()
        self._busy_since = _now() if chunk else None
        self._count(chunk, self._seq - before_seq)
        piece = chunk if len(chunk) <= max_bytes else self._begin_slices(chunk, max_bytes)
        self._sent_bytes += len(piece)
        if self._seq != self._begin_seq:
            self.served()
        return piece

    def _count(self, chunk: bytes | memoryview, moved: int) -> None:
        """What was pulled; it was sent entries unless ``moved`` is 0 (or less: they are void)."""
        if not chunk:
            return
        counts = self._room.counts
        counts.replay_bytes += len(chunk)
        if moved > 0:
            counts.replay_entries += moved
            if counts.awaiting and (since := counts.stop_awaiting(self)) is not None:
                counts.first_event_s[self._source.dialect.name,].observe(_now() - since)

    def _next(self) -> bytes | memoryview:
        if self.stop_reason is not None or (self._bye and self._hello_sent):
            bye, self._bye = self._bye, b""
            return self._wire(bye)
        return self._next_frames()
