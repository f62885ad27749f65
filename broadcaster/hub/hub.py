"""The hub: fan-out inside one process. One room per watched stream, many viewers.

Rules
1. The first to join a stream opens its room; all who join meanwhile wait for the same opening. A room outlives its last
   viewer by ``linger_s``: who reconnects finds it warm.
2. Where a viewer begins is decided, and the viewer let in, with no await in between.
3. One timer for all (the tick) looks after heartbeats, stuck viewers and rooms that nobody watches.
4. All rooms and transports hold at most ``hub_bytes``: beyond it unwatched rooms close, then the others forget most.
5. In a drain nobody new comes in, and those who are in are sent away one by one over the window, so that the other
   front-ends meet a slope and not a wall.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, NamedTuple

from broadcaster.core.cursor import Cursor
from broadcaster.dialects import NATIVE, AnyDialect, Dialect
from broadcaster.errors import Busy, LogUnavailable
from broadcaster.hub.flusher import Flusher
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.places import Place, Places
from broadcaster.hub.ports import Feed, LogReader, Watch
from broadcaster.hub.resolve import Finished
from broadcaster.hub.ring import Ledger, Unsent
from broadcaster.hub.room import Room, Watcher
from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.hub.transcribed import TranscribedViewer
from broadcaster.hub.viewer import Viewer

# Deadlines are met within an eighth of the shortest of them; never worth more than twenty looks a second.
TICKS_PER_DEADLINE: Final = 8
SHORTEST_TICK_S: Final = 0.05
LONGEST_TICK_S: Final = 1.0
# A tick that comes later than this was held up by the loop.
LATE_TICK_S: Final = 0.5
FAREWELL_S: Final = 0.5  # for a viewer to take its "bye": a socket that drains at all takes it at once

log: Final = logging.getLogger(__name__)


class HubStatistics(NamedTuple):
    """What the hub holds now (viewers, rooms, bytes), and how its viewers ended so far."""

    viewers: int
    rooms: int
    bytes: int
    stopped: Mapping[StopReason, int]


class _Tenancy:
    """A room in use: its watch, its opening, and how many are about to come in."""

    __slots__ = ("arriving", "opening", "room", "watch")

    def __init__(self, room: Room, watch: Watch) -> None:
        self.room = room
        self.watch = watch
        self.opening = asyncio.create_task(watch.synced())
        self.arriving = 0


class Hub:
    """All rooms of one front-end. Lives on one event loop; end it with ``aclose``."""

    def __init__(self, feed: Feed, reader: LogReader, *, limits: HubLimits | None = None) -> None:
        self._feed = feed
        self._reader = reader
        self.limits = HubLimits() if limits is None else limits
        self._tenancies: dict[str, _Tenancy] = {}
        self._flusher = Flusher(self.room_grew)
        self._ledger = Ledger()
        self._unsent = Unsent(self._ledger, max_bytes=self.limits.hub_bytes)
        self._places = asyncio.Semaphore(self.limits.page_reads)
        self._admission = Places(self.limits)
        self._held: dict[Watcher, Place] = {}  # by whom
        self._stopped: Counter[StopReason] = Counter()
        self._is_draining = False
        self._all_left = asyncio.Event()
        self._all_left.set()
        self._turned: set[str] = set()
        self._has_turned = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self._is_late = False
        self._shrinking: asyncio.Handle | None = None
        self._closed_rooms: set[Room] = set()  # closed, but not yet left by all its viewers
        self._ending: set[asyncio.Task[None]] = set()

    def reserve(self, tenant: str, *, waits: bool = False) -> Place:
        """A viewer's place, to be entered at once; ``waits``: for a request that reads nothing, a long poll.

        Raises Busy when the hub drains or ``max_viewers`` is met, TenantLimit at a bound of the tenant.
        """
        if self._is_draining:
            raise Busy("this front-end is draining")
        return self._admission.take(tenant, waits=waits)

    @property
    def is_draining(self) -> bool:
        """Nobody new is let in."""
        return self._is_draining

    async def join(
        self,
        stream_id: str,
        *,
        cursor: Cursor | None,
        timeout_s: float,
        encoder: AnyDialect = NATIVE,
        status: str = "queued",
        with_prelude: bool = True,
        place: Place | None = None,
    ) -> Viewer | Finished:
        """Watch a stream after ``cursor`` (None: from its beginning). The viewer must be driven at once.

        ``place``: what ``reserve`` gave, which the viewer holds too from here on; None: one of no tenant.

        Without a cursor, a dialect that has a prelude begins with it, unless ``with_prelude`` is False. ``status`` is
        how a stream stands that has no entry yet; entries know better.
        Finished: the cursor is the terminal's own id. Raises LogUnavailable when (1) the room could not be filled
        within ``timeout_s``, (2) the feed gave up; Busy when (3) ``max_rooms`` is met, (4) the hub drains, and what
        ``reserve`` raises. ``refuse`` makes the answer of any of them.
        """
        if self._is_draining:
            raise Busy("this front-end is draining")
        with place or self.reserve("") as held:
            tenancy = self._tenancies.get(stream_id) or self._open(stream_id, status=status)
            with self._arrival(tenancy):
                await self._until_open(tenancy, timeout_s)
                if self._is_draining:
                    raise Busy("this front-end is draining")
                begin = tenancy.room.place(cursor)
                if isinstance(begin, Finished):
                    return begin
                viewer = (
                    TranscribedViewer(tenancy.room, encoder, begin=begin, with_prelude=with_prelude)
                    if isinstance(encoder, Dialect)
                    else Viewer(tenancy.room, encoder, begin=begin)
                )
                self._held[viewer] = held.__enter__()
                self._all_left.clear()
                if len(tenancy.room.viewers) == 1:
                    self._note_turn(stream_id)
                return viewer

    def is_open(self, stream_id: str) -> bool:
        """Whether the stream is watched here, or was a moment ago, and has not ended: its feed tells all changes."""
        tenancy = self._tenancies.get(stream_id)
        return tenancy is not None and tenancy.opening.done() and not tenancy.room.is_over

    def refuse(self, error: Busy, *, encoder: AnyDialect = NATIVE) -> Refused:
        """The answer to a viewer whose ``join`` failed, for clients that die for good on anything but HTTP 200."""
        reason = StopReason.LIMIT
        if self._is_draining:
            reason = StopReason.DRAIN
        elif isinstance(error, LogUnavailable):
            reason = StopReason.LOG_UNAVAILABLE
        if isinstance(encoder, Dialect):
            return Refused(reason, encoder.open("").bye(reason.code, reconnect=True))
        return Refused(reason, encoder.bye(reason.code, reconnect=True, retry_ms=self.limits.draw_retry_ms()))

    def viewers(self) -> Mapping[str, int]:
        """How many watch each stream; streams that nobody watches are not named."""
        counts = ((stream_id, len(tenancy.room.viewers)) for stream_id, tenancy in self._tenancies.items())
        return {stream_id: count for stream_id, count in counts if count}

    async def turns(self, timeout_s: float) -> Mapping[str, int]:
        """Streams that got their first viewer or lost their last since the last call, and how many each has now.

        Waits for one; empty when ``timeout_s`` went by.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._has_turned.wait()
        turned, self._turned = self._turned, set()
        self._has_turned.clear()
        watched = {each: self._tenancies[each].room.viewers for each in turned & self._tenancies.keys()}
        return {each: len(watched.get(each, ())) for each in turned}

    def statistics(self) -> HubStatistics:
        """Numbers for metrics."""
        return HubStatistics(len(self._held), len(self._tenancies), self._ledger.bytes, dict(self._stopped))

    def feed_lost(self) -> None:
        """The feed died without a word: every viewer is sent away, resumably, and new ones open new rooms."""
        for tenancy in tuple(self._tenancies.values()):
            self._close(tenancy, StopReason.FEED_LOST)

    async def drain(self, *, window_s: float) -> None:
        """Let nobody in, and send all viewers away, spread over ``window_s``; who is stuck is cut at the end.

        Those whose clients cannot go on elsewhere from where they were go last: their answers may end until then.
        """
        self._is_draining = True
        viewers = [viewer for room in self._rooms() for viewer in room.viewers]
        random.shuffle(viewers)
        viewers.sort(key=lambda viewer: isinstance(viewer, TranscribedViewer))
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
            self._cut_all(StopReason.DRAIN)

    async def aclose(self) -> None:
        """Cut whoever is left, close all rooms and the hub's own tasks. The hub lets nobody in afterwards."""
        self._is_draining = True
        self._cut_all(StopReason.DRAIN)
        for tenancy in tuple(self._tenancies.values()):
            self._close(tenancy, StopReason.DRAIN)
        self._flusher.close()
        for handle in (self._timer, self._shrinking):
            if handle is not None:
                handle.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

    # -- what rooms tell

    def room_is_due(self, room: Room) -> None:
        """Flush it with the others that are due."""
        self._flusher.add(room)

    def room_grew(self) -> None:
        """Keep ``hub_bytes`` (rule 4), by the turn after the next flush."""
        if self._ledger.bytes > self.limits.hub_bytes and self._shrinking is None:
            self._shrinking = asyncio.get_running_loop().call_soon(self._shrink)

    def room_may_lag(self, room: Room) -> None:
        """Have its log read again."""
        tenancy = self._tenancies.get(room.stream_id)
        if tenancy is not None and tenancy.room is room:
            tenancy.watch.reread()

    def room_failed(self, room: Room, reason: StopReason) -> None:
        """Close a room whose supply has failed, in the next turn."""
        tenancy = self._tenancies.get(room.stream_id)
        if tenancy is not None and tenancy.room is room:
            asyncio.get_running_loop().call_soon(self._close, tenancy, reason)

    def viewer_left(self, room: Room, viewer: Watcher) -> None:
        """Count it, and take back its place."""
        reason = viewer.stop_reason or StopReason.CLIENT_GONE
        self._held.pop(viewer).leave(is_gone=reason is StopReason.CLIENT_GONE and not self._is_draining)
        self._stopped[reason] += 1
        if not room.viewers:
            self._note_turn(room.stream_id)
            self._closed_rooms.discard(room)
            tenancy = self._tenancies.get(room.stream_id)
            if tenancy is not None and tenancy.room is room:
                self._note_if_empty(tenancy)
        if not self._held:
            self._all_left.set()

    # -- rooms

    def _note_turn(self, stream_id: str) -> None:
        self._turned.add(stream_id)
        self._has_turned.set()

    def _open(self, stream_id: str, *, status: str) -> _Tenancy:
        if len(self._tenancies) >= self.limits.max_rooms:
            unwatched = self._unwatched()
            if not unwatched:
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
            places=self._places,
        )
        tenancy = _Tenancy(room, self._feed.watch(stream_id, room))
        tenancy.opening.add_done_callback(partial(self._opened, tenancy))
        self._tenancies[stream_id] = tenancy
        if self._timer is None:
            self._schedule_tick()
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
        """Runs before those who wait for the opening do."""
        if not opening.cancelled() and (error := opening.exception()) is not None:
            log.warning("the room of stream %s could not be filled: %s", tenancy.room.stream_id, error)
            self._close(tenancy, StopReason.FEED_LOST)

    def _close(self, tenancy: _Tenancy, reason: StopReason) -> None:
        """Send the room's viewers away and forget it. Closing again does nothing."""
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
        """Forget somewhat more than needed: the next entries shall not have to ask again."""
        self._shrinking = None
        goal = self.limits.hub_bytes - self.limits.hub_bytes // 16
        for tenancy in self._unwatched():
            if self._ledger.bytes > goal:
                self._close(tenancy, StopReason.LIMIT)
        rooms = [tenancy.room for tenancy in self._tenancies.values()]
        for room in rooms if self._ledger.bytes > goal else ():
            room.shed()
        for room in rooms:
            while self._ledger.bytes > goal and room.ledger.bytes > goal // len(rooms) and room.drop_oldest():
                pass

    def _rooms(self) -> list[Room]:
        return [*(tenancy.room for tenancy in self._tenancies.values()), *self._closed_rooms]

    def _unwatched(self) -> list[_Tenancy]:
        """Rooms that nobody watches or waits for, the one left longest ago first."""
        unwatched = [
            (tenancy.room.empty_since, at, tenancy)
            for at, tenancy in enumerate(self._tenancies.values())
            if tenancy.room.empty_since is not None
        ]
        return [tenancy for _, _, tenancy in sorted(unwatched, key=lambda each: each[:2])]

    @contextmanager
    def _arrival(self, tenancy: _Tenancy) -> Iterator[None]:
        """Somebody is about to come in: the room does not close under them."""
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

    def _tick_s(self) -> float:
        limits = self.limits
        shortest_s = min(limits.heartbeat_s, limits.lost_feed_s, limits.slow_viewer_s, limits.linger_s)
        return min(LONGEST_TICK_S, max(SHORTEST_TICK_S, shortest_s / TICKS_PER_DEADLINE))

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        # After a loop that stood still, what sockets owe is our own delay: they get one tick to take it.
        self._is_late = now - self._tick_due > LATE_TICK_S and not self._is_late
        if not self._is_late:
            for room in self._rooms():
                room.check(now)
        for tenancy in self._unwatched():
            left_at = tenancy.room.empty_since
            if left_at is not None and now - left_at >= self.limits.linger_s:
                self._close(tenancy, StopReason.LIMIT)
        self._timer = None
        if self._tenancies or self._closed_rooms:
            self._schedule_tick()

    def _schedule_tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._tick_due = loop.time() + self._tick_s()
        self._timer = loop.call_at(self._tick_due, self._tick)

    def _cut_all(self, reason: StopReason) -> None:
        for room in self._rooms():
            for viewer in tuple(room.viewers):
                viewer.cut(reason)
