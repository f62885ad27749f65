"""Viewers at the end of their stream whose sockets take everything: one write of shared bytes for each.

Rules
1. A live viewer has pulled all that was delivered, no notice is pending, and its socket took everything. It has no
   cursor of its own: it stands where its group stands.
2. A group is written to once in a flush, whatever was delivered since the last one. The bytes are the same object for
   all its members; what a member costs is one ``write`` of the kernel (measured: 86 % of a delivery's CPU).
3. A viewer whose socket takes only a part leaves the group with the rest: it is a cursor again, pumped when its socket
   drains, and returns by itself. So do all viewers as soon as the room has anything but entries to send.
4. Heartbeats are the group's: nothing was written to it for ``heartbeat_s``, so nothing was to any member.
"""

from __future__ import annotations

from array import array
from typing import Protocol

from broadcaster.core.sse import http_chunk
from broadcaster.hub.live.counts import HubCounts
from broadcaster.hub.live.writes import write_all
from broadcaster.hub.replay.sources import FrameSource


class Member(Protocol):
    """A viewer, as its group sees it."""

    def left_behind(self, seq: int, chunk: bytes, taken: int) -> None:
        """Not live any more: it was sent all up to ``seq``, but of ``chunk`` its socket took ``taken`` bytes only."""

    def recalled(self, seq: int) -> None:
        """Not live any more: it was sent all up to ``seq``."""

    def served(self) -> None:
        """It was sent an entry."""


class LiveGroup:
    """The live viewers of one room and one dialect, by the numbers of their sockets. ``seq``: what was written last.

    ``source`` makes their frames. ``sent_bytes`` counts the frames of entries that were written to each member.
    A write counts for itself alone: what it is for all members is added to ``counts`` before their number changes, and
    when ``settle`` is called.
    """

    __slots__ = (
        "_counts",
        "_fds",
        "_heartbeat",
        "_settled",
        "_unserved",
        "_written_at",
        "members",
        "sent_bytes",
        "seq",
        "source",
    )

    def __init__(self, source: FrameSource, seq: int, *, now: float, counts: HubCounts) -> None:
        self.source = source
        self.seq = seq
        self._counts = counts
        self._settled = seq, 0
        self._heartbeat = http_chunk(source.dialect.heartbeat)
        self.members: dict[int, Member] = {}
        self._fds: array[int] | None = None  # the members' numbers, made anew after a change
        self._written_at = now
        self.sent_bytes = 0
        self._unserved: dict[int, Member] = {}  # members that were sent no entry yet

    def enter(self, fd: int, member: Member, *, is_served: bool = True) -> None:
        """One more, which was sent all up to ``seq``; ``is_served``: whether there was an entry among it."""
        self.settle()
        self.members[fd] = member
        self._fds = None
        if not is_served:
            self._unserved[fd] = member

    def exit(self, fd: int) -> None:
        """It is gone, or is sent something else. The socket must still be its own."""
        self.settle()
        del self.members[fd]
        self._unserved.pop(fd, None)
        self._fds = None

    def write(self, chunk: bytes, *, through_seq: int, now: float) -> None:
        """Write the frames of the entries after ``seq``, a whole HTTP chunk or nothing, to all members."""
        self.seq = through_seq
        if not chunk:
            return
        self.sent_bytes += len(chunk)
        self._written_at = now
        if shortfalls := write_all(self._fds or self._sockets(), chunk):
            self._leave_behind(shortfalls, chunk)
        if self._unserved:
            self._serve()

    def beat(self, now: float, *, heartbeat_s: float) -> None:
        """Write a heartbeat when it is due."""
        if now - self._written_at >= heartbeat_s:
            self._written_at = now
            self._leave_behind(write_all(self._fds or self._sockets(), self._heartbeat), self._heartbeat)

    def dissolve(self) -> None:
        """Recall all members, each at this group's ``seq``."""
        self.settle()
        members, self.members = self.members, {}
        self._unserved.clear()
        self._fds = None
        for member in members.values():
            member.recalled(self.seq)

    def settle(self) -> None:
        """Add what was written since the last call, for all members."""
        seq, sent_bytes = self._settled
        if seq != self.seq:
            viewers = len(self.members)
            self._counts.live_entries += (self.seq - seq) * viewers
            self._counts.live_bytes += (self.sent_bytes - sent_bytes) * viewers
            self._settled = self.seq, self.sent_bytes

    def _sockets(self) -> array[int]:
        fds = self._fds = array("i", self.members)
        return fds

    def _leave_behind(self, shortfalls: list[tuple[int, int]], chunk: bytes) -> None:
        for fd, taken in shortfalls:
            self.settle()
            self._fds = None
            self.members.pop(fd).left_behind(self.seq, chunk, taken)

    def _serve(self) -> None:
        unserved, self._unserved = self._unserved, {}
        for member in unserved.values():
            member.served()
