"""Entries that fell out of a room's ring, read back from the log in pages.

Rules
1. Pages are aligned by seq, so that viewers near one another ask for the same one; a page is read once, however many
   ask, and the newest few are kept for those who come a little later.
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
from typing import Final, Protocol

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.lineage import Lineage
from broadcaster.errors import LogUnavailable
from broadcaster.hub.ports import LogReader
from broadcaster.hub.ring import SEGMENT_ENTRIES, Ledger, Segment
from broadcaster.hub.stop_reasons import StopReason

PAGE_ENTRIES: Final = SEGMENT_ENTRIES
KEPT_PAGES: Final = 4
# Long enough to spare a log in trouble, short beside the heartbeat.
PAGE_RETRY_S: Final = 0.5

log: Final = logging.getLogger(__name__)


class _NoPage(Enum):
    """Why a read gave no page."""

    LATER = 1  # the log does not answer now
    GONE = 2  # the log does not hold what it told its feed


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
        self._kept: dict[int, Segment] = {}
        self._reads: dict[int, asyncio.Task[None]] = {}
        self._askers: dict[int, dict[PageAsker, int]] = {}

    def find(self, seq: int) -> Segment | None:
        """The kept page that holds ``seq``, or is known to begin after it because the log was trimmed."""
        page = self._kept.get(_number(seq))
        return page if page is not None and seq <= page.last_seq else None

    def ask(self, seq: int, asker: PageAsker) -> None:
        """Have the page that holds ``seq`` (one of the lineage) read; the asker is told. Asking again does nothing."""
        number = _number(seq)
        self._askers.setdefault(number, {})[asker] = seq
        if number not in self._reads:
            self._reads[number] = asyncio.create_task(self._fetch(number))

    def keep_through(self, seq: int) -> None:
        """Entries after ``seq`` became void: forget them, and who asked for them may ask again."""
        for number in [number for number, page in self._kept.items() if page.last_seq > seq]:
            self._kept.pop(number).release()
        for number in [number for number in self._reads if (number + 1) * PAGE_ENTRIES > seq]:
            self._reads.pop(number).cancel()
            for asker in self._askers.pop(number):
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

    async def _fetch(self, number: int) -> None:
        outcome: Segment | _NoPage = _NoPage.LATER
        try:
            async with self._places:
                outcome = self._believe(number, await self._read(number))
        except LogUnavailable:
            await asyncio.sleep(PAGE_RETRY_S)
        except Exception:
            log.exception("reading a page of stream %s failed", self._stream_id)
            outcome = _NoPage.GONE
        # From here nothing is awaited: a read that was cancelled never comes this far.
        del self._reads[number]
        for asker, seq in self._askers.pop(number).items():
            if outcome is _NoPage.LATER:
                asker.wake()
            elif isinstance(outcome, Segment) and seq <= outcome.last_seq:
                asker.take_page(outcome)
            else:
                asker.stop(StopReason.LOG_GONE)

    async def _read(self, number: int) -> Sequence[Entry]:
        lineage = self._lineage
        first = max(number * PAGE_ENTRIES + 1, lineage.first_seq)
        last = min((number + 1) * PAGE_ENTRIES, lineage.last.seq)
        after = Cursor(lineage.epoch_at(first), first - 1)
        return await self._reader.read(self._stream_id, after=after, count=last - first + 1)

    def _believe(self, number: int, entries: Sequence[Entry]) -> Segment | _NoPage:
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
        if number in self._kept:
            self._kept.pop(number).release()
        elif len(self._kept) >= KEPT_PAGES:
            self._kept.pop(next(iter(self._kept))).release()
        self._kept[number] = page
        return page


def _number(seq: int) -> int:
    return (seq - 1) // PAGE_ENTRIES
