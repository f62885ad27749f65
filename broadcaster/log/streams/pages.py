"""Reading a whole log, page by page: a page is one round trip, and one turn of work for the reader's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import ATTEMPT_PREFIX

PAGE: Final = 1000


class EntryReader(Protocol):
    """Reads entries (``Streams`` is one)."""

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        """Up to ``count`` entries after (not including) ``after``; fewer only at the end of the log."""


@dataclass(slots=True)
class WholeCheck:
    """Whether the entries of a log, read from its beginning, are all of the content so far.

    What is missing before an ``attempt`` does not count: that event voids it. Of an expired log only the terminal
    event is left; it may expire between two pages.
    """

    is_whole: bool = True
    _seq: int = 0

    def take(self, entry: Entry) -> None:
        """The next entry that was read."""
        self.is_whole = (self.is_whole and entry.seq == self._seq + 1) or entry.event.startswith(ATTEMPT_PREFIX)
        self._seq = entry.seq


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
