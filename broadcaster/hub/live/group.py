"""Viewers at the end of their stream whose sockets take everything: one write of shared bytes for each.

Rules
1. A live viewer has pulled all that was delivered, no notice is pending, and its socket took everything. It has no
   cursor of its own: it stands where its group stands.
2. A group is written to once in a flush, whatever was delivered since the last one, and together with the groups of
   other rooms (``LiveWrites``). The bytes are the same object for all its members; what a member costs is one ``write``
   of the kernel (measured: 86 % of a delivery's CPU).
3. A viewer whose socket takes only a part leaves the group with the rest: it is a cursor again, pumped when its socket
   drains, and returns by itself. So do all viewers as soon as the room has anything but entries to send.
4. Heartbeats are the group's: nothing was written to it for ``heartbeat_s``, so nothing was to any member.
"""

from __future__ import annotations

from array import array
from typing import Protocol

from broadcaster.core.notices import FastPath
from broadcaster.core.sse import http_chunk
from broadcaster.hub.live.counts import HubCounts
from broadcaster.hub.live.writes import Write, write_batch
from broadcaster.hub.replay.sources import FrameSource
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)


class Member(Protocol):
    """A viewer, as its group sees it."""

    def left_behind(self, seq: int, chunk: bytes, taken: int) -> None:
        """Not live any more: it was sent all up to ``seq``, but of ``chunk`` its socket took ``taken`` bytes only."""

    def recalled(self, seq: int) -> None:
        """Not live any more: it was sent all up to ``seq``."""

    def served(self) -> None:
        """It was sent an entry."""


class LiveWrites:
    """What is written to live groups at one time (``now`` on the loop's clock): one call for all of them.

    A group is in it once at most, until ``write``. ``sockets``: how many are to be written to.
    """

    __slots__ = ("_batch", "_groups", "now", "sockets")

    def __init__(self, now: float) -> None:
        self.now = now
        self.sockets = 0
        self._groups: list[LiveGroup] = []
        self._batch: list[Write] = []

    def add(self, group: LiveGroup, fds: array[int], chunk: bytes) -> None:
        """Write this to the sockets of these members."""
        self._groups.append(group)
        self._batch.append((fds, chunk))
        self.sockets += len(fds)

    def write(self) -> None:
        """Write everything, then take out the members whose sockets are full or broken."""
        groups, batch = self._groups, self._batch
        self._groups, self._batch, self.sockets = [], [], 0
        for place, fd, taken in write_batch(batch):
            try:
                groups[place].leave_behind(fd, batch[place][1], taken)
            except Exception:  # the other members have not been taken out yet
                _log.exception("viewer_not_left_behind")


class LiveGroup:
    """The live viewers of one room and one dialect, by the numbers of their sockets. ``source`` makes their frames.

    A write counts for itself alone: what it is for all members is added to ``counts`` before their number changes, and
    when ``settle`` is called. While the room's fast path is open, the writes do not even come here (fast_writer.py).
    """

    __slots__ = (
        "_counts",
        "_fast_path",
        "_fds",
        "_heartbeat",
        "_sent_bytes",
        "_seq",
        "_settled",
        "_unserved",
        "members",
        "source",
        "written_at",
    )

    def __init__(
        self, source: FrameSource, seq: int, *, now: float, counts: HubCounts, fast_path: FastPath | None
    ) -> None:
        self.source = source
        self._seq = seq
        self._fast_path = fast_path
        self._counts = counts
        self._settled = seq, 0
        self._heartbeat = http_chunk(source.dialect.heartbeat)
        self.members: dict[int, Member] = {}
        self._fds: array[int] | None = None  # the members' numbers, made anew after a change
        self.written_at = now
        """When bytes were written last (loop time), without those of the fast path while it is open."""
        self._sent_bytes = 0
        self._unserved: dict[int, Member] = {}  # members that were sent no entry yet

    @property
    def seq(self) -> int:
        """Seq of the last entry that was written."""
        self._close_fast_path()
        return self._seq

    @property
    def sent_bytes(self) -> int:
        """The frames of entries that were written to each member."""
        self._close_fast_path()
        return self._sent_bytes

    @property
    def has_unserved(self) -> bool:
        """Whether a member was sent no entry yet."""
        return bool(self._unserved)

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

    def put(self, chunk: bytes, *, through_seq: int, writes: LiveWrites) -> None:
        """Have the frames of the entries after ``seq``, a whole HTTP chunk or nothing, written to all members.

        Until then no member may enter, leave or be sent anything.
        """
        self._seq = through_seq
        if chunk:
            self._sent_bytes += len(chunk)
            self.written_at = writes.now
            writes.add(self, self.sockets(), chunk)
            if self._unserved:
                self._note_served()

    def beat(self, writes: LiveWrites, *, heartbeat_s: float) -> None:
        """Have a heartbeat written when it is due."""
        self._close_fast_path()
        if writes.now - self.written_at >= heartbeat_s:
            self.written_at = writes.now
            writes.add(self, self.sockets(), self._heartbeat)

    def dissolve(self) -> None:
        """Recall all members, each at this group's ``seq``."""
        self.settle()
        members, self.members = self.members, {}
        self._unserved.clear()
        self._fds = None
        for member in members.values():
            member.recalled(self._seq)

    def settle(self) -> None:
        """Add what was written since the last call, for all members."""
        self._close_fast_path()
        seq, sent_bytes = self._settled
        if seq != self._seq:
            viewers = len(self.members)
            self._counts.live_entries += (self._seq - seq) * viewers
            self._counts.live_bytes += (self._sent_bytes - sent_bytes) * viewers
            self._settled = self._seq, self._sent_bytes

    def settle_fast(self, entries: int, sent_bytes: int, written_at: float) -> None:
        """What was written while the fast path was open."""
        self._seq += entries
        self._sent_bytes += sent_bytes
        self.written_at = written_at

    def sockets(self) -> array[int]:
        """The members' sockets, until a member enters or leaves."""
        if self._fds is None:
            self._fds = array("i", self.members)
        return self._fds

    def leave_behind(self, fd: int, chunk: bytes, taken: int) -> None:
        """The socket of this member took only so many bytes of the chunk."""
        self.settle()
        self._fds = None
        self.members.pop(fd).left_behind(self._seq, chunk, taken)

    def _close_fast_path(self) -> None:
        if self._fast_path is not None and self._fast_path.is_open:
            self._fast_path.close()

    def _note_served(self) -> None:
        unserved, self._unserved = self._unserved, {}
        for member in unserved.values():
            member.served()
