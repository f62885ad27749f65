"""The appender: the events that all generations of a worker write in one loop turn leave as one write for each server.

Theory of operation. A StreamWriter hands its events to its Batcher (pure) and notifies the appender. At the end of the
loop turn the appender takes one batch from every writer that has none in flight and sends them together: the first
token of an idle system leaves at once. Most batches are the next events of a first attempt: append_next.lua writes them
for half the price, and where it writes nothing, append.lua decides. Events that come while a server has such a write
under way wait for its reply, ``HOLD_S`` at most, and leave as the next write: under load each write carries the events
of many generations, and a slow server delays no stream for longer than that. Streams wait only for replies of their own
server: a shard that is away delays only its own streams. A reply decides what is next; everything else (Redis away,
full, moving) means "later": the same batch is offered again after a back-off, for as long as the writer lives. A worker
never stops generating because Redis does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from broadcaster.core.backoff import BackOff
from broadcaster.core.batching import AppendReply, Batch, Code, StopRequest
from broadcaster.core.events import FORMAT_VERSION, is_terminal
from broadcaster.core.status import status_after
from broadcaster.log.redis.connect import LogConnection, count_limit, later
from broadcaster.log.redis.scripts import SCRIPTS, Argument, ScriptCall, run_all
from broadcaster.log.streams.append_counts import AppendCounts
from broadcaster.log.streams.writer import StreamWriter
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

HOLD_S: Final = 0.002
_NOT_NEXT: Final = -1  # append_next wrote nothing: append decides
_BACK_OFF: Final = BackOff(0.05, 0.8)
_APPEND, _APPEND_NEXT = SCRIPTS["append"], SCRIPTS["append_next"]


@dataclass(frozen=True, slots=True)
class AppendBounds:
    """Bounds every append is checked against, and the lives of a log; durations in milliseconds."""

    max_events: int
    max_bytes: int
    push_max_bytes: int
    live_ttl_ms: int


@dataclass(slots=True)
class _ServerWrites:
    """One server that has writes under way: the writers that wait for a reply, and for how long at most."""

    sends: int = 0
    waiting: dict[StreamWriter, None] = field(default_factory=dict)
    hold: asyncio.TimerHandle | None = None


class Appender:
    """One per worker. ``async with`` it: leaving cancels what is still under way, and nothing leaves from then on."""

    def __init__(self, connection: LogConnection, bounds: AppendBounds) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._keys = connection.keys
        self.bounds = bounds
        self._pending: dict[StreamWriter, None] = {}
        self._turn: asyncio.Handle | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self._servers: dict[str, _ServerWrites] = {}  # of the servers that have writes under way
        self._failures: dict[str, int] = {}  # of each server, in a row
        self._backing_off: dict[StreamWriter, asyncio.TimerHandle] = {}
        self._is_left = False
        self.counts = AppendCounts()

    async def __aenter__(self) -> Appender:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._is_left = True
        if self._turn is not None:
            self._turn.cancel()
        for writes in self._servers.values():
            if writes.hold is not None:
                writes.hold.cancel()
        for task in self._sends:
            task.cancel()
        await asyncio.gather(*self._sends, return_exceptions=True)

    def attend(self, writer: StreamWriter) -> None:
        """This writer has something to send; it leaves with the others of this loop turn."""
        if self._is_left:  # a reply or a back-off came to its end later
            return
        self._pending[writer] = None
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._send_turn)

    def _send_turn(self) -> None:
        self._turn = None
        pending, self._pending = self._pending, {}
        parts: dict[str, dict[StreamWriter, None]] = {}
        for writer in pending:
            parts.setdefault(self._server_of(writer), {})[writer] = None
        for server, writers in parts.items():
            writes = self._servers.setdefault(server, _ServerWrites())
            if writes.sends == 0:
                self._begin_send(server, writers)
                continue
            writes.waiting |= writers
            if writes.hold is None:
                writes.hold = asyncio.get_running_loop().call_later(HOLD_S, self._release, server)

    def _release(self, server: str) -> None:
        """Writers that have waited, and still have events, send now."""
        writes = self._servers[server]
        if writes.hold is not None:
            writes.hold.cancel()
            writes.hold = None
        waiting, writes.waiting = writes.waiting, {}
        self._begin_send(server, waiting)

    def _begin_send(self, server: str, writers: Iterable[StreamWriter]) -> None:
        writes = self._servers[server]
        backing_off = self._backing_off
        batches = [
            (writer, batch) for writer in writers if writer not in backing_off and (batch := writer.take()) is not None
        ]
        if batches:
            writes.sends += 1
            task = asyncio.get_running_loop().create_task(self._send(server, batches))
            self._sends.add(task)
            task.add_done_callback(self._sends.discard)
            task.add_done_callback(partial(self._has_come_back, server))
        elif writes.sends == 0:
            del self._servers[server]

    def _has_come_back(self, server: str, task: asyncio.Task[None]) -> None:
        if not (task.cancelled() or self._is_left):  # else everything ends
            self._servers[server].sends -= 1
            self._release(server)

    async def _send(self, server: str, batches: Sequence[tuple[StreamWriter, Batch]]) -> None:
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        replies = await self._replies(batches)
        self.counts.write_s.observe(loop.time() - sent_at)
        retried: list[StreamWriter] = []
        for (writer, batch), reply in zip(batches, replies, strict=True):
            if isinstance(reply, AppendReply):
                self._count(writer, batch, reply.code)
                writer.replied(reply)
            elif later(reply):
                count_limit(reply)
                self.counts.outcomes["unavailable"] += 1
                writer.failed()
                retried.append(writer)
            else:
                writer.crashed(reply)
        if retried:
            self._retry(server, retried, replies)
        elif self._failures.pop(server, None):
            for writer in [each for each in self._backing_off if self._server_of(each) == server]:
                self._back_off_ends(writer)

    async def _replies(self, batches: Sequence[tuple[StreamWriter, Batch]]) -> list[AppendReply | Exception]:
        """The log's reply to each, or what prevented one."""
        replies = await self._run([self._next_call(*each) or self._call(*each) for each in batches])
        left = [at for at, reply in enumerate(replies) if reply == _NOT_NEXT]
        if left:
            decided = await self._run([self._call(*batches[at]) for at in left])
            for at, reply in zip(left, decided, strict=True):
                replies[at] = reply
        return [_reply(reply, *batch) for reply, batch in zip(replies, batches, strict=True)]

    async def _run(self, calls: Sequence[ScriptCall]) -> list[Any]:
        try:
            return await run_all(self._redis, calls)
        except Exception as error:
            return [error] * len(calls)

    def _count(self, writer: StreamWriter, batch: Batch, code: Code) -> None:
        self.counts.replied(code, len(batch.events))
        if code is Code.FULL:
            has_many = writer.event_count > self.bounds.max_events
            limit_reached("MAX_EVENTS" if has_many else "MAX_BYTES")

    def _retry(self, server: str, writers: Sequence[StreamWriter], replies: Sequence[Any]) -> None:
        failures = self._failures.get(server, 0)
        if failures == 0:
            reason = next(type(each).__name__ for each in replies if isinstance(each, Exception))
            _log.warning("append_later", writers=len(writers), reason=reason)
        self._failures[server] = failures + 1
        delay_s = _BACK_OFF.pause_s(failures + 1, luck=random.random())
        loop = asyncio.get_running_loop()
        for writer in writers:
            self._backing_off[writer] = loop.call_later(delay_s, self._back_off_ends, writer)

    def _back_off_ends(self, writer: StreamWriter) -> None:
        self._backing_off.pop(writer).cancel()
        self.attend(writer)

    def _server_of(self, writer: StreamWriter) -> str:
        return self._connection.server_of(self._keys.log(writer.stream_id))

    def _next_call(self, writer: StreamWriter, batch: Batch) -> ScriptCall | None:
        """The cheap append; None for a batch that begins or ends the log, exceeds a bound or follows other attempts."""
        events, before, bounds = batch.events, batch.bytes_before, self.bounds
        if before is None or batch.first_seq == 1 or not events or is_terminal(events[-1]):
            return None
        size = sum(map(len, events))
        if batch.last_seq > bounds.max_events or before + size > bounds.max_bytes or size > bounds.push_max_bytes:
            return None
        name, stream_id = self._keys, writer.stream_id
        keys = (name.log(stream_id), name.meta(stream_id), name.live(stream_id))
        return ScriptCall(_APPEND_NEXT, keys, (writer.epoch, batch.first_seq, before, FORMAT_VERSION, *events))

    def _call(self, writer: StreamWriter, batch: Batch) -> ScriptCall:
        name, stream_id, bounds = self._keys, writer.stream_id, self.bounds
        status = ""
        if batch.events and is_terminal(batch.events[-1]):
            status = status_after(batch.events[-1])
        keys = (name.log(stream_id), name.meta(stream_id), name.live(stream_id), name.lease(stream_id))
        bound = (bounds.max_events, bounds.max_bytes, bounds.push_max_bytes, bounds.live_ttl_ms, writer.retention_ms)
        args: list[Argument] = [writer.epoch, batch.first_seq, *bound, FORMAT_VERSION, status, *batch.events]
        return ScriptCall(_APPEND, keys, args)

    async def restore(self, stream_id: str, *, owner: str, epoch: int, lease_ms: int, meta: Mapping[str, str]) -> int:
        """Write lost meta and lease again: 1 restored, 0 not needed, -1 no longer ours. Raises LogUnavailable."""
        name = self._keys
        fields = [part for pair in meta.items() for part in pair]
        keys = [name.meta(stream_id), name.lease(stream_id), name.log(stream_id)]
        grant = (owner, epoch, lease_ms, self.bounds.live_ttl_ms)
        return int(await SCRIPTS["restore"].run(self._redis, keys, *grant, *fields))


def _reply(reply: Any, writer: StreamWriter, batch: Batch) -> AppendReply | Exception:
    """What either script answered, or the error in its place."""
    if isinstance(reply, Exception):
        return reply
    if isinstance(reply, int):
        return AppendReply(Code.APPENDED, writer.epoch, batch.last_seq, StopRequest.NONE)
    code, epoch, seq, stop = reply
    return AppendReply(Code(code), epoch, seq, StopRequest(stop))
