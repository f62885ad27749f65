"""The hub: fan-out inside one process. One room per watched stream, many viewers.

Rules
1. The first viewer of a stream opens its room; viewers that join meanwhile wait for the same opening. A room outlives
   its last viewer by ``linger_s``, so that a client that reconnects finds it warm.
2. The hub decides where a viewer begins and admits the viewer with no await in between.
3. One timer for all rooms (the tick) checks heartbeats, stuck viewers and unwatched rooms.
4. All rooms and transports hold at most ``hub_bytes``. Beyond it unwatched rooms close, then the others forget most.
5. A draining hub admits no viewer, and stops its viewers one by one over the window: they reach the other front-ends
   spread over time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from broadcaster.core.cursor import Cursor
from broadcaster.dialects import NATIVE, Dialect
from broadcaster.errors import Busy, LogUnavailable
from broadcaster.hub.flusher import Flusher, guarded
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.live.counts import HubCounts, HubStatistics
from broadcaster.hub.live.crowds import WatchedStream, most_watched
from broadcaster.hub.live.group import LiveWrites
from broadcaster.hub.places import ANYONE, Place, Places, Visitor
from broadcaster.hub.ports import LogReader, StreamSource, Watch
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.ring import Ledger, Unsent
from broadcaster.hub.room import Room
from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.hub.ticks import Ticks
from broadcaster.hub.viewer import Viewer
from broadcaster.observability.counting import Buckets
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger

FAREWELL_S: Final = 0.5  # for a socket to take the "bye": one that drains at all takes it at once

_log = get_logger(__name__)


class _Tenancy:
    """A room in use: its watch, its opening, and how many viewers are about to enter."""

    __slots__ = ("arriving", "opening", "room", "watch")

    def __init__(self, room: Room, watch: Watch) -> None:
        self.room = room
        self.watch = watch
        self.opening = asyncio.create_task(watch.synced())
        self.arriving = 0


class Hub:
    """All rooms of one front-end. Lives on one event loop; end it with ``aclose``."""

    def __init__(self, tail: StreamSource, reader: LogReader, *, limits: HubLimits | None = None) -> None:
        self._tail = tail
        self._reader = reader
        self.limits = HubLimits() if limits is None else limits
        self._tenancies: dict[str, _Tenancy] = {}
        self._flusher = Flusher(self.room_grew)
        self.flush_soon = self._flusher.add  # a room, or its fast path; one object for all of them
        self._ledger = Ledger()
        self._unsent = Unsent(self._ledger, max_bytes=self.limits.hub_bytes)
        self._places = asyncio.Semaphore(self.limits.page_reads)
        self.admission = Places(self.limits)
        self.counts = HubCounts()
        self._is_draining = False
        self._all_left = asyncio.Event()
        self._all_left.set()
        self._turned: set[str] = set()
        self._has_turned = asyncio.Event()
        self._ticks = Ticks(self.limits, self._tick)
        self._shrinking: asyncio.Handle | None = None
        self._closed_rooms: set[Room] = set()  # closed, but not yet left by all its viewers
        self._ending: set[asyncio.Task[None]] = set()

    def reserve(self, tenant: str, *, waits: bool = False, visitor: Visitor = ANYONE) -> Place:
        """A viewer's place, to be entered at once; ``waits``: for a long poll, which reads nothing.

        Raises Busy when the hub drains or ``max_viewers`` is met, TenantLimit at a bound of the tenant.
        """
        if self._is_draining:
            raise Busy("this front-end is draining")
        return self.admission.take(tenant, waits=waits, visitor=visitor)

    def stop_where(self, is_over: Callable[[Place], bool], reason: StopReason) -> None:
        """Stop the viewers in places of which this is true, also those that are about to join."""
        viewers = [viewer for room in self._rooms() for viewer in room.viewers]
        self.admission.end_where(is_over, viewers, reason=reason)

    @property
    def is_draining(self) -> bool:
        """Whether new viewers are refused."""
        return self._is_draining

    async def join(
        self,
        stream_id: str,
        *,
        cursor: Cursor | None,
        timeout_s: float,
        dialect: Dialect = NATIVE,
        status: str = "queued",
        with_snapshot: bool = True,
        place: Place | None = None,
    ) -> Viewer | Finished:
        """Watch a stream after ``cursor`` (None: from its beginning). The viewer must be driven at once.

        ``place``: the result of ``reserve``, which the viewer shares; None: a place of no tenant.

        Without a cursor, a dialect that has a snapshot begins with it, unless ``with_snapshot`` is False. ``status`` is
        the status of a stream that has no entry yet.
        Finished: the cursor is the id of the terminal event. Raises LogUnavailable when (1) the room could not be
        filled within ``timeout_s``, (2) the tail gave up; Busy when (3) ``max_rooms`` is met, (4) the hub drains;
        Unauthorized when (5) the place was ended; and what ``reserve`` raises. ``refuse`` makes the response to Busy.
        """
        if self._is_draining:
            raise Busy("this front-end is draining")
        began_at = asyncio.get_running_loop().time()
        with place or self.reserve("") as taken_place:
            tenancy = self._tenancies.get(stream_id) or self._open(stream_id, status=status)
            with self._arrival(tenancy):
                await self._until_open(tenancy, timeout_s)
                if self._is_draining:
                    raise Busy("this front-end is draining")
                taken_place.check()
                begin = tenancy.room.place(cursor)
                if isinstance(begin, Finished):
                    return begin
                viewer = Viewer(tenancy.room, dialect, begin=begin, with_snapshot=with_snapshot)
                viewer.count_from(began_at)
                self.counts.resumed[dialect.name] += cursor is not None
                self.admission.enter(viewer, taken_place)
                self._all_left.clear()
                if len(tenancy.room.viewers) == 1:
                    self.recount(stream_id)
                return viewer

    def is_open(self, stream_id: str) -> bool:
        """Whether this hub follows the stream and it has not ended: the hub learns of every change."""
        tenancy = self._tenancies.get(stream_id)
        return tenancy is not None and tenancy.opening.done() and not tenancy.room.is_over

    @property
    def admits_at_once(self) -> bool:
        """Whether ``join`` waits for nothing where ``is_open``: few viewers came in this turn of the loop."""
        return self._flusher.turns.arrivals.is_open

    def end_of(self, stream_id: str) -> Cursor | None:
        """The end to which the room of this id has followed its stream; None: it is open, or there is no room."""
        room = self._tenancies[stream_id].room if stream_id in self._tenancies else None
        return Cursor(room.epoch, room.last_seq) if room is not None and room.is_over else None

    def close_replaced(self, stream_id: str, *, end: Cursor | None) -> None:
        """Close a room that was followed to another end than ``end``, the one of the id's stream now (None: open)."""
        if self.end_of(stream_id) not in (None, end):
            self._close(self._tenancies[stream_id], StopReason.FEED_LOST)

    def refuse(self, error: Busy, *, dialect: Dialect = NATIVE) -> Refused:
        """The response to a failed ``join``, for clients that never reconnect after a status other than 200."""
        unserved = StopReason.LOG_UNAVAILABLE if isinstance(error, LogUnavailable) else StopReason.LIMIT
        reason = StopReason.DRAIN if self._is_draining else unserved
        return Refused(reason, dialect.open("").bye(reason.code, reconnect=True, retry_ms=self.limits.draw_retry_ms()))

    def viewers(self) -> Mapping[str, int]:
        """The number of viewers of each stream that has any."""
        counts = ((stream_id, len(tenancy.room.viewers)) for stream_id, tenancy in self._tenancies.items())
        return {stream_id: count for stream_id, count in counts if count}

    async def turns(self, timeout_s: float) -> Mapping[str, int]:
        """Streams to be recounted since the previous call, with their viewers now.

        Waits for one such stream; empty after ``timeout_s``.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._has_turned.wait()
        turned, self._turned = self._turned, set()
        self._has_turned.clear()
        watched = {each: self._tenancies[each].room.viewers for each in turned & self._tenancies.keys()}
        return {each: len(watched.get(each, ())) for each in turned}

    def statistics(self) -> HubStatistics:
        """Numbers for metrics; the rest of them is in ``counts``, which this completes, and ``flush_lag``."""
        for room in self._rooms():
            room.settle_counts()
        stopped, rooms = dict(self.counts.stopped), len(self._tenancies)
        return HubStatistics(self.admission.viewers, len(self.viewers()), rooms, self._ledger.bytes, stopped)

    @property
    def flush_lag(self) -> Buckets:
        """From the arrival of the oldest entry of each flush to the end of the flush."""
        return self._flusher.lag

    def most_watched(self, limit: int, *, by_lag: bool = False) -> list[WatchedStream]:
        """The streams with the most viewers here, or whose viewers lag most."""
        return most_watched((tenancy.room for tenancy in self._tenancies.values()), limit, by_lag=by_lag)

    def tail_lost(self) -> None:
        """The tail ended without a reason: every viewer is stopped, resumably, and new ones open new rooms."""
        for tenancy in tuple(self._tenancies.values()):
            self._close(tenancy, StopReason.FEED_LOST)

    async def drain(self, *, window_s: float) -> None:
        """Admit no viewer, and stop all viewers, spread over ``window_s``; stuck ones are cut at the end.

        Viewers that cannot resume elsewhere exactly where they were go last: their answers may end until then.
        """
        self._is_draining = True
        viewers = [viewer for room in self._rooms() for viewer in room.viewers]
        random.shuffle(viewers)
        viewers.sort(key=lambda viewer: not viewer.resumes_anywhere)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for place, viewer in enumerate(viewers):
            pause_s = begin + window_s * place / len(viewers) - loop.time()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            viewer.stop(StopReason.DRAIN)
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._all_left.wait()
        except TimeoutError:
            limit_reached("DRAIN_WINDOW_S")
            self._cut_all(StopReason.DRAIN)

    async def aclose(self) -> None:
        """Cut the remaining viewers, close all rooms, and end the hub's tasks. It admits no viewer afterwards."""
        self._is_draining = True
        self._cut_all(StopReason.DRAIN)
        for tenancy in tuple(self._tenancies.values()):
            self._close(tenancy, StopReason.DRAIN)
        self._flusher.close()
        self._ticks.cancel()
        if self._shrinking is not None:
            self._shrinking.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

    # -- called by rooms; none of these calls a room within the call

    def room_grew(self) -> None:
        """Keep ``hub_bytes`` (rule 4), by the turn after the next flush."""
        if self._ledger.bytes > self.limits.hub_bytes and self._shrinking is None:
            self._shrinking = asyncio.get_running_loop().call_soon(self._shrink)

    def room_may_lag(self, room: Room) -> None:
        """A viewer has seen entries that the room does not have: have its log read once more."""
        if (tenancy := self._tenancies.get(room.stream_id)) is not None and tenancy.room is room:
            tenancy.watch.reread()

    def room_failed(self, room: Room, reason: StopReason) -> None:
        """Close a room whose supply has failed, in the next turn."""
        if (tenancy := self._tenancies.get(room.stream_id)) is not None and tenancy.room is room:
            asyncio.get_running_loop().call_soon(self._close, tenancy, reason)

    def viewer_left(self, room: Room, viewer: Viewer) -> None:
        """Count the viewer, and release its place."""
        reason = viewer.stop_reason or StopReason.CLIENT_GONE
        self.admission.left(viewer, is_gone=reason is StopReason.CLIENT_GONE and not self._is_draining)
        if not room.viewers:
            self.recount(room.stream_id)
            self._closed_rooms.discard(room)
            if (tenancy := self._tenancies.get(room.stream_id)) is not None and tenancy.room is room:
                self._note_if_empty(tenancy)
        if not self.admission.viewers:
            self._all_left.set()

    # -- rooms

    def recount(self, stream_id: str) -> None:
        """It got its first viewer or lost its last, or one that was counted in advance did not come: see ``turns``."""
        self._turned.add(stream_id)
        self._has_turned.set()

    def _open(self, stream_id: str, *, status: str) -> _Tenancy:
        if len(self._tenancies) >= self.limits.max_rooms:
            unwatched = self._unwatched()
            if not unwatched:
                limit_reached("MAX_VIEWERS")  # there are as many rooms
                raise Busy("as many streams as this front-end serves")
            self._close(unwatched[0], StopReason.LIMIT)
        room = Room(
            stream_id,
            status=status,
            owner=self,
            reader=self._reader,
            limits=self.limits,
            ledger=Ledger(self._ledger),
            unsent=self._unsent,
            turns=self._flusher.turns,
            counts=self.counts,
            places=self._places,
        )
        tenancy = _Tenancy(room, self._tail.watch(stream_id, room))
        tenancy.opening.add_done_callback(partial(self._opened, tenancy))
        self._tenancies[stream_id] = tenancy
        self._ticks.schedule()
        return tenancy

    async def _until_open(self, tenancy: _Tenancy, timeout_s: float) -> None:
        opening = tenancy.opening
        if not opening.done():
            await asyncio.wait({opening}, timeout=timeout_s)
        await self._flusher.turns.arrivals.enter()
        if not opening.done():
            raise LogUnavailable("the log did not answer in time")
        if self._tenancies.get(tenancy.room.stream_id) is not tenancy:
            raise LogUnavailable("the stream's room was closed before it was filled")

    def _opened(self, tenancy: _Tenancy, opening: asyncio.Task[None]) -> None:
        """Runs before the viewers that wait for the opening."""
        if not opening.cancelled() and (error := opening.exception()) is not None:
            _log.warning("room_not_filled", stream=tenancy.room.stream_id, error=str(error))
            self._close(tenancy, StopReason.FEED_LOST)

    def _close(self, tenancy: _Tenancy, reason: StopReason) -> None:
        """Stop the room's viewers and forget the room. A second call does nothing."""
        room = tenancy.room
        if self._tenancies.get(room.stream_id) is not tenancy:
            return
        del self._tenancies[room.stream_id]
        if room.viewers:
            self._closed_rooms.add(room)
        tenancy.watch.close()
        tenancy.opening.cancel()
        for task in (tenancy.opening, *room.close(reason)):
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _shrink(self) -> None:
        """Forget somewhat more than needed, so that the next entries need no further call."""
        self._shrinking = None
        limit_reached("HUB_BYTES")
        goal = self.limits.hub_bytes - self.limits.hub_bytes // 16
        for tenancy in self._unwatched():
            if self._ledger.bytes > goal:
                self._close(tenancy, StopReason.LIMIT)
        rooms = [tenancy.room for tenancy in self._tenancies.values()]
        for room in rooms if self._ledger.bytes > goal else ():
            room.shed()
        share = max(0, goal - self._unsent.bytes) // max(1, len(rooms))  # of what transcripts and transports leave
        for room in rooms:
            while self._ledger.bytes > goal and room.ledger.bytes > share and room.drop_oldest():
                pass

    def _rooms(self) -> list[Room]:
        return [*(tenancy.room for tenancy in self._tenancies.values()), *self._closed_rooms]

    def _unwatched(self) -> list[_Tenancy]:
        """Rooms without a viewer, present or arriving; the one left longest ago first."""
        unwatched = [
            (tenancy.room.empty_since, at, tenancy)
            for at, tenancy in enumerate(self._tenancies.values())
            if tenancy.room.empty_since is not None
        ]
        return [tenancy for _, _, tenancy in sorted(unwatched, key=lambda each: each[:2])]

    @contextmanager
    def _arrival(self, tenancy: _Tenancy) -> Iterator[None]:
        """A viewer is about to enter: the room stays open."""
        tenancy.arriving += 1
        tenancy.room.empty_since = None
        try:
            yield
        finally:
            tenancy.arriving -= 1
            self._note_if_empty(tenancy)

    def _note_if_empty(self, tenancy: _Tenancy) -> None:
        if not tenancy.arriving and not tenancy.room.viewers:
            tenancy.room.empty_since = asyncio.get_running_loop().time()

    # -- time

    def _tick(self, now: float, is_late: bool) -> None:
        self.admission.check(now)
        if not is_late:
            rooms, writes = self._rooms(), LiveWrites(now)
            for room in rooms:
                guarded(room, room.beat, writes)
            writes.write()
            for room in rooms:
                guarded(room, room.check, now)
        for tenancy in self._unwatched():
            left_at = tenancy.room.empty_since
            if left_at is not None and now - left_at >= self.limits.linger_s:
                self._close(tenancy, StopReason.LIMIT)
        if self._tenancies or self._closed_rooms:
            self._ticks.schedule()

    def _cut_all(self, reason: StopReason) -> None:
        for viewer in [viewer for room in self._rooms() for viewer in room.viewers]:
            viewer.cut(reason)
