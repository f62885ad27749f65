"""The index of a tenant's newest streams: generations in one sorted set, feeds in another, both in one slot.

It holds ids only, at most ``RECENTS_KEPT`` of each kind. No two streams of a tenant have the same place, so a page may
end between any two of them, also where both kinds are listed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from broadcaster.log.redis.connect import LogConnection, reply_to
from broadcaster.log.redis.scripts import SCRIPTS

RECENTS_KEPT: Final = 1000


class Recent(NamedTuple):
    """A stream's place in the list: ``place`` is unique in it.

    Places are microseconds since 1970, but not times: after a step back of Redis's clock a new stream gets the next
    place after the newest one.
    """

    id: str
    place: int


class Recents:
    """The index of one kind. Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection, *, of: Literal["generations", "feeds"] = "generations") -> None:
        self._redis = connection.redis
        names = connection.keys
        self._key, self._other = names.recent, names.recent_feeds
        if of == "feeds":
            self._key, self._other = self._other, self._key

    async def record(
        self, tenant: str, stream_id: str, *, keep_ms: int, created_ms: int = 0, is_new: bool = False
    ) -> None:
        """Put it in, as the newest (0) or as created then; the whole index is kept for ``keep_ms`` at least.

        ``is_new``: an entry under this id is an earlier stream's, and is replaced.
        """
        keys, created_us = [self._key(tenant), self._other(tenant)], created_ms * 1000
        await SCRIPTS["record"].run(self._redis, keys, stream_id, created_us, RECENTS_KEPT, keep_ms, int(is_new))

    async def drop(self, tenant: str, stream_ids: Sequence[str]) -> None:
        """Take these out."""
        if stream_ids:
            await reply_to(self._redis.zrem(self._key(tenant), *stream_ids))

    async def page(self, tenant: str, *, before: int | None, count: int) -> list[Recent]:
        """Up to ``count``, newest first, of those before a place (None: from the newest)."""
        newest = "+inf" if before is None else f"({before}"
        rows = await reply_to(
            self._redis.zrange(
                self._key(tenant), newest, "-inf", desc=True, byscore=True, offset=0, num=count, withscores=True
            )
        )
        return [Recent(member.decode(), int(score)) for member, score in rows]

    async def missing(self, tenant: str, stream_ids: Sequence[str]) -> list[str]:
        """The given streams that the index does not have."""
        if not stream_ids:
            return []
        scores = await reply_to(self._redis.zmscore(self._key(tenant), list(stream_ids)))
        return [each for each, score in zip(stream_ids, scores, strict=True) if score is None]
