"""Presence: how many viewers all front-ends have on a stream, as leases (protocol §7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broadcaster.log.connect import LogConnection, log_errors
from broadcaster.log.scripts import PRESENCE, Call, run_all


class Presence:
    """One front-end's word on its viewers; it counts for ``ttl_s``, so it is to be repeated at a third of that."""

    def __init__(self, connection: LogConnection, *, front_end: str, ttl_s: float) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._keys = connection.keys
        self._front_end = front_end
        self._ttl_ms = int(ttl_s * 1000)
        self._told: frozenset[str] = frozenset()

    async def tell(self, counts: Mapping[str, int]) -> None:
        """Say the counts of all watched streams; those told last time and missing now have none any more.

        Raises LogUnavailable.
        """
        gone = self._told - counts.keys()
        told = {**dict.fromkeys(gone, 0), **counts}
        with log_errors():
            answers = await run_all(self._redis, [self._call(each, count) for each, count in told.items()])
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        self._told = frozenset(counts)

    async def count(self, stream_ids: Sequence[str]) -> list[int]:
        """Viewers of each stream over all living front-ends. Raises LogUnavailable."""
        pipeline = self._connection.pipeline()
        for stream_id in stream_ids:
            pipeline.clock(self._keys.viewers(stream_id))
            pipeline.zrange(self._keys.viewers(stream_id), 0, -1, withscores=True)
        with log_errors():
            rows = await pipeline.execute()
        return [
            sum(
                int(member.rpartition(b":")[2])
                for member, expiry_ms in members
                if expiry_ms > pipeline.now_ms(self._keys.viewers(stream_id))
            )
            for stream_id, members in zip(stream_ids, rows, strict=True)
        ]

    def _call(self, stream_id: str, count: int) -> Call:
        return Call(PRESENCE, (self._keys.viewers(stream_id),), (self._front_end, count, self._ttl_ms))
