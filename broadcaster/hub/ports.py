"""What the hub needs from outside: a source that sends rooms their streams, a reader of the log, drivers of viewers.

``broadcaster.log`` implements the first two (LiveTail, Streams) and ``broadcaster.web`` the last. Neither imports this.
"""

from __future__ import annotations

from typing import Protocol

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import StreamSink


class Watch(Protocol):
    """A sink's subscription to one stream."""

    async def synced(self) -> None:
        """Wait for the first ``live()``. Raises LogUnavailable when the source failed or was closed before."""

    def reread(self) -> None:
        """Read the log to its end once more; ``live`` follows. Not within this call. No effect after the terminal."""

    def close(self) -> None:
        """Call the sink no more. Closing twice does nothing."""


class StreamSource(Protocol):
    """A live supply of entries."""

    def watch(self, stream_id: str, sink: StreamSink) -> Watch:
        """Send ``sink`` the whole log of the stream from its first entry, then what is appended. One watch a stream."""


class LogReader(Protocol):
    """Reads of the log's past."""

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        """Up to ``count`` entries after (not including) ``after``, rising by id. Raises LogUnavailable."""


class ViewerObserver(Protocol):
    """Notified of what happens to one viewer once."""

    def was_served(self, *, is_first_here: bool) -> None:
        """The viewer was given an entry, perhaps not its first; ``is_first_here``: as the first viewer of its room."""

    def left(self) -> None:
        """The viewer has left, and its numbers are final."""


class PushDriver(Protocol):
    """Drives a viewer from callbacks, on a socket of its own."""

    @property
    def fd(self) -> int:
        """The socket's number, for as long as the viewer is here."""

    def pump(self) -> None:
        """The viewer may have something to pull."""

    def beat(self, heartbeat: bytes) -> None:
        """Write this heartbeat: nothing was written for ``heartbeat_s``."""

    def abort(self) -> None:
        """The socket is broken: close the connection."""
