"""The log's parts over one connection, with short times, for tests of the write side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broadcaster.core.batching import AppendReply, Code, StopRequest
from broadcaster.core.events import FORMAT_VERSION, TextDelta, encode_event, is_terminal
from broadcaster.log.feeds.lapses import Lapses
from broadcaster.log.jobs.claims import Claim, ClaimPolicy, Claims, Outcome, Why
from broadcaster.log.jobs.endings import Endings
from broadcaster.log.jobs.generations import GenerationLives, GenerationRequest, Generations, create_generation_id
from broadcaster.log.jobs.idempotency import IdempotencyKeys
from broadcaster.log.jobs.job_reader import JobReader
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.jobs.queue import Job, Queue, Settled
from broadcaster.log.jobs.queue_limits import QueueLimits
from broadcaster.log.jobs.rescue.accepted import AcceptedGenerations
from broadcaster.log.jobs.rescue.announcer import Announcer
from broadcaster.log.jobs.rescue.kept_ends import KeptEnds
from broadcaster.log.jobs.rescue.rescue import Rescue
from broadcaster.log.jobs.webhooks import PendingWebhooks, WebhookLimits
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.appender import AppendBounds, Appender
from broadcaster.log.streams.presence import Presence
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tenant_storage import TenantStorage
from broadcaster.log.streams.writer import StreamWriter

LEASE_MS = 400
PATIENT_S = 10.0
WEBHOOK_MS = 50_000
TENANT = "local"
_STATUS = {"finish": "finished", "error": "failed", "abort": "aborted"}


def delta(text: str) -> bytes:
    """A text delta as the log stores it."""
    return encode_event(TextDelta(id="0", delta=text))


@dataclass
class World:
    """One worker's view of the log."""

    connection: LogConnection
    worker: str = "w1"
    max_events: int = 1000
    max_bytes: int = 100_000
    max_queue: int = 100
    tenant_queued: int | None = None
    tenant_running: int | None = None
    head_start_s: float = 60.0
    max_attempts: int = 3
    queue_timeout_ms: int = 60_000
    max_webhooks: int = 100
    tenant_webhooks: int = 100
    attempt_backoff_ms: int = 0
    presence: Presence | None = None
    storage: TenantStorage | None = None
    has_rescue: bool = False
    lease_ms: int = LEASE_MS
    create_id: Callable[[], str] = create_generation_id

    def __post_init__(self) -> None:
        self.keys = self.connection.keys
        self.redis: Any = self.connection.redis
        self.streams = Streams(self.connection)
        self.policy = ClaimPolicy(
            self.lease_ms / 1000, 60, self.queue_timeout_ms / 1000, self.max_attempts, self.attempt_backoff_ms / 1000
        )
        self.claims = Claims(self.connection, self.policy, owner=self.worker)
        limits = QueueLimits(self.max_queue, self.tenant_queued, self.head_start_s)
        self.queue = Queue(self.connection, consumer=self.worker, limits=limits)
        self.steadiness = Steadiness(self.connection, lease_ttl_s=self.lease_ms / 1000)
        self.webhooks = PendingWebhooks(self.connection, limits=WebhookLimits(self.max_webhooks, self.tenant_webhooks))
        self.lapses = Lapses(self.connection, steadiness=self.steadiness)
        self.rescue = self._rescue() if self.has_rescue else None
        lives = GenerationLives(
            open_ms=180_000, live_ttl_ms=60_000, retention_ms=30_000, idempotency_ttl_ms=60_000, webhook_ms=WEBHOOK_MS
        )
        self.generations = Generations(
            self.connection,
            lives,
            queue=self.queue,
            claims=self.claims,
            streams=self.streams,
            steadiness=self.steadiness,
            webhooks=self.webhooks,
            presence=self.presence,
            storage=self.storage,
            rescue=self.rescue,
            create_id=self.create_id,
        )

    def _rescue(self) -> Rescue:
        parts: dict[str, Any] = {"queue": self.queue, "streams": self.streams, "steadiness": self.steadiness}
        idempotency = IdempotencyKeys(self.connection, ttl_ms=60_000)
        endings = Endings(self.claims, self.streams)
        return Rescue(
            Announcer(self.queue, self.streams),
            AcceptedGenerations(self.connection, **parts, idempotency=idempotency),
            KeptEnds(self.connection, **parts, endings=endings, keep_s=30),
        )

    def reader(self) -> JobReader:
        """A blocking reader of new jobs."""
        return JobReader(self.connection, consumer=self.worker, block_s=0.05, tenant_running=self.tenant_running)

    async def create(self, *, tenant: str = TENANT, request: Mapping[str, Any] | None = None, **policies: Any) -> str:
        """A queued generation's id."""
        generation = GenerationRequest(model="m", request=request or {"messages": []}, **policies)
        return (await self.generations.create(generation, tenant=tenant)).id

    async def die(
        self,
        *,
        tenant: str = TENANT,
        times_settled: int = 1,
        chat: str = "1",
        webhook: Mapping[str, Any] | None = None,
    ) -> str:
        """A generation that spent its attempts (one, with ``max_attempts=1``) and is among the dead letters."""
        request = GenerationRequest(
            model="m",
            request={"messages": [{"role": "user", "content": "hi"}], "metadata": {"chat": chat}},
            on_abandon="cancel",
            retention_s=120,
            webhook=webhook,
        )
        stream_id = (await self.generations.create(request, tenant=tenant)).id
        await self.spend(stream_id, times_settled=times_settled)
        return stream_id

    async def spend(self, stream_id: str, *, times_settled: int = 1) -> None:
        """Lose every attempt of a queued generation, and settle its job as a worker does then."""
        reader = self.reader()
        (job,) = await reader.take(1)
        await reader.aclose()
        while (claim := await self.claim(stream_id)).outcome is Outcome.GRANTED:
            await self.redis.delete(self.keys.lease(stream_id))
        assert (job.generation_id, claim.why) == (stream_id, Why.ATTEMPTS_SPENT)
        for _ in range(times_settled):
            await self.queue.settle(job, Settled.DEAD, reason=claim.why.name.lower())

    async def lapse(self, stream_id: str) -> None:
        """The worker has been silent for one lease."""
        await self.redis.delete(self.keys.lease(stream_id))

    async def claim(self, stream_id: str, *, may_take_over: bool = True) -> Claim:
        """Claim as this worker."""
        return await self.claims.claim(stream_id, may_take_over=may_take_over)

    async def granted(self) -> tuple[str, Claim]:
        """A new generation, claimed."""
        stream_id = await self.create()
        claim = await self.claim(stream_id)
        assert claim.outcome is Outcome.GRANTED
        return stream_id, claim

    async def append(self, stream_id: str, epoch: int, first_seq: int, events: Sequence[bytes]) -> AppendReply:
        """One append, as the appender sends it."""
        name = self.keys
        kind = events[-1].split(b'"', 4)[3].decode() if events and is_terminal(events[-1]) else ""
        keys = [name.log(stream_id), name.meta(stream_id), name.live(stream_id), name.lease(stream_id)]
        code, last_epoch, last_seq, stop = await SCRIPTS["append"].run(
            self.redis,
            keys,
            *(epoch, first_seq, self.max_events, self.max_bytes, 65_536, 60_000, 30_000, FORMAT_VERSION),
            _STATUS.get(kind, ""),
            *events,
        )
        return AppendReply(Code(code), last_epoch, last_seq, StopRequest(stop))

    async def seqs(self, stream_id: str) -> list[int]:
        """Seqs in the log."""
        return [entry.seq for entry in await self.streams.read(stream_id)]

    async def texts(self, stream_id: str) -> list[bytes]:
        """Events in the log."""
        return [entry.event for entry in await self.streams.read(stream_id)]

    async def lose_after(self, stream_id: str, seq: int) -> None:
        """What a failover does: the log's entries after ``seq`` have never been."""
        log = self.keys.log(stream_id)
        rows = await self.redis.xrange(log)
        await self.redis.delete(log)
        for entry_id, fields in rows[:seq]:
            await self.redis.xadd(log, fields, id=entry_id)

    def appender(self) -> Appender:
        """An appender with this world's bounds."""
        return Appender(self.connection, AppendBounds(self.max_events, self.max_bytes, 65_536, 60_000))

    def keeper(self, appender: Appender, *, is_patient: bool = True) -> LeaseKeeper:
        """A lease keeper of this worker.

        ``is_patient``: a busy machine's reply may take longer than a quarter of these short leases.
        """
        keeper = LeaseKeeper(
            self.connection,
            worker_id=self.worker,
            lease_ttl_s=self.lease_ms / 1000,
            claims=self.claims,
            queue=self.queue,
            appender=appender,
            steadiness=self.steadiness,
        )
        if is_patient:
            keeper._renewals = self.connection.create_client(timeout_s=PATIENT_S, max_connections=1)
        return keeper

    async def writer(self, stream_id: str, claim: Claim, appender: Appender, keeper: LeaseKeeper) -> StreamWriter:
        """A writer under this claim, in the keeper's care."""
        meta, raw = await self.streams.meta_with_fields(stream_id)
        writer = StreamWriter(
            stream_id,
            epoch=claim.epoch,
            base_seq=claim.last_seq,
            retention_ms=meta.retention_ms,
            max_bytes=self.max_bytes,
            meta=raw,
            attend=appender.attend,
            recovery=keeper,
        )
        keeper.hold(writer, Job(self.keys.ready, "0-1", stream_id))
        return writer


async def until(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    """Wait for a condition of this process; raises TimeoutError."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)
