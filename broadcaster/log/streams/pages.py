"""Reading a whole log, page by page: a page is one round trip, and one turn of work for the reader's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry

PAGE: Final = 1000


class EntryReader(Protocol):
    """Reads entries (``Streams`` is one)."""

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        """Up to ``count`` entries after (not including) ``after``; fewer only at the end of the log."""


async def read_pages(log: EntryReader, stream_id: str, *, after: Cursor = START) -> AsyncIterator[list[Entry]]:
    """The entries after a cursor, up to ``PAGE`` at once, until the end of the log.

    Of a log that has expired the terminal event is left. Raises LogUnavailable.
    """
    entries: list[Entry] | None = None
    while entries is None or len(entries) == PAGE:
        entries = await log.read(stream_id, after=after, count=PAGE)
        if entries:
            yield entries
            after = entries[-1].cursor
