"""The queue: a consumer group over generations that wait, and what keeps them from being forgotten.

Theory of operation. A job is one entry ``id=<generation>`` of the ready stream. Delivery is "at least once, soon":
a worker reads new jobs (XREADGROUP), re-claims those of silent workers (XAUTOCLAIM, keeping its cursor, so that live
jobs at the front never hide dead ones), and settles a job when its generation is over. Whether a delivered job may be
run is not decided here but by the claim of the stream's lease: a double job is harmless. What has begun (handed back,
or its back-off waited out) goes into the urgent stream, ahead of what nobody watches yet.

The open index holds every generation that is not over, scored by the milliseconds of its newest job's entry id. The
sweep walks it page by page and gives a job to whatever waits without one. What leaves it has its webhook made due in
the same write, before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from broadcaster.log.connect import LogConnection, log_errors
from broadcaster.log.keys import Keys
from broadcaster.log.scripts import ANNOUNCE, DEQUEUE, ENQUEUE, PROMOTE, SETTLE, Call, run_all
from broadcaster.log.webhooks import due_call, promise_again

GROUP: Final = "workers"
DEAD_LETTERS_KEPT: Final = 10_000
PROMOTED_AT_ONCE: Final = 100
SWEPT_AT_ONCE: Final = 100
OPEN_PAGE: Final = 200
_NO_ENTRY: Final = "0-1"  # of a job that nobody holds: entries have the milliseconds of the clock


class Settled(StrEnum):
    """What becomes of a generation when one of its jobs is settled."""

    DONE = "done"
    DROP = "drop"
    AGAIN = "again"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Job:
    """A delivered job: the stream and entry it came from, and its generation."""

    source: str
    entry_id: str
    generation_id: str


class Queue:
    """One process's view of the queue. Every method raises LogUnavailable while Redis cannot answer.

    ``webhook_due`` is set whenever this process has made a webhook due.
    """

    def __init__(self, connection: LogConnection, *, consumer: str, max_queue: int) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._keys = connection.keys
        self._consumer = consumer
        self._max_queue = max_queue
        self._autoclaim_at = {self._keys.ready_hi: "0-0", self._keys.ready: "0-0"}
        self._open_at = 0
        self.webhook_due = asyncio.Event()

    async def announce(self, generation_id: str) -> None:
        """Put it into the open index before anything else is written: the sweep finds what its creator left."""
        with log_errors():
            await ANNOUNCE.run(self._redis, [self._keys.open], generation_id)

    async def withdraw(self, generation_id: str) -> None:
        """It will not be written down: take it out of the open index."""
        with log_errors():
            await self._redis.zrem(self._keys.open, generation_id)

    async def enqueue(self, generation_id: str, *, priority: bool = False) -> int:
        """1 enqueued, 0 it has a job already, -1 the queue is full."""
        return (await self.enqueue_all([generation_id], priority=priority))[0]

    async def enqueue_all(self, generation_ids: Sequence[str], *, priority: bool = False) -> list[int]:
        """``enqueue`` for each, in one pipelined write."""
        keys = [self._keys.ready, self._keys.ready_hi, self._keys.delayed, self._keys.open]
        calls = [Call(ENQUEUE, keys, [each, self._max_queue, int(priority)]) for each in generation_ids]
        return await self._run_all(calls)

    async def create_group(self) -> None:
        """Create the consumer group where it is missing (a new or emptied Redis)."""
        with log_errors():
            await _create_group(self._redis, self._keys)

    async def settle(self, job: Job, outcome: Settled, *, delay_ms: int = 0, reason: str = "") -> None:
        """Take the job out of the queue; see ``Settled`` for the rest."""
        keys = [job.source, self._keys.open, self._keys.delayed, self._keys.dead, self._keys.ready_hi]
        settle = Call(
            SETTLE, keys, (GROUP, job.entry_id, job.generation_id, outcome, delay_ms, DEAD_LETTERS_KEPT, reason)
        )
        if outcome in (Settled.DONE, Settled.DEAD):
            self._told_due((await self._run_all([due_call(self._keys, [job.generation_id]), settle]))[0])
        else:
            await self._run_all([settle])

    async def bury(self, generation_id: str, *, reason: str) -> None:
        """Keep a generation that died among the dead letters, whose worker died before it could settle the job."""
        await self.settle(Job(self._keys.ready, _NO_ENTRY, generation_id), Settled.DEAD, reason=reason)

    async def close_open(self, generation_ids: Sequence[str]) -> None:
        """Take generations that are over (or forgotten) out of the open index."""
        if generation_ids:
            self._told_due((await self._run_all([due_call(self._keys, generation_ids)]))[0])
            with log_errors():
                await self._redis.zrem(self._keys.open, *generation_ids)

    async def remove(self, generation_id: str) -> None:
        """Take a deleted generation out of the open index, its job out of the queue, and owe its webhook no more."""
        keys = [self._keys.ready, self._keys.ready_hi, self._keys.delayed, self._keys.open]
        with log_errors():
            await DEQUEUE.run(self._redis, keys, generation_id)
            for owed in (self._keys.webhooks_promised, self._keys.webhooks_due):
                await self._redis.zrem(owed, generation_id)

    async def keep(self, jobs: Sequence[Job]) -> None:
        """Say that these jobs are being worked on: resets how long they count as silent. Works on a full Redis."""
        if not jobs:
            return
        pipeline = self._connection.pipeline()
        for source in {job.source for job in jobs}:
            ids: list[Any] = [job.entry_id for job in jobs if job.source == source]
            pipeline.xclaim(source, GROUP, self._consumer, 0, ids, idle=0, justid=True)
        with log_errors():
            await _with_group(pipeline.execute, self._redis, self._keys)

    async def look_again(self, job: Job, *, silent_ms: int) -> None:
        """A job that was taken too early, while its worker's lease is not over: it counts as silent still."""
        call = partial(
            self._redis.xclaim, job.source, GROUP, self._consumer, 0, [job.entry_id], idle=silent_ms, justid=True
        )
        with log_errors():
            await _with_group(call, self._redis, self._keys)

    async def take_silent(self, *, silent_ms: int, count: int) -> list[Job]:
        """Re-claim up to ``count`` jobs not heard of for ``silent_ms``; the next call goes on where this one ended."""
        found: list[Job] = []
        for source, start in self._autoclaim_at.items():
            read = partial(
                self._redis.xautoclaim,
                source,
                GROUP,
                self._consumer,
                silent_ms,
                start_id=start,
                count=min(count, SWEPT_AT_ONCE),
            )
            with log_errors():
                answer = await _with_group(read, self._redis, self._keys)
            if answer is None:
                continue
            cursor, rows = answer[0], answer[1]
            self._autoclaim_at[source] = cursor.decode()
            found += _jobs(source, rows)
        return found[:count]

    async def promote(self) -> int:
        """Move what has waited out its back-off into the queue, ahead of what has not begun; how many."""
        keys = [self._keys.ready_hi, self._keys.open, self._keys.delayed]
        with log_errors():
            return int(await PROMOTE.run(self._redis, keys, PROMOTED_AT_ONCE))

    async def open_page(self) -> list[tuple[str, int]]:
        """The next page of the open index, as (generation, milliseconds of its newest job); goes round and round."""
        with log_errors():
            rows: Any = await self._redis.zrange(
                self._keys.open, self._open_at, self._open_at + OPEN_PAGE - 1, withscores=True
            )
        self._open_at = self._open_at + OPEN_PAGE if len(rows) == OPEN_PAGE else 0
        return [(member.decode(), int(score)) for member, score in rows]

    async def newest_open(self, limit: int) -> list[str]:
        """Open generations, newest job first."""
        with log_errors():
            rows: Any = await self._redis.zrange(self._keys.open, 0, limit - 1, desc=True)
        return [member.decode() for member in rows]

    async def drop_silent_consumers(self, *, silent_ms: int) -> int:
        """Remove consumers of dead workers that hold no job any more; how many."""
        dropped = 0
        for source in (self._keys.ready_hi, self._keys.ready):
            with log_errors():
                for consumer in await self._redis.xinfo_consumers(source, GROUP):
                    name = consumer["name"].decode()
                    if consumer["pending"] == 0 and consumer["idle"] > silent_ms and name != self._consumer:
                        await self._redis.xgroup_delconsumer(source, GROUP, name)
                        dropped += 1
        return dropped

    async def promise_webhooks(self, generation_ids: Sequence[str]) -> None:
        """Owe the webhooks of these once more, where nobody has yet."""
        with log_errors():
            for each in generation_ids:
                await promise_again(self._redis, self._keys, each)

    async def _run_all(self, calls: Sequence[Call]) -> list[int]:
        with log_errors():
            answers = await run_all(self._redis, calls)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return cast(list[int], answers)

    def _told_due(self, count: int) -> None:
        if count:
            self.webhook_due.set()


