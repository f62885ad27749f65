"""The runner: takes jobs, claims their streams, runs their attempts, settles them, and drains.

Rules
1. A slot is free before a job is read; the claim decides whether a delivered job is run (log/claims.py).
2. A job is settled only when its generation is over. A fenced attempt settles nothing: the job is somebody else's.
3. Draining: nothing new is taken; what runs may finish within the grace; the rest is given back at once and starts
   elsewhere, never twice (the right to write is released before the job is enqueued again).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from broadcaster.errors import LogUnavailable
from broadcaster.log.appender import Appender
from broadcaster.log.claims import Claim, Claims, Outcome, Why
from broadcaster.log.control import ControlListener
from broadcaster.log.lease import LeaseKeeper
from broadcaster.log.queue import Job, JobReader, Queue, Settled
from broadcaster.log.steadiness import Steadiness
from broadcaster.log.streams import Streams
from broadcaster.log.writer import StreamWriter
from worker.attempt import Attempt, AttemptEnd, AttemptTimes, start
from worker.providers.registry import Providers
from worker.slots import Slot, Slots
from worker.webhooks import WebhookCourier

_log = structlog.get_logger(__name__)

_RETRY_S = 0.25
_READ_AT_ONCE = 16
_HAND_BACK_S = 5.0


@dataclass(frozen=True, slots=True)
class Engine:
    """What the runner stands on, built by worker/main.py."""

    queue: Queue
    reader: JobReader
    claims: Claims
    streams: Streams
    appender: Appender
    keeper: LeaseKeeper
    steadiness: Steadiness
    control: ControlListener
    providers: Providers
    courier: WebhookCourier | None = None  # None: webhooks are off


@dataclass(frozen=True, slots=True)
class RunnerTimes:
    """Times of the runner, in seconds."""

    lease_ttl_s: float
    resend_keep_s: float
    attempt: AttemptTimes


class Runner:
    """See the module's rules."""

    def __init__(self, engine: Engine, slots: Slots, *, times: RunnerTimes, max_bytes: int) -> None:
        self._engine = engine
        self._slots = slots
        self._times = times
        self._max_bytes = max_bytes
        self._attempts: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()

    @property
    def running(self) -> int:
        """Generations running now."""
        return len(self._attempts)

    async def take_new(self) -> None:
        """Read new jobs and start them, until cancelled."""
        while True:
            count = await self._slots.wait_free()
            try:
                jobs = await self._engine.reader.take(min(count, _READ_AT_ONCE))
            except LogUnavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            for job in jobs:
                self._start(job)

    async def take_silent(self) -> None:
        """Re-claim jobs of silent workers and start them, until cancelled."""
        every_s = self._times.lease_ttl_s / 5
        while True:
            await asyncio.sleep(every_s)
            if not self._engine.steadiness.is_steady or self._slots.free == 0:
                continue
            try:
                jobs = await self._engine.queue.take_silent(
                    silent_ms=int(self._times.lease_ttl_s * 1000), count=self._slots.free
                )
            except LogUnavailable:
                _log.warning("take_over_later")
                continue
            for job in jobs:
                self._start(job)

    def _start(self, job: Job) -> None:
        if job.generation_id not in self._attempts:
            start(self._run(job, self._slots.take_nowait()), self._tasks)

    async def _run(self, job: Job, slot: Slot) -> None:
        try:
            claim = await self._engine.claims.claim(job.generation_id, may_take_over=self._engine.steadiness.is_steady)
            if claim.outcome is Outcome.GRANTED:
                await self._run_claimed(job, claim, slot)
            elif claim.outcome is Outcome.UNKNOWN:
                # Forgotten, or asked for again under the same id: only this job goes, the sweep does the rest.
                await self._settle(job, Settled.DROP)
            elif claim.outcome is not Outcome.LEASED:
                _log.info("job_over", stream=job.generation_id, outcome=claim.outcome.name, why=claim.why.name)
                dead = claim.why is Why.ATTEMPTS_SPENT
                await self._settle(job, Settled.DEAD if dead else Settled.DONE, reason=claim.why.name.lower())
        except LogUnavailable:
            # The job stays delivered to us, unsettled: it counts as silent after one lease and is taken again.
            _log.warning("job_later", stream=job.generation_id)
        except Exception:
            _log.exception("job_crashed", stream=job.generation_id)
        finally:
            slot.free()

    async def _run_claimed(self, job: Job, claim: Claim, slot: Slot) -> None:
        meta, raw = await self._engine.streams.meta_with_fields(job.generation_id)
        writer = StreamWriter(
            job.generation_id,
            epoch=claim.epoch,
            base_seq=claim.last_seq,
            retention_ms=meta.retention_ms,
            max_bytes=self._max_bytes,
            meta=raw,
            attend=self._engine.appender.attend,
            recovery=self._engine.keeper,
        )
        attempt = Attempt(meta, writer, providers=self._engine.providers, times=self._times.attempt)
        self._attempts[job.generation_id] = attempt
        self._engine.keeper.hold(writer, job)
        self._engine.control.listen(job.generation_id, writer.ask_stop, on_subscribed=writer.verify)
        _log.info("attempt_started", stream=meta.id, model=meta.model, attempt=claim.attempt, epoch=claim.epoch)
        try:
            end = await attempt.run()
        except TimeoutError:
            _log.error("log_away_too_long", stream=meta.id, unsent=writer.last_seq - writer.acked_seq)
            end = AttemptEnd.LOST
        finally:
            self._engine.control.forget(job.generation_id)
            self._engine.keeper.drop(writer, keep_s=self._times.resend_keep_s)
            del self._attempts[job.generation_id]
        _log.info("attempt_over", stream=meta.id, end=end.name, seq=writer.last_seq)
        await self._after(end, job, writer)
        await self._keep_buffer(writer, slot)

    async def _after(self, end: AttemptEnd, job: Job, writer: StreamWriter) -> None:
        if end is AttemptEnd.OVER:
            await self._settle(job, Settled.DONE)
        elif end is AttemptEnd.HANDED_BACK and await self._engine.claims.release(writer.stream_id, epoch=writer.epoch):
            await self._settle(job, Settled.AGAIN)

    async def _keep_buffer(self, writer: StreamWriter, slot: Slot) -> None:
        """Hold the bytes of the re-send buffer for as long as the keeper holds the buffer itself."""
        slot.shrink(writer.size_bytes)
        if writer.is_settled:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._times.resend_keep_s):
                    await self._draining.wait()

    async def _settle(self, job: Job, outcome: Settled, *, reason: str = "") -> None:
        deadline = asyncio.get_running_loop().time() + self._times.lease_ttl_s
        while True:
            try:
                await self._engine.queue.settle(job, outcome, reason=reason)
                return
            except LogUnavailable:
                # Not settled is not lost: the job comes again and its claim says that the generation is over.
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_RETRY_S)

    async def drain(self, *, grace_s: float) -> None:
        """Rule 3. Call it when ``take_new`` and ``take_silent`` have been cancelled."""
        self._draining.set()
        deadline = asyncio.get_running_loop().time() + grace_s
        while self._attempts and asyncio.get_running_loop().time() < deadline:
            await asyncio.wait(self._tasks, timeout=_RETRY_S, return_when=asyncio.FIRST_COMPLETED)
        _log.info("drain_hands_back", count=len(self._attempts))
        held = set(self._attempts)
        for attempt in self._attempts.values():
            attempt.hand_back()
        try:
            for job in await self._engine.reader.take_own():
                if job.generation_id not in held:
                    await self._engine.queue.settle(job, Settled.AGAIN)
        except LogUnavailable:
            _log.warning("drain_later")  # these jobs count as silent after one lease
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_HAND_BACK_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
