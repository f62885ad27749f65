"""The reader of new jobs: one of each tenant in turn, as far as this worker has room for the tenant.

Theory of operation. One script delivers (take.lua). While there is nothing for this worker, a read of both streams
blocks on a connection of its own, from the newest entries that the script saw. It delivers nothing: it only wakes every
worker that waits when something was enqueued. A change in this worker meanwhile (a freed slot gives a tenant room) ends
the wait, and the read stays under way for the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from broadcaster.log.jobs.queue import GROUP, SWEPT_AT_ONCE, Job, delivered, jobs_of, with_group
from broadcaster.log.redis.connect import LogConnection, reply_to
from broadcaster.log.redis.scripts import SCRIPTS, Argument

_NOTHING_SEEN: Final = "0-0"


@dataclass(frozen=True, slots=True)
class TenantRooms:
    """How many jobs of one tenant a worker may take now: ``rooms`` of those that have less than ``others``."""

    others: int
    rooms: Mapping[str, int] = field(default_factory=dict)


class JobReader:
    """Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(
        self, connection: LogConnection, *, consumer: str, block_s: float, tenant_running: int | None = None
    ) -> None:
        """``tenant_running``: most delivered jobs of one tenant, over all workers; None: any."""
        self._redis = connection.redis
        self._keys = connection.keys
        self._client = connection.create_blocking_client(block_s=block_s)
        self._block_ms = int(block_s * 1000)
        self._consumer = consumer
        self._tenant_running = tenant_running or 0
        self._seen: dict[Any, Any] = {self._keys.ready: _NOTHING_SEEN, self._keys.ready_hi: _NOTHING_SEEN}
        self._blocked: asyncio.Task[None] | None = None

    async def take(self, count: int, *, rooms: TenantRooms | None = None) -> list[Job]:
        """Up to ``count`` new jobs, at once; ``rooms``: how many of one tenant (None: any)."""
        name, rooms = self._keys, rooms or TenantRooms(count)
        keys = [name.ready, name.ready_hi, name.waiting, name.turns, name.running, name.seen]
        args: list[Argument] = [GROUP, self._consumer, count, self._tenant_running, rooms.others]
        for tenant, room in rooms.rooms.items():
            args += [tenant, room]
        is_more = True
        while is_more:
            taken = await with_group(partial(SCRIPTS["take"].run, self._redis, keys, *args), self._redis, name)
            if taken is None:
                continue  # the group is there again
            is_more, seen, seen_hi, *rows = taken
            self._seen = {name.ready: seen, name.ready_hi: seen_hi}
            if rows:
                return delivered(name, rows)
        return []

    async def wait(self, changed: asyncio.Event) -> None:
        """Until something was enqueued since the last ``take``, ``changed`` is set, or the block time is over."""
        if self._blocked is None:
            self._blocked = asyncio.create_task(self._block())
        change = asyncio.create_task(changed.wait())
        try:
            await asyncio.wait({self._blocked, change}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()
        if self._blocked.done():
            blocked, self._blocked = self._blocked, None
            await blocked

    async def take_own(self) -> list[Job]:
        """Jobs delivered to this consumer and not settled, also of an earlier run (a drain hands them back)."""
        found: list[Job] = []
        for source in (self._keys.ready_hi, self._keys.ready):
            after: str | None = "0"
            while after is not None:
                streams: dict[Any, Any] = {source: after}
                read = partial(self._redis.xreadgroup, GROUP, self._consumer, streams, count=SWEPT_AT_ONCE)
                rows = await with_group(read, self._redis, self._keys)
                entries = rows[0][1] if rows else []
                found += jobs_of(source, entries)
                after = entries[-1][0].decode() if len(entries) == SWEPT_AT_ONCE else None
        return found

    async def aclose(self) -> None:
        """Close the connection; a read under way ends."""
        if self._blocked is not None:
            self._blocked.cancel()
            await asyncio.gather(self._blocked, return_exceptions=True)
        await self._client.aclose()

    async def _block(self) -> None:
        await reply_to(self._client.xread(self._seen, count=1, block=self._block_ms))
