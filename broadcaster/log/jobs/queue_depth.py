"""How many generations wait, run and lie dead in Redis, read from time to time for metrics.

Every process that serves metrics reads them, at the same server: the numbers are Redis's, and not the process's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.redis.connect import LogConnection, log_errors, reply_to
from broadcaster.observability.counting import Reading, counted
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger

READ_EVERY_S: Final = 5.0
_TENANTS_READ: Final = 1000

_log = get_logger(__name__)


class QueueDepth:
    """``depths`` is empty until Redis has answered, and while it does not."""

    def __init__(self, connection: LogConnection, *, tenant_running: int | None = None) -> None:
        self._connection = connection
        self._tenant_running = tenant_running
        self.depths: Mapping[str, int] = {}

    async def run(self) -> None:
        """Read every ``READ_EVERY_S`` until cancelled."""
        while True:
            try:
                await self.read()
            except LogUnavailable:
                self.depths = {}
            except Exception:
                self.depths = {}
                _log.exception("queue_depth_not_read")
            await asyncio.sleep(READ_EVERY_S)

    def readings(self) -> Iterable[Reading]:
        """The metrics of a process that reads them."""
        return counted("broadcaster_queue_depth", self.depths)

    async def read(self) -> None:
        """Read once. Raises LogUnavailable."""
        keys = self._connection.keys
        pipeline = self._connection.pipeline()
        for name in (keys.waiting, keys.delayed, keys.running, keys.open, keys.webhooks_due):
            pipeline.zcard(name)
        pipeline.xlen(keys.dead)
        with log_errors():
            counts = await pipeline.execute()
        names = ("waiting", "delayed", "delivered", "open", "webhooks_due", "dead")
        self.depths = dict(zip(names, map(int, counts), strict=True))
        if self._tenant_running is not None and self.depths["waiting"]:
            await self._count_parked()

    async def _count_parked(self) -> None:
        """A tenant that waits and has no turn has as many running as it may (take.lua)."""
        keys, redis = self._connection.keys, self._connection.redis
        waiting = await reply_to(redis.zrange(keys.waiting, 0, _TENANTS_READ - 1))
        turns = set(await reply_to(redis.zrange(keys.turns, 0, -1)))
        for tenant in {member.rpartition(b" ")[0] for member in waiting} - turns:
            if tenant:
                limit_reached("TENANT_RUNNING")
