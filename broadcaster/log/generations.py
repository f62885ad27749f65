"""Generations as their callers see them: create, look up, list, stop.

Create writes, in this order: idempotency key (SET NX) → meta ``queued`` → open index and job. A crash between two steps
leaves nothing that waits for ever: a repeated create with the same key does the missing steps (each is "once"), and the
sweep gives a job to what is open and has none.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from broadcaster.core.events import FORMAT_VERSION
from broadcaster.errors import IdempotencyMismatch, QueueFull, StopNotDurable, UnknownStream
from broadcaster.log.claims import Claims
from broadcaster.log.connect import LogConnection, log_errors
from broadcaster.log.keys import check_stream_id
from broadcaster.log.queue import Queue
from broadcaster.log.scripts import CREATE, FORGET, STOP
from broadcaster.log.steadiness import Steadiness
from broadcaster.log.streams import Meta, Streams

META_OUTLIVES_LOG_MS: Final = 3_600_000
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a caller asks for. ``request`` is what the provider adapter reads: messages, system, max_tokens, …"""

    model: str
    request: Mapping[str, Any]
    on_worker_loss: Literal["retry", "fail"] = "retry"
    on_abandon: Literal["continue", "cancel"] = "continue"
    retention_s: float | None = None

    @classmethod
    def again(cls, meta: Meta) -> GenerationRequest:
        """What was asked for when this generation was created (a requeued dead letter asks for it once more)."""
        return cls(
            model=meta.model,
            request=meta.request,
            on_worker_loss="fail" if meta.on_worker_loss == "fail" else "retry",
            on_abandon="cancel" if meta.on_abandon == "cancel" else "continue",
            retention_s=meta.retention_ms / 1000,
        )

    def digest(self) -> str:
        """Hash by which an Idempotency-Key knows its body again."""
        parts = [self.model, dict(self.request), self.on_worker_loss, self.on_abandon, self.retention_s]
        return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Created:
    """The generation's id; ``created`` is False when an earlier call with the same key had made it."""

    id: str
    created: bool


@dataclass(frozen=True, slots=True)
class GenerationLives:
    """How long things are kept, in milliseconds."""

    live_ttl_ms: int
    retention_ms: int
    idempotency_ttl_ms: int


class Generations:
    """Every method raises LogUnavailable while Redis cannot answer, and UnknownStream for another tenant's id."""

    def __init__(
        self,
        connection: LogConnection,
        lives: GenerationLives,
        *,
        queue: Queue,
        claims: Claims,
        streams: Streams,
        steadiness: Steadiness,
    ) -> None:
        self._redis = connection.redis
        self._keys = connection.keys
        self._lives = lives
        self._queue = queue
        self._claims = claims
        self._streams = streams
        self._steadiness = steadiness

    async def create(self, request: GenerationRequest, *, tenant: str, idempotency_key: str | None = None) -> Created:
        """Start a generation; a worker takes it within moments.

        Raises QueueFull (nothing is left behind) and IdempotencyMismatch (same key, another body).
        """
        generation_id, repeated, key = f"gen_{secrets.token_hex(_ID_BYTES)}", False, None
        if idempotency_key is not None:
            key = self._keys.idem(tenant, idempotency_key)
            generation_id, repeated = await self._first_with_key(key, generation_id, request.digest())
        created = await self._write_meta(generation_id, request, tenant=tenant)
        if created or await self._still_waits(generation_id):
            if await self._queue.enqueue(generation_id) < 0:
                await self._undo(generation_id, key)
                raise QueueFull("as many generations wait as the settings allow; try again later")
        return Created(generation_id, created=not repeated)

    async def get(self, generation_id: str, *, tenant: str) -> Meta:
        """The generation's meta."""
        meta = await self._streams.meta(check_stream_id(generation_id))
        if meta is None or meta.tenant != tenant or meta.kind != "generation":
            raise UnknownStream("no generation has this id (or it was kept no longer)")
        return meta

    async def list(self, *, tenant: str, limit: int = 100) -> Sequence[Meta]:
        """Open generations of the tenant, the newest first."""
        ids = await self._queue.newest_open(limit)
        return [meta for meta in await self._streams.metas(ids) if meta is not None and meta.tenant == tenant]

    async def stop(self, generation_id: str, *, tenant: str) -> None:
        """Ask for the end. Idempotent: stopping what is over changes nothing.

        A running generation's worker is told at once; one that nobody runs is ended here. Raises StopNotDurable when
        the worker was told but the wish could not be written down (Redis full).
        """
        await self.get(generation_id, tenant=tenant)
        keys = [self._keys.meta(generation_id), self._keys.control(generation_id)]
        with log_errors():
            code = await STOP.run(self._redis, keys, "stopped")
        if code == 0:
            raise UnknownStream("no generation has this id (or it was kept no longer)")
        if code == -1:
            raise StopNotDurable("the worker was told, but Redis could not store the stop; repeat it")
        if code == 1:
            await self._claims.end(generation_id, None, may_take_over=self._steadiness.is_steady)

    async def _first_with_key(self, key: str, generation_id: str, digest: str) -> tuple[str, bool]:
        mine = f"{generation_id} {digest}"
        with log_errors():
            held: Any = await self._redis.set(key, mine, nx=True, get=True, px=self._lives.idempotency_ttl_ms)
        if held is None:
            return generation_id, False
        first_id, _, first_digest = held.decode().partition(" ")
        if first_digest != digest:
            raise IdempotencyMismatch("this Idempotency-Key was used with another body")
        return first_id, True

    async def _write_meta(self, generation_id: str, request: GenerationRequest, *, tenant: str) -> bool:
        retention_ms = self._lives.retention_ms if request.retention_s is None else int(request.retention_s * 1000)
        fields: dict[str, str | bytes | int] = {
            "v": FORMAT_VERSION,
            "tenant": tenant,
            "status": "queued",
            "model": request.model,
            "request": msgspec.json.encode(dict(request.request)),
            "on_worker_loss": request.on_worker_loss,
            "on_abandon": request.on_abandon,
            "retention_ms": retention_ms,
        }
        flat = [part for pair in fields.items() for part in pair]
        ttl_ms = self._lives.live_ttl_ms + META_OUTLIVES_LOG_MS
        with log_errors():
            return bool(await CREATE.run(self._redis, [self._keys.meta(generation_id)], ttl_ms, *flat))

    async def _undo(self, generation_id: str, key: str | None) -> None:
        """The queue refused it: forget it, unless somebody has begun it meanwhile."""
        with log_errors():
            forgotten = await FORGET.run(self._redis, [self._keys.meta(generation_id)])
            if forgotten and key is not None:
                await self._redis.delete(key)

    async def _still_waits(self, generation_id: str) -> bool:
        meta = await self._streams.meta(generation_id)
        return meta is not None and meta.status == "queued"
