"""The recent generations of each tenant, newest first: what lists are read from.

Theory of operation. The index holds ids only; a list shows each generation from its meta. The index is written after
the job, and it may lag. A generation that it misses (an older front-end's, or one that a worker restored after Redis
came back empty) is found in the open index and recorded when a list is read. An expired one is dropped when a list
meets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from broadcaster.log.redis.connect import LogConnection, log_errors
from broadcaster.log.redis.scripts import SCRIPTS

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
            with log_errors():
                await self._redis.zrem(self._keys.recent(tenant), *generation_ids)

    async def page(self, tenant: str, *, before: int | None, count: int) -> list[Recent]:
        """Up to ``count``, newest first, of those before a place (None: from the newest)."""
        newest = "+inf" if before is None else f"({before}"
        with log_errors():
            rows: Any = await self._redis.zrange(
                self._keys.recent(tenant), newest, "-inf", desc=True, byscore=True, offset=0, num=count, withscores=True
            )
        return [Recent(member.decode(), int(score)) for member, score in rows]

    async def missing(self, tenant: str, generation_ids: Sequence[str]) -> list[str]:
        """The given generations that the index does not have."""
        if not generation_ids:
            return []
        with log_errors():
            scores: Any = await self._redis.zmscore(self._keys.recent(tenant), list(generation_ids))
        return [each for each, score in zip(generation_ids, scores, strict=True) if score is None]
