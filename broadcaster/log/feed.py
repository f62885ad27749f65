"""The feed: a front-end's live supply from the log. Pushes, proven dense; holes repaired from the log (protocol §5).

Theory of operation. Each node has one subscriber connection (``feed_connection``), and each channel its node, whatever
becomes of the nodes (``feed_subscriptions``); each watched stream has one watch with its splice (``feed_watch``).
Pub/sub only accelerates: every loss is found and repaired, by the next push, by the re-read after each reconnect or
change of nodes, by the probe of each connection (``feed_probe``), or at last by the tail check here, which asks for the
streams of each node apart: one that hangs keeps nobody else's waiting.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from broadcaster.core.continuity import TailVerdict
from broadcaster.errors import LogUnavailable
from broadcaster.log.feed_options import FeedLimits, FeedStats, FeedTimes
from broadcaster.log.feed_ports import FeedLog, LapsedEnder, LostEnder, OpenNotice, StreamSink
from broadcaster.log.feed_probe import PublishProbe
from broadcaster.log.feed_subscriptions import Subscriptions
from broadcaster.log.feed_watch import StreamWatch, Supply
from broadcaster.log.keys import Keys
from broadcaster.log.streams import Tail
from broadcaster.log.topology import Topology
from broadcaster.logs import get_logger

_log = get_logger(__name__)

_CANCEL_AGAIN_S: Final = 0.5


class Feed:
    """All watched streams of one process. Made by ``Feed.open``."""

    def __init__(
        self,
        topology: Topology,
        log: FeedLog,
        *,
        keys: Keys,
        publish_probe: PublishProbe,
        times: FeedTimes,
        limits: FeedLimits,
        rng: random.Random,
        lapses: LapsedEnder | None,
        open_notice: OpenNotice | None,
        losses: LostEnder | None,
    ) -> None:
        self.stats = FeedStats()
        self._keys = keys
        self._log = log
        self._times = times
        self._limits = limits
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._watches: dict[str, StreamWatch] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: asyncio.Future[None] | None = None
        self._children: set[asyncio.Task[None]] = set()
        self._started = asyncio.Event()
        self._checking: set[str | None] = set()  # nodes that have been asked for their streams' tails
        self._subscriptions = Subscriptions(
            topology,
            keys=keys,
            publish_probe=publish_probe,
            times=times,
            limits=limits,
            stats=self.stats,
            rng=rng,
            on_silence=self._on_silence,
        )
        self._supply = Supply(
            log=log,
            times=times,
            limits=limits,
            stats=self.stats,
            rng=rng,
            reads=asyncio.Semaphore(limits.reads),
            spawn=self._spawn,
            heard=self._on_heard,
            lapses=lapses,
            open_notice=open_notice,
            losses=losses,
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        topology: Topology,
        log: FeedLog,
        *,
        keys: Keys,
        publish_probe: PublishProbe,
        times: FeedTimes | None = None,
        limits: FeedLimits | None = None,
        rng: random.Random | None = None,
        lapses: LapsedEnder | None = None,
        open_notice: OpenNotice | None = None,
        losses: LostEnder | None = None,
    ) -> AsyncIterator[Feed]:
        """A running feed; leaving closes every watch and connection.

        ``topology`` is kept current by whoever made it; ``lapses`` ends the feeds that their writers have left (None:
        this process ends none); ``open_notice`` learns of open generations without a lease (None: nobody does);
        ``losses`` ends the generations that Redis has lost (None: this process ends none).
        Opening does not fail while Redis is away: streams can be watched and are told ``log_unavailable``. Leaving
        raises what ended the feed's own tasks, if they ended.
        """
        feed = cls(
            topology,
            log,
            keys=keys,
            publish_probe=publish_probe,
            times=times or FeedTimes(),
            limits=limits or FeedLimits(),
            rng=rng or random.Random(),
            lapses=lapses,
            open_notice=open_notice,
            losses=losses,
        )
        feed._running = running = asyncio.ensure_future(feed._run())
        await feed._started.wait()
        try:
            yield feed
        finally:
            await feed._end(running)
        if not running.cancelled():
            running.result()

    def watch(self, stream_id: str, sink: StreamSink) -> StreamWatch:
        """Deliver the whole log from its first entry to ``sink``, then the live tail, until ``close()``.

        At most one watch per stream: ValueError otherwise. LogUnavailable when the feed has ended.
        """
        if self._tasks is None:
            raise LogUnavailable("the feed is closed")
        if stream_id in self._watches:
            raise ValueError(f"{stream_id} is watched already")
        channel = self._keys.live(stream_id)
        unheard_s = partial(self._subscriptions.unheard_s, channel)
        watch = StreamWatch(stream_id, sink, self._supply, unheard_s=unheard_s, on_over=self._on_over)
        self._watches[stream_id] = watch
        self.stats.watched = len(self._watches)
        self._subscriptions.subscribe(channel, watch)
        return watch

    async def until_ended(self) -> None:
        """Until the feed's own tasks have ended, which before its closing only a defect brings about."""
        if self._running is not None:
            await asyncio.wait({self._running})

    # -- its own tasks

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._started.set()
                self._subscriptions.start(self._spawn)
                self._spawn(self._check_tails())
        except Exception as error:
            _log.critical("feed_ended", exc_info=error)
            self._tasks = None
            for watch in list(self._watches.values()):
                watch.fail()
            raise
        finally:
            self._tasks = None
            self._subscriptions.stop()
            for watch in list(self._watches.values()):
                watch.close()

    async def _end(self, running: asyncio.Future[None]) -> None:
        """Cancel until it is done: ``asyncio.wait_for`` before Python 3.12, which redis-py calls, may swallow one."""
        while not running.done():
            for task in (running, *self._children):
                task.cancel()
            await asyncio.wait([running], timeout=_CANCEL_AGAIN_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if self._tasks is None:
            work.close()
            raise LogUnavailable("the feed is closed")
        task = self._tasks.create_task(work)
        self._children.add(task)
        task.add_done_callback(self._children.discard)
        return task

    # -- the tail check

    async def _check_tails(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s())
            asked = [
                self._spawn(self._check_node(node, watches))
                for node, watches in self._watches_by_node().items()
                if node not in self._checking
            ]
            if asked:
                await asyncio.wait(asked, timeout=self._times.tail_patience_s)

    def _watches_by_node(self) -> dict[str | None, list[StreamWatch]]:
        by_node: dict[str | None, list[StreamWatch]] = {}
        for watch in self._watches.values():
            if not watch.is_over and not watch.is_fresh:
                by_node.setdefault(self._node_of(watch), []).append(watch)
        return by_node

    async def _check_node(self, node: str | None, watches: Sequence[StreamWatch]) -> None:
        self._checking.add(node)
        try:
            for begin in range(0, len(watches), self._limits.tails):
                await self._check(watches[begin : begin + self._limits.tails])
        finally:
            self._checking.discard(node)

    def _pause_s(self) -> float:
        """How long until the next look at all tails: soon when a lease may be lost, or is about to lapse."""
        times, now = self._times, self._loop.time()
        pause_s = self._rng.uniform(times.tail_check_min_s, times.tail_check_max_s)
        if any(watch.is_suspect for watch in self._watches.values()):
            pause_s = min(pause_s, times.stall_notice_s)
        lapses = [watch.lapses_at for watch in self._watches.values() if watch.lapses_at is not None]
        return min(pause_s, max(min(lapses) - now, times.lapse_look_s)) if lapses else pause_s

    async def _check(self, watches: Sequence[StreamWatch]) -> None:
        """One request for the tails of some watches, and what follows from it."""
        try:
            async with asyncio.timeout(self._times.read_s):
                tails = await self._log.tails([watch.stream_id for watch in watches])
        except Exception as error:  # whatever it is, the check must go on
            if not isinstance(error, LogUnavailable | TimeoutError):
                _log.error("feed_tails_crashed", exc_info=error)
            self.stats.read_failures += 1
            for watch in watches:
                watch.unheard()
            return
        for watch in watches:
            self._on_heard(watch.stream_id)
        ahead: list[tuple[StreamWatch, Tail]] = []
        for watch, tail in zip(watches, tails, strict=True):
            if watch.judge(tail) is TailVerdict.HOLE:
                ahead.append((watch, tail))
            else:
                watch.observe(tail)
        if ahead:
            await asyncio.sleep(self._times.push_grace_s)  # most of them have their push by then
            for watch, tail in ahead:
                watch.observe(tail)

    # -- what is heard

    def _on_heard(self, stream_id: str) -> None:
        self._subscriptions.heard(self._keys.live(stream_id))

    def _on_silence(self, node: str) -> None:
        for watch in list(self._watches.values()):
            if self._node_of(watch) == node:
                watch.unheard()

    def _node_of(self, watch: StreamWatch) -> str | None:
        return self._subscriptions.node_of(self._keys.live(watch.stream_id))

    def _on_over(self, watch: StreamWatch) -> None:
        """The terminal was delivered (the watch still stands for its stream), or the watch was closed."""
        self._subscriptions.unsubscribe(self._keys.live(watch.stream_id), watch)
        if watch.is_closed and self._watches.get(watch.stream_id) is watch:
            del self._watches[watch.stream_id]
            self.stats.watched = len(self._watches)
