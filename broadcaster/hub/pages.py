"""Entries that fell out of a room's ring, read back from the log in pages.

Rules
1. Pages are aligned by seq, so that viewers near one another request the same one. A page is read once, however many
   request it, and the newest few are kept for viewers a little behind. The larger a stream's events, the fewer are in
   a page: its readers hold a page in use, whatever the room's bound.
2. A page is accepted only where it agrees with the room's lineage: dense, the same ids, nothing that the tail has not
   delivered yet. It may begin later than requested: the log was trimmed meanwhile. Anything else means that the log was
   replaced: the tail will report it, and until then the readers are stopped (resumably).
3. While the log is unavailable, readers wait: after a pause they are woken, and may repeat the request.
4. All rooms of a hub share a few reading places: a thousand stragglers do not read at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.errors import LogUnavailable
from broadcaster.hub.ports import LogReader
from broadcaster.hub.replay.history import History
from broadcaster.hub.ring import ENTRY_OVERHEAD_BYTES, SEGMENT_BYTES, SEGMENT_ENTRIES, Ledger, Segment
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.observability.logs import get_logger

PAGE_ENTRIES: Final = SEGMENT_ENTRIES
PAGE_BYTES: Final = SEGMENT_BYTES
KEPT_PAGES: Final = 4
# Long enough to spare a log in trouble, short beside the heartbeat.
PAGE_RETRY_S: Final = 0.5

_log = get_logger(__name__)


class _PageRange(NamedTuple):
    """The seqs that a page is to hold."""

    first: int
    last: int


class PageReader(Protocol):
    """A viewer or transcript that may wait for a page. ``page`` is the last one that it received."""

    page: Segment | None

    def take_page(self, page: Segment) -> None:
        """The page. It may begin later than requested."""

    def wake(self) -> None:
        """No page came; it may be requested once more."""

    def stop(self, reason: StopReason) -> None:
        """No page will come."""


class Pages:
    """The pages of one room."""

    def __init__(
        self, stream_id: str, *, history: History, reader: LogReader, ledger: Ledger, places: asyncio.Semaphore
    ) -> None:
        self._stream_id = stream_id
        self._history = history
        self._reader = reader
        self._ledger = ledger
        self._places = places
        self._kept: dict[_PageRange, Segment] = {}
        self._reads: dict[_PageRange, asyncio.Task[None]] = {}
        self._readers: dict[_PageRange, dict[PageReader, int]] = {}

    def find(self, seq: int) -> Segment | None:
        """A kept page that holds ``seq``, or is known to begin after it because the log was trimmed."""
        for wanted, page in self._kept.items():
            if wanted.first <= seq <= page.last_seq:
                return page
        return None

    def request(self, seq: int, reader: PageReader, *, mean_bytes: int) -> None:
        """Have the page that holds ``seq`` (one of the lineage) read for the reader. A second call does nothing.

        ``mean_bytes`` is the size of the stream's events.
        """
        wanted = _range_of(seq, mean_bytes)
        self._readers.setdefault(wanted, {})[reader] = seq
        if wanted not in self._reads:
            self._reads[wanted] = asyncio.create_task(self._fetch(wanted))

    def keep_through(self, seq: int) -> None:
        """Entries after ``seq`` became void: forget them; readers of those may repeat their requests."""
        for wanted in [wanted for wanted, page in self._kept.items() if page.last_seq > seq]:
            self._kept.pop(wanted).release()
        for wanted in [wanted for wanted in self._reads if wanted.last > seq]:
            self._reads.pop(wanted).cancel()
            for reader in self._readers.pop(wanted):
                reader.wake()

    def clear(self) -> None:
        """Forget the kept pages; reads go on."""
        while self._kept:
            self._kept.popitem()[1].release()

    def close(self) -> list[asyncio.Task[None]]:
        """Forget all and read no more. Returns the cancelled reads, to be awaited."""
        self.clear()
        self._readers.clear()
        reads = list(self._reads.values())
        for read in reads:
            read.cancel()
        self._reads.clear()
        return reads

    async def _fetch(self, wanted: _PageRange) -> None:
        page: Segment | None = None
        is_later, last = False, 0
        try:
            async with self._places:
                last = min(wanted.last, self._history.lineage.last.seq)
                page = self._accept(wanted, await self._read(wanted.first, last))
        except LogUnavailable:
            await asyncio.sleep(PAGE_RETRY_S)
            is_later = True
        except Exception:
            _log.exception("page_read_failed", stream=self._stream_id)
        # From here nothing is awaited: a read that was cancelled never comes this far.
        del self._reads[wanted]
        for reader, seq in self._readers.pop(wanted).items():
            if is_later:
                reader.wake()
            elif page is not None and seq <= page.last_seq:
                reader.take_page(page)
            elif seq > last:  # it came, and was requested, while the page was read
                reader.wake()
            else:
                reader.stop(StopReason.LOG_GONE)

    async def _read(self, first: int, last: int) -> Sequence[Entry]:
        lineage = self._history.lineage
        first = max(first, lineage.first_seq)
        after = Cursor(lineage.epoch_at(first), first - 1)
        return await self._reader.read(self._stream_id, after=after, count=last - first + 1)

    def _accept(self, wanted: _PageRange, entries: Sequence[Entry]) -> Segment | None:
        """The page; None: the log does not hold what the tail delivered."""
        page: Segment | None = None
        lineage = self._history.lineage
        for entry in entries:
            if not lineage.contains(entry.cursor) or (page is not None and entry.seq != page.last_seq + 1):
                break
            if page is None:
                page = Segment(entry, ledger=self._ledger)
            else:
                page.append(entry)
        if page is None:
            return None
        if wanted in self._kept:
            self._kept.pop(wanted).release()
        elif len(self._kept) >= KEPT_PAGES:
            self._kept.pop(next(iter(self._kept))).release()
        self._kept[wanted] = page
        return page


def _range_of(seq: int, mean_bytes: int) -> _PageRange:
    """The page for ``seq``: a power of two entries, so that pages of different sizes still share their borders."""
    fitting = max(1, PAGE_BYTES // (mean_bytes + ENTRY_OVERHEAD_BYTES))
    entries = min(PAGE_ENTRIES, 1 << (fitting.bit_length() - 1))
    first = (seq - 1) // entries * entries + 1
    return _PageRange(first, first + entries - 1)
