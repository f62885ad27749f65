"""Generations as their callers see them: create, look up, list, stop, delete.

Create writes, in this order: idempotency key (SET NX) → open index → meta ``queued`` → promise of the webhook → job →
the tenant's recent ones. A crash between two steps leaves nothing that waits for ever. A repeated create with the same
key does the missing steps (each has an effect only once; a generation that has begun or is over misses none). The sweep
gives a job to an open generation without one, and drops an open id that never got its meta.

Delete stops the generation first, waits for the terminal event (viewers get it), then removes the key, the log and the
request; see deletion.py for what stays.

How two creates with one key meet a full queue (or too many pending webhooks). The create that wrote the meta undoes it
when the queue refuses its job; a repeated create may have got a job meanwhile. So (1) the key is first shortened, not
removed; (2) a repeat that got a job marks the meta (``keep``) before it returns; (3) the undo leaves a marked meta
alone, and then refuses nothing; (4) a create that succeeds with another create's key prolongs it. A mark that comes too
late finds nothing, and the repeat starts over.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Final, Literal

import msgspec

from broadcaster.core.events import FORMAT_VERSION
from broadcaster.core.requests.metadata import MAX_METADATA_BYTES, check_metadata
from broadcaster.core.requests.origins import NO_ORIGIN, Origin
from broadcaster.core.requests.passed_calls import call_of
from broadcaster.core.requests.passed_headers import without_headers
from broadcaster.core.requests.priorities import Priority
from broadcaster.core.requests.stored_requests import MAX_STORED_BYTES, encode_request
from broadcaster.core.requests.titles import title_of
from broadcaster.core.status import META_OUTLIVES_LOG_MS
from broadcaster.errors import (
    BodyTooLarge,
    Busy,
    MetadataTooLarge,
    QueueFull,
    StopNotDurable,
    StopPending,
    TenantLimit,
    UnknownStream,
    WebhookNotAllowed,
)
from broadcaster.log.jobs.claims import Claims
from broadcaster.log.jobs.deletion import Deletion
from broadcaster.log.jobs.endings import Endings
from broadcaster.log.jobs.idempotency import IdempotencyKeys
from broadcaster.log.jobs.lists.listing import Listing
from broadcaster.log.jobs.queue import Enqueued, Queue
from broadcaster.log.jobs.rescue.accepted import AcceptedGeneration, MetaFields, create_meta
from broadcaster.log.jobs.rescue.rescue import Rescue
from broadcaster.log.jobs.stops import Stop, Stops
from broadcaster.log.jobs.webhooks import PendingWebhooks
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.keys import check_stream_id
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.presence import Presence
from broadcaster.log.streams.reader import Meta, Streams
from broadcaster.log.streams.tenant_storage import TenantStorage
from broadcaster.observability.limits import counting_refusals, limit_reached

_ID_BYTES: Final = 16
_CREATE_TRIES: Final = 3
# How soon a deletion first checks whether the stopped generation is over, and how often at last.
_FIRST_CHECK_S: Final = 0.02
_LONGEST_CHECK_S: Final = 0.25
# A waiting generation of the tenant must begin first.
_TENANT_RETRY_S: Final = 5.0
_UNKNOWN: Final = "no generation has this id (or it has expired)"


def create_generation_id() -> str:
    """An id that is unique and cannot be guessed."""
    return f"gen_{secrets.token_hex(_ID_BYTES)}"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A generation to create. ``request`` is what the provider adapter reads: messages, system, max_tokens, …"""

    model: str
    request: Mapping[str, Any]
    on_worker_loss: Literal["retry", "fail"] = "retry"
    on_abandon: Literal["continue", "cancel"] = "continue"
    on_provider_loss: Literal["fail", "retry"] = "fail"
    retention_s: float | None = None
    webhook: Mapping[str, Any] | None = None
    priority: Priority = Priority.NORMAL
    credential: str = ""  # whose budget it counts for
    origin: Origin = NO_ORIGIN

    @classmethod
    def from_meta(cls, meta: Meta) -> GenerationRequest:
        """The request that created this generation, for a dead letter that is requeued."""
        hook = meta.webhook
        requested_ms = hook.requested_retention_ms if hook is not None else None
        return cls(
            model=meta.model,
            request=meta.request,
            on_worker_loss="fail" if meta.on_worker_loss == "fail" else "retry",
            on_abandon="cancel" if meta.on_abandon == "cancel" else "continue",
            on_provider_loss="retry" if meta.on_provider_loss == "retry" else "fail",
            retention_s=(meta.retention_ms if requested_ms is None else requested_ms) / 1000,
            webhook=None if hook is None else {"url": hook.url, "events": hook.events},
            priority=meta.priority,
            credential=meta.credential,
        )

    def digest(self) -> str:
        """Hash of the body, which an Idempotency-Key is stored with."""
        parts = [self.model, without_headers(self.request), self.on_worker_loss, self.on_abandon, self.retention_s]
        # A body without these fields keeps the hash that earlier versions gave it.
        if self.webhook is not None:
            parts.append(dict(self.webhook))
        if self.on_provider_loss != "fail":
            parts.append({"on_provider_loss": self.on_provider_loss})
        if self.priority is not Priority.NORMAL:
            parts.append({"priority": self.priority})
        return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Created:
    """The generation's id; ``created`` is False when an earlier call with the same key had made it."""

    id: str
    created: bool


