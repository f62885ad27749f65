"""The watch of one stream. It drives the splice: pushes come in, the log is read where needed, the sink is called.

Theory of operation. A watch subscribes first. With each confirmation (the first, and one after every reconnect) it
reads the log from the last entry that it delivered to the end; from then on pushes suffice. Every later fault (a hole,
a fork, a lost connection, a tail check that sees more) takes the same path: the splice wants a read, and the one repair
task of this watch reads until the splice wants no more.

Rules
1. One repair at a time: ``wants_read`` of the splice shows whether one is needed, ``_is_repairing`` whether one runs.
2. A failed read is repeated with a back-off for as long as the stream is watched.
3. An unexpected error (of the sink, or ours) never ends a watch silently. It is logged, and because the sink may have
   kept anything, all that was sent is voided and sent anew.
4. After the terminal entry nothing is left to do: the channel is unsubscribed, and tail checks stop.
5. When the lease of a feed is reported as lost, each front-end that watches the feed ends it as soon as it may
   (``feeds/lapses.py``). The end arrives as every entry does. The same holds for a generation that Redis has lost
   (``jobs/rescue/losses.py``).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from broadcaster.core.continuity import TailVerdict
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason, StreamSink
from broadcaster.core.splice import CaughtUp, Deliver, Rewound, Splice, SpliceStep
from broadcaster.core.status import OVER
from broadcaster.errors import LogUnavailable
from broadcaster.log.streams.reader import KnownGeneration
from broadcaster.log.streams.tails import Tail
from broadcaster.log.tail.counts import RepairCause
from broadcaster.log.tail.fast_path import StreamFastPath
from broadcaster.log.tail.push import parse_push
from broadcaster.log.tail.stall import Stall
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger

if TYPE_CHECKING:
    from broadcaster.log.tail.tail import LiveTail

_log = get_logger(__name__)

_RUNNING: Final = "running"


@dataclass(eq=False, repr=False)
class StreamWatch:
    """One watched stream, made by ``LiveTail.watch``. ``on_over`` is called once, when no more messages are needed."""

    stream_id: str
    _sink: StreamSink
    _supply: LiveTail
    _: KW_ONLY
    node_silent_s: InitVar[Callable[[], float]]
    on_over: Callable[[StreamWatch], None]
    is_closed: bool = field(default=False, init=False)  # whether ``close`` was called
    _synced: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _was_live: bool = field(default=False, init=False)
    _is_repairing: bool = field(default=False, init=False)
    _is_feed: bool = field(default=False, init=False)  # as its meta was when it was seen last
    _missing_since: float | None = field(default=None, init=False)  # a generation that Redis has lost
    _is_ending: bool = field(default=False, init=False)
    _lapses_at: float | None = field(default=None, init=False)
    _moved_at: float = field(default=-math.inf, init=False)
    # The sink may have kept anything: rewound(START) goes first.
    _must_void: bool = field(default=False, init=False)

    def __post_init__(self, node_silent_s: Callable[[], float]) -> None:
        losses = self._supply.losses
        self._loop = asyncio.get_running_loop()
        self._splice = self._create_splice()
        self.fast_path = StreamFastPath(self, self._sink)
        self._stall = Stall(self._notify_stall, times=self._supply.times, node_silent_s=node_silent_s)
        self._known = None if losses is None else losses.recall(self.stream_id)  # None: its meta was never seen
        self._sink.follow(self.fast_path)
        self._stall.read_due()

    @property
    def last(self) -> Cursor:
        """The id of the last entry delivered; START without one."""
        self.fast_path.close()
        return self._splice.last

    @property
    def is_over(self) -> bool:
        """The terminal was delivered, or the watch was closed: it needs no more tail checks."""
        return self.is_closed or self._splice.is_over

    @property
    def is_suspect(self) -> bool:
        """Its worker may be gone, or Redis may have lost it: check again soon."""
        return not self.is_over and (self._stall.is_suspect or self._missing_since is not None)

    @property
    def is_fresh(self) -> bool:
        """It moved a moment ago, and a tail check could show nothing else: leave it out of this one."""
        if self._lapses_at is not None or self._stall.is_suspect or self._known is None or not self._splice.is_live:
            return False
        return self._loop.time() - max(self._moved_at, self.fast_path.flushed_at) < self._supply.times.fresh_s

    @property
    def lapses_at(self) -> float | None:
        """Loop time at which the lease of this feed lapses unless a writer renews it; None: it has no lease."""
        return None if self.is_over else self._lapses_at

    async def synced(self) -> None:
        """Wait for the first ``live()``. Raises LogUnavailable when the watch or its tail was closed before."""
        await self._synced.wait()
        if not self._was_live:
            raise LogUnavailable(f"the watch of {self.stream_id} was closed before its log was read")

    def reread(self, cause: RepairCause = RepairCause.VIEWER_AHEAD) -> None:
        """Read the log to its end once more; ``live`` follows. No effect after the terminal."""
        self.fast_path.close()
        self._splice.reread()
        self._start_repair(cause)

    def close(self) -> None:
        """Call the sink no more, and unsubscribe. The result of a read under way is ignored."""
        self.fast_path.close()
        if not self.is_closed:
            self.is_closed = True
            self._stall.close()
            self._synced.set()
            self.on_over(self)

    def fail(self) -> None:
        """The tail itself has failed: notify the sink, then close."""
        self.fast_path.close()
        self._notify_stall(StallReason.LOG_UNAVAILABLE)
        self.close()

    # -- the owner of the fast path

    def begin_fast(self) -> Cursor | None:
        """See PathOwner."""
        if self.is_closed or self._is_repairing or not self._splice.is_live or not self._stall.is_calm:
            return None
        last = self._splice.last
        return None if last == START else last

    def took(self, count: int) -> None:
        """See PathOwner."""
        self._splice.advance(count)
        if self.fast_path.is_due:  # the sink has not written the newest yet
            self._moved_at = self._loop.time()

    def push(self, payload: bytes) -> None:
        """A message on the live channel. Never raises: an error would end the connection of all watches."""
        try:
            self._judge_push(payload)
        except Exception as error:
            self.crashed(error)

    def crashed(self, error: Exception) -> None:
        """The sink has raised; see rule 3."""
        self._crash(error)
        self._start_repair(RepairCause.CRASH, failures=1)

    def _judge_push(self, payload: bytes) -> None:
        splice = self._splice
        push = parse_push(payload)
        if push is None or self.is_over:
            return
        was_live = splice.is_live
        entries = splice.receive(push)
        if entries:
            self._sink.deliver(entries)
            self._stall.moved()
            self._moved_at = self._loop.time()
            self._end_if_over()
        elif was_live:
            self._start_repair(RepairCause.MISSED_PUSH)
            if not push.events:
                limit_reached("PUSH_MAX_BYTES")

    def subscribed(self) -> None:
        """Messages come from now on; what was published before is in the log."""
        self.reread(RepairCause.SUBSCRIBED)

    def lost(self) -> None:
        """The connection is gone; its node may be silent."""
        self.suspect_silence()

    # -- what the tail's checks found

    def suspect_silence(self) -> None:
        """A request to the log had no response, or the connection is lost."""
        self.fast_path.close()
        if not self.is_over:
            self._stall.suspect_silence()

    def judge(self, tail: Tail) -> TailVerdict:
        """Compare what was delivered with the end of the log."""
        self.fast_path.close()
        return self._splice.judge_tail(tail.last or START, has_ended=tail.status in OVER)

    def observe(self, tail: Tail, verdict: TailVerdict) -> None:
        """Act on a tail check, which was just judged so."""
        if self.is_over:
            return
        if verdict is TailVerdict.HOLE or verdict is TailVerdict.FORK:
            if self._splice.is_live:
                self._splice.trace() if verdict is TailVerdict.FORK else self._splice.reread()
            self._start_repair(RepairCause.TAIL_CHECK)
        elif self._splice.is_live:
            self._stall.responded()
        if tail.status is not None:
            self._is_feed = tail.is_feed
            self._known = KnownGeneration(tail.tenant, tail.model)
        # Redis came back empty. A worker can restore what it wrote. A job that only waited cannot be restored, but
        # its viewers are notified.
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
        if tail.lease_ms is not None and lapses is not None and is_due:
            self._start_ending(partial(lapses.end, lease_ms=tail.lease_ms, is_overlong=tail.is_overlong))

    # -- a generation that Redis has lost

    def _heed_loss(self, tail: Tail, *, is_lost: bool) -> None:
        losses, now = self._supply.losses, self._loop.time()
        if not is_lost or self._known is None or losses is None:
            self._missing_since = None
            return
        if self._missing_since is None:
            self._missing_since = now
        missing_s = now - self._missing_since
        self._start_ending(partial(losses.end, known=self._known, last=self.last, missing_s=missing_s))

    def _start_ending(self, end: Callable[[str], Awaitable[bool]]) -> None:
        if not self._is_ending:
            self._is_ending = True
            self._supply.spawn(self._end(end))

    async def _end(self, end: Callable[[str], Awaitable[bool]]) -> None:
        """When it fails, a later tail check starts it anew."""
        try:
            async with asyncio.timeout(self._supply.times.read_s):
                await end(self.stream_id)
        except (LogUnavailable, TimeoutError):
            pass
        except Exception as error:
            _log.error("tail_end_crashed", stream_id=self.stream_id, exc_info=error)
        finally:
            self._is_ending = False

    # -- the repair

    def _start_repair(self, cause: RepairCause, *, failures: int = 0) -> None:
        if self._is_repairing or self.is_over or not self._splice.wants_read:
            return
        if self._was_live:
            self._supply.counts.repairs[cause] += 1
        self._is_repairing = True
        self._stall.read_due()
        self._supply.spawn(self._repair(failures))

    async def _repair(self, failures: int) -> None:
        supply = self._supply
        try:
            while not self.is_over and self._splice.wants_read:
                if failures:
                    await asyncio.sleep(supply.times.backoff.pause_s(failures, luck=supply.rng.random()))
                try:
                    entries, since_epoch = await self._read_page()
                except LogUnavailable:
                    failures += 1
                    continue
                failures = 0 if self._hand_on(entries, since_epoch) else failures + 1
        finally:
            self._is_repairing = False

    async def _read_page(self) -> tuple[list[Entry], int]:
        """The next page of the log, and its since_epoch where the splice needs it. Raises only LogUnavailable."""
        supply = self._supply
        try:
            async with supply.reads, asyncio.timeout(supply.times.read_s):
                after = self._splice.next_read()
                entries = await supply.log.read(self.stream_id, after=after, count=supply.limits.page)
                is_needed = self._splice.begins_behind(entries)
                since_epoch = (await supply.log.tails([self.stream_id]))[0].since_epoch if is_needed else 0
        except LogUnavailable:
            raise
        except TimeoutError as error:
            raise LogUnavailable("the log was not read in time") from error
        except Exception as error:
            _log.error("tail_read_crashed", stream_id=self.stream_id, exc_info=error)
            raise LogUnavailable("the log could not be read") from error
        supply.on_response(self.stream_id)
        supply.counts.pages += 1
        return entries, since_epoch

    def _hand_on(self, entries: Sequence[Entry], since_epoch: int) -> bool:
        """Do what follows from a page; False when the sink raised."""
        splice = self._splice
        before = splice.last
        steps = splice.take(entries, is_last=len(entries) < self._supply.limits.page, since_epoch=since_epoch)
        if self._must_void:
            steps.insert(0, Rewound(START))
        try:
            for step in steps:
                if not self.is_closed:  # during the read, or by the sink in a step before
                    self._do(step)
            self._must_void = False
        except Exception as error:
            self._crash(error)
            return False
        if not self.is_closed:
            self._stall.moved() if splice.last != before else self._stall.responded()
            if splice.wants_read:
                self._stall.read_due()
            self._end_if_over()
        return True

    def _do(self, step: SpliceStep) -> None:
        match step:
            case Deliver(entries):
                self._sink.deliver(entries)
            case Gap():
                self._sink.gap(step)
            case Rewound(keep):
                self._sink.rewound(keep)
            case CaughtUp():
                self._sink.live()
                self._was_live = True
                self._synced.set()

    def _end_if_over(self) -> None:
        if self._splice.is_over and not self.is_closed:
            self._stall.moved()
            self._stall.close()
            self.on_over(self)

    def _crash(self, error: Exception) -> None:
        _log.error("tail_watch_crashed", stream_id=self.stream_id, exc_info=error)
        self._splice = self._create_splice()
        self._must_void = True

    def _create_splice(self) -> Splice:
        limits = self._supply.limits
        return Splice(max_parked_entries=limits.parked_entries, max_parked_bytes=limits.parked_bytes)

    def _notify_stall(self, reason: StallReason | None) -> None:
        if self.is_closed:
            return
        try:
            self._sink.stalled(reason)
        except Exception as error:  # it voids nothing, and must not end the check that found the reason
            _log.error("tail_sink_crashed", stream_id=self.stream_id, exc_info=error)
