"""The lease keeper: renews the right to write for every generation of this worker, in one pipelined call a turn.

Rules (docs/protocol.md §4)
1. Renewal every quarter of the lease, over a connection of its own, on which no reply may take longer than that
   quarter. A renewal that failed is repeated after ``RETRY_S``. So a lease outlives connections that hang (a NAT that
   forgot them, a balancer, a frozen primary): the renewal fails in time, and the next one is sent over a new
   connection. While Redis cannot answer nothing is lost.
2. A stream is lost only to another worker: then the attempt's writer is over at once. The script grants a lapsed lease
   again while the epoch is still ours; the writer restores missing meta. A newer epoch may also be this worker's own:
   that of a rebase whose reply is on its way, or that of the next attempt. Then the renewal decides nothing.
3. Jobs are kept (XCLAIM) after the renewal, and only for streams that it proved to be ours still: a blind renewal by a
   worker that was paused would take the job back from its new worker.
4. The worker's own heartbeat goes last. It works on a full Redis, as all of a renewal does.
5. A turn that comes late is logged. Its cause (mostly a blocked event loop) is reported by worker/watchdog.py while it
   lasts, before it costs the lease.
6. A job that the queue has lost is written again, after its webhook's promise. Otherwise nothing would find the
   generation when its worker dies: every repair starts at the queue.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from broadcaster.core.backoff import BackOff
from broadcaster.core.batching import StopRequest
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.claims import Claims, Outcome
from broadcaster.log.jobs.queue import Job, Queue
from broadcaster.log.redis.connect import LogConnection, later, log_errors, reply_to
from broadcaster.log.redis.scripts import SCRIPTS, ScriptCall, run_all
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.writer import StreamWriter
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

RENEWALS_PER_LEASE: Final = 4
RETRY_S: Final = 0.1
WORKERS_KEPT: Final = 1000
LAPSED_WORKERS_KEPT_MS: Final = 3_600_000
_RECOVERY_BACK_OFF: Final = BackOff(0.05, 0.8)
_T = TypeVar("_T")


@dataclass(slots=True)
class LeasedStream:
    """A stream that this worker may write, and the job it came from."""

    writer: StreamWriter
    job: Job


@dataclass(eq=False, repr=False)
class LeaseKeeper:
    """Renews the streams of ``hold`` until ``drop``, and restores for writers what Redis has lost."""

    connection: LogConnection
    _: KW_ONLY
    worker_id: str
    lease_ttl_s: float
    claims: Claims
    queue: Queue
    appender: Appender
    steadiness: Steadiness
    leased: dict[str, LeasedStream] = field(default_factory=dict, init=False)  # now, by id
    _kept: dict[StreamWriter, float] = field(default_factory=dict, init=False)
    _due_webhooks: set[str] = field(default_factory=set, init=False)
    _breaks_seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._keys = self.connection.keys
        self._lease_ms = int(self.lease_ttl_s * 1000)
        self._every_s = self.lease_ttl_s / RENEWALS_PER_LEASE
        self._renewals = self.connection.create_client(timeout_s=self._every_s, max_connections=1)

    def hold(self, writer: StreamWriter, job: Job) -> None:
        """Renew this stream from the next turn on."""
        self.leased[writer.stream_id] = LeasedStream(writer, job)

    def drop(self, writer: StreamWriter, *, keep_s: float = 0.0) -> Job | None:
        """Renew it no more; its job as it is now, to be settled (None: it was not leased).

        For ``keep_s`` its tail is still checked after every break of Redis and once at the end.
        """
        leased = self._leased_to(writer)
        if leased is not None:
            del self.leased[writer.stream_id]
        if keep_s > 0 and writer.is_complete:
            # While the log is still kept: after its retention nothing is sent again.
            kept_s = min(keep_s, writer.retention_ms / 1000 / 2)
            self._kept[writer] = asyncio.get_running_loop().time() + kept_s
        return None if leased is None else leased.job

    def _leased_to(self, writer: StreamWriter) -> LeasedStream | None:
        """The stream, if it is leased for this very writer."""
        leased = self.leased.get(writer.stream_id)
        return leased if leased is not None and leased.writer is writer else None

    async def run(self) -> None:
        """Renew until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        failures = 0
        while True:
            late_s = loop.time() - due
            if late_s > self._every_s:
                _log.warning("renewal_late", late_s=round(late_s, 3), lease_s=self._lease_ms / 1000)
            try:
                await self.renew()
                failures = 0
            except LogUnavailable:
                failures += 1
                if failures == 1:
                    _log.warning("renewal_later", count=len(self.leased))
            self._verify_tails(loop.time())
            await self._make_webhooks_due()
            pause_s = RETRY_S if failures else self._every_s
            due = loop.time() + pause_s
            await asyncio.sleep(pause_s)

    async def renew(self) -> None:
        """One turn: leases, then the jobs of what is still ours, then the worker's heartbeat.

        Raises LogUnavailable when some of it could not be done now.
        """
        leased = list(self.leased.values())
        epochs = [each.writer.epoch for each in leased]
        calls = [self._renewal(each.writer) for each in leased]
        with log_errors():
            replies = await run_all(self._renewals, calls) if calls else []
        still_ours: list[LeasedStream] = []
        failure: Exception | None = None
        for each, epoch, reply in zip(leased, epochs, replies, strict=True):
            if isinstance(reply, Exception):
                if later(reply):
                    failure = reply
                else:
                    each.writer.crashed(reply)
            elif self._renewed(each.writer, reply, epoch=epoch):
                still_ours.append(each)
        try:
            await self._keep_jobs(still_ours)
        finally:
            await self.heartbeat()
        if failure is not None:
            raise LogUnavailable("some leases could not be renewed; try again") from failure

    async def heartbeat(self) -> None:
        """Report that this worker lives."""
        bounds = (self._lease_ms, LAPSED_WORKERS_KEPT_MS, WORKERS_KEPT)
        await SCRIPTS["heartbeat"].run(self._renewals, [self._keys.workers], self.worker_id, *bounds)

    async def remove_heartbeat(self) -> None:
        """This worker lives no more."""
        await reply_to(self.connection.redis.zrem(self._keys.workers, self.worker_id))

    def _renewal(self, writer: StreamWriter) -> ScriptCall:
        stream_id = writer.stream_id
        keys = (self._keys.lease(stream_id), self._keys.meta(stream_id), self._keys.log(stream_id))
        return ScriptCall(
            SCRIPTS["renew"], keys, (self.worker_id, writer.epoch, self._lease_ms, self.appender.bounds.live_ttl_ms)
        )

    def _renewed(self, writer: StreamWriter, reply: Sequence[int], *, epoch: int) -> bool:
        code, stop, log_there = reply
        writer.request_stop(StopRequest(stop))
        if code == -1:
            is_ours = writer.is_recovering or writer.epoch != epoch  # perhaps: see rule 2
            if self._leased_to(writer) is not None and not writer.is_complete and not is_ours:
                _log.warning("lease_lost", stream=writer.stream_id, epoch=writer.epoch)
                writer.lose()
            return False
        if code == 0:
            writer.request_restore()
        elif not log_there and writer.acked_seq > 0:
            writer.verify()  # evicted: a worker that waits for its provider would not notice it
        return True

    def _verify_tails(self, now: float) -> None:
        """After a break verify every tail: otherwise an idle stream would not notice that Redis lost its end."""
        broke = self.steadiness.breaks != self._breaks_seen and self.steadiness.answering.is_set()
        if broke:
            self._breaks_seen = self.steadiness.breaks
            for each in self.leased.values():
                each.writer.verify()
            self._due_webhooks |= {writer.stream_id for writer in self._kept if "webhook" in writer.meta}
        for writer, until in list(self._kept.items()):
            if broke or now >= until:
                writer.verify()
            if now >= until:
                del self._kept[writer]

    # -- What the queue has lost

    async def _keep_jobs(self, leased: Sequence[LeasedStream]) -> None:
        lost = set(await self.queue.keep([each.job for each in leased], over=self._renewals))
        # The job of a stream that was dropped meanwhile is settled, and gone for good.
        missed = [each for each in leased if each.job in lost and self._leased_to(each.writer) is each]
        if missed:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._regain(missed)
            except (LogUnavailable, TimeoutError):
                _log.warning("jobs_later", count=len(missed))

    async def _regain(self, leased: Sequence[LeasedStream]) -> None:
        """Rule 6."""
        await self.queue.promise_webhooks([each.writer.stream_id for each in leased if "webhook" in each.writer.meta])
        jobs = await self.queue.regain([replace(each.job, tenant=each.writer.meta["tenant"]) for each in leased])
        for each, job in zip(leased, jobs, strict=True):
            each.job = job
        _log.warning("jobs_regained", count=len(leased), first=leased[0].writer.stream_id)

    async def _make_webhooks_due(self) -> None:
        """Make webhooks of generations that ended shortly before a break due once more.

        The queue may have lost them.
        """
        if self._due_webhooks:
            try:
                async with asyncio.timeout(self._every_s):
                    await self.queue.make_due(self._due_webhooks)
            except (LogUnavailable, TimeoutError):
                _log.warning("webhooks_later", count=len(self._due_webhooks))
            else:
                self._due_webhooks.clear()

    # -- Recovery, requested by writers

    async def restore(self, writer: StreamWriter) -> bool:
        """Write lost meta and lease again, and the job with them (a new Redis has neither)."""
        return await _until_replied(partial(self._restore, writer))

    async def rebase(self, writer: StreamWriter) -> tuple[int, int] | None:
        """A newer epoch behind what the log still has."""
        claim = await _until_replied(partial(self.claims.rebase, writer.stream_id, epoch=writer.epoch))
        if claim.outcome is not Outcome.GRANTED:
            return None
        _log.warning("log_rebased", stream=writer.stream_id, epoch=claim.epoch, after=claim.last_seq)
        return claim.epoch, claim.last_seq

    async def _restore(self, writer: StreamWriter) -> bool:
        meta = {**writer.meta, "epoch": str(writer.epoch), "status": "running", "worker": self.worker_id}
        code = await self.appender.restore(
            writer.stream_id, owner=self.worker_id, epoch=writer.epoch, lease_ms=self._lease_ms, meta=meta
        )
        if code >= 0 and not writer.is_complete:
            leased = self._leased_to(writer)
            if leased is not None:
                await self._regain([leased])
        _log.warning("meta_restored", stream=writer.stream_id, code=code)
        return code >= 0


async def _until_replied(call: Callable[[], Awaitable[_T]]) -> _T:
    """Repeat the call until Redis answers."""
    failures = 0
    while True:
        try:
            return await call()
        except LogUnavailable:
            failures += 1
            await asyncio.sleep(_RECOVERY_BACK_OFF.pause_s(failures, luck=random.random()))