@dataclass(frozen=True, slots=True)
class GenerationLives:
    """How long things are kept, in milliseconds. ``webhook_ms``: the log of a webhook that is not delivered yet.

    ``open_ms``: the longest that a generation is open, from its creation to its end.
    """

    open_ms: int
    live_ttl_ms: int
    retention_ms: int
    idempotency_ttl_ms: int
    webhook_ms: int = 0
    resend_ms: int = 30_000  # how long a worker may still send the events of a generation that is over


@dataclass(eq=False, repr=False)
class Generations:
    """Every method raises LogUnavailable while Redis cannot answer, and UnknownStream for another tenant's id.

    The optional parts switch features on. Without ``webhooks`` a request for one is refused; without ``presence``
    creators do not count as viewers; without ``storage`` a tenant's bytes are neither counted nor bounded; without
    ``rescue`` a generation that Redis loses before a worker has it is lost.
    """

    connection: LogConnection
    lives: GenerationLives
    _: KW_ONLY
    queue: Queue
    claims: Claims
    streams: Streams
    steadiness: Steadiness
    webhooks: PendingWebhooks | None = None
    presence: Presence | None = None
    storage: TenantStorage | None = None
    rescue: Rescue | None = None
    max_metadata_bytes: int = MAX_METADATA_BYTES
    max_stored_bytes: int = MAX_STORED_BYTES
    create_id: Callable[[], str] = create_generation_id

    def __post_init__(self) -> None:
        connection, queue, streams, lives = self.connection, self.queue, self.streams, self.lives
        self._redis = connection.redis
        self._keys = connection.keys
        self.created_count = 0
        self._meta_ttl_ms = lives.live_ttl_ms + META_OUTLIVES_LOG_MS
        endings, ends = Endings(self.claims, streams), None if self.rescue is None else self.rescue.ends
        self._stops = Stops(
            connection, queue=queue, endings=endings, streams=streams, steadiness=self.steadiness, ends=ends
        )
        self._idempotency = IdempotencyKeys(connection, ttl_ms=lives.idempotency_ttl_ms)
        self.lists = Listing(connection, streams, queue, open_ms=lives.open_ms, retention_ms=lives.retention_ms)
        self._deletion = Deletion(connection, idempotency=self._idempotency, queue=queue, resend_ms=lives.resend_ms)

    async def create(
        self, request: GenerationRequest, *, tenant: str, idempotency_key: str | None = None, is_watched: bool = False
    ) -> Created:
        """Start a generation; a worker takes it within moments.

        ``is_watched``: its creator watches it here. That viewer counts from the creation on, also if this front-end
        dies before its first report.

        Raises MetadataTooLarge, BodyTooLarge, QueueFull, TenantLimit, Busy (too many webhooks) and IdempotencyMismatch
        (same key, another body), without leaving anything behind. A key whose generation was deleted or abandoned
        starts a new one. A tenant that may store no more still gets the generation of an earlier call with the key.
        """
        if request.webhook is not None and self.webhooks is None:
            raise WebhookNotAllowed("webhooks are off here")
        with counting_refusals("MAX_METADATA_BYTES", MetadataTooLarge):
            check_metadata(request.request.get("metadata"), max_bytes=self.max_metadata_bytes)
        with counting_refusals("MAX_BODY_BYTES", BodyTooLarge):
            encoded = encode_request(request.request, max_bytes=self.max_stored_bytes)
        key = idempotency_key
        if self.storage is not None:
            try:
                await self.storage.admit(tenant)
            except TenantLimit:
                found = None if key is None else await self.find(request, tenant=tenant, idempotency_key=key)
                if found is None:
                    raise
                return found
        for _ in range(_CREATE_TRIES):
            created = await self._try_to_create(request, encoded, tenant=tenant, key=key, is_watched=is_watched)
            if created is not None:
                self.created_count += created.created
                return created
        raise Busy("the generation of this Idempotency-Key is being deleted or refused right now; try again")

    async def find(self, request: GenerationRequest, *, tenant: str, idempotency_key: str) -> Created | None:
        """The generation of an earlier request with this key, if it is there. Raises IdempotencyMismatch."""
        generation_id = await self._idempotency.find(tenant, idempotency_key, digest=request.digest())
        meta = None if generation_id is None else await self.streams.meta(generation_id)
        return None if meta is None or meta.is_deleted or meta.is_abandoned else Created(meta.id, created=False)

    async def get(self, generation_id: str, *, tenant: str) -> Meta:
        """The generation's meta."""
        meta = await self.streams.meta(check_stream_id(generation_id))
        if meta is None:
            await self.steadiness.check_unknown()
        if meta is None or meta.tenant != tenant or meta.kind != "generation" or meta.is_deleted:
            raise UnknownStream(_UNKNOWN)
        if self.rescue is not None and not meta.is_over:
            self.rescue.announcer.notice(meta.id)
        return meta

    async def stop(self, generation_id: str, *, tenant: str) -> None:
        """Request the end. Idempotent: stopping a generation that is over changes nothing.

        Notifies the worker of a running generation at once, and ends one without a worker here. Raises StopNotDurable
        when the worker was notified but the request could not be stored (Redis full).
        """
        code = await self._stop(await self.get(generation_id, tenant=tenant))
        if code is Stop.UNKNOWN:
            raise UnknownStream(_UNKNOWN)
        if code is Stop.NOT_WRITTEN:
            raise StopNotDurable("the worker was notified, but Redis could not store the stop; repeat it")

    async def delete(self, generation_id: str, *, tenant: str, timeout_s: float) -> None:
        """Stop it, wait for its end, then remove it. Idempotent for as long as the tombstone stays, then UnknownStream.

        Raises StopPending when it has not ended within ``timeout_s``: it is still being stopped, and not deleted.
        """
        meta = await self.streams.meta(check_stream_id(generation_id))
        if meta is None or meta.tenant != tenant or meta.kind != "generation":
            raise UnknownStream(_UNKNOWN)
        loop = asyncio.get_running_loop()
        deadline, pause_s = loop.time() + timeout_s, _FIRST_CHECK_S
        while await self._stop(meta) in (Stop.REQUESTED, Stop.NOT_WRITTEN):
            if loop.time() + pause_s > deadline:
                limit_reached("DELETE_TIMEOUT_S")
                raise StopPending("it is being stopped but has not ended yet; repeat the deletion")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_CHECK_S)
        await self._deletion.forget(meta)
        if self.storage is not None:
            self.storage.ended(tenant, generation_id)

    async def _stop(self, meta: Meta) -> Stop:
        if self.rescue is not None:
            self.rescue.accepted.release(meta.id)
        return await self._stops.request(meta)

    async def _try_to_create(
        self, request: GenerationRequest, encoded: bytes, *, tenant: str, key: str | None, is_watched: bool
    ) -> Created | None:
        """None: the key's generation is gone or went meanwhile; the next try finds another one or none."""
        generation_id = self.create_id()
        is_first = True
        if key is not None:
            mine = generation_id
            generation_id = await self._idempotency.claim(tenant, key, generation_id=mine, digest=request.digest())
            is_first = generation_id == mine
        if is_first or await self._is_to_begin(generation_id):
            await self.queue.announce(generation_id)
        fields = self._meta_fields(request, encoded, tenant=tenant, key=key)
        if not is_first:
            fields = {**fields, "has_reused_id": 1}
        is_abandonable = is_watched and request.on_abandon == "cancel"
        written = await self._write_meta(generation_id, fields, tenant=tenant, is_abandonable=is_abandonable)
        if not written:
            meta = await self.streams.meta(generation_id)
            if meta is None or meta.is_deleted or meta.is_abandoned:
                if key is not None and meta is not None:
                    await self._idempotency.forget(tenant, key, generation_id=generation_id)
                return None
            if meta.status != "queued":
                return Created(generation_id, created=False)
        refusal = await self._enqueue(generation_id, request, tenant=tenant)
        if refusal is not None:
            if not written or await self._undo(generation_id, tenant=tenant, key=key):
                raise refusal
        elif not written and not await SCRIPTS["keep"].run(self._redis, [self._keys.meta(generation_id)]):
            return None
        if key is not None and (refusal is not None or not (is_first and written)):
            await self._idempotency.prolong(tenant, key, generation_id=generation_id)
        if call_of(request.request) is None:  # no list shows a passed call
            await self.lists.created(tenant, generation_id, retention_ms=self._kept_ms(request))
        if written and self.rescue is not None:
            digest, at = request.digest() if key is not None else "", asyncio.get_running_loop().time()
            self.rescue.accepted.hold(
                AcceptedGeneration(generation_id, tenant, fields, self._meta_ttl_ms, at, key, digest)
            )
        return Created(generation_id, created=written)

    async def _is_to_begin(self, generation_id: str) -> bool:
        """Whether a key's generation needs the sweep. One that is over must not enter the open index once more."""
        meta = await self.streams.meta(generation_id)
        return meta is None or (meta.status == "queued" and not meta.is_deleted)

    async def _enqueue(self, generation_id: str, request: GenerationRequest, *, tenant: str) -> Busy | None:
        """Promise its webhook and give it its job, in this order; returns why that was refused."""
        if request.webhook is not None and self.webhooks is not None:
            refusal = await self.webhooks.promise(generation_id, tenant=tenant)
            if refusal is not None:
                return refusal
        match await self.queue.enqueue(generation_id, tenant=tenant, priority=request.priority):
            case Enqueued.QUEUE_FULL:
                return QueueFull("as many generations wait as the settings allow; try again later")
            case Enqueued.TENANT_FULL:
                return TenantLimit(
                    "as many generations of this tenant wait as TENANT_QUEUED allows; try again later, or stop one",
                    retry_after_s=_TENANT_RETRY_S,
                )
        return None

    def _meta_fields(self, request: GenerationRequest, encoded: bytes, *, tenant: str, key: str | None) -> MetaFields:
        fields: dict[str, str | bytes | int] = {
            "v": FORMAT_VERSION,
            "tenant": tenant,
            "status": "queued",
            "model": request.model,
            "request": encoded,
            "title": title_of(request.request),
            "on_worker_loss": request.on_worker_loss,
            "on_abandon": request.on_abandon,
            "on_provider_loss": request.on_provider_loss,
            "priority": request.priority,
            "credential": request.credential,
            "retention_ms": self._kept_ms(request),
            **request.origin.fields(),
        }
        if request.webhook is not None:
            fields["webhook"] = msgspec.json.encode(dict(request.webhook))
            fields["asked_retention_ms"] = self._retention_ms(request)
        if call_of(request.request) is not None:
            fields["unlisted"] = 1
        if key is not None:
            fields["idempotency_key"] = key
        return fields

    async def _write_meta(self, generation_id: str, fields: MetaFields, *, tenant: str, is_abandonable: bool) -> bool:
        if self.storage is not None:
            self.storage.created(tenant, generation_id, size=len(fields["request"]))
        create = partial(create_meta, self.connection, generation_id, fields, ttl_ms=self._meta_ttl_ms)
        if not is_abandonable or self.presence is None:
            return await create()
        try:
            return await create(report=self.presence.first_report)
        finally:  # also after a failure: the report may have been written
            self.presence.expect(generation_id)

    async def _undo(self, generation_id: str, *, tenant: str, key: str | None) -> bool:
        """The queue refused it: remove it. False: a worker has begun it, or a repeated create relies on it."""
        if key is not None:
            await self._idempotency.shorten(tenant, key, generation_id=generation_id)
        keys = [self._keys.meta(generation_id), self._keys.viewers(generation_id)]
        forgotten = bool(await SCRIPTS["forget"].run(self._redis, keys))
        # With a key, a repeat may have written the meta already: its promise stays. ``check_promised`` drops the rest.
        if forgotten and key is None:
            await self.queue.withdraw(generation_id)
            if self.webhooks is not None:
                await self.webhooks.withdraw([generation_id])
        return forgotten

    def _kept_ms(self, request: GenerationRequest) -> int:
        requested_ms = self._retention_ms(request)
        return requested_ms if request.webhook is None else max(requested_ms, self.lives.webhook_ms)

    def _retention_ms(self, request: GenerationRequest) -> int:
        return self.lives.retention_ms if request.retention_s is None else int(request.retention_s * 1000)
