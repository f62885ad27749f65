"""Entries that fell out of a room's ring, read back from the log in pages.

Rules
1. Pages are aligned by seq, so that viewers near one another ask for the same one; a page is read once, however many
   ask, and the newest few are kept for those who come a little later. The larger a stream's events, the fewer are in
   a page: a page in use is held by its readers, whatever the room's bound.
2. A page is believed only where it agrees with the room's lineage: dense, the same ids, nothing that the feed has not
   delivered yet. It may begin later than asked: the log was trimmed meanwhile. Anything else means that the log was
   replaced; its feed will find out and say so, and until then the askers are sent away (resumably).
3. While the log does not answer, askers are held: after a pause they are woken, and may ask again.
4. All rooms of a hub share a few reading places: a thousand stragglers are no thousand reads at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, Protocol

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.lineage import Lineage
from broadcaster.errors import LogUnavailable
from broadcaster.hub.ports import LogReader
from broadcaster.hub.ring import ENTRY_OVERHEAD_BYTES, SEGMENT_BYTES, SEGMENT_ENTRIES, Ledger, Segment
from broadcaster.hub.stop_reasons import StopReason

PAGE_ENTRIES: Final = SEGMENT_ENTRIES
PAGE_BYTES: Final = SEGMENT_BYTES
KEPT_PAGES: Final = 4
# Long enough to spare a log in trouble, short beside the heartbeat.
PAGE_RETRY_S: Final = 0.5

log: Final = logging.getLogger(__name__)


class _NoPage(Enum):
    """Why a read gave no page."""

    LATER = 1  # the log does not answer now
    GONE = 2  # the log does not hold what it told its feed


class _Range(NamedTuple):
    """The seqs that a page was asked for."""

    first: int
    last: int


class PageAsker(Protocol):
    """Who waits for a page."""

    def take_page(self, page: Segment) -> None:
        """Here it is. It may begin later than asked."""

    def wake(self) -> None:
        """No page came; ask again."""

    def stop(self, reason: StopReason) -> None:
        """No page will come."""


class Pages:
    """The pages of one room."""

    def __init__(
        self, stream_id: str, *, lineage: Lineage, reader: LogReader, ledger: Ledger, places: asyncio.Semaphore
    ) -> None:
        self._stream_id = stream_id
        self._lineage = lineage
        self._reader = reader
        self._ledger = ledger
        self._places = places
        self._kept: dict[_Range, Segment] = {}
        self._reads: dict[_Range, asyncio.Task[None]] = {}
        self._askers: dict[_Range, dict[PageAsker, int]] = {}

    def find(self, seq: int) -> Segment | None:
        """A kept page that holds ``seq``, or is known to begin after it because the log was trimmed."""
        for asked, page in self._kept.items():
            if asked.first <= seq <= page.last_seq:
                return page
        return None

    def ask(self, seq: int, asker: PageAsker, *, mean_bytes: int) -> None:
        """Have the page that holds ``seq`` (one of the lineage) read; the asker is told. Asking again does nothing.

        ``mean_bytes`` is the size of the stream's events.
        """
        asked = _range_of(seq, mean_bytes)
        self._askers.setdefault(asked, {})[asker] = seq
        if asked not in self._reads:
            self._reads[asked] = asyncio.create_task(self._fetch(asked))

    def keep_through(self, seq: int) -> None:
        """Entries after ``seq`` became void: forget them, and who asked for them may ask again."""
        for asked in [asked for asked, page in self._kept.items() if page.last_seq > seq]:
            self._kept.pop(asked).release()
        for asked in [asked for asked in self._reads if asked.last > seq]:
            self._reads.pop(asked).cancel()
            for asker in self._askers.pop(asked):
                asker.wake()

    def clear(self) -> None:
        """Forget the kept pages; reads go on."""
        while self._kept:
            self._kept.popitem()[1].release()

    def close(self) -> list[asyncio.Task[None]]:
        """Forget all and read no more. Answers the cancelled reads, to be awaited."""
        self.clear()
        self._askers.clear()
        reads = list(self._reads.values())
        for read in reads:
            read.cancel()
        self._reads.clear()
        return reads

    async def _fetch(self, asked: _Range) -> None:
        outcome: Segment | _NoPage = _NoPage.LATER
        try:
            async with self._places:
                outcome = self._believe(asked, await self._read(asked))
        except LogUnavailable:
            await asyncio.sleep(PAGE_RETRY_S)
        except Exception:
            log.exception("reading a page of stream %s failed", self._stream_id)
            outcome = _NoPage.GONE
        # From here nothing is awaited: a read that was cancelled never comes this far.
        del self._reads[asked]
        for asker, seq in self._askers.pop(asked).items():
            if outcome is _NoPage.LATER:
                asker.wake()
            elif isinstance(outcome, Segment) and seq <= outcome.last_seq:
                asker.take_page(outcome)
            else:
                asker.stop(StopReason.LOG_GONE)

    async def _read(self, asked: _Range) -> Sequence[Entry]:
        lineage = self._lineage
        first = max(asked.first, lineage.first_seq)
        last = min(asked.last, lineage.last.seq)
        after = Cursor(lineage.epoch_at(first), first - 1)
        return await self._reader.read(self._stream_id, after=after, count=last - first + 1)

    def _believe(self, asked: _Range, entries: Sequence[Entry]) -> Segment | _NoPage:
        page: Segment | None = None
        for entry in entries:
            if not self._lineage.contains(entry.cursor) or (page is not None and entry.seq != page.last_seq + 1):
                break
            if page is None:
                page = Segment(entry, ledger=self._ledger)
            else:
                page.append(entry)
        if page is None:
            return _NoPage.GONE
        if asked in self._kept:
            self._kept.pop(asked).release()
        elif len(self._kept) >= KEPT_PAGES:
            self._kept.pop(next(iter(self._kept))).release()
        self._kept[asked] = page
        return page


def _range_of(seq: int, mean_bytes: int) -> _Range:
    """The page for ``seq``: a power of two entries, so that pages of different sizes still share their borders."""
    fitting = max(1, PAGE_BYTES // (mean_bytes + ENTRY_OVERHEAD_BYTES))
    entries = min(PAGE_ENTRIES, 1 << (fitting.bit_length() - 1))
    first = (seq - 1) // entries * entries + 1
    return _Range(first, first + entries - 1)
