"""The tail: a front-end's live supply. Pushes, proven dense; holes repaired from the log (docs/protocol.md §5).

Theory of operation. ``log/pubsub`` keeps one subscriber connection for each node and every channel at its node. Each
watched stream has one watch with its splice (``watch.py``). Pub/sub only accelerates. Every loss is found and repaired:
by the next push, by the re-read after each reconnect or change of nodes, by the probe of each connection, or at last by
the tail check here. The tail check requests the streams of each node separately, so that a node that hangs delays only
its own streams.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, Final

from broadcaster.core.continuity import TailVerdict
from broadcaster.core.notices import StreamSink
from broadcaster.errors import LogUnavailable
from broadcaster.log.pubsub.connection import SubscriberOptions
from broadcaster.log.pubsub.counts import SubscriberCounts
from broadcaster.log.pubsub.probe import PublishProbe
from broadcaster.log.pubsub.subscriptions import Subscriptions
from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.redis.topology.topology import Topology
from broadcaster.log.streams.tails import Tail
from broadcaster.log.tail.counts import TailCounts
from broadcaster.log.tail.options import TailLimits, TailTimes
from broadcaster.log.tail.ports import LapsedEnder, LostEnder, OpenNotice, TailLog
from broadcaster.log.tail.watch import StreamWatch
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

_CANCEL_RETRY_S: Final = 0.5


@dataclass(eq=False, repr=False)
class LiveTail:
    """All watched streams of one process. ``async with`` it: leaving closes every watch and connection.

    Entering does not fail while Redis is away: streams can be watched, and their sinks are notified of
    ``log_unavailable``. If the tail's own tasks have failed, leaving raises their error. The caller keeps ``topology``
    current.
    """

    topology: Topology
    log: TailLog
    _: KW_ONLY
    keys: KeyNames
    publish_probe: PublishProbe
    times: TailTimes = field(default_factory=TailTimes)
    limits: TailLimits = field(default_factory=TailLimits)
    subscriber: SubscriberOptions = field(default_factory=SubscriberOptions)
    rng: random.Random = field(default_factory=random.Random)
    lapses: LapsedEnder | None = None  # None: this process ends no feeds whose writers are gone
    open_notice: OpenNotice | None = None  # None: open generations without a lease are not recorded
    losses: LostEnder | None = None  # None: this process ends no generations that Redis has lost

    counts: TailCounts = field(default_factory=TailCounts, init=False)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watches: dict[str, StreamWatch] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: asyncio.Future[None] = self._loop.create_future()
        self._children: set[asyncio.Task[None]] = set()
        self._started = asyncio.Event()
        self._checking: set[str | None] = set()  # nodes whose tails have been requested
        self._subscriptions = Subscriptions(
            self.topology,
            keys=self.keys,
            publish_probe=self.publish_probe,
            options=self.subscriber,
            rng=self.rng,
            on_silence=self._on_silence,
        )
        self.reads = asyncio.Semaphore(self.limits.reads)

    async def __aenter__(self) -> LiveTail:
        self._running = asyncio.ensure_future(self._run())
        await self._started.wait()
        return self

    async def __aexit__(self, error_type: type[BaseException] | None, *error: object) -> None:
        await self._end()
        if error_type is None and not self._running.cancelled():
            self._running.result()

    def watch(self, stream_id: str, sink: StreamSink) -> StreamWatch:
        """Deliver the whole log from its first entry to ``sink``, then the live tail, until ``close()``.

        At most one watch per stream: ValueError otherwise. LogUnavailable when the tail has ended.
        """
        if self._tasks is None:
            raise LogUnavailable("the tail is closed")
        if stream_id in self._watches:
            raise ValueError(f"{stream_id} is watched already")
        channel = self.keys.live(stream_id)
        node_silent_s = partial(self._subscriptions.silent_s, channel)
        watch = StreamWatch(stream_id, sink, self, node_silent_s=node_silent_s, on_over=self._on_over)
        self._watches[stream_id] = watch
        self._subscriptions.subscribe(channel, watch.fast_path)
        return watch

    async def until_ended(self) -> None:
        """Wait until the tail's own tasks have ended; before the tail is closed, only a defect ends them."""
        await asyncio.wait({self._running})

    @property
    def subscriber_counts(self) -> SubscriberCounts:
        """What the subscriber connections count."""
        return self._subscriptions.counts

    # -- its own tasks

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._started.set()
                self._subscriptions.start(self.spawn)
                self.spawn(self._check_tails())
        except Exception as error:
            _log.critical("tail_ended", exc_info=error)
            self._tasks = None
            for watch in list(self._watches.values()):
                watch.fail()
            raise
        finally:
            self._tasks = None
            self._subscriptions.stop()
            for watch in list(self._watches.values()):
                watch.close()

    async def _end(self) -> None:
        """Cancel until it is done: before Python 3.12, ``asyncio.wait_for``, which redis-py calls, may swallow one."""
        while not self._running.done():
            for task in (self._running, *self._children):
                task.cancel()
            await asyncio.wait([self._running], timeout=_CANCEL_RETRY_S)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it until the tail is closed. Raises LogUnavailable afterwards."""
        if self._tasks is None:
            work.close()
            raise LogUnavailable("the tail is closed")
        task = self._tasks.create_task(work)
        self._children.add(task)
        task.add_done_callback(self._children.discard)
        return task

    # -- the tail check

    async def _check_tails(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s())
            checks = [
                self.spawn(self._check_node(node, watches))
                for node, watches in self._watches_by_node().items()
                if node not in self._checking
            ]
            if checks:
                await asyncio.wait(checks, timeout=self.times.tail_patience_s)

    def _watches_by_node(self) -> dict[str | None, list[StreamWatch]]:
        by_node: dict[str | None, list[StreamWatch]] = {}
        for watch in self._watches.values():
            if not watch.is_over and not watch.is_fresh:
                by_node.setdefault(self._node_of(watch), []).append(watch)
        return by_node

    async def _check_node(self, node: str | None, watches: Sequence[StreamWatch]) -> None:
        self._checking.add(node)
        try:
            for begin in range(0, len(watches), self.limits.tails):
                await self._check(node, watches[begin : begin + self.limits.tails])
        finally:
            self._checking.discard(node)

    def _pause_s(self) -> float:
        """The pause before the next tail check: short when a lease may be lost, or is about to lapse."""
        times, now = self.times, self._loop.time()
        pause_s = self.rng.uniform(times.tail_check_min_s, times.tail_check_max_s)
        if any(watch.is_suspect for watch in self._watches.values()):
            pause_s = min(pause_s, times.stall_notice_s)
        lapses = [watch.lapses_at for watch in self._watches.values() if watch.lapses_at is not None]
        return min(pause_s, max(min(lapses) - now, times.lapse_check_s)) if lapses else pause_s

    async def _check(self, node: str | None, watches: Sequence[StreamWatch]) -> None:
        """Request the tails of some watches, and act on them."""
        try:
            async with asyncio.timeout(self.times.read_s):
                tails = await self.log.tails([watch.stream_id for watch in watches])
        except Exception as error:  # the check must survive every error
            if not isinstance(error, LogUnavailable | TimeoutError):
                _log.error("tail_check_crashed", exc_info=error)
            for watch in watches:
                watch.suspect_silence()
            return
        self._subscriptions.node_responded(node)
        ahead: list[tuple[StreamWatch, Tail]] = []
        for watch, tail in zip(watches, tails, strict=True):
            if (verdict := watch.judge(tail)) is TailVerdict.HOLE:
                ahead.append((watch, tail))
            else:
                watch.observe(tail, verdict)
        if ahead:
            await asyncio.sleep(self.times.push_grace_s)  # most of them have received their push by then
            for watch, tail in ahead:
                watch.observe(tail, watch.judge(tail))

    # -- responses and silence

    def on_response(self, stream_id: str) -> None:
        """The log responded about this stream."""
        self._subscriptions.responded(self.keys.live(stream_id))

    def _on_silence(self, node: str) -> None:
        for watch in list(self._watches.values()):
            if self._node_of(watch) == node:
                watch.suspect_silence()

    def _node_of(self, watch: StreamWatch) -> str | None:
        return self._subscriptions.node_of(self.keys.live(watch.stream_id))

    def _on_over(self, watch: StreamWatch) -> None:
        """The terminal was delivered (the watch remains the one of its stream), or the watch was closed."""
        self._subscriptions.unsubscribe(self.keys.live(watch.stream_id), watch.fast_path)
        if watch.is_closed and self._watches.get(watch.stream_id) is watch:
            del self._watches[watch.stream_id]
