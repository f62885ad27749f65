"""Accepted generations: a front-end holds what it has accepted for a minute, and queues it again if Redis has lost it.

A worker writes again what it runs (writer.py). What still waits has no worker: only the front-end that accepted it a
moment ago holds the request.

Rules
1. A generation is held until a look finds that it has begun or is over, until it is stopped or deleted here, and for
   ``HOLD_S`` at most. A look follows every ``LOOK_EVERY_S``. A worker keeps what it has ended for longer than that, so
   nothing that was ever begun is queued again because its worker has ended it.
2. After every break of Redis, each generation that is held is looked at. If it still waits, its webhook's promise, its
   place in the open index and its job are written again, which changes nothing where they are there. If Redis knows
   nothing of it, its meta is written first, with its age: the meta is older than the break, so no worker takes it
   before a worker that may have begun it had one lease to write it again (see claim.lua).
3. If the generation's Idempotency-Key has been given to another one meanwhile, the generation is not written again.
4. Bounded in number and in bytes; beyond that the oldest is held no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from broadcaster.errors import IdempotencyMismatch, LogUnavailable
from broadcaster.log.connect import LogConnection, log_errors
from broadcaster.log.idempotency import IdempotencyKeys
from broadcaster.log.presence import NOBODY
from broadcaster.log.queue import Queue
from broadcaster.log.scripts import CREATE
from broadcaster.log.steadiness import Steadiness
from broadcaster.log.streams import Streams, Tail
from broadcaster.logs import get_logger

_log = get_logger(__name__)

HOLD_S: Final = 60.0
LOOK_EVERY_S: Final = 10.0
HELD_AT_MOST: Final = 10_000
HELD_BYTES: Final = 64 * 2**20
LOOKED_AT_ONCE: Final = 500
_TURN_S: Final = 0.25

MetaFields: TypeAlias = Mapping[str, Any]
"""As HSET takes them: texts, bytes and numbers."""


@dataclass(frozen=True, slots=True)
class AcceptedGeneration:
    """What is needed to write a generation down again; ``digest`` is its body's, where ``key`` is its caller's."""

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


class AcceptedGenerations:
    """Runs while ``run`` runs."""

    def __init__(
        self,
        connection: LogConnection,
        *,
        queue: Queue,
        streams: Streams,
        steadiness: Steadiness,
        idempotency: IdempotencyKeys,
    ) -> None:
        self._redis = connection.redis
        self._keys = connection.keys
        self._queue = queue
        self._streams = streams
        self._steadiness = steadiness
        self._idempotency = idempotency
        self._held: dict[str, AcceptedGeneration] = {}
        self._bytes = 0
        self._breaks_seen = 0

    @property
    def held(self) -> Mapping[str, AcceptedGeneration]:
        """What is held now, the oldest first."""
        return self._held

    def hold(self, generation: AcceptedGeneration) -> None:
        """Hold it from now on."""
        self.release(generation.id)
        self._held[generation.id] = generation
        self._bytes += generation.size
        while len(self._held) > HELD_AT_MOST or self._bytes > HELD_BYTES:
            self.release(next(iter(self._held)))

    def release(self, generation_id: str) -> None:
        """It is not to be queued again: hold it no more."""
        generation = self._held.pop(generation_id, None)
        if generation is not None:
            self._bytes -= generation.size

    async def run(self) -> None:
        """Look at what is held, until cancelled."""
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        while True:
            await asyncio.sleep(_TURN_S)
            broke = self._steadiness.breaks != self._breaks_seen and self._steadiness.answering.is_set()
            if not broke and loop.time() - looked_at < LOOK_EVERY_S:
                continue
            breaks, looked_at = self._steadiness.breaks, loop.time()
            try:
                await self.look(is_after_break=broke)
            except LogUnavailable:
                _log.warning("accepted_later", held=len(self._held))
            else:
                self._breaks_seen = breaks

    async def look(self, *, is_after_break: bool) -> None:
        """Release what is held for too long or has begun, and queue again what a break has cost its place."""
        now = asyncio.get_running_loop().time()
        for expired in [each.id for each in self._held.values() if now - each.at > HOLD_S]:
            self.release(expired)
        ids = [*self._held]
        requeued = 0
        for begin in range(0, len(ids), LOOKED_AT_ONCE):
            some = ids[begin : begin + LOOKED_AT_ONCE]
            for each, tail in zip(some, await self._streams.tails(some), strict=True):
                if tail.leased or tail.status not in (None, "queued"):
                    self.release(each)
                elif is_after_break and (generation := self._held.get(each)) is not None:
                    requeued += await self._requeue(generation, tail)
        if requeued:
            _log.warning("accepted_requeued", count=requeued)

    async def _requeue(self, generation: AcceptedGeneration, tail: Tail) -> bool:
        """Rules 2 and 3; whether it is written again."""
        if not await self._has_its_key(generation):
            self.release(generation.id)
            return False
        await self._queue.announce(generation.id)
        if tail.status is None:
            await self._write(generation)
        if "webhook" in generation.fields:
            await self._queue.promise_webhooks([generation.id])
        # A queue that is full by now refuses the job: the sweep gives it one later, because it is announced.
        await self._queue.enqueue(generation.id, tenant=generation.tenant)
        return tail.status is None

    async def _has_its_key(self, generation: AcceptedGeneration) -> bool:
        if generation.key is None:
            return True
        try:
            named = await self._idempotency.claim(
                generation.tenant, generation.key, generation_id=generation.id, digest=generation.digest
            )
        except IdempotencyMismatch:
            return False
        return named == generation.id

    async def _write(self, generation: AcceptedGeneration) -> None:
        keys = [self._keys.meta(generation.id), self._keys.viewers(generation.id)]
        age_ms = int((asyncio.get_running_loop().time() - generation.at) * 1000)
        flat = [part for pair in generation.fields.items() for part in pair]
        with log_errors():
            await CREATE.run(self._redis, keys, generation.ttl_ms, *NOBODY, age_ms, *flat)
