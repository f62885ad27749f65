"""Viewers at the end of their stream whose sockets take everything: one write of shared bytes for each.

Rules
1. Who is live has pulled all that was delivered, owes no notice, and its socket holds nothing back. It has no cursor of
   its own: it stands where its group stands.
2. A group is written to once in a flush, whatever was delivered since the last one. The bytes are the same object for
   all its members; what a member costs is one ``write`` of the kernel (measured: 86 % of a delivery's CPU).
3. Whoever's socket takes only a part leaves the group with the rest: it is a cursor again, pumped when its socket
   drains, and comes back by itself. So do all as soon as the room has anything else to say than entries.
4. Heartbeats are the group's: nothing was written to it for ``heartbeat_s``, so nothing was to any member.
"""

from __future__ import annotations

from array import array
from typing import Protocol

from broadcaster.core.http_chunks import http_chunk
from broadcaster.dialects import Encoder
from broadcaster.hub.replay import Replay
from broadcaster.hub.writes import write_all


class Member(Protocol):
    """A viewer, as its group sees it."""

    def left_behind(self, seq: int, chunk: bytes, taken: int) -> None:
        """Not live any more: it has all up to ``seq``, but of ``chunk`` its socket took ``taken`` bytes only."""

    def recalled(self, seq: int) -> None:
        """Not live any more: it has all up to ``seq``."""


class LiveGroup:
    """The live viewers of one room and one dialect, by the numbers of their sockets. ``seq``: what was written last.

    ``source`` makes their frames.
    """

    __slots__ = ("_fds", "_heartbeat", "_written_at", "members", "seq", "source")

    def __init__(self, source: Encoder | Replay, seq: int, *, now: float) -> None:
        self.source = source
        self.seq = seq
        self._heartbeat = http_chunk(source.heartbeat)
        self.members: dict[int, Member] = {}
        self._fds: array[int] | None = None  # the members' numbers, made anew after one came or went
        self._written_at = now

    def enter(self, fd: int, member: Member) -> None:
        """One more, who has all up to ``seq``."""
        self.members[fd] = member
        self._fds = None

    def exit(self, fd: int) -> None:
        """It is gone, or has something else to hear. The socket must still be its own."""
        del self.members[fd]
        self._fds = None

    def write(self, chunk: bytes, *, through_seq: int, now: float) -> None:
        """Write the frames of all entries after ``seq``, to everybody; ``chunk`` is a whole HTTP chunk."""
        self.seq = through_seq
        self._written_at = now
        fds = self._fds
        if fds is None:
            fds = self._fds = array("i", self.members)
        for fd, taken in write_all(fds, chunk):
            self._fds = None
            self.members.pop(fd).left_behind(through_seq, chunk, taken)

    def beat(self, now: float, *, heartbeat_s: float) -> None:
        """Write a heartbeat when it is due."""
        if now - self._written_at >= heartbeat_s:
            self.write(self._heartbeat, through_seq=self.seq, now=now)

    def dissolve(self) -> None:
        """Let everybody go, told where it stands."""
        members, self.members = self.members, {}
        self._fds = None
        for member in members.values():
            member.recalled(self.seq)
