"""Lists of a tenant's generations, newest first, page by page, and the index that they are read from.

Theory of operation. The index holds ids only; a list shows each generation from its meta. The index is written after
the job, and it may lag. A generation that it misses (an older front-end's, or one that a worker restored after Redis
came back empty) is found in the open index and recorded when a list is read. An expired one is dropped when a list
meets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from broadcaster.core.status import OVER
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.redis.connect import LogConnection, reply_to
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams.reader import Brief, Meta, Streams

Which: TypeAlias = Literal["all", "open", "over"]

READ_AT_ONCE: Final = 200
# How many open generations are checked for those that the index misses.
OPEN_CHECKED: Final = 200
RECENTS_KEPT: Final = 1000


class Recent(NamedTuple):
    """A generation's place in the list: ``place`` is unique in it, in microseconds since 1970."""

    id: str
    place: int


class Recents:
    """Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection) -> None:
        self._redis = connection.redis
        self._keys = connection.keys

    async def record(self, tenant: str, generation_id: str, *, keep_ms: int, created_ms: int = 0) -> None:
        """Put it in, as created now (0) or then; the whole index is kept for ``keep_ms`` at least."""
        keys, created_us = [self._keys.recent(tenant)], created_ms * 1000
        await SCRIPTS["record"].run(self._redis, keys, generation_id, created_us, RECENTS_KEPT, keep_ms)

    async def drop(self, tenant: str, generation_ids: Sequence[str]) -> None:
        """Take these out."""
        if generation_ids:
            await reply_to(self._redis.zrem(self._keys.recent(tenant), *generation_ids))

    async def page(self, tenant: str, *, before: int | None, count: int) -> list[Recent]:
        """Up to ``count``, newest first, of those before a place (None: from the newest)."""
        newest = "+inf" if before is None else f"({before}"
        rows = await reply_to(
            self._redis.zrange(
                self._keys.recent(tenant), newest, "-inf", desc=True, byscore=True, offset=0, num=count, withscores=True
            )
        )
        return [Recent(member.decode(), int(score)) for member, score in rows]

    async def missing(self, tenant: str, generation_ids: Sequence[str]) -> list[str]:
        """The given generations that the index does not have."""
        if not generation_ids:
            return []
        scores = await reply_to(self._redis.zmscore(self._keys.recent(tenant), list(generation_ids)))
        return [each for each, score in zip(generation_ids, scores, strict=True) if score is None]


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
            listed = list(zip(recents, briefs, strict=True))
            await self._recents.drop(tenant, [each.id for each, brief in listed if brief.tenant is None])
            found += [each for each, brief in listed if brief.tenant == tenant and _fits(brief, which)]
            if len(recents) < READ_AT_ONCE:
                break
            before = recents[-1].place
        shown = found[:limit]
        metas = await self._streams.metas([each.id for each in shown])
        return Listed(
            [meta for meta in metas if meta is not None and not meta.is_deleted],
            shown[-1].place if len(found) > limit else None,
        )

    async def _record_missing(self, tenant: str) -> None:
        missing = await self._recents.missing(tenant, await self._queue.newest_open(OPEN_CHECKED))
        for generation_id, brief in zip(missing, await self._streams.briefs(missing), strict=True):
            if brief.tenant == tenant and brief.is_listed:
                await self._recents.record(tenant, generation_id, keep_ms=self._keep_ms, created_ms=brief.created_ms)


def _fits(brief: Brief, which: Which) -> bool:
    return which == "all" or (brief.status in OVER) == (which == "over")
