"""The queue: a consumer group over generations that wait, and the index that keeps them from being lost.

Theory of operation. A job is one entry ``id=<generation> tenant=<tenant>`` of the ready stream. Delivery is "at least
once, soon": a worker takes new jobs (job_reader.py: one of each tenant in turn), takes those of silent workers
(take_silent.lua, which walks all pending jobs, so that live ones never hide dead ones), and settles a job when its
generation is over. Whether a delivered job may be run is not decided here but by the claim of the stream's lease: a
double job is harmless. A generation that has begun (handed back, or its back-off is over) goes into the urgent
stream, ahead of those that have not begun. Its priority (core/requests/priorities.py) is a time in the member of the
waiting set, by which a tenant's jobs are taken.

Two sorted sets hold each tenant's waiting and delivered jobs. The queue's bounds count waiting ones (see
queue_limits.py).

The open index holds every generation that is not over, scored by the milliseconds of its newest job's entry id. The
sweep walks it page by page and gives a job to every generation that waits without one, and its place in the two sets
back to a job that has lost it. When a generation leaves it, the
same write makes its webhook due first.

On a cluster the queue fails over apart from the streams, and may come back without its newest entries. A worker notices
that a job of its own is gone (``keep``) and restores it (``regain``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from functools import partial
from typing import Any, Final, NamedTuple, TypedDict

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from broadcaster.core.requests.priorities import Priority
from broadcaster.log.jobs.claims import ATTEMPT_BACKOFF_CAP_MS
from broadcaster.log.jobs.queue_limits import QueueLimits
from broadcaster.log.jobs.webhooks import due_call, promise_webhook
from broadcaster.log.redis.connect import LogConnection, log_errors, reply_to
from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.redis.pipeline import raise_first
from broadcaster.log.redis.scripts import SCRIPTS, ScriptCall, run_all
from broadcaster.observability.limits import LimitName, limit_reached

GROUP: Final = "workers"
DEAD_LETTERS_KEPT: Final = 10_000
PROMOTED_AT_ONCE: Final = 100
SWEPT_AT_ONCE: Final = 100
OPEN_PAGE: Final = 200
PRUNED_AT_ONCE: Final = 100
_OLDEST: Final = ("-", "-")  # where the walk through silent jobs begins, in both streams
_NO_ENTRY: Final = "0-1"  # of a job without an entry: real ones have the milliseconds of the clock


class Enqueued(IntEnum):
    """What became of a job that was offered to the queue."""

    DONE = 1
    HAS_JOB = 0
    QUEUE_FULL = -1
    TENANT_FULL = -2


_LIMITS: Final[Mapping[Enqueued, LimitName]] = {
    Enqueued.QUEUE_FULL: "MAX_QUEUE",
    Enqueued.TENANT_FULL: "TENANT_QUEUED",
}


class Settled(StrEnum):
    """What becomes of a generation when one of its jobs is settled."""

    DONE = "done"
    DROP = "drop"
    REQUEUE = "requeue"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Job:
    """A delivered job: the stream and entry it came from, its generation and its tenant.

    ``tenant`` is empty if an earlier version has enqueued it.
    """

    source: str
    entry_id: str
    generation_id: str
    tenant: str = ""


class NewJob(NamedTuple):
    """A generation that is to have a job."""

    id: str
    tenant: str
    priority: Priority = Priority.NORMAL


class SettleDetails(TypedDict, total=False):
    """What ``Queue.settle`` takes besides the job and its outcome."""

    delay_ms: int
    reason: str
    has_webhook: bool


class SilentJobs(NamedTuple):
    """Jobs of silent workers, and whether all have been walked: the next call then begins with the oldest."""

    jobs: list[Job]
    is_last: bool


class OpenJob(NamedTuple):
    """A generation of the open index, and how long ago its newest job came, by the clock of the queue's server.

    ``job_ms``: the milliseconds of that job's entry id.
    """

    id: str
    job_ms: int
    age_ms: int


class OpenPage(NamedTuple):
    """A page of the open index; after the last one it begins again."""

    jobs: Sequence[OpenJob]
    is_last: bool


class Queue:
    """One process's view of the queue. Every method raises LogUnavailable while Redis cannot answer.

    ``webhook_due`` is set whenever this process has made a webhook due.
    """

    def __init__(self, connection: LogConnection, *, consumer: str, limits: QueueLimits) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._keys = connection.keys
        self._consumer = consumer
        self._limits = limits
        self._silent_at: tuple[str | bytes, str | bytes] = _OLDEST
        self._open_at = 0
        self._running_at = 0
        self.webhook_due = asyncio.Event()

    async def announce(self, generation_id: str) -> None:
        """Put it into the open index before anything else is written: if its creator dies, the sweep finds it."""
        await SCRIPTS["announce"].run(self._redis, [self._keys.open], generation_id)

    async def unlisted(self, generation_ids: Sequence[str]) -> list[str]:
        """The generations that are missing in the open index."""
        scores = await reply_to(self._redis.zmscore(self._keys.open, [*generation_ids]))
        return [each for each, score in zip(generation_ids, scores, strict=True) if score is None]

    async def withdraw(self, generation_id: str) -> None:
        """It will not be created: take it out of the open index."""
        await reply_to(self._redis.zrem(self._keys.open, generation_id))

    async def enqueue(self, generation_id: str, *, tenant: str, priority: Priority = Priority.NORMAL) -> Enqueued:
        """Give a generation its job, unless it has one."""
        (code,) = await self.enqueue_all([NewJob(generation_id, tenant, priority)])
        if code in _LIMITS:
            limit_reached(_LIMITS[code])
        return code

    async def enqueue_all(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """``enqueue`` for each, in one pipelined write."""
        name, limits = self._keys, self._limits
        keys = [name.ready, name.ready_hi, name.delayed, name.open, name.waiting, name.turns, name.running]
        bounds = [(limits.max_queue, limits.queued_of(job.tenant), limits.shift_ms(job.priority)) for job in jobs]
        calls = [
            ScriptCall(SCRIPTS["enqueue"], keys, [job.id, job.tenant, *each, GROUP])
            for job, each in zip(jobs, bounds, strict=True)
        ]
        return [Enqueued(code) for code in await self._run_all(calls)]

    async def create_group(self) -> None:
        """Create the consumer group where it is missing (a new or emptied Redis)."""
        await create_group(self._redis, self._keys)

    async def settle(
        self, job: Job, outcome: Settled, *, delay_ms: int = 0, reason: str = "", has_webhook: bool = False
    ) -> None:
        """Take the job out of the queue; see ``Settled`` for the rest.

        ``has_webhook``: the generation has one, which is due if the generation is over.
        """
        name = self._keys
        keys = [job.source, name.open, name.delayed, name.dead, name.ready_hi, name.waiting, name.turns, name.running]
        keys.append(name.delayed_tenant(job.generation_id))
        bounds = (delay_ms, DEAD_LETTERS_KEPT)
        settle = ScriptCall(
            SCRIPTS["settle"], keys, (GROUP, job.entry_id, job.generation_id, outcome, *bounds, reason, job.tenant)
        )
        is_due = has_webhook and outcome in (Settled.DONE, Settled.DEAD)
        await self.make_due([job.generation_id] if is_due else [], settle)

    async def bury(self, generation_id: str, *, reason: str, has_webhook: bool) -> None:
        """Put a dead generation among the dead letters, because its worker died before it could settle the job."""
        job = Job(self._keys.ready, _NO_ENTRY, generation_id)
        await self.settle(job, Settled.DEAD, reason=reason, has_webhook=has_webhook)

    async def close_open(self, generation_ids: Sequence[str], *, webhooks_of: Collection[str]) -> None:
        """Take generations that are over out of the open index, and their jobs out of the queue.

        ``webhooks_of``: those of them that are over and have a webhook, which is due now.
        """
        if generation_ids:
            await self.make_due(webhooks_of, self._close_call(generation_ids))

    async def close_unwritten(self, jobs: Sequence[OpenJob]) -> None:
        """The same for those without a meta. One that was given another job since it was read stays."""
        found = [part for each in jobs for part in (each.id, each.job_ms)]
        if found:
            await self._run_all([ScriptCall(SCRIPTS["close_unwritten"], self._close_keys, found)])

    async def remove(self, generation_id: str) -> None:
        """Take a deleted generation out of the open index, its job out of the queue, and drop its webhook."""
        await self._run_all([self._close_call([generation_id])])
        with log_errors():
            for webhooks in (self._keys.webhooks_promised, self._keys.webhooks_due):
                await self._redis.zrem(webhooks, generation_id)

    async def make_due(self, webhooks_of: Collection[str], *calls: ScriptCall) -> None:
        """The webhooks of these generations are due: they are over. Then, in the same write, run the calls."""
        due = [due_call(self._keys, [*webhooks_of])] if webhooks_of else []
        replies = await self._run_all([*due, *calls])
        if due and replies[0]:
            self.webhook_due.set()

    async def keep(self, jobs: Sequence[Job], *, over: Redis) -> list[Job]:
        """Report that these jobs are being worked on, which resets their idle time. Works on a full Redis.

        Returns those that the queue has lost; see ``regain``. ``over``: the client that sends it (lease.py, rule 1).
        """
        if not jobs:
            return []
        pipeline = over.pipeline(transaction=False)
        sources = {job.source for job in jobs}
        for source in sources:
            ids: list[Any] = [job.entry_id for job in jobs if job.source == source]
            pipeline.xclaim(source, GROUP, self._consumer, 0, ids, idle=0, justid=True)
        claimed = await with_group(pipeline.execute, over, self._keys) or []
        kept = {(source, raw.decode()) for source, raws in zip(sources, claimed, strict=False) for raw in raws}
        return [job for job in jobs if (job.source, job.entry_id) not in kept]

    async def regain(self, jobs: Sequence[Job]) -> list[Job]:
        """Restore jobs of this worker that the queue has lost; returns them as they are now, in order."""
        await self.create_group()
        name = self._keys
        keys = [name.ready, name.ready_hi, name.delayed, name.open, name.waiting, name.running]
        of_worker, regain = (GROUP, self._consumer), SCRIPTS["regain"]
        replies = await self._run_all(
            [ScriptCall(regain, keys, (*of_worker, job.generation_id, job.tenant)) for job in jobs]
        )
        return [
            replace(job, source=name.ready_hi if is_urgent else name.ready, entry_id=entry_id.decode())
            for job, (is_urgent, entry_id) in zip(jobs, replies, strict=True)
        ]

    async def mark_silent(self, job: Job, *, silent_ms: int) -> None:
        """A job was taken too early, before its worker's lease was over: let it count as silent still."""
        call = partial(
            self._redis.xclaim, job.source, GROUP, self._consumer, 0, [job.entry_id], idle=silent_ms, justid=True
        )
        await with_group(call, self._redis, self._keys)

    async def expose(self, open_job: OpenJob, *, silent_ms: int) -> None:
        """Let a delivered job count as silent. Its idle time stands still when the clock has stepped back behind its
        last delivery."""
        at: Any = str(open_job.job_ms)
        for source in (self._keys.ready_hi, self._keys.ready):
            rows = await reply_to(self._redis.xrange(source, at, at))
            for job in jobs_of(source, rows):
                if job.generation_id == open_job.id:
                    await self.mark_silent(job, silent_ms=silent_ms)

    async def take_silent(self, *, silent_ms: int, count: int) -> SilentJobs:
        """Take up to ``count`` jobs that were silent for ``silent_ms``; the next call continues behind them."""
        keys = [self._keys.ready_hi, self._keys.ready]
        args = (GROUP, self._consumer, silent_ms, count, *self._silent_at)
        call = partial(SCRIPTS["take_silent"].run, self._redis, keys, *args)
        taken = await with_group(call, self._redis, self._keys)
        at_hi, at, *rows = taken or (b"", b"")
        is_last = not (at_hi or at)
        self._silent_at = _OLDEST if is_last else (at_hi, at)
        return SilentJobs(delivered(self._keys, rows), is_last)

    async def promote(self) -> int:
        """Move generations whose back-off is over into the queue, ahead of those that have not begun; how many."""
        keys = [self._keys.ready_hi, self._keys.open, self._keys.delayed]
        return int(await SCRIPTS["promote"].run(self._redis, keys, PROMOTED_AT_ONCE, ATTEMPT_BACKOFF_CAP_MS))

    async def prune(self) -> None:
        """Check the next page of delivered jobs, and stop counting those that are gone."""
        name = self._keys
        keys = [name.ready, name.ready_hi, name.waiting, name.turns, name.running]
        checked = await SCRIPTS["prune"].run(self._redis, keys, self._running_at, PRUNED_AT_ONCE)
        self._running_at = self._running_at + PRUNED_AT_ONCE if checked == PRUNED_AT_ONCE else 0

    async def open_page(self) -> OpenPage:
        """The next page of the open index; after the last one the first."""
        pipeline = self._connection.pipeline()
        pipeline.clock(self._keys.open)
        pipeline.zrange(self._keys.open, self._open_at, self._open_at + OPEN_PAGE - 1, withscores=True)
        with log_errors():
            (rows,) = await pipeline.execute()
            now_ms = pipeline.now_ms(self._keys.open)
        is_last = len(rows) < OPEN_PAGE
        self._open_at = 0 if is_last else self._open_at + OPEN_PAGE
        jobs = [OpenJob(member.decode(), int(score), now_ms - int(score)) for member, score in rows]
        return OpenPage(jobs, is_last)

    async def newest_open(self, limit: int) -> list[str]:
        """Open generations, newest job first."""
        rows = await reply_to(self._redis.zrange(self._keys.open, 0, limit - 1, desc=True))
        return [member.decode() for member in rows]

    async def newest_worker_expiry_ms(self, *, lease_ms: int) -> tuple[int, int]:
        """When the newest heartbeat of a worker lapses (0: no worker is known), and Redis's clock, in milliseconds.

        ``lease_ms``: no heartbeat counts for longer, also when the clock has stepped back since.
        """
        expiry_ms, now_ms = await SCRIPTS["newest_worker"].run(self._redis, [self._keys.workers], lease_ms)
        return expiry_ms, now_ms

    async def drop_silent_consumers(self, *, silent_ms: int) -> int:
        """Remove consumers that were silent for so long and have no job; returns how many."""
        keys = [self._keys.ready_hi, self._keys.ready]
        return int(await SCRIPTS["drop_consumers"].run(self._redis, keys, GROUP, silent_ms))

    async def promise_webhooks(self, generation_ids: Sequence[str]) -> None:
        """Promise the webhooks of these generations where the promise is missing."""
        for each in generation_ids:
            await promise_webhook(self._redis, self._keys, each)

    @property
    def _close_keys(self) -> list[str]:
        name = self._keys
        return [name.ready, name.ready_hi, name.delayed, name.open, name.waiting, name.turns, name.running]

    def _close_call(self, generation_ids: Sequence[str]) -> ScriptCall:
        return ScriptCall(SCRIPTS["close"], self._close_keys, list(generation_ids))

    async def _run_all(self, calls: Sequence[ScriptCall]) -> list[Any]:
        with log_errors():
            replies = await run_all(self._redis, calls)
            raise_first(replies)
        return replies


