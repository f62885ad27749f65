"""The sweeper: no open generation is forgotten, and none stays open without a worker.

Workers and front-ends run the same sweep over the open index, page by page. It acts only through scripts that decide
for themselves, so any number of sweepers may do the same thing at once.

| finds | does |
|---|---|
| over, or meta gone (unless it is about to be written) | takes it out of the open index |
| over, with its attempts spent | makes it a dead letter: the process that ended it died before it could |
| to be cancelled without viewers, and without any for the grace | requests its stop |
| without a live lease: | |
| stop requested | ends it with ``abort`` |
| never begun, and older than the queue time-out | ends it with ``error queue_timeout`` |
| no worker alive for the stall time-out | ends it with ``error worker_lost`` |
| begun longer ago than a generation may take | ends it with ``error generation_timeout`` |
| no job for two seconds | gives it one |
| more is left of its lease than the lease is long | cuts that: Redis's clock has stepped back |
| delivered before the clock stepped back, and not renewed since | lets its job count as silent, if this process takes
jobs |

Once a minute it removes the queue's consumers of workers that have ended.

It ends nothing until this process has seen Redis answer for one lease (see steadiness.py), and probes once more after
it has read a page: missing leases, and ages, mean nothing when the clock has just stepped. This process measures the
ages (see ages.py). On a cluster, a server that does not answer delays only its own generations: they are left for the
next round.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Final, NamedTuple

from broadcaster.core.batching import StopRequest
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.claims import Claims, Outcome, Why
from broadcaster.log.jobs.endings import Endings
from broadcaster.log.jobs.queue import Enqueued, NewJob, OpenJob, OpenPage, Queue
from broadcaster.log.jobs.rescue.kept_ends import KeptEnds
from broadcaster.log.redis.connect import is_silence
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams import terminals
from broadcaster.log.streams.ages import Ages
from broadcaster.log.streams.presence import Abandonment
from broadcaster.log.streams.reader import Meta, Streams
from broadcaster.log.streams.tails import Tail
from broadcaster.observability.limits import LimitName, limit_reached
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

JOBLESS_MS: Final = 2000
CONSUMER_SILENT_MS: Final = 60_000
CONSUMERS_EVERY_S: Final = 60.0
_LIMITS: Final[Mapping[bytes | None, LimitName]] = {
    terminals.QUEUE_TIMEOUT: "QUEUE_TIMEOUT_S",
    terminals.GENERATION_TIMEOUT: "GENERATION_TIMEOUT_S",
    terminals.NO_WORKER: "STALL_TIMEOUT_S",
}
_ABANDONED: Final = StopRequest.ABANDONED.reason


@dataclass(frozen=True, slots=True)
class SweepTimes:
    """Time-outs of the sweep, in milliseconds.

    ``unwritten_ms``: the longest that a create may take from the announcement to the meta (each of its calls waits for
    its turn, and then for its reply). ``consumer_silent_ms``: a consumer without jobs that was silent for so long
    belongs to a worker that has ended. ``silent_ms``: this process takes the jobs of workers that were silent for so
    long (None: it takes none).
    """

    queue_timeout_ms: int
    stall_timeout_ms: int
    generation_timeout_ms: int
    unwritten_ms: int = JOBLESS_MS
    consumer_silent_ms: int = CONSUMER_SILENT_MS
    silent_ms: int | None = None

    @classmethod
    def of_seconds(
        cls, *, queue_timeout_s: float, stall_timeout_s: float, generation_timeout_s: float, redis_timeout_s: float
    ) -> SweepTimes:
        """The same from durations in seconds, as settings have them."""
        return cls(
            int(queue_timeout_s * 1000),
            int(stall_timeout_s * 1000),
            int(generation_timeout_s * 1000),
            JOBLESS_MS + int(2 * redis_timeout_s * 1000),
        )


class _Found(NamedTuple):
    """One of the open index, as the log has it now."""

    job: OpenJob
    meta: Meta | None
    tail: Tail


@dataclass(slots=True)
class _Sweep:
    """One page under way. ``left``: how many could not be read or ended; ``silent``: servers that do not answer."""

    abandoned: Collection[str]
    stalled: bool
    left: int
    ended: int = 0
    jobless: list[Meta] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False, repr=False)
class Sweeper:
    """See the module's table."""

    times: SweepTimes
    _: KW_ONLY
    queue: Queue
    claims: Claims
    streams: Streams
    steadiness: Steadiness
    abandonment: Abandonment | None = None  # None: generations without viewers run on
    ends: KeptEnds | None = None  # None: no end is kept
    _endings: Endings = field(init=False)
    _ages: Ages = field(default_factory=Ages, init=False)
    _no_worker_since: float | None = field(default=None, init=False)  # by the loop's clock
    _checked_at: float = field(default=-math.inf, init=False)  # for workers, by the loop's clock
    _newest_expiry_ms: int = field(default=0, init=False)  # as it was then

    def __post_init__(self) -> None:
        self._endings = Endings(self.claims, self.streams)

    async def run(self, *, every_s: float) -> None:
        """Sweep until cancelled, jittered so that many sweepers do not meet; and keep the ends of this process."""
        async with asyncio.TaskGroup() as tasks:
            if self.ends is not None:
                tasks.create_task(self.ends.run())
            await self._sweep_for_ever(every_s=every_s)

    async def _sweep_for_ever(self, *, every_s: float) -> None:
        loop = asyncio.get_running_loop()
        consumers_due_s = loop.time()
        while True:
            await asyncio.sleep(every_s * random.uniform(0.5, 1.5))
            try:
                await self.turn()
                if loop.time() >= consumers_due_s:
                    await self.queue.drop_silent_consumers(silent_ms=self.times.consumer_silent_ms)
                    consumers_due_s = loop.time() + CONSUMERS_EVERY_S
            except LogUnavailable:
                _log.warning("sweep_later")

    async def turn(self) -> None:
        """Sweep a page, and the next one while some of it was ended: there may be many then. Raises LogUnavailable."""
        ended = await self.sweep()
        while ended:
            ended = await self.sweep()

    async def sweep(self) -> int:
        """One page of the open index; how many of it were ended. Raises LogUnavailable when the queue does not answer.

        A stream whose server does not respond is left as it is, for the next round.
        """
        await self.queue.promote()
        await self.queue.prune()
        page = await self.queue.open_page()
        if page.is_last:
            self._ages.begin_round()
        if not page.jobs:
            return 0
        found = await self._read_page(page)
        newest_worker = await self.queue.newest_worker_expiry_ms(lease_ms=self.claims.lease_ms)
        await self.steadiness.confirm()
        await self._close(found)
        abandoned = await self._find_abandoned([each.meta for each in found])
        sweep = _Sweep(abandoned, stalled=self._is_stalled(*newest_worker), left=len(page.jobs) - len(found))
        for job, meta, tail in found:
            if meta is not None and not meta.is_over:
                too_old = self._timeout(meta, now_ms=tail.now_ms)
                await self._undo_fall(job, tail, sweep)
                if not tail.leased:
                    await self._see_to(meta, tail, sweep, job_age_ms=job.age_ms, too_old=too_old)
        await self._give_jobs(sweep.jobless)
        if sweep.left:
            _log.warning("sweep_partly", left=sweep.left)
        return sweep.ended

    async def _read_page(self, page: OpenPage) -> list[_Found]:
        """The generations of a page that can be read now."""
        metas = await self.streams.each_meta([each.id for each in page.jobs])
        read = [
            (each, meta) for each, meta in zip(page.jobs, metas, strict=True) if not isinstance(meta, LogUnavailable)
        ]
        tails = await self.streams.each_tail([each.id for each, _ in read])
        return [
            _Found(*each, tail) for each, tail in zip(read, tails, strict=True) if not isinstance(tail, LogUnavailable)
        ]

    def _timeout(self, meta: Meta, *, now_ms: int) -> bytes | None:
        """The terminal event of one that has waited or run for too long (None: it has not).

        Called for every open one, because its age is measured from the first call on.
        """
        since_ms, most_ms, terminal = meta.created_ms, self.times.queue_timeout_ms, terminals.QUEUE_TIMEOUT
        if meta.started_ms is not None:
            since_ms, most_ms = meta.started_ms, self.times.generation_timeout_ms
            terminal = terminals.GENERATION_TIMEOUT
        elif meta.status != "queued":
            return None
        leapt_ms = int(self.steadiness.leapt_s(most_ms / 1000) * 1000)
        age_ms = self._ages.age_ms(meta.id, since_ms, now_ms=now_ms, leapt_ms=leapt_ms)
        return terminal if age_ms > most_ms else None

    async def _undo_fall(self, job: OpenJob, tail: Tail, sweep: _Sweep) -> None:
        """Repair the lease and the job of one whose worker may be lost, after a step back of the clock."""
        try:
            if tail.is_overlong:
                await self.claims.end(job.id, None, may_take_over=False)  # refused: it is leased; the lease is cut
            silent_ms = self.times.silent_ms if self.steadiness.has_fallen else None
            if silent_ms is not None and (tail.is_overlong or not tail.leased):
                await self.queue.expose(job, silent_ms=silent_ms)
        except LogUnavailable:
            sweep.left += 1

    async def _see_to(self, meta: Meta, tail: Tail, sweep: _Sweep, *, job_age_ms: int, too_old: bytes | None) -> None:
        """End one that has no worker, or note that it waits for a job."""
        server = self.streams.server_of(meta.id)
        if server in sweep.silent:
            sweep.left += 1
            return
        outcome = None
        if self.steadiness.is_steady:
            is_to_stop = meta.stop is not None or meta.id in sweep.abandoned
            try:
                terminal = too_old or (terminals.NO_WORKER if sweep.stalled else None)
                if is_to_stop or terminal is not None:
                    outcome = await self._end(meta, tail, None if is_to_stop else terminal)
            except LogUnavailable as error:
                sweep.left += 1
                if is_silence(error):
                    sweep.silent.add(server)
                return
        if outcome is Outcome.ENDED:
            sweep.ended += 1
        elif outcome is not Outcome.OVER and job_age_ms > JOBLESS_MS:
            sweep.jobless.append(meta)

    async def _close(self, found: Sequence[_Found]) -> None:
        over: list[str] = []
        webhooks_of: list[str] = []
        for job, meta, _ in found:
            if meta is None or not meta.is_over:
                continue
            if meta.dead is not None:
                await self.queue.bury(job.id, reason=meta.dead, has_webhook=meta.webhook is not None)
                continue
            over.append(job.id)
            if meta.webhook is not None:
                webhooks_of.append(job.id)
        await self.queue.close_open(over, webhooks_of=webhooks_of)
        unwritten = [each.job for each in found if each.meta is None]
        await self.queue.close_unwritten([each for each in unwritten if each.age_ms > self.times.unwritten_ms])

    async def _find_abandoned(self, metas: Sequence[Meta | None]) -> Collection[str]:
        """Those that are abandoned now; their workers have been notified."""
        if self.abandonment is None:
            return ()
        open_metas = [meta for meta in metas if meta is not None and not meta.is_over and meta.stop is None]
        return await self.abandonment.check([meta.id for meta in open_metas if meta.on_abandon == "cancel"])

    async def _give_jobs(self, jobless: Sequence[Meta]) -> None:
        if not jobless:
            return
        # Its creator may have died before it promised the webhook. A second promise does no harm.
        await self.queue.promise_webhooks([meta.id for meta in jobless if meta.webhook is not None])
        codes = await self.queue.enqueue_all([NewJob(meta.id, meta.tenant, meta.priority) for meta in jobless])
        given = [meta.id for meta, code in zip(jobless, codes, strict=True) if code is Enqueued.DONE]
        if given:
            _log.warning("jobless_requeued", count=len(given), first=given[0])

    async def _end(self, meta: Meta, tail: Tail, terminal: bytes | None) -> Outcome:
        """End it, by its stop when ``terminal`` is None. If it is over already, it leaves the open index."""
        claim = await self._endings.end(meta.id, terminal, tail=tail, may_take_over=True)
        if claim.outcome is Outcome.ENDED:
            if terminal in _LIMITS:
                limit_reached(_LIMITS[terminal])
            _log.warning("generation_ended", stream=meta.id, why="stop" if terminal is None else terminal.decode())
            if self.ends is not None:
                self.ends.keep(meta, terminal, reason=meta.stop or _ABANDONED, is_written=True)
        elif claim.outcome is Outcome.OVER and claim.why is Why.ATTEMPTS_SPENT:
            await self.queue.bury(meta.id, reason=claim.why.name.lower(), has_webhook=meta.webhook is not None)
        elif claim.outcome is Outcome.OVER:
            await self.queue.close_open([meta.id], webhooks_of=[meta.id] if meta.webhook is not None else [])
        return claim.outcome

    def _is_stalled(self, expiry_ms: int, now_ms: int) -> bool:
        """Whether no worker anywhere has lived for the stall time-out. A backlog is not a stall.

        A worker may have come and gone since the last check: a newer heartbeat shows that. After a pause between two
        checks the time begins anew.
        """
        now, stall_s = asyncio.get_running_loop().time(), self.times.stall_timeout_ms / 1000
        pause_s = stall_s / 2 + self.claims.lease_ms / 1000
        is_first = expiry_ms > self._newest_expiry_ms or now - self._checked_at > pause_s
        self._newest_expiry_ms, self._checked_at = expiry_ms, now
        if expiry_ms > now_ms:
            self._no_worker_since = None
            return False
        if self._no_worker_since is None or is_first:
            gone_s = (now_ms - expiry_ms) / 1000 - self.steadiness.leapt_s(stall_s) if expiry_ms else 0.0
            self._no_worker_since = now - max(0.0, gone_s)
        return now - self._no_worker_since > stall_s
