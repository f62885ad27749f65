"""Lists of a tenant's streams, newest first, page by page: its generations, or its generations and feeds.

Theory of operation. The indexes (recents.py) hold ids only; a list shows each stream from its meta. An index is written
after the stream, and it may lag. A generation that it misses (an older front-end's, or one that a worker restored after
Redis came back empty) is found in the open index and recorded when a list is read. A feed that it misses is recorded
when a writer touches it (log/feeds/feed_index.py). An expired stream is dropped when a list meets it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Final, Literal, NamedTuple, TypeAlias

from broadcaster.core.status import META_OUTLIVES_LOG_MS, OVER
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.lists.recents import Recent, Recents
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Brief, Meta, Streams
from broadcaster.observability.logs import get_logger

Which: TypeAlias = Literal["all", "open", "over"]

READ_AT_ONCE: Final = 200
# How many open generations are checked for those that the index misses.
OPEN_CHECKED: Final = 200

_log = get_logger(__name__)


class Listed(NamedTuple):
    """A page of a list; ``next_before`` is where the next one begins (None: this was the last)."""

    metas: Sequence[Meta]
    next_before: int | None


class Listing:
    """Reads lists, and keeps the index of generations.

    ``open_ms``: the longest that a generation is open; ``retention_ms``: how long it is kept afterwards, unless its
    creator has chosen. An index is kept for as long as each of its generations may be.
    """

    def __init__(
        self, connection: LogConnection, streams: Streams, queue: Queue, *, open_ms: int, retention_ms: int
    ) -> None:
        self.recents = Recents(connection)
        self._feeds = Recents(connection, of="feeds")
        self._streams = streams
        self._queue = queue
        self._open_ms = open_ms
        self._retention_ms = retention_ms

    async def created(self, tenant: str, generation_id: str, *, retention_ms: int) -> None:
        """It was created now. Raises nothing: a list that misses it finds it in the open index."""
        try:
            await self._record(tenant, generation_id, retention_ms=retention_ms)
        except LogUnavailable:
            _log.warning("recent_later", stream=generation_id)

    async def page(
        self,
        tenant: str,
        *,
        which: Which = "all",
        limit: int = 100,
        before: int | None = None,
        with_feeds: bool = False,
    ) -> Listed:
        """Up to ``limit`` generations (``with_feeds``: and feeds) before a place (None: from the newest).

        Raises LogUnavailable while Redis cannot answer.
        """
        if before is None:
            await self._record_missing(tenant)
        async with AsyncExitStack() as stack:
            indexes = [self.recents, self._feeds] if with_feeds else [self.recents]
            fitting = [self._fitting(index, tenant, which=which, before=before) for index in indexes]
            merged = _newest_first([await stack.enter_async_context(aclosing(each)) for each in fitting])
            async with aclosing(merged):
                found: list[Recent] = []
                async for each in merged:
                    found.append(each)
                    if len(found) > limit:
                        break
        shown = found[:limit]
        metas = await self._streams.metas([each.id for each in shown])
        return Listed(
            [meta for meta in metas if meta is not None and not meta.is_deleted],
            shown[-1].place if len(found) > limit else None,
        )

    async def _fitting(
        self, index: Recents, tenant: str, *, which: Which, before: int | None
    ) -> AsyncGenerator[Recent, None]:
        """The tenant's streams of one index with this status, newest first."""
        while True:
            recents = await index.page(tenant, before=before, count=READ_AT_ONCE)
            briefs = await self._streams.briefs([each.id for each in recents])
            listed = list(zip(recents, briefs, strict=True))
            await index.drop(tenant, [each.id for each, brief in listed if brief.tenant is None])
            for each, brief in listed:
                if brief.tenant == tenant and _fits(brief, which):
                    yield each
            if len(recents) < READ_AT_ONCE:
                return
            before = recents[-1].place

    async def _record_missing(self, tenant: str) -> None:
        """A generation whose server does not answer is left to a later list: it is most likely another tenant's."""
        missing = await self.recents.missing(tenant, await self._queue.newest_open(OPEN_CHECKED))
        for generation_id, brief in zip(missing, await self._streams.each_brief(missing), strict=True):
            if isinstance(brief, LogUnavailable):
                continue
            if brief.tenant == tenant and brief.is_listed:
                await self._record(tenant, generation_id, retention_ms=self._retention_ms, created_ms=brief.created_ms)

    async def _record(self, tenant: str, generation_id: str, *, retention_ms: int, created_ms: int = 0) -> None:
        keep_ms = self._open_ms + retention_ms + META_OUTLIVES_LOG_MS
        await self.recents.record(tenant, generation_id, keep_ms=keep_ms, created_ms=created_ms)


async def _newest_first(sources: Sequence[AsyncIterator[Recent]]) -> AsyncGenerator[Recent, None]:
    """One list of several, each of which is newest first."""
    heads = [(head, source) for source in sources if (head := await anext(source, None)) is not None]
    while heads:
        newest = max(range(len(heads)), key=lambda at: heads[at][0].place)
        head, source = heads.pop(newest)
        yield head
        if (following := await anext(source, None)) is not None:
            heads.append((following, source))


def _fits(brief: Brief, which: Which) -> bool:
    return which == "all" or (brief.status in OVER) == (which == "over")
