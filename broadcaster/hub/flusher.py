"""When rooms wake their viewers: once in a turn of the loop, however much came, and less often under load.

A room with new entries is flushed in the next turn: an idle hub does not delay a delivery. The bytes for the live
viewers of many rooms leave in one call (``LiveWrites``); after ``SOCKETS_A_TURN`` sockets the loop has a turn for all
else before the flush continues. When a flush itself takes longer than ``BUSY_S``, the next one waits for as long (at
most ``LONGEST_PAUSE_S``): what comes meanwhile shares its writes, and a hub that is offered more than it can write
grows slower by milliseconds instead of falling behind (at 2000 events/s to 1000 viewers 20 events share a write).

A room whose flush raises is closed, so that its viewers resume elsewhere. The flusher and the other rooms go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from broadcaster.hub.live.group import LiveWrites
from broadcaster.observability.counting import SHORT_S, Buckets
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)
T = TypeVar("T")

BUSY_S: Final = 0.001
LONGEST_PAUSE_S: Final = 0.002
TURN_S: Final = 0.01
# A write costs 4 to 10 µs: so many hold the loop for 1 to 3 ms. Rooms are not cut in two.
SOCKETS_A_TURN: Final = 256
# A viewer that enters costs 0.1 to 0.5 ms: the check of its request, its head, its first bytes.
ARRIVALS_A_TURN: Final = 50


class Flushable(Protocol):
    """A room."""

    def gather(self, writes: LiveWrites) -> bool:
        """Put what came since the last flush into the writes. Returns whether ``flush`` must follow them."""

    def flush(self, now: float) -> None:
        """Send what is left to all viewers (``now`` on the loop's clock)."""

    def fail(self) -> None:
        """Called after ``gather`` or ``flush`` has raised: stop serving these viewers."""


class TurnGate:
    """Lets at most ``most`` callers pass in one turn of the loop, in the order they came."""

    __slots__ = ("_admitted", "_crowd", "_is_armed", "_most", "_passed")

    def __init__(self, most: int) -> None:
        self._most = most
        self._passed = 0  # in this turn
        self._admitted = 0  # to the next one
        self._is_armed = False
        self._crowd: deque[asyncio.Future[None]] = deque()

    @property
    def is_open(self) -> bool:
        """Whether a caller would pass at once."""
        return not self._crowd and self._passed < self._most

    async def enter(self) -> None:
        """Return in a turn in which fewer than ``most`` others have passed; at once if this is such a turn."""
        loop = asyncio.get_running_loop()
        if not self._is_armed:
            self._is_armed = True
            loop.call_soon(self._begin_turn)
        if not self.is_open:
            turn: asyncio.Future[None] = loop.create_future()
            self._crowd.append(turn)
            await turn
        else:
            self._passed += 1

    def _begin_turn(self) -> None:
        self._passed, self._admitted = self._admitted, 0
        self._is_armed = bool(self._passed or self._crowd)
        if self._is_armed:  # before the crowd is woken that passes in the next turn, which so begins with this call
            asyncio.get_running_loop().call_soon(self._begin_turn)
        while self._crowd and self._admitted < self._most:
            turn = self._crowd.popleft()
            if not turn.done():
                turn.set_result(None)
                self._admitted += 1


class Turns:
    """Long work in pieces: each turn of the loop does as many of them as fit ``TURN_S``, in the order they came.

    A piece is short: the frames of one segment, a few writes to one socket. All other work of the loop waits for one
    turn at most, however many viewers there are. ``arrivals``: a crowd that waited for one room does not enter within
    one turn.
    """

    __slots__ = ("_handle", "_pieces", "arrivals")

    def __init__(self) -> None:
        self.arrivals = TurnGate(ARRIVALS_A_TURN)
        self._pieces: deque[Callable[[], None]] = deque()
        self._handle: asyncio.Handle | None = None

    def add(self, piece: Callable[[], None]) -> None:
        """Do this, but not within this call."""
        self._pieces.append(piece)
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._run)

    def close(self) -> None:
        """Do nothing more."""
        self._pieces.clear()
        if self._handle is not None:
            self._handle.cancel()

    def _run(self) -> None:
        until = time.perf_counter() + TURN_S
        try:
            for _ in range(len(self._pieces)):  # what these add is for the next turn
                self._pieces.popleft()()
                if time.perf_counter() >= until:
                    break
        finally:
            self._handle = asyncio.get_running_loop().call_soon(self._run) if self._pieces else None


