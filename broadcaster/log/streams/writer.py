"""A stream's writer: the one way of an attempt into the log.

Rules
1. ``write`` never waits: events are numbered and buffered; the appender sends them.
2. ``end`` writes the terminal event and waits until the log has confirmed everything, however long Redis is away
   (bounded by its deadline).
3. The writer is over, for good, when the log says so: ``over`` is set and ``end_reason`` names it. Then nothing more
   is written and the attempt must stop its provider.
4. A stop request seen in any answer sets ``stop_requested``; ``stop_reason`` is that of the first request.
5. What Redis lost is written again: missing meta is restored, a lost tail re-sent, a lost earlier attempt re-based
   under a newer epoch. The attempt does not notice it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from enum import Enum
from typing import Any, Protocol

from broadcaster.core.batching import AppendReply, Batch, Batcher, Next, StopRequest
from broadcaster.core.events import Event, encode_event
from broadcaster.log.streams import terminals
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)


class WriterEnd(Enum):
    """Why a writer is over before its attempt has ended the stream itself."""

    FENCED = "another worker holds a newer epoch"
    FULL = "the stream is at its bound; error stream_full was written"
    LOG_LOST = "Redis lost the same entries again and again; error log_lost was written"
    CRASHED = "the log refused an append in a way that waiting does not mend"


class Recovery(Protocol):
    """What a writer needs when Redis has lost something."""

    def restore(self, writer: StreamWriter) -> Awaitable[bool]:
        """Write the lost meta and lease again; False: no longer ours."""

    def rebase(self, writer: StreamWriter) -> Awaitable[tuple[int, int] | None]:
        """A newer epoch and the seq to go on from; None: no longer ours."""


class StreamWriter:
    """Events of one attempt; see the rules above."""

    def __init__(
        self,
        stream_id: str,
        *,
        epoch: int,
        base_seq: int,
        retention_ms: int,
        max_bytes: int,
        meta: Mapping[str, str],
        attend: Callable[[StreamWriter], None],
        recovery: Recovery,
    ) -> None:
        self.stream_id = stream_id
        self.retention_ms = retention_ms
        self.meta = meta
        self.stop_requested = asyncio.Event()
        self.stop_reason = StopRequest.STOPPED.reason
        self.stop_request = StopRequest.NONE
        self.over = asyncio.Event()
        self.end_reason: WriterEnd | None = None
        self._batcher = Batcher(epoch=epoch, base_seq=base_seq)
        self._max_bytes = max_bytes
        self._attend = attend
        self._recovery = recovery
        self._recovering: asyncio.Task[None] | None = None
        self._verify = False
        self._ended = False
        self._done = asyncio.Event()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []  # by the count of events that must be confirmed

    @property
    def epoch(self) -> int:
        """The epoch everything is written under now."""
        return self._batcher.epoch

    @property
    def acked_seq(self) -> int:
        """Last seq the log has confirmed."""
        return self._batcher.acked_seq

    @property
    def last_seq(self) -> int:
        """Last seq written (not necessarily confirmed)."""
        return self._batcher.last_seq

    @property
    def event_count(self) -> int:
        """How many events this attempt has written (not necessarily confirmed)."""
        return self._batcher.last_seq - self._batcher.base_seq

    @property
    def size_bytes(self) -> int:
        """Bytes held for sending (again)."""
        return self._batcher.size_bytes

    @property
    def is_complete(self) -> bool:
        """Whether the terminal event is written and all of it confirmed."""
        return self._ended and self._batcher.is_acknowledged

    @property
    def is_recovering(self) -> bool:
        """Whether it writes lost meta, or fetches a newer epoch. If another worker has the stream, that ends it."""
        return self._recovering is not None

    def write(self, events: Iterable[Event]) -> None:
        """Take these events; they leave with this loop turn. Ignored once over or ended: the attempt is stopping."""
        if self._ended or self.over.is_set():
            return
        for event in events:
            raw = encode_event(event)
            if self._batcher.size_bytes + len(raw) > self._max_bytes:
                limit_reached("MAX_BYTES")
                self._refuse(WriterEnd.FULL, terminals.STREAM_FULL)
                return
            self._push([raw])

    async def confirmed(self) -> None:
        """Until the log has confirmed all that is written so far; it may lose it again afterwards (rule 5).

        Never returns once the writer is over: the attempt cancels the caller.
        """
        count = self._batcher.last_seq - self._batcher.base_seq
        if self.over.is_set() or self._confirmed_count < count:
            waits = asyncio.get_running_loop().create_future()
            self._waiting.append((count, waits))
            await waits

    async def end(self, events: Iterable[Event], *, deadline_s: float) -> bool:
        """Write the last events, the terminal one last, and wait for the log.

        True: all of it is in the log. False: the stream went to another worker, or a bound ended it with an error that
        is in the log. Raises TimeoutError when the log has not confirmed it by the deadline; it is still being sent.
        """
        if not self._ended and not self.over.is_set():
            self._push(map(encode_event, events))
            self._ended = True
        async with asyncio.timeout(deadline_s):
            await self._done.wait()
        return self.end_reason is None

    def request_stop(self, request: StopRequest) -> None:
        """Record that the end was requested; NONE changes nothing."""
        if request and not self.stop_requested.is_set():
            self.stop_reason, self.stop_request = request.reason, request
            self.stop_requested.set()

    def verify(self) -> None:
        """Check whether the log still has our tail; what it lost is sent again."""
        self._verify = True
        self._attend(self)

    def lose(self) -> None:
        """The lease is another worker's: write nothing more."""
        self._close(WriterEnd.FENCED)

    def request_restore(self) -> None:
        """The meta is gone: write it again."""
        self._recover(self._restored(rebase=False))

    # -- called by the appender

    def take(self) -> Batch | None:
        """The next batch to send; None while recovering or when nothing waits."""
        if self._recovering is not None or self.end_reason in (WriterEnd.FENCED, WriterEnd.CRASHED):
            return None
        batch = self._batcher.take(verify=self._verify)
        if batch is not None:
            self._verify = False
        return batch

    def failed(self) -> None:
        """Nothing is known about the batch in flight: it is offered again, also one that only checks our tail."""
        self._verify = True
        self._batcher.failed()

    def crashed(self, error: BaseException) -> None:
        """The log refused the batch for good, which is a defect and no outage."""
        _log.error("append_refused", stream=self.stream_id, error=type(error).__name__)
        self._batcher.failed()
        self._close(WriterEnd.CRASHED)

    def replied(self, reply: AppendReply) -> None:
        """The log's reply to the batch in flight; of no interest if the writer has crashed meanwhile."""
        if self.end_reason is WriterEnd.CRASHED:
            return
        self.request_stop(reply.stop_requested)
        step = self._batcher.replied(reply)
        if step is Next.GO_ON:
            self._notify_confirmed()
            if self.is_complete:
                self._done.set()
        elif step is Next.LOST:
            self._close(WriterEnd.FENCED)
        elif step is Next.FULL:
            self._refuse(WriterEnd.FULL, terminals.STREAM_FULL)
        elif step is Next.GIVE_UP:
            self._give_up()
        else:
            _log.warning("log_rewound", stream=self.stream_id, at=reply.last_seq, ours=self.last_seq, step=step.name)
            self._recover(self._steps(step))
        self._attend(self)

    # -- inside

    @property
    def _confirmed_count(self) -> int:
        # Not by seq: a rebase moves all of them.
        return self._batcher.acked_seq - self._batcher.base_seq

    def _notify_confirmed(self) -> None:
        if not self._waiting or self.over.is_set():
            return
        waiting, self._waiting = self._waiting, []
        for count, waits in waiting:
            if waits.done():
                continue
            if count <= self._confirmed_count:
                waits.set_result(None)
            else:
                self._waiting.append((count, waits))

    def _push(self, raws: Iterable[bytes]) -> None:
        self._batcher.push(raws)
        self._attend(self)

    def _give_up(self) -> None:
        if self.end_reason is WriterEnd.LOG_LOST:
            self._close(WriterEnd.CRASHED)
        else:
            self._refuse(WriterEnd.LOG_LOST, terminals.LOG_LOST)

    def _refuse(self, reason: WriterEnd, terminal: bytes) -> None:
        """End the stream with an error of the log's own; ``over`` notifies the attempt."""
        self.end_reason = reason
        self._ended = True
        self._push([terminal])
        self.over.set()

    def _close(self, reason: WriterEnd) -> None:
        self.end_reason = reason
        self.over.set()
        self._done.set()

    def _recover(self, steps: Coroutine[Any, Any, None]) -> None:
        if self._recovering is not None or self.end_reason in (WriterEnd.FENCED, WriterEnd.CRASHED):
            steps.close()
            return
        self._recovering = asyncio.get_running_loop().create_task(steps)
        self._recovering.add_done_callback(self._recovered)

    def _recovered(self, task: asyncio.Task[None]) -> None:
        self._recovering = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.crashed(error)
        self._attend(self)

    def _steps(self, step: Next) -> Coroutine[Any, Any, None]:
        if step is Next.REBASE:
            return self._rebased()
        return self._restored(rebase=step is Next.RESTORE and self._batcher.base_seq > 0)

    async def _restored(self, *, rebase: bool) -> None:
        if not await self._recovery.restore(self):
            self._close(WriterEnd.FENCED)
        elif rebase:
            await self._rebased()
        else:
            self._verify = True

    async def _rebased(self) -> None:
        granted = await self._recovery.rebase(self)
        if granted is None:
            self._close(WriterEnd.FENCED)
            return
        epoch, base_seq = granted
        self._batcher.rebase(epoch=epoch, base_seq=base_seq)
