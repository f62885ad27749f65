"""Reads a stream's history once in a dialect that must know what came before, for all who come late.

Rules
1. A scribe stands somewhere in its room and goes to the room's end when somebody asks; whoever asks meanwhile waits
   for the same way. Who is served takes a fork, and the scribe stays: the next one has only the rest to wait for.
2. It stops before the terminal: that is said to each by itself, after the prelude.
3. It reads a few segments in a turn of the loop: a long history is thousands of entries, and others wait too.
4. What it keeps is about what it has read. It is counted once it is there, and given back when the room needs it or
   nobody is left: the next late one then has the whole way before it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import Gap
from broadcaster.dialects import Dialect, Transcript
from broadcaster.hub.frames import SharedFrames
from broadcaster.hub.ring import Segment
from broadcaster.hub.stop_reasons import StopReason

if TYPE_CHECKING:
    from broadcaster.hub.room import Room

SEGMENTS_A_TURN: Final = 4


class Late(Protocol):
    """Who comes late."""

    def wake(self) -> None:
        """The scribe may have got there."""

    def stop(self, reason: StopReason) -> None:
        """It will not."""


class Place(NamedTuple):
    """Where a late one begins: its own transcript, the last seq in it, and the opening that all share at this place."""

    transcript: Transcript
    seq: int
    opening: SharedFrames


class Scribe:
    """One room, one dialect."""

    def __init__(self, room: Room, dialect: Dialect) -> None:
        self._room = room
        self._dialect = dialect
        self._waiting: dict[Late, int] = {}  # with the round in which it asked last
        self._round = 0
        self._turn: asyncio.Handle | None = None
        self._counted = 0
        self._is_stuck = False
        self._is_dismissed = False
        self._made: tuple[int, SharedFrames] | None = None
        self._begin_again()

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for it."""
        return not self._waiting

    def place_at_end(self, late: Late) -> Place | None:
        """The room's end; None: it is not there yet, and ``late`` is woken to ask again, or stopped."""
        self._waiting[late] = self._round
        if self._is_there():
            self._waiting.pop(late, None)
            return Place(self._transcript.fork(), self._seq, self._opening())
        self.wake()
        return None

    def rewind(self, keep: Cursor) -> None:
        """What was after ``keep`` is void: a transcript cannot go back."""
        if self._seq > keep.seq:
            self._release()
            self._begin_again()
            self.wake()

    def dismiss(self) -> None:
        """It is not asked any more; who waits for it asks for another."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._is_dismissed = True
        self._release()
        self._wake_all()

    # -- of Pages

    def take_page(self, page: Segment) -> None:
        """The page that was asked for."""
        self._page: Segment | None = page
        self._go_on()

    def wake(self) -> None:
        """No page came; ask again, but not within this call: the room may not be done with what it was told."""
        if self._waiting and self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._go_on)

    def stop(self, reason: StopReason) -> None:
        """No page will come."""
        waiting, self._waiting = self._waiting, {}
        for late in waiting:
            late.stop(reason)

    # ------------------------------------------------------------------------------------------------------------ going

    @property
    def _end(self) -> int:
        return self._room.last_seq - self._room.is_over

    def _opening(self) -> SharedFrames:
        """The prelude and what must be said after it: made once for each place."""
        if self._made is None or self._made[0] != self._seq:
            self._forget_opening()
            opening = SharedFrames(self._transcript.prelude() + b"".join(self._told), ledger=self._room.unsent)
            opening.hold()
            self._made = self._seq, opening
        return self._made[1]

    def _forget_opening(self) -> None:
        if self._made is not None:
            self._made[1].release()
            self._made = None

    def _begin_again(self) -> None:
        self._transcript = self._dialect.open(self._room.public_id)
        self._seq = 0
        self._told: list[bytes] = []
        self._page = None
        self._bytes = 0

    def _go_on(self) -> None:
        self._turn = None
        if self._is_there():
            self._wake_all()
        elif not self._is_stuck:
            self.wake()

    def _is_there(self) -> bool:
        """Go on for a turn's share."""
        self._is_stuck = False
        for _ in range(SEGMENTS_A_TURN):
            if self._seq >= self._end:
                break
            if not self._step():
                self._is_stuck = True
                break
        if self._seq < self._end:
            return False
        self._page = None
        self._count()
        return True

    def _step(self) -> bool:
        """Read to the end of a segment, or past what is missing; False: a page must come first, or the way is over."""
        room, seq = self._room, self._seq + 1
        page = self._page
        segment = page if page is not None and page.first_seq <= seq <= page.last_seq else room.find(seq)
        if segment is None:
            if room.floor is not None and seq <= room.floor.last_seq:
                return self._skip(room.gap_before(room.floor.at, first_seq=seq))
            room.ask_page(self, seq)
            return False
        if segment.first_seq > seq:
            return self._skip(room.gap_before(segment.before, first_seq=seq))
        room.keep_bounds()  # it may be a page that was read for us
        entries = segment.after(self._seq)[: self._end - self._seq]
        self._transcript.encode(entries)
        self._seq = entries[-1].seq
        self._bytes += sum(len(entry.event) for entry in entries)
        return True

    def _skip(self, gap: Gap) -> bool:
        told = self._transcript.gap(gap)
        if told is None:
            # Not within this call: who asks is being pulled.
            asyncio.get_running_loop().call_soon(self.stop, StopReason.GAP)
            return False
        self._told.append(told)
        self._seq = gap.last_seq
        return True

    def _wake_all(self) -> None:
        """They come in the next turn at the latest; until then this scribe is not idle, and stays."""
        self._round += 1
        for late in tuple(self._waiting):
            late.wake()
        asyncio.get_running_loop().call_soon(self._let_go, self._round)

    def _let_go(self, round: int) -> None:
        """Who has not come has left, or is no late one any more."""
        self._waiting = {late: asked for late, asked in self._waiting.items() if asked >= round}

    def _count(self) -> None:
        if not self._is_dismissed and self._bytes != self._counted:
            self._room.ledger.add(self._bytes - self._counted)
            self._counted = self._bytes
            self._room.keep_bounds()

    def _release(self) -> None:
        self._forget_opening()
        self._room.ledger.add(-self._counted)
        self._counted = 0
