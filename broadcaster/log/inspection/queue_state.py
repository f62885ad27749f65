"""The state of the queue for operators: one script, which reads a bounded number of tenants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS

_FIRST = "-"


class TenantQueue(NamedTuple):
    """A tenant's waiting generations. ``oldest_ms``: how long the oldest of the next ten has waited."""

    tenant: str
    waiting: int
    oldest_ms: int


class QueueState(NamedTuple):
    """Counts over all tenants, and one page of tenants by name; ``next_after`` is None on the last page.

    ``waiting``: for a worker; ``delayed``: for the end of a back-off; ``open``: all generations that are not over.
    """

    now_ms: int
    waiting: int
    delayed: int
    running: int
    open: int
    dead: int
    tenants: Sequence[TenantQueue]
    next_after: str | None


async def read_queue_state(connection: LogConnection, *, limit: int, after: str | None) -> QueueState:
    """Up to ``limit`` tenants whose names follow ``after``. Raises LogUnavailable."""
    keys = connection.keys
    names = [keys.waiting, keys.delayed, keys.running, keys.open, keys.dead]
    now_ms, *counts = await SCRIPTS["queue_state"].run(
        connection.redis, names, _FIRST if after is None else after, limit
    )
    waiting, delayed, running, open_count, dead, *rows = counts
    tenants = [TenantQueue(name.decode(), count, max(0, now_ms - oldest_ms)) for name, count, oldest_ms in rows[:limit]]
    next_after = tenants[-1].tenant if len(rows) > limit else None
    return QueueState(now_ms, waiting, delayed, running, open_count, dead, tenants, next_after)
