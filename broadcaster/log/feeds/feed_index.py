"""The index of feeds, as their writers keep it: what `GET /v1/streams` lists beside generations.

Rules
1. A feed is recorded when it is created, and dropped when it is deleted. An expired one is dropped by the list that
   meets it.
2. A process that writes to a feed which it has not recorded, or has recorded long ago, records it: a feed of an earlier
   version, one whose record was lost, one that outlives its index. So a feed may be missing until it is touched.
3. The index is no part of what was promised to a writer: a failure to write it is logged, and mended by rule 2.
"""

from __future__ import annotations

import asyncio
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.lists.recents import Recents
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.observability.logs import get_logger

# A feed is stored for 30 days at most after its end, and its writers touch it until then.
INDEX_KEPT_MS: Final = 31 * 86_400_000
TOUCHED_EVERY_S: Final = 3600.0
# Feeds that one process remembers as recorded; a feed beyond them is recorded once more.
REMEMBERED: Final = 10_000

_log = get_logger(__name__)


class FeedIndex:
    """Of one process. No method raises an error of the log (rule 3)."""

    def __init__(self, connection: LogConnection, streams: Streams) -> None:
        self._recents = Recents(connection, of="feeds")
        self._streams = streams
        self._recorded: dict[str, float] = {}  # stored id → when, the latest last

    async def created(self, tenant: str, stored_id: str) -> None:
        """It was created now."""
        try:
            await self._recents.record(tenant, stored_id, keep_ms=INDEX_KEPT_MS, is_new=True)
        except LogUnavailable:
            _log.warning("feed_listed_later", stream=stored_id)
        else:
            self._remember(stored_id)

    async def touched(self, tenant: str, stored_id: str) -> None:
        """A writer has written to it."""
        recorded_at = self._recorded.get(stored_id)
        if recorded_at is not None and asyncio.get_running_loop().time() - recorded_at < TOUCHED_EVERY_S:
            return
        try:
            (brief,) = await self._streams.briefs([stored_id])
            if brief.tenant != tenant:
                return
            await self._recents.record(tenant, stored_id, keep_ms=INDEX_KEPT_MS, created_ms=brief.created_ms)
        except LogUnavailable:
            _log.warning("feed_listed_later", stream=stored_id)
        else:
            self._remember(stored_id)

    async def deleted(self, tenant: str, stored_id: str) -> None:
        """Only its tombstone is left."""
        self._recorded.pop(stored_id, None)
        try:
            await self._recents.drop(tenant, [stored_id])
        except LogUnavailable:
            _log.warning("feed_listed_still", stream=stored_id)

    def _remember(self, stored_id: str) -> None:
        self._recorded.pop(stored_id, None)
        self._recorded[stored_id] = asyncio.get_running_loop().time()
        if len(self._recorded) > REMEMBERED:
            del self._recorded[next(iter(self._recorded))]