class Flusher:
    """One for all rooms of a hub, with the ``turns`` of its viewers; ``on_flushed`` is called after each flush."""

    __slots__ = ("_due", "_due_since_s", "_flushing", "_handle", "_on_flushed", "_pause_s", "_took_s", "lag", "turns")

    def __init__(self, on_flushed: Callable[[], None]) -> None:
        self._on_flushed = on_flushed
        self.turns = Turns()
        self._due: list[Flushable] = []
        self._flushing: deque[Flushable] = deque()  # the rooms of the flush under way
        self._handle: asyncio.Handle | None = None
        self._pause_s = 0.0
        self._due_since_s = 0.0
        self._took_s = 0.0  # by the turns of the flush under way
        self.lag = Buckets(SHORT_S)
        """From the arrival of the oldest entry of each flush to the end of the flush."""

    @property
    def is_due(self) -> bool:
        """Whether a flush is on its way."""
        return self._handle is not None

    def add(self, room: Flushable) -> None:
        """Flush it soon; the room calls this once per flush."""
        self._due.append(room)
        if self._handle is None:
            self._begin()

    def close(self) -> None:
        """Flush nothing more, and give no viewer its turn."""
        self.turns.close()
        if self._handle is not None:
            self._handle.cancel()
        self._due.clear()
        self._flushing.clear()

    def _begin(self) -> None:
        loop, pause_s = asyncio.get_running_loop(), self._pause_s
        self._due_since_s = time.perf_counter()
        self._handle = loop.call_later(pause_s, self._flush) if pause_s else loop.call_soon(self._flush)

    def _flush(self) -> None:
        """The rooms of one flush, as many as one turn may have; the last turn of a flush begins the next one."""
        began_s = time.perf_counter()
        loop = asyncio.get_running_loop()
        if not self._flushing:
            self._flushing.extend(self._due)
            self._due.clear()
        self._write_rooms(LiveWrites(loop.time()))
        ended_s = time.perf_counter()
        self._took_s += ended_s - began_s
        if self._flushing:
            self._handle = loop.call_soon(self._flush)
            return
        self._handle = None
        self._on_flushed()
        self.lag.observe(ended_s - self._due_since_s)
        took_s, self._took_s = self._took_s, 0.0
        self._pause_s = min(took_s, LONGEST_PAUSE_S) if took_s > BUSY_S else 0.0
        if self._due:  # while this flush had its turns
            self._begin()

    def _write_rooms(self, writes: LiveWrites) -> None:
        """One call for the live viewers of several rooms; the others follow, after no write is left undone."""
        rooms, following = self._flushing, list[Flushable]()
        while rooms and writes.sockets + len(following) < SOCKETS_A_TURN:
            room = rooms.popleft()
            try:
                if room.gather(writes):
                    following.append(room)
            except Exception:
                _fail(room)
        writes.write()
        for room in following:
            guarded(room, room.flush, writes.now)


def guarded(room: Flushable, step: Callable[[T], None], argument: T) -> None:
    """Call ``step``, which is a method of the room. If it raises, only this room fails."""
    try:
        step(argument)
    except Exception:
        _fail(room)


def _fail(room: Flushable) -> None:
    """Log the error that is being handled, and have the room stop."""
    _log.exception("flush_failed")
    room.fail()
