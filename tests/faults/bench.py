"""A small system in one process over a real server, for the state machine: workers, a front-end, viewers, one stream.

The parts are the product's own: Claims, Appender, StreamWriter, LeaseKeeper, Steadiness; LiveTail and Hub. Only what
drives them is of the test: a worker here does what worker/runner.py does, without a provider; a viewer pulls from the
hub what a response would. Each worker has a valve in its way to the server: held, it stands still as a stopped process
does.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import Abort, Finish, TextDelta, is_terminal
from broadcaster.core.sse import SseDecoder
from broadcaster.errors import Busy, LogUnavailable
from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.replay.resolve import Finished
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.queue import Job
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from tests.faults.history import Acked, Closed, Got, History, Noticed, Opened, ViewerTrace
from tests.faults.workers.recorded_worker import RecordedWriter
from tests.support.log.log_world import LEASE_MS, World
from tests.support.log.tail_world import PROBES, TAILS, TailWorld, open_tail
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.redis_relay import RedisRelay, open_redis_relay

LEASE_S: Final = LEASE_MS / 1000
ANSWER_S: Final = 1.0
KEEP_S: Final = 0.6
END_S: Final = 15.0
_JOIN_S: Final = 0.5
_RETRY_S: Final = 0.05
_TIMES: Final = replace(TAILS, tail_check_min_s=0.1, tail_check_max_s=0.2, stall_notice_s=0.2, read_s=0.5)
_LIMITS: Final = HubLimits(heartbeat_s=60, slow_viewer_s=60, linger_s=0.2, retry_ms=100)


@dataclass
class Notes:
    """A journal in memory."""

    acked: list[Acked] = field(default_factory=list)

    def note(self, acked: Acked) -> None:
        self.acked.append(acked)


@dataclass(eq=False)
class BenchWorker:
    """What a worker process is: its connection, its keeper, its appender, and at most one stream."""

    world: World
    valve: RedisRelay
    stack: AsyncExitStack
    journal: Notes
    writer: RecordedWriter | None = None
    newest_epoch: int = 0  # that its claims were answered with

    async def open(self) -> None:
        self.appender = await self.stack.enter_async_context(self.world.appender())
        self.keeper = self.world.keeper(self.appender, is_patient=False)
        for running in (self.keeper.run(), self.world.steadiness.run()):
            task = asyncio.create_task(running)
            self.stack.push_async_callback(_end, task)

    @property
    def is_writing(self) -> bool:
        """Whether it believes that it may write, and has not ended the stream."""
        return self.writer is not None and not self.writer.over.is_set() and not self.writer.is_complete

    async def take(self, stream: str, *, may_take_over: bool | None = None) -> Outcome | None:
        """Claim the stream and be its writer if that is granted. None: the log did not answer."""
        steady = self.world.steadiness.is_steady
        try:
            claim = await self.world.claim(stream, may_take_over=steady if may_take_over is None else may_take_over)
            if claim.outcome in (Outcome.GRANTED, Outcome.ENDED):
                self.newest_epoch = claim.epoch
            if claim.outcome is not Outcome.GRANTED:
                return claim.outcome
            meta, raw = await self.world.streams.meta_with_fields(stream)
        except LogUnavailable:
            return None
        writer = _writer(self, stream, epoch=claim.epoch, base_seq=claim.last_seq, meta=raw)
        writer.retention_ms = meta.retention_ms
        self.writer = writer
        self.keeper.hold(writer, Job(self.world.keys.ready, "0-1", stream))
        self.stack.push_async_callback(_end, asyncio.create_task(self._drop_when_over(writer)))
        return claim.outcome

    async def _drop_when_over(self, writer: RecordedWriter) -> None:
        await writer.over.wait()
        self.keeper.drop(writer)

    def write_texts(self, *texts: str) -> None:
        """Write deltas, if it may."""
        if self.writer is not None:
            self.writer.write(TextDelta(id="0", delta=text) for text in texts)

    async def end(self) -> bool:
        """Write the terminal event and wait for the log; False: another worker had the stream, or it took too long."""
        writer = self.writer
        if writer is None or writer.over.is_set():
            return False
        last = Abort(reason="stopped") if writer.stop_requested.is_set() else Finish(finish_reason="stop")
        try:
            is_ended = await writer.end([last], deadline_s=END_S)
        except TimeoutError:
            return False
        self.keeper.drop(writer, keep_s=KEEP_S if is_ended else 0)
        return is_ended

    def die(self) -> None:
        """What SIGKILL does to its stream: no lease is renewed, nothing more is sent."""
        if self.writer is not None:
            self.keeper.drop(self.writer)
            self.writer.lose()
            self.writer = None


def _writer(worker: BenchWorker, stream: str, *, epoch: int, base_seq: int, meta: dict[str, str]) -> RecordedWriter:
    writer = RecordedWriter(
        stream,
        epoch=epoch,
        base_seq=base_seq,
        retention_ms=60_000,
        max_bytes=worker.world.max_bytes,
        meta=meta,
        attend=worker.appender.attend,
        recovery=worker.keeper,
    )
    writer.journal = worker.journal
    return writer


@dataclass(eq=False)
class BenchViewer:
    """A viewer of the hub; ``run`` is its life, until the terminal."""

    hub: Hub
    stream: str
    after: str | None
    trace: ViewerTrace = field(init=False)
    decoder: SseDecoder = field(default_factory=SseDecoder)
    has_ended: bool = False

    def __post_init__(self) -> None:
        self.trace = ViewerTrace(self.stream)

    def note(self, *happenings: Opened | Got | Noticed | Closed) -> None:
        self.trace.happenings += happenings

    async def run(self) -> None:
        while not self.has_ended:
            await self._connect()
            self.decoder.flush()
            await asyncio.sleep(_RETRY_S)

    async def _connect(self) -> None:
        after = self.decoder.last_event_id or self.after
        try:
            viewer = await self.hub.join(
                self.stream, cursor=Cursor.parse(after) if after else None, timeout_s=_JOIN_S, status="running"
            )
        except Busy as error:
            self.note(Opened(after, 200))
            self._take(self.hub.refuse(error).block)
            self.note(Closed("clean"))
            return
        if isinstance(viewer, Finished):
            self.note(Opened(after, 204), Closed("clean"))
            self.has_ended = True
            return
        self.note(Opened(after, 200))
        try:
            while not viewer.is_over:
                chunk = viewer.pull(2**16)
                if chunk:
                    self._take(chunk)
                elif not viewer.is_over:
                    await viewer.wait(viewer.heartbeat_s)
            self.note(Closed("clean" if viewer.ends_cleanly else "torn"))
        except asyncio.CancelledError:
            self.note(Closed("left"))
            raise
        finally:
            viewer.leave()

    def _take(self, chunk: bytes) -> None:
        for message in self.decoder.decode(chunk):
            data = message.data.encode()
            if message.event == "message":
                self.note(Got(message.id, data))
                self.has_ended |= is_terminal(data)
            else:
                self.note(Noticed(message.event, data, message.id if message.event == "hub.gap" else None))


@dataclass
class Bench:
    """The whole; made by ``open_bench``."""

    folder: Path
    server: ValkeyServer
    world: World  # the front-end's and the test's own reads of the log, through no valve
    tail: TailWorld
    hub: Hub
    workers: list[BenchWorker]
    stream: str
    journal: Notes
    viewers: list[BenchViewer] = field(default_factory=list)
    watching: list[asyncio.Task[None]] = field(default_factory=list)
    is_lossy: bool = False
    is_trimmed: bool = False

    @property
    def writing(self) -> BenchWorker | None:
        """The worker with the newest grant, if it still believes in it."""
        found = [worker for worker in self.workers if worker.is_writing and worker.writer is not None]
        return max(found, key=lambda worker: worker.writer.epoch if worker.writer else 0, default=None)

    @property
    def is_held(self) -> bool:
        """Whether a worker has in memory what Redis may lose, and reaches it.

        What a claim has written itself (``attempt``, an end) is in no buffer: if Redis loses that together with
        the epoch it was written under, the earlier writer goes on as if it had never been.
        """
        worker = self.writing
        if worker is None or worker.writer is None or not worker.valve.is_open:
            return False
        return worker.writer.epoch >= max(each.newest_epoch for each in self.workers)

    def view(self, after: str | None) -> None:
        """One more viewer."""
        viewer = BenchViewer(self.hub, self.stream, after)
        self.viewers.append(viewer)
        self.watching.append(asyncio.create_task(viewer.run()))

    async def entries(self) -> list[Entry]:
        """The log; LogUnavailable when Redis does not answer."""
        return await self.world.streams.read(self.stream, count=100_000)

    # -- faults

    def save(self) -> None:
        """Keep a copy of what the server has written down."""
        shutil.rmtree(self.folder / "saved", ignore_errors=True)
        shutil.copytree(self.folder / "redis" / "appendonlydir", self.folder / "saved")

    def kill(self, *, data: str) -> None:
        """kill -9, and a restart with its ``data``: "kept", "lost", or "old" (what ``save`` copied)."""
        self.server.kill()
        kept = self.folder / "redis" / "appendonlydir"
        if data != "kept":
            self.is_lossy = True
            shutil.rmtree(kept)
        if data == "old":
            shutil.copytree(self.folder / "saved", kept)
        self.server.start()

    # -- the end

    async def finish(self) -> None:
        """Whatever happened: the stream gets its end, and every viewer has it. AssertionError otherwise."""
        for worker in self.workers:
            worker.valve.reopen()
        try:
            async with asyncio.timeout(END_S):
                while not await self._is_over():
                    await self._bring_on_end()
            async with asyncio.timeout(END_S):
                await asyncio.gather(*self.watching, return_exceptions=True)
                while not await self._is_over():  # the buffers may have to write it once more
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            raise AssertionError(await self._standing()) from None

    async def _bring_on_end(self) -> None:
        worker = self.writing or self.workers[0]
        if worker.is_writing:
            await worker.end()
        elif await worker.take(self.stream) is not Outcome.GRANTED:
            await asyncio.sleep(_RETRY_S)

    async def _standing(self) -> str:
        """The state of the world, for the error message."""
        writers = [
            (writer.epoch, writer.acked_seq, writer.last_seq, writer.is_complete, writer.end_reason)
            for worker in self.workers
            if (writer := worker.writer) is not None
        ]
        late = [viewer.trace.happenings[-3:] for viewer in self.viewers if not viewer.has_ended]
        keys, redis = self.world.keys, self.world.redis
        meta, lease = await redis.hgetall(keys.meta(self.stream)), await redis.get(keys.lease(self.stream))
        return f"no end: {await self.entries()}; {meta}; {lease}; writers {writers}; viewers {late}"

    async def _is_over(self) -> bool:
        try:
            last = await self.world.streams.last(self.stream)
        except LogUnavailable:
            return False
        return last is not None and last.is_terminal

    async def history(self) -> History:
        traces = {f"viewer-{at}": viewer.trace for at, viewer in enumerate(self.viewers)}
        trimmed = frozenset({self.stream} if self.is_trimmed else ())
        return History(self.journal.acked, traces, {self.stream: await self.entries()}, self.is_lossy, trimmed)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def open_bench(folder: Path, server: ValkeyServer, *, workers: int = 2) -> AsyncIterator[Bench]:
    """A bench over a running server, which is emptied; one generation is queued."""
    async with AsyncExitStack() as stack:
        tail = await stack.enter_async_context(
            open_tail(server.url, times=_TIMES, subscriber=PROBES, timeout_s=ANSWER_S)
        )
        hub = Hub(tail.tail, Streams(tail.connection), limits=_LIMITS)
        stack.push_async_callback(hub.aclose)
        world = World(tail.connection, worker="front-end")
        journal = Notes()
        opened = []
        for number in range(workers):
            valve = await stack.enter_async_context(open_redis_relay(server.url))
            connection = await stack.enter_async_context(LogConnection(valve.url, timeout_s=ANSWER_S))
            worker = BenchWorker(World(connection, worker=f"w{number}", max_attempts=10_000), valve, stack, journal)
            await worker.open()
            opened.append(worker)
        bench = Bench(folder, server, world, tail, hub, opened, await world.create(), journal)
        try:
            yield bench
        finally:
            for task in bench.watching:
                await _end(task)
