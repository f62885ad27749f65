"""The lease keeper: renews the right to write for every generation of this worker, in one pipelined call a turn.

Rules (protocol §4)
1. Renewal every quarter of the lease, over a connection of its own, on which no answer may take longer than that
   quarter. A renewal that failed is repeated after ``RETRY_S``. So a lease outlives connections that hang (a NAT that
   forgot them, a balancer, a primary that stands still): the renewal fails in time, and the next one is sent over a new
   connection. While Redis cannot answer nothing is lost.
2. Only another holder means lost: then the attempt's writer is over at once. A lapsed lease whose epoch is still ours
   is granted again by the script; missing meta is restored by the writer.
3. Jobs are kept (XCLAIM) after and only for the streams whose renewal proved that they are still ours: a blind renewal
   by a resumed zombie would take the job back from its rightful worker.
4. The worker's own heartbeat goes last. A full Redis takes it, as it takes all of a renewal.
5. A turn that comes late is logged. What keeps it (a blocked event loop is the commonest false take-over) is told while
   it lasts, before it costs the lease, by worker/watchdog.py.
6. A job that the queue has lost is written again, after its webhook's promise. Else nothing would find the generation
   when its worker dies: every repair starts at the queue.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from broadcaster.core.batching import StopWish
from broadcaster.errors import LogUnavailable
from broadcaster.log.appender import Appender
from broadcaster.log.claims import Claims, Outcome
from broadcaster.log.connect import LogConnection, later, log_errors
from broadcaster.log.queue import Job, Queue
from broadcaster.log.scripts import HEARTBEAT, RENEW, Call, run_all
from broadcaster.log.steadiness import Steadiness
from broadcaster.log.writer import StreamWriter
from broadcaster.logs import get_logger

_log = get_logger(__name__)

RENEWALS_PER_LEASE: Final = 4
RETRY_S: Final = 0.1
WORKERS_KEPT: Final = 1000
LAPSED_WORKERS_KEPT_MS: Final = 3_600_000
_RECOVERY_BACK_OFF_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(slots=True)
class Held:
    """A stream this worker may write, and the job it came from."""

    writer: StreamWriter
    job: Job


class Renewal(NamedTuple):
    """The renewal script's answer."""

    code: int
    stop: int
    log_there: int