async def create_group(redis: Redis, keys: KeyNames) -> None:
    """Create the consumer group of both streams, where it is missing. Raises LogUnavailable."""
    for stream in (keys.ready_hi, keys.ready):
        with log_errors():
            try:
                await redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise


async def with_group(command: Callable[[], Awaitable[Any]], redis: Redis, keys: KeyNames) -> Any:
    """Run a command of the group; if Redis has lost the group, create it and return None: it had no jobs.

    Raises LogUnavailable.
    """
    try:
        with log_errors():
            return await command()
    except ResponseError as error:
        if "NOGROUP" not in str(error):
            raise
        await create_group(redis, keys)
        return None


def delivered(keys: KeyNames, rows: Sequence[tuple[int, bytes, bytes, bytes]]) -> list[Job]:
    """The jobs that a script has delivered, each as (1 of the urgent stream | 0, entry, generation, tenant)."""
    return [
        Job(keys.ready_hi if is_urgent else keys.ready, *(each.decode() for each in row)) for is_urgent, *row in rows
    ]


def jobs_of(source: str, rows: Sequence[tuple[bytes, dict[bytes, bytes] | None]]) -> list[Job]:
    """The jobs among entries of a stream, without deleted ones."""
    return [
        Job(source, entry_id.decode(), fields[b"id"].decode(), fields.get(b"tenant", b"").decode())
        for entry_id, fields in rows
        if fields
    ]
