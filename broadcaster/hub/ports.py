"""What the hub needs of the world: a feed that tells rooms what happens, a reader of the log, drivers of viewers.

``broadcaster.log`` fulfils the first two structurally, ``broadcaster.web`` the last; none imports anything from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason


class StreamSink(Protocol):
    """What a feed tells about one stream. Called from the event loop; every call returns at once and may not fail."""

    def deliver(self, entries: Sequence[Entry]) -> None:
        """The next entries, dense: they follow the last one delivered, the last gap or the last ``rewound``."""

    def gap(self, gap: Gap) -> None:
        """Every entry up to ``gap.last_seq`` is gone for ever; delivery goes on behind it."""

    def rewound(self, keep: Cursor) -> None:
        """What was delivered after ``keep`` is void (START: everything); delivery goes on at ``keep.seq + 1``."""

    def live(self) -> None:
        """All that the log held when it was asked has been delivered; again after each re-sync."""

    def stalled(self, reason: StallReason | None) -> None:
        """Nothing new comes, and why; None: it moves again."""


class Watch(Protocol):
    """One subscription of a sink."""

    async def synced(self) -> None:
        """Until the first ``live()``. Raises LogUnavailable when the feed gave up or was closed."""

    def reread(self) -> None:
        """Read the log to its end once more; ``live`` follows. Not within this call. No effect after the terminal."""

    def close(self) -> None:
        """Tell the sink nothing more. Closing again does nothing."""


class Feed(Protocol):
    """The live supply of entries."""

    def watch(self, stream_id: str, sink: StreamSink) -> Watch:
        """Tell ``sink`` the whole log of the stream from its first entry, then its live tail; one watch per stream."""


class LogReader(Protocol):
    """Reads of the log's past."""

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        """Up to ``count`` entries after (not including) ``after``, rising by id. Raises LogUnavailable."""


class PushDriver(Protocol):
    """Drives a viewer from callbacks, on a socket of its own."""

    @property
    def fd(self) -> int:
        """The socket's number, as long as the viewer has not left."""

    def pump(self) -> None:
        """There may be something to pull."""

    def beat(self, heartbeat: bytes) -> None:
        """Write this: nothing came for ``heartbeat_s``."""

    def abort(self) -> None:
        """The socket is broken: close the connection."""
