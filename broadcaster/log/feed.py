"""The feed: a front-end's live supply from the log. Pushes, proven dense; holes repaired from the log (protocol §5).

Theory of operation. Each node has one subscriber connection (``feed_connection``), each watched stream one watch with
its splice (``feed_watch``). Pub/sub only accelerates: every loss is found and repaired, by the next push, by the
re-read after each reconnect, by the probe of each connection (``feed_probe``), or at last by the tail check here.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from broadcaster.core.continuity import TailVerdict
from broadcaster.errors import LogUnavailable
from broadcaster.log.feed_address import Dialer
from broadcaster.log.feed_connection import NodeConnection
from broadcaster.log.feed_options import FeedLimits, FeedStats, FeedTimes
from broadcaster.log.feed_ports import FeedLog, LapsedEnder, StreamSink
from broadcaster.log.feed_probe import Probe, PublishProbe
from broadcaster.log.feed_watch import StreamWatch, Supply
from broadcaster.log.keys import Keys
from broadcaster.log.streams import Tail
from broadcaster.logs import get_logger

_log = get_logger(__name__)

_PROBE_NAME_BYTES: Final = 8
_CANCEL_AGAIN_S: Final = 0.5


def _only_node(channel: str) -> int:
    return 0


class Feed:
    """All watched streams of one process. Made by ``Feed.open``."""

    def __init__(
        self,
        nodes: Sequence[Dialer],
        log: FeedLog,
        *,
        keys: Keys,
        publish_probe: PublishProbe,
        node_of: Callable[[str], int] = _only_node,
        times: FeedTimes,
        limits: FeedLimits,
        rng: random.Random,
        lapses: LapsedEnder | None,
    ) -> None:
        self.stats = FeedStats()
        self._keys = keys
        self._log = log
        self._node_of = node_of
        self._times = times
        self._limits = limits
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._watches: dict[str, StreamWatch] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: asyncio.Future[None] | None = None
        self._children: set[asyncio.Task[None]] = set()
        self._started = asyncio.Event()
        self._connections = [
            NodeConnection(node, times=times, limits=limits, stats=self.stats, rng=rng) for node in nodes
        ]
        self._probes = [
            Probe(
                connection,
                self._draw_probe_channel(number),
                publish=publish_probe,
                on_silence=partial(self._on_silence, connection),
            )
            for number, connection in enumerate(self._connections)
        ]
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
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        nodes: Sequence[Dialer],
        log: FeedLog,
        *,
        keys: Keys,
        publish_probe: PublishProbe,
        node_of: Callable[[str], int] = _only_node,
        times: FeedTimes | None = None,
        limits: FeedLimits | None = None,
        rng: random.Random | None = None,
        lapses: LapsedEnder | None = None,
    ) -> AsyncIterator[Feed]:
        """A running feed; leaving closes every watch and connection.

        ``node_of`` maps a channel name to the index of its node; ``lapses`` ends the feeds that their writers have left
        (None: this process ends none). Opening does not fail while Redis is away: streams
        can be watched and are told ``log_unavailable``. Leaving raises what ended the feed's own tasks, if they ended.
        """
        feed = cls(
            nodes,
            log,
            keys=keys,
            publish_probe=publish_probe,
            node_of=node_of,
            times=times or FeedTimes(),
            limits=limits or FeedLimits(),
            rng=rng or random.Random(),
            lapses=lapses,
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
        connection = self._connection_of(stream_id)
        unheard_s = partial(self._unheard_s, connection)
        watch = StreamWatch(stream_id, sink, self._supply, unheard_s=unheard_s, on_over=self._on_over)
        self._watches[stream_id] = watch
        self.stats.watched = len(self._watches)
        connection.subscribe(self._keys.live(stream_id), watch)
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
                for connection, probe in zip(self._connections, self._probes, strict=True):
                    self._spawn(connection.run())
                    self._spawn(probe.run(self._times, stats=self.stats, rng=self._rng))
                self._spawn(self._check_tails())
        except Exception as error:
            _log.critical("feed_ended", exc_info=error)
            self._tasks = None
            for watch in list(self._watches.values()):
                watch.fail()
            raise
        finally:
            self._tasks = None
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
            watches = [watch for watch in self._watches.values() if not watch.is_over]
            for begin in range(0, len(watches), self._limits.tails):
                await self._check(watches[begin : begin + self._limits.tails])

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
        self._on_heard()
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

    def _on_heard(self) -> None:
        self._heard_at = self._loop.time()

    def _unheard_s(self, connection: NodeConnection) -> float:
        return self._loop.time() - max(self._heard_at, connection.heard_at)

    def _on_silence(self, connection: NodeConnection) -> None:
        for watch in list(self._watches.values()):
            if self._connection_of(watch.stream_id) is connection:
                watch.unheard()

    def _connection_of(self, stream_id: str) -> NodeConnection:
        return self._connections[self._node_of(self._keys.live(stream_id))]

    def _on_over(self, watch: StreamWatch) -> None:
        """The terminal was delivered (the watch still stands for its stream), or the watch was closed."""
        self._connection_of(watch.stream_id).unsubscribe(self._keys.live(watch.stream_id), watch)
        if watch.is_closed and self._watches.get(watch.stream_id) is watch:
            del self._watches[watch.stream_id]
            self.stats.watched = len(self._watches)

    def _draw_probe_channel(self, number: int) -> str:
        """A channel nobody else has, on this very node."""
        while True:
            channel = self._keys.probe(secrets.token_hex(_PROBE_NAME_BYTES))
            if self._node_of(channel) == number:
                return channel
