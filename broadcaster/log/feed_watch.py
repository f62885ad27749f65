"""The watch of one stream: its splice, driven. Pushes come in, the log is read where needed, the sink is told.

Theory of operation. A watch subscribes first. With the confirmation (and again with each one after a reconnect) it
reads the log from the last entry it delivered to its end; from then on pushes carry it. Whatever goes wrong later (a
hole, a fork, a lost connection, a tail check that sees more) is the same path: the splice wants a read, and the one
repair task of this watch reads until it wants no more.

Rules
1. One repair at a time: the splice says whether one is wanted, ``_is_repairing`` whether one is under way.
2. A read without success is repeated with a capped, jittered back-off for as long as the stream is watched.
3. An unexpected error (of the sink, or ours) never ends a watch silently: it is counted and logged, and because nobody
   knows what the sink has kept, everything told is voided and told again.
4. After the terminal entry nothing is left to do: the channel is unsubscribed, tail checks stop.
5. A feed whose writers' lease is told as lost is ended by whoever watches it, as soon as that process may (lapses.py).
   Its end comes as every entry does. So does the end of a generation that Redis has lost (losses.py).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from broadcaster.core.continuity import TailVerdict
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason
from broadcaster.core.splice import Deliver, Rewound, Settled, Splice, Step
from broadcaster.errors import LogUnavailable
from broadcaster.log.feed_options import FeedLimits, FeedStats, FeedTimes
from broadcaster.log.feed_ports import FeedLog, KnownGeneration, LapsedEnder, LostEnder, OpenNotice, StreamSink
from broadcaster.log.feed_push import parse_one, parse_push
from broadcaster.log.feed_stall import Stall
from broadcaster.log.streams import OVER, Tail
from broadcaster.logs import get_logger

_log = get_logger(__name__)

_RUNNING: Final = "running"


@dataclass(frozen=True, slots=True)
class Supply:
    """What every watch of a feed shares."""

    log: FeedLog
    times: FeedTimes
    limits: FeedLimits
    stats: FeedStats
    rng: random.Random
    reads: asyncio.Semaphore
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    heard: Callable[[str], None]  # the log answered for this stream
    lapses: LapsedEnder | None = None  # None: feeds that their writers have left are ended elsewhere
    open_notice: OpenNotice | None = None  # None: this process announces nothing
    losses: LostEnder | None = None  # None: generations that Redis has lost are ended elsewhere


class StreamWatch:
    """One watched stream; made by ``Feed.watch``. ``on_over`` is called once: no more messages are needed."""

    def __init__(
        self,
        stream_id: str,
        sink: StreamSink,
        supply: Supply,
        *,
        unheard_s: Callable[[], float],
        on_over: Callable[[StreamWatch], None],
    ) -> None:
        self.stream_id = stream_id
        self._sink = sink
        self._supply = supply
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._splice = self._create_splice()
        self._stall = Stall(self._tell_stall, times=supply.times, unheard_s=unheard_s)
        self._synced = asyncio.Event()
        self._was_live = False
        self._is_closed = False
        self._is_repairing = False
        self._is_feed = False  # as its meta said when it was seen last
        self._known = None if supply.losses is None else supply.losses.recall(stream_id)  # None: its meta was not seen
        self._missing_since: float | None = None  # a generation that Redis has lost
        self._is_ending = False
        self._lapses_at: float | None = None
        self._moved_at = -math.inf
        self._must_void = False  # the sink may hold anything: rewound(START) goes first
        self._repair_task: asyncio.Task[None] | None = None
        self._stall.read_due()

    @property
    def last(self) -> Cursor:
        """The last id delivered; START when none."""
        return self._splice.last

    @property
    def is_closed(self) -> bool:
        """``close`` was called."""
        return self._is_closed

    @property
    def is_over(self) -> bool:
        """The terminal was delivered, or the watch closed: no tail checks any more."""
        return self._is_closed or self._splice.is_over

    @property
    def is_suspect(self) -> bool:
        """Its worker may be gone, or it may be lost: look again soon."""
        return not self.is_over and (self._stall.is_suspect or self._missing_since is not None)

    @property
    def is_fresh(self) -> bool:
        """It moved a moment ago, and nothing else is to be seen in a tail check than that: leave it out of this one."""
        if self._lapses_at is not None or self._stall.is_suspect or self._known is None or not self._splice.is_live:
            return False
        return self._loop.time() - self._moved_at < self._supply.times.fresh_s

    @property
    def lapses_at(self) -> float | None:
        """When (in the loop's time) the lease of this feed lapses unless its writers renew it; None: not at all."""
        return None if self.is_over else self._lapses_at

    async def synced(self) -> None:
        """Wait for the first ``live()``. Raises LogUnavailable when the watch or its feed was closed before."""
        await self._synced.wait()
        if not self._was_live:
            raise LogUnavailable(f"the watch of {self.stream_id} was closed before its log was read")

    def reread(self) -> None:
        """Read the log to its end once more; ``live`` follows. No effect after the terminal."""
        self._splice.reread()
        self._start_repair()

    def close(self) -> None:
        """Tell the sink nothing more, unsubscribe. A read under way runs out unheeded."""
        if not self._is_closed:
            self._is_closed = True
            self._stall.close()
            self._synced.set()
            self._on_over(self)

    def fail(self) -> None:
        """The feed itself has ended: say so, then close."""
        self._tell_stall(StallReason.LOG_UNAVAILABLE)
        self.close()

    # -- the listener of the live channel

    def push(self, payload: bytes) -> None:
        """A message on the live channel; never raises (an error would take the connection down for all)."""
        stats = self._supply.stats
        stats.pushes += 1
        try:
            one = None if self._is_closed else parse_one(payload)
            entry = None if one is None else self._splice.receive_one(*one)
            if entry is None:
                self._judge_push(payload)
            else:  # nearly always
                stats.entries += 1
                self._sink.deliver((entry,))
                self._stall.moved()
                self._moved_at = self._loop.time()
        except Exception as error:
            self._crash(error)
            self._start_repair(failures=1)

    def _judge_push(self, payload: bytes) -> None:
        """A push that is more or less than the next event."""
        stats, splice = self._supply.stats, self._splice
        push = parse_push(payload)
        if push is None:
            stats.unreadable += 1
            return
        if self.is_over:
            return
        was_live = splice.is_live
        entries = splice.receive(push)
        if entries:
            self._deliver(entries)
            self._stall.moved()
            self._moved_at = self._loop.time()
            self._end_if_over()
        elif splice.is_live:
            stats.dropped += 1
        elif was_live:
            stats.holes += 1
            self._start_repair()

    def subscribed(self) -> None:
        """Messages come from now on: what came before is in the log."""
        self.reread()

    def lost(self) -> None:
        """The connection is gone; its node may be silent."""
        self.unheard()

    # -- what the feed's checks found

    def unheard(self) -> None:
        """A request to the log had no answer, or the connection is lost."""
        if not self.is_over:
            self._stall.unheard()

    def judge(self, tail: Tail) -> TailVerdict:
        """Place what was delivered against the log's tail."""
        return self._splice.judge_tail(tail.last or START, has_ended=tail.status in OVER)

    def observe(self, tail: Tail) -> None:
        """Act on a tail check."""
        if self.is_over:
            return
        verdict = self.judge(tail)
        if verdict is TailVerdict.HOLE or verdict is TailVerdict.FORK:
            if self._splice.is_live:
                self._supply.stats.holes += 1
                self._splice.trace() if verdict is TailVerdict.FORK else self._splice.reread()
            self._start_repair()
        elif self._splice.is_live:
            self._stall.answered()
        if tail.status is not None:
            self._is_feed = tail.is_feed
            self._known = KnownGeneration(tail.tenant, tail.model)
        # Redis came back empty: somebody must restore it. What only waited nobody can, but who watches it is told.
        is_lost = tail.status is None and (self._known is not None or self.last != START)
        needs_lease = tail.status == _RUNNING or tail.lease_ms is not None
        loss = StallReason.STREAM_LOST if is_lost and self._is_feed else StallReason.WORKER_LOST
        self._stall.leased(tail.leased or not (needs_lease or is_lost), loss=loss)
        self._heed_lease(tail)
        if tail.is_open and not tail.leased and self._supply.open_notice is not None:
            self._supply.open_notice.notice(self.stream_id)
        self._heed_loss(tail, is_lost=is_lost and not self._is_feed and not tail.leased)

    # -- the lease of a feed

    def _heed_lease(self, tail: Tail) -> None:
        now = self._loop.time()
        self._lapses_at = None if tail.lease_ms is None or not tail.leased else now + tail.lease_left_ms / 1000
        is_due = tail.is_overlong or (not tail.leased and self._stall.is_lost)
        lapses = self._supply.lapses
        if tail.lease_ms is None or lapses is None or not is_due or self._is_ending:
            return
        self._is_ending = True
        end = partial(lapses.end, self.stream_id, lease_ms=tail.lease_ms, is_overlong=tail.is_overlong)
        self._supply.spawn(self._end(end))

    # -- a generation that Redis has lost

    def _heed_loss(self, tail: Tail, *, is_lost: bool) -> None:
        losses, now = self._supply.losses, self._loop.time()
        if not is_lost or self._known is None or losses is None:
            self._missing_since = None
            return
        if self._missing_since is None:
            self._missing_since = now
        if not self._is_ending:
            self._is_ending = True
            missing_s = now - self._missing_since
            end = partial(losses.end, self.stream_id, self._known, last=self.last, missing_s=missing_s)
            self._supply.spawn(self._end(end))

    async def _end(self, end: Callable[[], Awaitable[bool]]) -> None:
        """Without success it is tried again after the next look."""
        stats = self._supply.stats
        try:
            async with asyncio.timeout(self._supply.times.read_s):
                stats.lapses += await end()
        except (LogUnavailable, TimeoutError):
            stats.read_failures += 1
        except Exception as error:
            stats.crashes += 1
            _log.error("feed_end_crashed", stream_id=self.stream_id, exc_info=error)
        finally:
            self._is_ending = False

    # -- the repair

    def _start_repair(self, failures: int = 0) -> None:
        if self._is_repairing or self.is_over or not self._splice.wants_read:
            return
        self._is_repairing = True
        self._supply.stats.repairs += 1
        self._stall.read_due()
        self._repair_task = self._supply.spawn(self._repair(failures))

    async def _repair(self, failures: int) -> None:
        supply = self._supply
        try:
            while not self.is_over and self._splice.wants_read:
                if failures:
                    await asyncio.sleep(supply.times.backoff_s(failures, supply.rng))
                try:
                    entries = await self._read_page()
                except LogUnavailable:
                    supply.stats.read_failures += 1
                    failures += 1
                    continue
                failures = 0 if self._hand_on(entries) else failures + 1
        finally:
            self._is_repairing = False

    async def _read_page(self) -> list[Entry]:
        """The next page of the log. Raises LogUnavailable, whatever the reason."""
        supply = self._supply
        try:
            async with supply.reads, asyncio.timeout(supply.times.read_s):
                after = self._splice.next_read()
                entries = await supply.log.read(self.stream_id, after=after, count=supply.limits.page)
        except LogUnavailable:
            raise
        except TimeoutError as error:
            raise LogUnavailable("the log was not read in time") from error
        except Exception as error:
            _log.error("feed_read_crashed", stream_id=self.stream_id, exc_info=error)
            raise LogUnavailable("the log could not be read") from error
        supply.heard(self.stream_id)
        return entries

    def _hand_on(self, entries: Sequence[Entry]) -> bool:
        """Tell the sink what a page means; False when that crashed."""
        splice = self._splice
        before = splice.last
        steps = splice.take(entries, is_last=len(entries) < self._supply.limits.page)
        if self._must_void:
            steps.insert(0, Rewound(START))
        try:
            for step in steps:
                if not self._is_closed:  # while the read was under way, or by the sink, in a step before
                    self._do(step)
            self._must_void = False
        except Exception as error:
            self._crash(error)
            return False
        if not self._is_closed:
            self._stall.moved() if splice.last != before else self._stall.answered()
            if splice.wants_read:
                self._stall.read_due()
            self._end_if_over()
        return True

    def _do(self, step: Step) -> None:
        stats = self._supply.stats
        match step:
            case Deliver(entries):
                self._deliver(entries)
            case Gap():
                stats.gaps += 1
                self._sink.gap(step)
            case Rewound(keep):
                stats.forks += 1
                self._sink.rewound(keep)
            case Settled():
                self._sink.live()
                self._was_live = True
                self._synced.set()

    def _deliver(self, entries: Sequence[Entry]) -> None:
        self._supply.stats.entries += len(entries)
        self._sink.deliver(entries)

    def _end_if_over(self) -> None:
        if self._splice.is_over and not self._is_closed:
            self._stall.moved()
            self._stall.close()
            self._on_over(self)

    def _crash(self, error: Exception) -> None:
        self._supply.stats.crashes += 1
        _log.error("feed_watch_crashed", stream_id=self.stream_id, exc_info=error)
        self._splice = self._create_splice()
        self._must_void = True

    def _create_splice(self) -> Splice:
        limits = self._supply.limits
        return Splice(max_parked_entries=limits.parked_entries, max_parked_bytes=limits.parked_bytes)

    def _tell_stall(self, reason: StallReason | None) -> None:
        if self._is_closed:
            return
        if reason is not None:
            self._supply.stats.stalls += 1
        try:
            self._sink.stalled(reason)
        except Exception as error:  # a notice voids nothing, and must not end the check that found the reason
            self._supply.stats.crashes += 1
            _log.error("feed_sink_crashed", stream_id=self.stream_id, exc_info=error)
