"""The appender: what all generations of a worker have to say in one loop turn leaves as one write for each server.

Theory of operation. A StreamWriter hands its events to its Batcher (pure) and asks the appender for attention. At the
end of the loop turn the appender takes one batch from every writer that has none in flight and sends them together:
the first token of an idle system leaves at once. What is said while a server has such a write under way waits for its
answers, ``HOLD_S`` at most, and leaves as the next one: under load each write carries the words of many generations and
each append what came since the last, and who is slow to answer holds nobody up for longer than that.
Streams of one server wait for each other's answers and for nobody else's: a shard that is away holds up its own alone.
An answer says what is next; everything that is not an answer (Redis away, full, moving) means "later": the same batch
is offered again after a back-off, for as long as the writer lives. A worker never stops generating because Redis does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from broadcaster.core.batching import Answer, Batch, Code, StopWish
from broadcaster.core.events import FORMAT_VERSION, is_terminal
from broadcaster.log.connect import LogConnection, later
from broadcaster.log.scripts import APPEND, RESTORE, Call, run_all
from broadcaster.log.writer import StreamWriter
from broadcaster.logs import get_logger

_log = get_logger(__name__)

HOLD_S: Final = 0.002
_BACK_OFF_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
_STATUS_BY_TYPE: Final = {b"finish": "finished", b"error": "failed", b"abort": "aborted"}


@dataclass(frozen=True, slots=True)
class AppendBounds:
    """Bounds every append is checked against, and the lives of a log; durations in milliseconds."""

    max_events: int
    max_bytes: int
    push_max_bytes: int
    live_ttl_ms: int


@dataclass(slots=True)
class _Line:
    """One server that has writes under way: who waits for one of them to come back, and for how long at most."""

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
        self._asking: dict[StreamWriter, None] = {}
        self._turn: asyncio.Handle | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self._lines: dict[str, _Line] = {}  # of the servers that have writes under way
        self._failures: dict[str, int] = {}  # of each server, in a row
        self._is_left = False

    async def __aenter__(self) -> Appender:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._is_left = True
        if self._turn is not None:
            self._turn.cancel()
        for line in self._lines.values():
            if line.hold is not None:
                line.hold.cancel()
        for task in self._sends:
            task.cancel()
        await asyncio.gather(*self._sends, return_exceptions=True)

    def attend(self, writer: StreamWriter) -> None:
        """This writer has something to send; it leaves with the others of this loop turn."""
        if self._is_left:  # an answer or a back-off came to its end later
            return
        self._asking[writer] = None
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._send_turn)

    def _send_turn(self) -> None:
        self._turn = None
        asking, self._asking = self._asking, {}
        parts: dict[str, dict[StreamWriter, None]] = {}
        for writer in asking:
            server = self._connection.server_of(self._keys.log(writer.stream_id))
            parts.setdefault(server, {})[writer] = None
        for server, writers in parts.items():
            line = self._lines.setdefault(server, _Line())
            if line.sends == 0:
                self._begin_send(server, writers)
                continue
            line.waiting |= writers
            if line.hold is None:
                line.hold = asyncio.get_running_loop().call_later(HOLD_S, self._release, server)

    def _release(self, server: str) -> None:
        """Who has waited, and still has something to say, leaves now."""
        line = self._lines[server]
        if line.hold is not None:
            line.hold.cancel()
            line.hold = None
        waiting, line.waiting = line.waiting, {}
        self._begin_send(server, waiting)

    def _begin_send(self, server: str, writers: Iterable[StreamWriter]) -> None:
        line = self._lines[server]
        batches = [(writer, batch) for writer in writers if (batch := writer.take()) is not None]
        if batches:
            line.sends += 1
            task = asyncio.get_running_loop().create_task(self._send(server, batches))
            self._sends.add(task)
            task.add_done_callback(self._sends.discard)
            task.add_done_callback(partial(self._has_come_back, server))
        elif line.sends == 0:
            del self._lines[server]

    def _has_come_back(self, server: str, task: asyncio.Task[None]) -> None:
        if not (task.cancelled() or self._is_left):  # else all of it ends
            self._lines[server].sends -= 1
            self._release(server)

    async def _send(self, server: str, batches: Sequence[tuple[StreamWriter, Batch]]) -> None:
        calls = [self._call(writer, batch) for writer, batch in batches]
        try:
            answers = await run_all(self._redis, calls)
        except Exception as error:
            answers = [error] * len(calls)
        again: list[StreamWriter] = []
        for (writer, _), answer in zip(batches, answers, strict=True):
            if not isinstance(answer, Exception):
                code, epoch, seq, stop = answer
                writer.answered(Answer(Code(code), epoch, seq, StopWish(stop)))
            elif later(answer):
                writer.failed()
                again.append(writer)
            else:
                writer.crashed(answer)
        if again:
            self._try_again(server, again, answers)
        else:
            self._failures.pop(server, None)

    def _try_again(self, server: str, writers: Sequence[StreamWriter], answers: Sequence[Any]) -> None:
        failures = self._failures.get(server, 0)
        if failures == 0:
            reason = next(type(each).__name__ for each in answers if isinstance(each, Exception))
            _log.warning("append_later", writers=len(writers), reason=reason)
        delay_s = _BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)] * random.uniform(0.5, 1.0)
        self._failures[server] = failures + 1
        loop = asyncio.get_running_loop()
        for writer in writers:
            loop.call_later(delay_s, self.attend, writer)

    def _call(self, writer: StreamWriter, batch: Batch) -> Call:
        name, stream_id, bounds = self._keys, writer.stream_id, self.bounds
        status = ""
        if batch.events and is_terminal(batch.events[-1]):
            status = _STATUS_BY_TYPE[batch.events[-1].split(b'"', 4)[3]]
        keys = (name.log(stream_id), name.meta(stream_id), name.live(stream_id), name.lease(stream_id))
        return Call(
            APPEND,
            keys,
            (
                writer.epoch,
                batch.first_seq,
                bounds.max_events,
                bounds.max_bytes,
                bounds.push_max_bytes,
                bounds.live_ttl_ms,
                writer.retention_ms,
                FORMAT_VERSION,
                status,
                *batch.events,
            ),
        )

    async def restore(self, stream_id: str, *, owner: str, epoch: int, lease_ms: int, meta: Mapping[str, str]) -> int:
        """Write lost meta and lease again: 1 restored, 0 not needed, -1 no longer ours. Raises what redis-py raises."""
        name = self._keys
        fields = [part for pair in meta.items() for part in pair]
        keys = [name.meta(stream_id), name.lease(stream_id), name.log(stream_id)]
        return int(await RESTORE.run(self._redis, keys, owner, epoch, lease_ms, self.bounds.live_ttl_ms, *fields))
