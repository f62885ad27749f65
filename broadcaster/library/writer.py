"""A feed's writer in this process: appends are joined, repeated after failures, and each is in the log once.

Rules
1. One append is under way; events that arrive meanwhile wait and join the next one, in the order of arrival. At least
   ``pace_s`` passes between two appends.
2. An event is checked and encoded before it waits: an event that no feed accepts raises in the caller.
3. Waiting events are bounded in number and bytes; beyond the bounds the call raises Busy at once.
4. ``append`` returns within ``timeout_s``: with the cursors, the refusal, or LogUnavailable. After LogUnavailable an
   append that was never sent is withdrawn; one that was sent may or may not be in the log.
5. ``append_nowait`` has no ``timeout_s``: its events are sent when Redis is back. The append under way when Redis went
   away is given up after nine minutes, because its key is known for ten (`delivery.UNKNOWN_S`). The next ``flush`` or
   ``close`` raises the first error, once; until then no other event of append_nowait is appended, to avoid a hole.
6. A joined append that is refused for its size is resent call by call, so that each call has its own outcome.
7. Once the feed is known to be closed, by a refusal or a renewal, every call that gives events raises StreamClosed at
   once. ``close`` asks the log, because the same end again changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Event, TerminalEvent
from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND, as_mapping, encode_end, encode_published
from broadcaster.errors import (
    Busy,
    EventTooLarge,
    InvalidInput,
    LogUnavailable,
    StreamClosed,
    StreamFull,
)
from broadcaster.library.delivery import ENDED, Delivery, FeedOperations
from broadcaster.library.waiting import PendingAppend, is_wanted
from broadcaster.log.feeds.feeds import FeedConfig
from broadcaster.observability.logs import get_logger
from broadcaster.process.tasks import end_tasks

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterLimits:
    """Every wait and every buffer of a writer."""

    timeout_s: float = 30.0  # how long an append is repeated before it raises
    buffer_events: int = 10_000  # most events waiting or under way
    buffer_bytes: int = 8 * 2**20
    batch_events: int = MAX_EVENTS_PER_APPEND  # most of one append
    batch_bytes: int = 512 * 2**10
    pace_s: float = 0.005  # from one append to the next: 200 a second, what one feed allows by default


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """What waits now, and counters since the writer was created."""

    buffered_events: int
    buffered_bytes: int
    appended: int  # events in the log
    appends: int  # calls that brought them there
    dropped: int  # events of append_nowait that were refused or given up
    lost: int  # entries that Redis has lost since, and that are not in the log again
    retries: int


class FeedWriter:
    """One feed as one writer in this process sees it; see the rules above. For one event loop."""

    def __init__(
        self,
        feeds: FeedOperations,
        stream_id: str,
        *,
        tenant: str,
        limits: WriterLimits | None = None,
    ) -> None:
        self._lost = 0
        self._delivery = Delivery(feeds, stream_id, tenant=tenant, note_lost=self._count_lost)
        self._limits = limits or WriterLimits()
        self._waiting: deque[PendingAppend] = deque()
        self._under_way: list[PendingAppend] = []
        self._events = 0
        self._bytes = 0
        self._appended = 0
        self._dropped = 0
        self._error: Exception | None = None
        self._over: str | None = None
        self._is_closing = False
        self._wake = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._renewer: asyncio.Task[None] | None = None

    async def open(self, config: FeedConfig) -> bool:
        """Create the feed; False when it is there with this configuration. Renews its lease from now on.

        Raises InvalidInput, StreamExists, or after ``timeout_s`` LogUnavailable, or the Busy that it was refused with.
        """
        try:
            async with self._in_time():
                created = await self._delivery.create(config)
        except LogUnavailable:
            trouble = self._delivery.trouble
            if trouble is None or isinstance(trouble, LogUnavailable):
                raise
            raise trouble from None
        if config.lease_s is not None and self._renewer is None:
            self._renewer = asyncio.create_task(self._delivery.keep_renewed(config.lease_s))
            self._renewer.add_done_callback(_log_failure)
        return created

    async def append(self, *events: Mapping[str, Any] | Event) -> list[Cursor]:
        """Append all of these or none; they are in the log when it returns. Returns their cursors.

        Raises InvalidEvent, InvalidInput (too many for one append), Busy (buffer), UnknownStream, StreamClosed,
        StreamFull, EventTooLarge, or LogUnavailable after ``timeout_s``.
        """
        if not events:
            return []
        waiting = self._put(PendingAppend.awaited([encode_published(as_mapping(event)) for event in events]))
        try:
            async with self._in_time(waiting):
                return await waiting.wait()
        finally:
            self._withdraw(waiting)

    def append_nowait(self, *events: Mapping[str, Any] | Event) -> Sequence[bytes]:
        """Append these later, all or none; returns the bytes that the log will store. Needs a running loop.

        Raises InvalidEvent, InvalidInput, Busy (buffer), StreamClosed; ``flush`` raises later errors.
        """
        raws = [encode_published(as_mapping(event)) for event in events]
        if raws:
            self._put(PendingAppend(raws, None))
        return raws

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all earlier events are in the log.

        Raises (1) what an earlier ``append_nowait`` was refused with, (2) LogUnavailable after ``timeout_s`` (None: the
        limits'): the events are still being sent.
        """
        async with self._in_time(timeout_s=timeout_s):
            await self._all_given()

    async def close(self, end: Mapping[str, Any] | TerminalEvent | None = None) -> Cursor:
        """Flush, then end the feed with this event (None: ``finish``). The same end again changes nothing.

        Raises, and leaves the feed open, (1) InvalidEvent, (2) as ``flush``; or StreamClosed when it ended otherwise.
        """
        raw = encode_end({} if end is None else as_mapping(end))
        self._is_closing = True
        try:
            async with self._in_time():
                await self._all_given()
                cursor = await self._delivery.close(raw)
        except BaseException as error:
            self._is_closing = False
            if isinstance(error, StreamClosed):
                self._over = error.detail
            raise
        self._over = "this writer has closed the feed"
        await end_tasks(self._renewer)
        return cursor

    async def aclose(self) -> None:
        """End the writer's own tasks without closing the feed. Callers that still wait get LogUnavailable."""
        self._is_closing = True
        # Everything before the first await: a cancelled task may be cancelled once more there (anyio does that).
        tasks = [task for task in (self._sender, self._renewer) if task is not None]
        for task in tasks:
            task.cancel()
        for waiting in (*self._under_way, *self._waiting):
            if not waiting.is_done:
                self._release(waiting)
                self._dropped += 0 if waiting.result else len(waiting.raws)
                waiting.resolve(LogUnavailable("the writer was ended before Redis had replied"))
        self._under_way = []
        self._waiting.clear()
        if tasks:
            await asyncio.wait(tasks)

    def statistics(self) -> WriterStatistics:
        """What waits now and what was done so far."""
        return WriterStatistics(
            buffered_events=self._events,
            buffered_bytes=self._bytes,
            appended=self._appended,
            appends=self._delivery.appends,
            dropped=self._dropped,
            lost=self._lost,
            retries=self._delivery.retries,
        )

    @property
    def has_lost(self) -> bool:
        """Whether Redis has lost entries that are not in the log again: ``close`` ends with TORN, not ``finish``."""
        return self._delivery.has_lost

    def _count_lost(self, entries: int) -> None:
        self._lost += entries

    # -- giving

    def _put(self, waiting: PendingAppend) -> PendingAppend:
        if self._over is not None or self._delivery.is_over:
            raise StreamClosed(self._over or ENDED)
        if self._is_closing:
            raise StreamClosed("this writer takes nothing more: it is being closed")
        if len(waiting.raws) > self._limits.batch_events:
            raise InvalidInput(f"one append has at most {self._limits.batch_events} events")
        events, size = self._events + len(waiting.raws), self._bytes + waiting.size
        if self._events and (events > self._limits.buffer_events or size > self._limits.buffer_bytes):
            raise Busy(f"the writer's buffer is full: {self._events} events wait")
        self._events, self._bytes = events, size
        self._enqueue(waiting)
        return waiting

    def _enqueue(self, waiting: PendingAppend) -> None:
        self._waiting.append(waiting)
        self._wake.set()
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send_all())
            self._sender.add_done_callback(_log_failure)

    def _withdraw(self, waiting: PendingAppend) -> None:
        """Its caller no longer waits; what was sent cannot be withdrawn."""
        if not waiting.is_sent and waiting in self._waiting:
            self._waiting.remove(waiting)
            self._release(waiting)

    async def _all_given(self) -> None:
        """Wait until everything given before now is appended or refused; raise the error of append_nowait, once."""
        if self._waiting or self._under_way:
            marker = PendingAppend.awaited(())
            self._enqueue(marker)
            try:
                await marker.wait()
            finally:
                self._withdraw(marker)
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    @asynccontextmanager
    async def _in_time(
        self, waiting: PendingAppend | None = None, timeout_s: float | None = None
    ) -> AsyncIterator[None]:
        limit_s = self._limits.timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError:
            sure = "" if waiting is None or waiting.is_sent else "; nothing was appended"
            raise LogUnavailable(f"Redis has not replied within {limit_s:g} s{sure}") from self._delivery.outage.error

    # -- sending

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(0.0, next_at - loop.time()))
            self._under_way = self._take()
            if not self._under_way:
                self._wake.clear()
                continue
            next_at = loop.time() + self._limits.pace_s
            await self._deliver_joined(self._without_holes(self._under_way))
            self._under_way = []

    def _take(self) -> list[PendingAppend]:
        batch: list[PendingAppend] = []
        events = size = 0
        while self._waiting:
            events, size = events + len(self._waiting[0].raws), size + self._waiting[0].size
            if batch and (events > self._limits.batch_events or size > self._limits.batch_bytes):
                break
            batch.append(self._waiting.popleft())
        return batch

    def _without_holes(self, batch: Sequence[PendingAppend]) -> list[PendingAppend]:
        """The batch without the events that rule 5 refuses."""
        if self._error is None:
            return list(batch)
        for waiting in batch:
            if waiting.result is None:
                self._refuse(waiting, self._error)
        return [waiting for waiting in batch if waiting.result is not None]

    async def _deliver_joined(self, batch: Sequence[PendingAppend]) -> None:
        error = await self._deliver(batch)
        if isinstance(error, StreamFull | EventTooLarge) and len(batch) > 1:
            for waiting in batch:
                for alone in self._without_holes([waiting]):
                    await self._deliver_joined([alone])
        elif error is not None:
            for waiting in batch:
                self._refuse(waiting, error)

    async def _deliver(self, batch: Sequence[PendingAppend]) -> Exception | None:
        """Append these in one call and resolve them; an error is returned, and not yet given to the callers."""
        raws = [raw for waiting in batch for raw in waiting.raws]
        if raws and self._over is not None:
            return StreamClosed(self._over)
        for waiting in batch:
            waiting.is_sent = True
        try:
            ids = await self._delivery.append(raws, is_wanted=lambda: is_wanted(batch)) if raws else []
        except Exception as error:
            if isinstance(error, StreamClosed):
                self._over = error.detail
            return error
        self._appended += len(ids)
        rest = iter(ids)
        for waiting in batch:
            self._release(waiting)
            waiting.resolve([next(rest) for _ in waiting.raws])
        return None

    def _refuse(self, waiting: PendingAppend, error: Exception) -> None:
        self._release(waiting)
        if waiting.result is None:
            self._error = self._error or error
            self._dropped += len(waiting.raws)
        else:
            # A flush raises the earlier refusals itself, through ``_error``.
            waiting.resolve(error if waiting.raws else [])

    def _release(self, waiting: PendingAppend) -> None:
        self._events -= len(waiting.raws)
        self._bytes -= waiting.size
        waiting.is_done = True


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("feed_writer_failed", exc_info=error)
