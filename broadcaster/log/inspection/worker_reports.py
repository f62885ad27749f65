"""What each worker reports of itself for operators: its slots, and the generations that it runs.

Rules
1. A report decides nothing. Leases and meta decide which worker runs a generation; a report that is lost or late only
   leaves an operator's page without these facts.
2. A report has an expiry, so that a dead worker leaves none. Its heartbeat (log/jobs/lease.py) shows since when it is
   silent, for an hour.
3. A report names at most ``REPORTED_ATTEMPTS`` generations, and counts all of them.
4. A worker of an earlier version writes no report: it is listed without these facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from broadcaster.log.redis.connect import LogConnection, log_errors, reply_to

REPORTED_ATTEMPTS: Final = 50
# As many as the set of heartbeats keeps (log/jobs/lease.py).
_WORKERS_READ: Final = 1000


class RunningAttempt(msgspec.Struct, frozen=True):
    """An attempt that a worker runs. ``granted_ms``: its epoch, the time of its grant by Redis's clock."""

    id: str
    model: str
    attempt: int
    granted_ms: int


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's state. ``attempts`` are the newest of ``running``; ``limits`` those that it has reached."""

    uptime_s: float
    slots: int
    free: int
    running: int
    is_draining: bool
    attempts: list[RunningAttempt]
    limits: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class ListedWorker:
    """A worker with its heartbeat: for so long it still counts, or (negative) it has been silent."""

    id: str
    heartbeat_left_ms: int
    report: WorkerReport | None

    @property
    def is_alive(self) -> bool:
        """Whether its newest heartbeat still counts."""
        return self.heartbeat_left_ms > 0


class WorkerPage(NamedTuple):
    """Workers by name. ``alive`` and ``silent`` count all of them; ``next_after`` is None on the last page."""

    workers: Sequence[ListedWorker]
    alive: int
    silent: int
    next_after: str | None
    now_ms: int


class WorkerReports:
    """Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._keys = connection.keys

    async def put(self, worker: str, report: WorkerReport, *, keep_ms: int) -> None:
        """Store the worker's report, in place of its last one."""
        await reply_to(self._redis.set(self._keys.worker_report(worker), msgspec.json.encode(report), px=keep_ms))

    async def drop(self, worker: str) -> None:
        """The worker ends."""
        await reply_to(self._redis.delete(self._keys.worker_report(worker)))

    async def page(self, *, limit: int, after: str) -> WorkerPage:
        """Up to ``limit`` workers whose names follow ``after``, with their reports."""
        pipeline = self._connection.pipeline()
        pipeline.clock(self._keys.workers)
        pipeline.zrange(self._keys.workers, 0, _WORKERS_READ - 1, desc=True, withscores=True)
        with log_errors():
            (rows,) = await pipeline.execute()
            now_ms = pipeline.now_ms(self._keys.workers)
        left_ms = {member.decode(): int(score) - now_ms for member, score in rows}
        rest = sorted(name for name in left_ms if name > after)
        shown = rest[:limit]
        workers = [
            ListedWorker(name, left_ms[name], report)
            for name, report in zip(shown, await self._reports_of(shown), strict=True)
        ]
        alive = sum(each > 0 for each in left_ms.values())
        next_after = shown[-1] if len(rest) > limit else None
        return WorkerPage(workers, alive, len(left_ms) - alive, next_after, now_ms)

    async def _reports_of(self, workers: Sequence[str]) -> list[WorkerReport | None]:
        pipeline = self._connection.pipeline()
        for worker in workers:
            pipeline.get(self._keys.worker_report(worker))
        with log_errors():
            return [_read(raw) for raw in await pipeline.execute()] if workers else []


def _read(raw: bytes | None) -> WorkerReport | None:
    """None too for the report of a later version that this one cannot read."""
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=WorkerReport)
    except msgspec.DecodeError:
        return None
