"""The runner: takes jobs, claims their streams, runs their attempts, settles them, and drains.

Rules
1. Before a job is read, a slot is free and its tenant has room (slots.py). One task reads at a time, until its jobs
   have their slots: a generation beyond them would have no connection to its provider until another one ends. The claim
   decides whether a delivered job is run (log/jobs/claims.py).
2. A job is settled only when its generation is over. A fenced attempt settles nothing: another worker has the job.
3. Draining: the worker takes no new job and gives back at once the jobs that it has not begun. Running attempts may
   finish within the grace. The rest is given back and starts elsewhere, never twice: the lease is released, and the
   epoch raised, before the job is requeued. Before that the log may confirm, for CONFIRM_S, what the attempt has
   written: the next one needs the outputs of the tools that have run. The drain ends within the grace and HAND_BACK_S,
   also without Redis.
4. A take-over needs two checks: the lease was missing, and a probe after that finds no break for the time of a lease. A
   claim that was in progress while Redis stood still, or its clock stepped, would find every lease lapsed.
   Nor is the job of an unknown generation dropped before: Redis may have lost it, and its worker may be restoring it.
5. After an attempt whose provider broke off, another one may begin here, in the same slot and for the same job: the
   worker keeps the lease, and only its epoch rises. If that is refused, the attempt ends as it would have.
6. Jobs of silent workers go before new jobs: a turn that reads them takes the first free slot, and reads all pages
   without a pause. A job that was taken is started, or stays silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, Unpack

from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.claims import Claim, Outcome, Why
from broadcaster.log.jobs.endings import Endings
from broadcaster.log.jobs.queue import SWEPT_AT_ONCE, Job, Settled, SettleDetails
from broadcaster.log.streams.reader import Meta
from broadcaster.log.streams.writer import StreamWriter
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.lines import showable
from broadcaster.observability.logs import get_logger
from broadcaster.process.tasks import end_tasks
from worker.attempt import AttemptEnd, GenerationAttempt, start
from worker.draining import wait_within
from worker.engine import Engine, RunnerTimes
from worker.observing.counts import AttemptCounts
from worker.slots import Slot, Slots
from worker.spending import count_spent

if TYPE_CHECKING:
    pass

_log = get_logger(__name__)

HAND_BACK_S: Final = 5.0
# Of HAND_BACK_S: before it tools have a second for their clean-up, after it the lease is released.
CONFIRM_S: Final = 2.0
_RETRY_S: Final = 0.25
_READ_AT_ONCE: Final = 16
# Redis may serve a cancelled read for a moment: its jobs belong to this worker, which does not know them.
_OWN_READS: Final = 2

_T = TypeVar("_T")


class Runner:
    """See the module's rules."""

    def __init__(self, engine: Engine, slots: Slots, *, times: RunnerTimes, max_bytes: int) -> None:
        self._engine = engine
        self._endings = Endings(engine.claims, engine.streams)
        self.slots = slots
        self._times = times
        self._max_bytes = max_bytes
        self.attempts: dict[str, GenerationAttempt] = {}
        """The attempts that run now, by the ids of their streams."""
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = asyncio.Event()
        self._is_handing_back = False
        self._one_reads = asyncio.Lock()  # rules 1 and 6
        self.counts = AttemptCounts()

    @property
    def free_slots(self) -> int:
        """How many generations could begin now."""
        return self.slots.free

    async def take_new(self) -> None:
        """Read new jobs and start them, until cancelled."""
        reader, slots = self._engine.reader, self.slots
        while True:
            await slots.wait_free()
            try:
                async with self._one_reads:
                    slots.changed.clear()
                    count = min(slots.free, _READ_AT_ONCE)
                    jobs = await reader.take(count, rooms=slots.rooms(count)) if count else []
                    for job in jobs:
                        self._start(job)
                if count and not jobs:
                    await reader.wait(slots.changed)
            except LogUnavailable:
                await asyncio.sleep(_RETRY_S)

    async def take_silent(self) -> None:
        """Take over from silent workers every fifth of a lease, and as soon as Redis is steady; until cancelled."""
        while True:
            await asyncio.sleep(self._engine.steadiness.pause_s(self._times.lease_ttl_s / 5))
            try:
                await self.take_over()
            except LogUnavailable:
                _log.warning("take_over_later")

    async def take_over(self) -> None:
        """Start every job that silent workers have now, as slots become free. Raises LogUnavailable."""
        async with self._one_reads:
            while await self._take_silent_page():
                pass

    async def _take_silent_page(self) -> bool:
        """Take as many jobs as may begin here, once some may; returns whether there may be more."""
        count = min(await self.slots.wait_free(), SWEPT_AT_ONCE)
        if not self._engine.steadiness.is_steady:
            return False
        silent_ms, queue = int(self._times.lease_ttl_s * 1000), self._engine.queue
        silent = await queue.take_silent(silent_ms=silent_ms, count=count)
        for job in [job for job in silent.jobs if not self._start(job)]:  # before any of the page waits for a reply
            await queue.mark_silent(job, silent_ms=silent_ms)
        return not silent.is_last

    def _start(self, job: Job) -> bool:
        """Start it, unless its generation is under way here; whether it was started."""
        if job.generation_id in self._under_way:
            return False
        self._under_way[job.generation_id] = start(self._run(job, self.slots.take_nowait(job.tenant)), self._tasks)
        return True

    async def _run(self, job: Job, slot: Slot) -> None:
        writer: StreamWriter | None = None
        try:
            writer = await self._take(job)
        except LogUnavailable:
            # The job stays delivered to this worker, unsettled: it counts as silent after one lease and is taken then.
            _log.warning("job_later", stream=job.generation_id)
        except Exception:
            _log.exception("job_crashed", stream=job.generation_id)
        finally:
            del self._under_way[job.generation_id]
            if writer is None:
                slot.free()
        if writer is not None:
            await self._keep_buffer(writer, slot)

    async def _take(self, job: Job) -> StreamWriter | None:
        """Claim the job and run it to one of its ends, or settle it as the claim requires; the writer if it ran."""
        if self.draining.is_set():
            await self._settle(job, Settled.REQUEUE)
            return None
        claim, granted = await self._claim(job)
        if granted is not None:
            return await self._run_claimed(job, claim, granted)
        if claim.outcome is Outcome.WAITING:
            _log.info("attempt_waits", stream=job.generation_id, attempt=claim.attempt + 1, wait_ms=claim.wait_ms)
            await self._settle(job, Settled.REQUEUE, delay_ms=claim.wait_ms)
        elif claim.outcome in (Outcome.LEASED, Outcome.LAPSED):
            # Its worker is alive, or its lease ends just after its job became silent: check it before another lease.
            await self._engine.queue.mark_silent(job, silent_ms=int(self._times.lease_ttl_s * 1000))
        elif claim.outcome is Outcome.UNKNOWN:
            # The generation expired, or was requested again under the same id: drop this job, the sweep does the rest.
            await self._settle(job, Settled.DROP)
        else:
            _log.info("job_over", stream=job.generation_id, outcome=claim.outcome.name, why=claim.why.name)
            meta = await self._engine.streams.meta(job.generation_id)
            has_webhook = meta is not None and meta.webhook is not None
            outcome = Settled.DEAD if claim.why is Why.ATTEMPTS_SPENT else Settled.DONE
            await self._settle(job, outcome, reason=claim.why.name.lower(), has_webhook=has_webhook)
        return None

    async def _claim(self, job: Job) -> tuple[Claim, tuple[Meta, dict[str, str]] | None]:
        """Claim it and read its meta, retrying for one lease. Raises LogUnavailable after that.

        All tries have one nonce, so that a retry finds a grant whose reply was lost.
        """
        nonce = secrets.token_hex(8)

        async def claim_once() -> tuple[Claim, tuple[Meta, dict[str, str]] | None]:
            claim = await self._try_to_claim(job, nonce)
            if claim.outcome is not Outcome.GRANTED:
                return claim, None
            return claim, await self._engine.streams.meta_with_fields(job.generation_id)

        return await self._persist(claim_once, also_draining=False)

    async def _try_to_claim(self, job: Job, nonce: str) -> Claim:
        """Rule 4."""
        steadiness, claims = self._engine.steadiness, self._engine.claims
        claim_once = partial(claims.claim, job.generation_id, nonce=nonce)

        async def claim(*, may_take_over: bool, usage: bytes | None = None) -> Claim:
            answered_s, leapt_s = steadiness.answered_s, steadiness.leapt_s(claims.queue_timeout_s)
            return await claim_once(may_take_over=may_take_over, answered_s=answered_s, leapt_s=leapt_s, usage=usage)

        await steadiness.confirm()
        claimed = await claim(may_take_over=False)
        if claimed.outcome is Outcome.UNKNOWN:
            await steadiness.check_unknown()
        if claimed.outcome is Outcome.LAPSED:
            await steadiness.confirm()
            if steadiness.is_steady:
                claimed = await claim(may_take_over=True)
                self.counts.take_over(claimed)
        if claimed.outcome is Outcome.ENDING:
            usage = await self._endings.usage(job.generation_id)
            await steadiness.confirm()
            claimed = await claim(may_take_over=steadiness.is_steady, usage=usage)
        return claimed

    async def _run_claimed(self, job: Job, claim: Claim, granted: tuple[Meta, dict[str, str]]) -> StreamWriter:
        attempt = self._begin(job, claim, meta=granted[0], raw=granted[1])
        writer = attempt.writer
        reason: str | None = None
        try:
            end = await attempt.run()
            while end is AttemptEnd.RETRY:
                renewed = await self._reclaim(attempt)
                if renewed is None:
                    end = await attempt.fail()
                elif renewed.outcome is not Outcome.GRANTED:
                    end = AttemptEnd.LOST
                else:
                    self.counts.end(*attempt.report(end))
                    self._count_spent(attempt)
                    attempt = self._restart(job, renewed, after=attempt)
                    writer = attempt.writer
                    end = await attempt.run()
        except TimeoutError:
            _log.error("log_away_too_long", stream=job.generation_id, unsent=writer.last_seq - writer.acked_seq)
            end, reason = AttemptEnd.LOST, "log_away"
        finally:
            self._engine.control.forget(job.generation_id)
            job = self._engine.keeper.drop(writer, keep_s=self._times.resend_keep_s) or job
            del self.attempts[job.generation_id]
        self.counts.end(*attempt.report(end, reason=reason))
        self._count_spent(attempt)
        try:
            await self._after(end, job, writer)
        except LogUnavailable:
            _log.warning("job_later", stream=job.generation_id)
        return writer

    def _count_spent(self, attempt: GenerationAttempt) -> None:
        """Beside the rest: neither an end nor the next attempt waits for a count."""
        start(count_spent(self._engine.usage, attempt.meta, attempt.usage), self._tasks)

    def _begin(
        self, job: Job, claim: Claim, *, meta: Meta, raw: Mapping[str, str], after: GenerationAttempt | None = None
    ) -> GenerationAttempt:
        """An attempt that may run: its writer's lease is renewed, and stops reach it."""
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
        times = self._times.attempt
        leapt_s = self._engine.steadiness.leapt_s(times.generation_timeout_s)
        attempt = GenerationAttempt(
            meta,
            writer,
            providers=self._engine.providers,
            times=times,
            retry=self._times.retry,
            agent=self._engine.agent,
            after=after,
            tracing=self._engine.tracing,
            leapt_s=leapt_s,
        )
        self.attempts[job.generation_id] = attempt
        self.counts.begin(claim, meta)
        if self._is_handing_back:
            attempt.hand_back()
        self._engine.keeper.hold(writer, job)
        self._engine.control.listen(job.generation_id, writer.request_stop, on_subscribed=writer.verify)
        _log.info(
            "attempt_started", stream=meta.id, model=showable(meta.model), attempt=claim.attempt, epoch=claim.epoch
        )
        return attempt

    def _restart(self, job: Job, claim: Claim, *, after: GenerationAttempt) -> GenerationAttempt:
        """Rule 5. Unsent events of the broken attempt are void with it; a stop that it received is not."""
        old = after.writer
        old.lose()
        self._engine.control.forget(job.generation_id)
        job = self._engine.keeper.drop(old) or job
        meta = replace(after.meta, attempts=claim.attempt, epoch=claim.epoch)
        broken_off = str(int(old.meta.get("broken_off", 0)) + 1)
        raw = {**old.meta, "attempts": str(claim.attempt), "broken_off": broken_off}
        attempt = self._begin(job, claim, meta=meta, raw=raw, after=after)
        attempt.writer.request_stop(old.stop_request)
        return attempt

    async def _reclaim(self, attempt: GenerationAttempt) -> Claim | None:
        """See ``Claims.next_attempt``; None also after a stop request, or when the generation's time is over."""
        loop, writer = asyncio.get_running_loop(), attempt.writer
        may_be_granted = False  # after a call whose reply was lost, only Redis knows
        while loop.time() < attempt.deadline and (may_be_granted or not writer.stop_requested.is_set()):
            may_be_granted = True
            with contextlib.suppress(LogUnavailable):
                claim = await self._engine.claims.next_attempt(writer.stream_id, epoch=writer.epoch)
                # The writer restores lost meta, unless another worker has the stream by now.
                if claim is None or claim.outcome is not Outcome.UNKNOWN or writer.over.is_set():
                    return claim
                may_be_granted = False
            await asyncio.sleep(_RETRY_S)
        return None

    async def _after(self, end: AttemptEnd, job: Job, writer: StreamWriter) -> None:
        if end is AttemptEnd.OVER:
            await self._settle(job, Settled.DONE, has_webhook="webhook" in writer.meta)
        elif end is AttemptEnd.HANDED_BACK:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONFIRM_S):
                    await writer.confirmed()
            writer.lose()  # what is unsent after this is void with the attempt
            if await self._persist(lambda: self._engine.claims.release(writer.stream_id, epoch=writer.epoch)):
                await self._settle(job, Settled.REQUEUE)

    async def _keep_buffer(self, writer: StreamWriter, slot: Slot) -> None:
        """Reserve the bytes of the re-send buffer while the keeper keeps the buffer."""
        slot.shrink(writer.size_bytes)
        try:
            if writer.is_complete:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._times.resend_keep_s):
                        await self.draining.wait()
        finally:
            slot.free()

    async def _settle(self, job: Job, outcome: Settled, **details: Unpack[SettleDetails]) -> None:
        # A job that is not settled is not lost: it is delivered once more, and its claim decides.
        await self._persist(lambda: self._engine.queue.settle(job, outcome, **details))

    async def _persist(self, call: Callable[[], Awaitable[_T]], *, also_draining: bool = True) -> _T:
        """Repeat an idempotent call for one lease; without ``also_draining`` a drain ends it. Raises LogUnavailable."""
        deadline = asyncio.get_running_loop().time() + self._times.lease_ttl_s
        while True:
            try:
                return await call()
            except LogUnavailable:
                if asyncio.get_running_loop().time() > deadline or (self.draining.is_set() and not also_draining):
                    raise
                await asyncio.sleep(_RETRY_S)

    async def drain(self, *, grace_s: float, hurried: asyncio.Event) -> None:
        """Rule 3; ``hurried`` ends the grace. Cancel ``take_new`` and ``take_silent`` before."""
        self.draining.set()
        _log.info("worker_drains", running=len(self._under_way), grace_s=grace_s)
        start(self._give_back_unbegun(), self._tasks)
        await wait_within(self._under_way.values, grace_s=grace_s, hurried=hurried)
        _log.info("drain_hands_back", count=len(self.attempts))
        self._is_handing_back = True
        if self.attempts and grace_s > 0:
            limit_reached("DRAIN_S")
        for attempt in self.attempts.values():
            attempt.hand_back()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HAND_BACK_S):
                while self._tasks:  # an attempt that ends meanwhile has tokens to count
                    await asyncio.wait(self._tasks)
        await end_tasks(*self._tasks)

    async def _give_back_unbegun(self) -> None:
        """Give back the jobs that were delivered to this worker and that it has not begun."""
        try:
            for _ in range(_OWN_READS):
                begun = set(self._under_way)  # what is read may be settled by its own run before the reply is here
                for job in await self._engine.reader.take_own():
                    if job.generation_id not in begun:
                        await self._engine.queue.settle(job, Settled.REQUEUE)
                await asyncio.sleep(_RETRY_S)
        except LogUnavailable:
            _log.warning("drain_later")  # these jobs count as silent after one lease
