"""Pages of the newest streams of a world in memory."""

from __future__ import annotations

from collections.abc import Sequence

from broadcaster.core.entry import Entry
from broadcaster.core.requests.progress import listed_progress
from broadcaster.log.jobs.lists.listing import Listed, Which
from broadcaster.log.streams.reader import ListedEnd, Meta


def page_of(
    metas: Sequence[Meta], are_listed: Sequence[bool], *, which: Which, limit: int, before: int | None
) -> Listed:
    """A page of the metas that are listed; they come in the order of their creation, and their places are indexes."""
    fitting = [
        (place, meta)
        for place, (meta, is_listed) in reversed([*enumerate(zip(metas, are_listed, strict=True))])
        if is_listed and (before is None or place < before) and which in ("all", "over" if meta.is_over else "open")
    ]
    last = fitting[limit - 1][0] if len(fitting) > limit else None
    return Listed([meta for _, meta in fitting[:limit]], last)


def listed_end(entries: Sequence[Entry]) -> ListedEnd:
    """Where a stream stands in a list."""
    last = entries[-1].cursor if entries else None
    return ListedEnd(last, True, listed_progress(each.event for each in reversed(entries)))


def left_of(meta: Meta, entries: Sequence[Entry]) -> Sequence[Entry]:
    """What a reader finds: of a log that has expired, the terminal event is left in meta."""
    if entries or meta.terminal is None or meta.terminal_id is None:
        return entries
    return [Entry(meta.terminal_id.epoch, meta.terminal_id.seq, meta.terminal)]
