"""A stream's log, folded: what its events amount to, and whether all of them were there."""

from __future__ import annotations

from typing import NamedTuple

from broadcaster.core.cursor import Cursor
from broadcaster.core.fold import Fold, FoldState
from broadcaster.log.streams.pages import EntryReader, WholeCheck, read_pages


class FoldedLog(NamedTuple):
    """``last``: the newest entry; None for a log without entries. ``is_whole``: see `WholeCheck`."""

    state: FoldState
    last: Cursor | None
    is_whole: bool


async def read_folded(reader: EntryReader, stream_id: str) -> FoldedLog:
    """Read the log page by page and fold it. Raises LogUnavailable.

    The fold costs some microseconds per event and a page is a round trip, so the loop is never blocked for long.
    """
    fold, last, check = Fold(), None, WholeCheck()
    async for entries in read_pages(reader, stream_id):
        for entry in entries:
            check.take(entry)
            fold.apply(entry.event)
        last = entries[-1].cursor
    return FoldedLog(fold.state, last, check.is_whole)
