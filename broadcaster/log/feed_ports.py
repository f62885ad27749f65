"""The seams of the feed: what it needs of the log, and whom it tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason
from broadcaster.log.streams import Tail


class FeedLog(Protocol):
    """The log as a feed reads it (``Streams`` is one). Both raise LogUnavailable while it cannot answer."""

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        """Up to ``count`` entries after (not including) ``after``, rising by id."""
        ...

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]:
        """The end of each stream, in the order asked."""
        ...


class LapsedEnder(Protocol):
    """Ends feeds that their writers have left (``Lapses`` is one)."""

    async def end(self, stream_id: str, *, lease_ms: int, is_overlong: bool = False) -> bool:
        """End an open feed if its lease has lapsed and this process may; cut a lease that was seen overlong.

        Raises LogUnavailable.
        """
        ...


class KnownGeneration(NamedTuple):
    """What a watch remembers of a generation, for the case that Redis loses it."""

    tenant: str
    model: str


class LostEnder(Protocol):
    """Ends generations that Redis has lost (``Losses`` is one)."""

    def recall(self, stream_id: str) -> KnownGeneration | None:
        """What is known of a generation that is watched from now on."""
        ...

    async def end(self, stream_id: str, known: KnownGeneration, *, last: Cursor, missing_s: float) -> bool:
        """End a generation that has been missing for so long, if this process may; raises LogUnavailable."""
        ...


class OpenNotice(Protocol):
    """Takes notice of open generations that no worker seems to run (``Announcer`` is one)."""

    def notice(self, generation_id: str) -> None:
        """This generation is open, and its lease is missing."""


class StreamSink(Protocol):
    """Whom a watch tells. All calls come from the event loop and must not block.

    A call that raises has not happened: what it was told is void, and the stream is told anew from its start
    (``rewound(START)`` first).
    """

    def deliver(self, entries: Sequence[Entry]) -> None:
        """The next entries: dense, beginning at the last delivered seq + 1 (or the gap's ``last_seq`` + 1)."""

    def gap(self, gap: Gap) -> None:
        """Entries are gone for ever; the next one delivered is ``gap.last_seq`` + 1."""

    def rewound(self, keep: Cursor) -> None:
        """What was delivered after ``keep`` is void; what comes next (or is missing, by a gap) is ``keep.seq`` + 1."""

    def live(self) -> None:
        """All that the log held when asked has been delivered; again after each repair."""

    def stalled(self, reason: StallReason | None) -> None:
        """Why nothing comes; None: it moves again."""
