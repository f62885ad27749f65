"""Lists of a tenant's generations, newest first, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from broadcaster.core.status import OVER
from broadcaster.log.jobs.lists.recents import Recent, Recents
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.streams.reader import Brief, Meta, Streams

Which: TypeAlias = Literal["all", "open", "over"]

READ_AT_ONCE: Final = 200
# How many open generations are checked for those that the index misses (see recents.py).
OPEN_CHECKED: Final = 200


class Listed(NamedTuple):
    """A page of a list; ``next_before`` is where the next one begins (None: this was the last)."""

    metas: Sequence[Meta]
    next_before: int | None


class Listing:
    """Reads lists and mends their index. Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, recents: Recents, streams: Streams, queue: Queue, *, keep_ms: int) -> None:
        self._recents = recents
        self._streams = streams
        self._queue = queue
        self._keep_ms = keep_ms

    async def page(self, tenant: str, *, which: Which, limit: int, before: int | None) -> Listed:
        """Up to ``limit`` generations before a place (None: from the newest)."""
        if before is None:
            await self._record_missing(tenant)
        found: list[Recent] = []
        while len(found) <= limit:
            recents = await self._recents.page(tenant, before=before, count=READ_AT_ONCE)
            briefs = await self._streams.briefs([each.id for each in recents])
            await self._recents.drop(
                tenant, [each.id for each, brief in _pairs(recents, briefs) if brief.tenant is None]
            )
            found += [each for each, brief in _pairs(recents, briefs) if brief.tenant == tenant and _fits(brief, which)]
            if len(recents) < READ_AT_ONCE:
                break
            before = recents[-1].place
        listed = found[:limit]
        metas = await self._streams.metas([each.id for each in listed])
        return Listed(
            [meta for meta in metas if meta is not None and not meta.is_deleted],
            listed[-1].place if len(found) > limit else None,
        )

    async def _record_missing(self, tenant: str) -> None:
        missing = await self._recents.missing(tenant, await self._queue.newest_open(OPEN_CHECKED))
        for generation_id, brief in zip(missing, await self._streams.briefs(missing), strict=True):
            if brief.tenant == tenant and brief.is_listed:
                await self._recents.record(tenant, generation_id, keep_ms=self._keep_ms, created_ms=brief.created_ms)


def _pairs(recents: Sequence[Recent], briefs: Sequence[Brief]) -> zip[tuple[Recent, Brief]]:
    return zip(recents, briefs, strict=True)


def _fits(brief: Brief, which: Which) -> bool:
    return which == "all" or (brief.status in OVER) == (which == "over")
