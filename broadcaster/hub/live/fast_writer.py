"""The hub's end of a stream's fast path: what came is written to the sockets of the room's live groups.

While the path is open, the groups' own numbers stand still. They learn what was written when the path is closed.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Final

from broadcaster.core.notices import FastPath
from broadcaster.dialects.writing import Chunker
from broadcaster.hub.live.group import LiveGroup, LiveWrites

MOST_UNSETTLED: Final = 64
MOST_UNSETTLED_BYTES: Final = 8192
"""When so many events or bytes were written, the path is closed and opened again: until then no ledger counts them."""

_NO_SOCKETS: Final = array("i")


class FastWriter:
    """One for each room; a ``Flushable``. ``on_full`` is called when it is time to settle.

    It writes to the first group itself, which nearly always is the only one, and has a further writer for each other.
    ``written_at``: when bytes were written to the group (loop time).
    """

    __slots__ = ("_chunk", "_fds", "_group", "_on_full", "_others", "_path", "_sent", "_sent_bytes", "written_at")

    def __init__(self, path: FastPath, on_full: Callable[[], None]) -> None:
        self._path = path
        self._on_full = on_full
        self._others: Sequence[FastWriter] = ()
        self._group: LiveGroup | None = None
        self._fds = _NO_SOCKETS
        self._chunk: Chunker
        self._sent = self._sent_bytes = 0  # events of the path, and their frames
        self.written_at = 0.0

    def begin(self, groups: Sequence[LiveGroup]) -> None:
        """The path is about to open, for the members of these groups, which have everything."""
        group, *others = groups
        self._group, self._fds, self._chunk = group, group.sockets(), group.source.chunk_next
        self._sent = self._sent_bytes = 0
        self.written_at = group.written_at
        self._others = [FastWriter(self._path, self._on_full) for _ in others]
        for writer, other in zip(self._others, others, strict=True):
            writer.begin([other])

    def settle(self, count: int) -> bool:
        """The path was closed, after so many events came. Whether all of them were written to all groups."""
        is_whole = self._sent == count
        if self._group is not None:
            self._group.settle_fast(self._sent, self._sent_bytes, self.written_at)
            self._group, self._fds = None, _NO_SOCKETS
        for other in self._others:
            is_whole = other.settle(count) and is_whole
        return is_whole

    def is_quiet(self, now: float, *, heartbeat_s: float) -> bool:
        """Whether a heartbeat is due to a group."""
        others = any(other.is_quiet(now, heartbeat_s=heartbeat_s) for other in self._others)
        return now - self.written_at >= heartbeat_s or others

    def gather(self, writes: LiveWrites) -> bool:
        """See Flushable. The hot path; see fast_path.py about its cost."""
        path, group = self._path, self._group
        path.is_due = False
        events = path.events
        if group is None or self._sent == len(events):  # the path was closed, or all was written
            return False
        chunk = self._chunk(path.epoch, path.last_seq, events[self._sent :])
        if chunk is None:
            path.close()
            return False
        self._sent = len(events)
        path.flushed_at = writes.now
        if chunk:
            self._sent_bytes += len(chunk)
            self.written_at = writes.now
            writes.add(group, self._fds, chunk)
        for other in self._others:
            other.gather(writes)
        return len(events) >= MOST_UNSETTLED or path.held_bytes >= MOST_UNSETTLED_BYTES

    def flush(self, now: float) -> None:
        """See Flushable."""
        self._on_full()

    def fail(self) -> None:
        """See Flushable. The room serves the viewers without the path, or fails as well."""
        self._path.close()
