"""Accepted generations: a front-end retains each for a minute, and queues it again if Redis has lost it.

A worker restores a generation that it runs (writer.py). A queued one has no worker: only the front-end that accepted it
a moment ago has the request.

Rules
1. A generation is retained until a check finds that it has begun or is over, until it is stopped or deleted here, and
   for ``HOLD_S`` at most. Checks follow every ``CHECK_EVERY_S``. A worker keeps an ended generation for longer than
   that, so a generation that has begun is not queued again because its worker has ended it.
2. After every break of Redis each retained generation is checked. If it still waits, its webhook's promise, its place
   in the open index and its job are written again, which changes nothing if they exist. If Redis does not know it, its
   meta is written first, with its age: the meta is older than the break, so no worker takes it before a worker that may
   have begun it had one lease to restore it (see claim.lua).
3. If the generation's Idempotency-Key has been given to another one meanwhile, the generation is not written again.
4. Bounded in number and in bytes; beyond that the oldest one is released.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, TypeAlias

from broadcaster.core.requests.priorities import stored_priority
from broadcaster.errors import IdempotencyMismatch, LogUnavailable
from broadcaster.log.jobs.idempotency import IdempotencyKeys
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.presence import NO_VIEWERS, ViewerReport
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tails import Tail
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

HOLD_S: Final = 60.0
CHECK_EVERY_S: Final = 10.0
RETAINED_AT_MOST: Final = 10_000
RETAINED_BYTES: Final = 64 * 2**20
CHECKED_AT_ONCE: Final = 500
_TURN_S: Final = 0.25

MetaFields: TypeAlias = Mapping[str, Any]
"""As HSET takes them: texts, bytes and numbers."""


@dataclass(frozen=True, slots=True)
class AcceptedGeneration:
    """What it takes to create a generation again; ``digest`` is its body's, if it has its caller's ``key``."""

    id: str
    tenant: str
    fields: MetaFields
    ttl_ms: int
    at: float
    key: str | None = None
    digest: str = ""

    @property
    def size(self) -> int:
        """Bytes of its fields, nearly all of them its request's."""
        return sum(len(value) for value in self.fields.values() if isinstance(value, str | bytes))


@dataclass(slots=True, eq=False, repr=False)
class AcceptedGenerations:
    """Runs while ``run`` runs."""

    connection: LogConnection
    _: KW_ONLY
    queue: Queue
    streams: Streams
    steadiness: Steadiness
    idempotency: IdempotencyKeys
    retained: dict[str, AcceptedGeneration] = field(default_factory=dict, init=False)  # the oldest first
    _bytes: int = field(default=0, init=False)
    _breaks_seen: int = field(default=0, init=False)

    def hold(self, generation: AcceptedGeneration) -> None:
        """Retain it from now on."""
        self.release(generation.id)
        self.retained[generation.id] = generation
        self._bytes += generation.size
        while len(self.retained) > RETAINED_AT_MOST or self._bytes > RETAINED_BYTES:
            self.release(next(iter(self.retained)))

    def release(self, generation_id: str) -> None:
        """It is not to be queued again."""
        generation = self.retained.pop(generation_id, None)
        if generation is not None:
            self._bytes -= generation.size

    async def run(self) -> None:
        """Check retained generations, until cancelled."""
        loop = asyncio.get_running_loop()
        checked_at = loop.time()
        while True:
            await asyncio.sleep(_TURN_S)
            broke = self.steadiness.breaks != self._breaks_seen and self.steadiness.answering.is_set()
            if not broke and loop.time() - checked_at < CHECK_EVERY_S:
                continue
            breaks, checked_at = self.steadiness.breaks, loop.time()
            try:
                await self.check(is_after_break=broke)
            except LogUnavailable:
                _log.warning("accepted_later", count=len(self.retained))
            else:
                self._breaks_seen = breaks

    async def check(self, *, is_after_break: bool) -> None:
        """Release what is too old or has begun, and queue again what a break has cost its place."""
        now = asyncio.get_running_loop().time()
        for expired in [each.id for each in self.retained.values() if now - each.at > HOLD_S]:
            self.release(expired)
        ids = [*self.retained]
        requeued = 0
        for begin in range(0, len(ids), CHECKED_AT_ONCE):
            some = ids[begin : begin + CHECKED_AT_ONCE]
            for each, tail in zip(some, await self.streams.tails(some), strict=True):
                if tail.leased or tail.status not in (None, "queued"):
                    self.release(each)
                elif is_after_break and (generation := self.retained.get(each)) is not None:
                    requeued += await self._requeue(generation, tail)
        if requeued:
            _log.warning("accepted_requeued", count=requeued)

    async def _requeue(self, generation: AcceptedGeneration, tail: Tail) -> bool:
        """Rules 2 and 3; whether it is written again."""
        if not await self._has_its_key(generation):
            self.release(generation.id)
            return False
        await self.queue.announce(generation.id)
        if tail.status is None:
            await self._write(generation)
        if "webhook" in generation.fields:
            await self.queue.promise_webhooks([generation.id])
        # A queue that is full by now refuses the job. The sweep gives it one later, because it is announced.
        priority = stored_priority(str(generation.fields.get("priority", "")))
        await self.queue.enqueue(generation.id, tenant=generation.tenant, priority=priority)
        return tail.status is None

    async def _has_its_key(self, generation: AcceptedGeneration) -> bool:
        if generation.key is None:
            return True
        try:
            named = await self.idempotency.claim(
                generation.tenant, generation.key, generation_id=generation.id, digest=generation.digest
            )
        except IdempotencyMismatch:
            return False
        return named == generation.id

    async def _write(self, generation: AcceptedGeneration) -> None:
        age_ms = int((asyncio.get_running_loop().time() - generation.at) * 1000)
        await create_meta(self.connection, generation.id, generation.fields, ttl_ms=generation.ttl_ms, age_ms=age_ms)


async def create_meta(
    connection: LogConnection,
    generation_id: str,
    fields: MetaFields,
    *,
    ttl_ms: int,
    report: ViewerReport = NO_VIEWERS,
    age_ms: int = 0,
) -> bool:
    """Write a queued generation's meta, and its creator's report; False when it is there. Raises LogUnavailable.

    ``age_ms``: it was created so long ago, and Redis has lost it since.
    """
    keys = [connection.keys.meta(generation_id), connection.keys.viewers(generation_id)]
    flat = [part for pair in fields.items() for part in pair]
    return bool(await SCRIPTS["create"].run(connection.redis, keys, ttl_ms, *report, age_ms, *flat))
