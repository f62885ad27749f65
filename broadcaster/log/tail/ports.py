"""What the tail needs from the rest of the log: its reads, and the parts that end abandoned streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broadcaster.core.cursor import Cursor
from broadcaster.log.streams.pages import EntryReader
from broadcaster.log.streams.reader import KnownGeneration
from broadcaster.log.streams.tails import Tail


class TailLog(EntryReader, Protocol):
    """The log as a tail reads it (``Streams`` implements it). Both methods raise LogUnavailable."""

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]:
        """The end of each stream, in the order of ``stream_ids``."""


class LapsedEnder(Protocol):
    """Ends feeds whose writers are gone (``Lapses`` implements it)."""

    async def end(self, stream_id: str, *, lease_ms: int, is_overlong: bool = False) -> bool:
        """End an open feed if its lease has lapsed and this process may; shorten a lease that was seen overlong.

        Returns whether the feed was ended here. Raises LogUnavailable.
        """


class LostEnder(Protocol):
    """Ends generations that Redis has lost (``Losses`` implements it)."""

    def recall(self, stream_id: str) -> KnownGeneration | None:
        """What this process knows of a generation that it watches from now on."""

    async def end(self, stream_id: str, known: KnownGeneration, *, last: Cursor, missing_s: float) -> bool:
        """End a generation that has been missing for ``missing_s``, if this process may.

        Returns whether it was ended here. Raises LogUnavailable.
        """


class OpenNotice(Protocol):
    """Records open generations that no worker seems to run (``Announcer`` implements it)."""

    def notice(self, generation_id: str) -> None:
        """This generation is open, and its lease is missing."""