class LeaseKeeper:
    """Keeps what ``hold`` was told, until ``drop``. Also what a writer asks when Redis has lost something."""

    def __init__(
        self,
        connection: LogConnection,
        *,
        worker_id: str,
        lease_ttl_s: float,
        claims: Claims,
        queue: Queue,
        appender: Appender,
        steadiness: Steadiness,
    ) -> None:
        self._redis = connection.redis
        self._keys = connection.keys
        self._worker_id = worker_id
        self._lease_ms = int(lease_ttl_s * 1000)
        self._every_s = lease_ttl_s / RENEWALS_PER_LEASE
        self._renewals = connection.create_client(timeout_s=self._every_s, max_connections=1)
        self._claims = claims
        self._queue = queue
        self._appender = appender
        self._steadiness = steadiness
        self._held: dict[str, Held] = {}
        self._kept: dict[StreamWriter, float] = {}
        self._owed: set[str] = set()
        self._breaks_seen = 0

    @property
    def held(self) -> Mapping[str, Held]:
        """Streams held now, by id."""
        return self._held

    def hold(self, writer: StreamWriter, job: Job) -> None:
        """Renew this stream from the next turn on."""
        self._held[writer.stream_id] = Held(writer, job)

    def drop(self, writer: StreamWriter, *, keep_s: float = 0.0) -> Job | None:
        """Renew it no more; its job as it is now, to be settled (None: it was not held).

        For ``keep_s`` its tail is still checked after every break of Redis and once at the end.
        """
        held = self._held_of(writer)
        if held is not None:
            del self._held[writer.stream_id]
        if keep_s > 0 and writer.is_settled:
            # What is asked for at the end of its retention would be sent again after it.
            kept_s = min(keep_s, writer.retention_ms / 1000 / 2)
            self._kept[writer] = asyncio.get_running_loop().time() + kept_s
        return None if held is None else held.job

    def _held_of(self, writer: StreamWriter) -> Held | None:
        """The stream as it is held for this writer, and for no other one."""
        held = self._held.get(writer.stream_id)
        return held if held is not None and held.writer is writer else None

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
                    _log.warning("renewal_later", held=len(self._held))
            self._verify_tails(loop.time())
            await self._owe_again()
            pause_s = RETRY_S if failures else self._every_s
            due = loop.time() + pause_s
            await asyncio.sleep(pause_s)

    async def renew(self) -> None:
        """One turn: leases, then the jobs of what is still ours, then the worker's heartbeat.

        Raises LogUnavailable when some of it could not be done now.
        """
        held = list(self._held.values())
        calls = [self._renewal(each.writer) for each in held]
        with log_errors():
            answers = await run_all(self._renewals, calls) if calls else []
        still_ours: list[Held] = []
        failure: Exception | None = None
        for each, answer in zip(held, answers, strict=True):
            if isinstance(answer, Exception):
                if later(answer):
                    failure = answer
                else:
                    each.writer.crashed(answer)
            elif self._renewed(each.writer, Renewal(*answer)):
                still_ours.append(each)
        try:
            await self._keep_jobs(still_ours)
        finally:
            await self.heartbeat()
        if failure is not None:
            raise LogUnavailable("some leases could not be renewed; try again") from failure

    async def heartbeat(self) -> None:
        """Say that this worker lives."""
        with log_errors():
            await HEARTBEAT.run(
                self._renewals,
                [self._keys.workers],
                self._worker_id,
                self._lease_ms,
                LAPSED_WORKERS_KEPT_MS,
                WORKERS_KEPT,
            )

    async def say_goodbye(self) -> None:
        """This worker lives no more."""
        with log_errors():
            await self._redis.zrem(self._keys.workers, self._worker_id)

    def _renewal(self, writer: StreamWriter) -> Call:
        stream_id = writer.stream_id
        keys = (self._keys.lease(stream_id), self._keys.meta(stream_id), self._keys.log(stream_id))
        return Call(RENEW, keys, (self._worker_id, writer.epoch, self._lease_ms, self._appender.bounds.live_ttl_ms))

    def _renewed(self, writer: StreamWriter, renewal: Renewal) -> bool:
        code, stop, log_there = renewal
        writer.ask_stop(StopWish(stop))
        if code == -1:
            if writer.stream_id in self._held and not writer.is_settled:
                _log.warning("lease_lost", stream=writer.stream_id, epoch=writer.epoch)
                writer.lose()
            return False
        if code == 0:
            writer.ask_restore()
        elif not log_there and writer.acked_seq > 0:
            writer.verify()  # evicted: a worker that waits for its provider would not notice it
        return True

    def _verify_tails(self, now: float) -> None:
        """After a break every tail is asked for: an idle stream would not notice otherwise that Redis lost its end."""
        broke = self._steadiness.breaks != self._breaks_seen and self._steadiness.answering.is_set()
        if broke:
            self._breaks_seen = self._steadiness.breaks
            for each in self._held.values():
                each.writer.verify()
            self._owed |= {writer.stream_id for writer in self._kept if "webhook" in writer.meta}
        for writer, until in list(self._kept.items()):
            if broke or now >= until:
                writer.verify()
            if now >= until:
                del self._kept[writer]

    # -- What the queue has lost

    async def _keep_jobs(self, held: Sequence[Held]) -> None:
        lost = set(await self._queue.keep([each.job for each in held], over=self._renewals))
        # What was let go meanwhile is settled: its job is gone for good.
        missed = [each for each in held if each.job in lost and self._held_of(each.writer) is each]
        if missed:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._regain(missed)
            except (LogUnavailable, TimeoutError):
                _log.warning("jobs_later", count=len(missed))

    async def _regain(self, held: Sequence[Held]) -> None:
        """Rule 6."""
        await self._queue.promise_webhooks([each.writer.stream_id for each in held if "webhook" in each.writer.meta])
        jobs = await self._queue.regain([replace(each.job, tenant=each.writer.meta["tenant"]) for each in held])
        for each, job in zip(held, jobs, strict=True):
            each.job = job
        _log.warning("jobs_regained", count=len(held), first=held[0].writer.stream_id)

    async def _owe_again(self) -> None:
        """The webhooks of what ended shortly before a break are due once more: the queue may have lost every trace."""
        if self._owed:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._queue.make_due(self._owed)
            except (LogUnavailable, TimeoutError):
                _log.warning("webhooks_later", count=len(self._owed))
            else:
                self._owed.clear()

    # -- Recovery, asked by writers

    async def restore(self, writer: StreamWriter) -> bool:
        """Write lost meta and lease down again, and the job with them (a new Redis has neither)."""
        meta = {**writer.meta, "epoch": str(writer.epoch), "status": "running", "worker": self._worker_id}
        attempt = 0
        while True:
            try:
                with log_errors():
                    code = await self._appender.restore(
                        writer.stream_id, owner=self._worker_id, epoch=writer.epoch, lease_ms=self._lease_ms, meta=meta
                    )
                if code >= 0 and not writer.is_settled:
                    held = self._held_of(writer)
                    if held is not None:
                        await self._regain([held])
                _log.warning("meta_restored", stream=writer.stream_id, code=code)
                return code >= 0
            except LogUnavailable:
                await _back_off(attempt)
                attempt += 1

    async def rebase(self, writer: StreamWriter) -> tuple[int, int] | None:
        """A newer epoch behind what the log still has."""
        attempt = 0
        while True:
            try:
                claim = await self._claims.rebase(writer.stream_id, epoch=writer.epoch)
            except LogUnavailable:
                await _back_off(attempt)
                attempt += 1
                continue
            if claim.outcome is not Outcome.GRANTED:
                return None
            _log.warning("log_rebased", stream=writer.stream_id, epoch=claim.epoch, after=claim.last_seq)
            return claim.epoch, claim.last_seq


async def _back_off(attempt: int) -> None:
    delay_s = _RECOVERY_BACK_OFF_S[min(attempt, len(_RECOVERY_BACK_OFF_S) - 1)]
    await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