class JobReader:
    """The blocking read of new jobs, on a connection of its own."""

    def __init__(self, connection: LogConnection, *, consumer: str, block_s: float) -> None:
        self._keys = connection.keys
        self._client = connection.create_blocking_client(block_s=block_s)
        self._block_ms = int(block_s * 1000)
        self._consumer = consumer

    async def take(self, count: int) -> list[Job]:
        """Up to ``count`` new jobs of each priority, urgent ones first; empty when none came within the block time."""
        streams: dict[Any, Any] = {self._keys.ready_hi: ">", self._keys.ready: ">"}
        read = partial(self._client.xreadgroup, GROUP, self._consumer, streams, count=count, block=self._block_ms)
        with log_errors():
            rows = await _with_group(read, self._client, self._keys)
        return [job for source, entries in rows or [] for job in _jobs(source.decode(), entries)]

    async def take_own(self) -> list[Job]:
        """Jobs delivered to this consumer and not settled, whoever knows of them (a drain hands them back)."""
        found: list[Job] = []
        for source in (self._keys.ready_hi, self._keys.ready):
            after: str | None = "0"
            while after is not None:
                streams: dict[Any, Any] = {source: after}
                read = partial(self._client.xreadgroup, GROUP, self._consumer, streams, count=SWEPT_AT_ONCE)
                with log_errors():
                    rows = await _with_group(read, self._client, self._keys)
                entries = rows[0][1] if rows else []
                found += _jobs(source, entries)
                after = entries[-1][0].decode() if len(entries) == SWEPT_AT_ONCE else None
        return found

    async def aclose(self) -> None:
        """Close the connection; a read under way ends with an error."""
        await self._client.aclose()


async def _create_group(redis: Redis, keys: Keys) -> None:
    for stream in (keys.ready_hi, keys.ready):
        try:
            await redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


async def _with_group(command: Callable[[], Awaitable[Any]], redis: Redis, keys: Keys) -> Any:
    """Run a command of the group; where Redis has lost the group, create it and answer None: nothing was there."""
    try:
        return await command()
    except ResponseError as error:
        if "NOGROUP" not in str(error):
            raise
        await _create_group(redis, keys)
        return None


def _jobs(source: str, rows: Sequence[tuple[bytes, dict[bytes, bytes] | None]]) -> list[Job]:
    return [Job(source, entry_id.decode(), fields[b"id"].decode()) for entry_id, fields in rows if fields]
