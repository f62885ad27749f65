"""A feed that lives as long as its block: created at the beginning, ended as the block ends.

    async with broadcaster.feed("job-42") as feed:
        await feed.progress(1, 3, "rendering")
        await feed.text("The first frame is ready.")

Rules
1. The block's end is the feed's: without an exception ``finish``; by an exception ``error`` (``publisher_failed``,
   ``stream_full``; without the exception's text, which viewers must not see); by cancellation ``abort``. With
   ``close`` False the feed stays open: another writer ends it. A group whose errors are all one refusal of the feed
   (the writers are tasks of a TaskGroup) counts as that refusal.
2. Leaving without an exception raises the feed's error, if it has one. Leaving by an exception raises that exception;
   the feed's error is logged.
3. A task of its own, bounded in time, sends the end: some frameworks cancel at every ``await`` (anyio, and with it
   Starlette when a client leaves), and a writer that is not ended would renew its lease for ever.
4. While Redis does not respond, no feed can be ended: viewers learn of the lost writer when its lease has lapsed.
5. A block that is cancelled while it opens may have created its feed. The creation is not cancelled with the block: its
   result is awaited, bounded in time, and a feed that was created is ended by rule 1.
6. An open part of ``text`` or ``reasoning`` is closed before a feed ends in good order. An exception or a cancellation
   leaves it open: the part was never completed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NoReturn, Self

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Abort, Error, Event, Finish, TerminalEvent
from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND, PUBLISHER_FAILED, TORN, as_mapping
from broadcaster.errors import BroadcasterError, Busy, LogUnavailable, StreamClosed, StreamFull
from broadcaster.library.parts import Given, PartKind, Parts
from broadcaster.library.writer import FeedWriter, WriterLimits, WriterStatistics
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.feeds.fenced import FencedFeeds
from broadcaster.observability.logs import get_logger
from broadcaster.process.tasks import CallExited

# The time of a cancelled task: the caller that cancels waits for it.
CANCELLED_S: Final = 2.0

_log = get_logger(__name__)


class OpenFeed:
    """A feed and its writer. Made by ``Broadcaster.feed``; use it as an async context manager, once.

    When an ``await`` here returns, its events are in the log, in order. While Redis is unavailable a call waits for
    ``timeout_s``, then raises LogUnavailable. An append is repeated under one key, so that it is in the log once.
    """

    def __init__(
        self,
        stream_id: str,
        config: FeedConfig,
        *,
        tenant: str,
        open_feeds: Callable[[], Awaitable[Feeds]],
        closes: bool,
        limits: WriterLimits,
        registry: set[OpenFeed],
        replaces: bool = False,
    ) -> None:
        self.id = stream_id
        self.end: Cursor | None = None
        self.end_event: TerminalEvent | Mapping[str, Any] | None = None
        self.stopped_for = ""  # why its block is being cancelled, where that is known
        self.creation = config.digest()
        self._config = config
        self._tenant = tenant
        self._open_feeds = open_feeds
        self._closes = closes
        self._limits = limits
        self._registry = registry
        self._replaces = replaces
        self._writer: FeedWriter | None = None
        self._was_ended_from_outside = False
        self._ending: asyncio.Task[None] | None = None
        self._parts = Parts()
        self._dropped_before = 0

    async def __aenter__(self) -> Self:
        """Create the feed. Raises InvalidInput, StreamExists, LogUnavailable."""
        if self._writer is not None:
            raise RuntimeError("a feed's block runs once: create another feed object")
        feeds = FencedFeeds(await self._open_feeds(), self._config, replaces=self._replaces)
        self._writer = FeedWriter(feeds, self.id, tenant=self._tenant, limits=self._limits)
        opening = asyncio.create_task(self._writer.open(self._config))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError as error:
            self._registry.add(self)
            await self._end_by(self._leave_opening(opening, error))
            raise
        except BaseException:
            await self._writer.aclose()
            raise
        self._registry.add(self)
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        await self._end_by(self._leave(error))

    async def _end_by(self, leaving: Coroutine[Any, Any, None]) -> None:
        """Rule 3."""
        self._ending = asyncio.create_task(leaving)
        try:
            await asyncio.shield(self._ending)
        except asyncio.CancelledError:
            self._ending.add_done_callback(self._log_late_failure)
            raise

    @property
    def _here(self) -> FeedWriter:
        if self._writer is None:
            raise RuntimeError("a feed is written to inside its `async with` block")
        return self._writer

    @property
    def is_ending(self) -> bool:
        """Whether its end is being written, or is."""
        return self._ending is not None or self.end_event is not None

    async def append(self, *events: Mapping[str, Any] | Event) -> list[Cursor]:
        """Append all of these (at most 1000) or none; returns their cursors. Closes the open part of ``text`` first.

        Raises InvalidEvent, EventTooLarge, StreamFull, StreamClosed, LogUnavailable, or Busy when too much waits.
        """
        if not events:
            return []
        writer = self._here
        if len(events) == MAX_EVENTS_PER_APPEND:  # no room for the part's end in the same append
            with self._parts.events(lost=self._lost) as end:
                await writer.append(*end)
        with self._parts.events(*events, lost=self._lost) as given:
            return (await writer.append(*given))[len(given) - len(events) :]

    async def text(self, piece: str) -> None:
        """Append a piece of text. Its part opens and closes by itself. Raises as ``append``, TypeError for no str."""
        await self._append_piece("text", piece)

    async def reasoning(self, piece: str) -> None:
        """Append a piece of reasoning, as ``text`` does."""
        await self._append_piece("reasoning", piece)

    async def data(self, name: str, value: Any) -> Cursor:
        """Append ``{"type": "data-<name>", "data": value}``. Raises as ``append``."""
        (cursor,) = await self.append({"type": f"data-{name}", "data": value})
        return cursor

    async def progress(self, done: float, total: float | None = None, message: str | None = None) -> Cursor:
        """Append a ``data-progress``, which the console and the command line draw as a bar. Raises as ``append``."""
        fields = {"done": done, "total": total, "message": message}
        return await self.data("progress", {name: value for name, value in fields.items() if value is not None})

    async def send(self, *_: object) -> NoReturn:
        """The former name of ``data``. Raises TypeError."""
        raise TypeError("feed.send(name, value) is feed.data(name, value) now")

    def append_nowait(self, *events: Mapping[str, Any] | Event) -> None:
        """Append these soon; ``flush``, or the block's end, raises the error of a refusal.

        Raises InvalidEvent, StreamClosed, or Busy when the writer's buffer is full: ``flush`` first.
        """
        if not events:
            return
        writer = self._here
        if len(events) == MAX_EVENTS_PER_APPEND:
            with self._parts.events(lost=self._lost) as end:
                writer.append_nowait(*end)
        with self._parts.events(*events, lost=self._lost) as given:
            writer.append_nowait(*given)

    async def flush(self) -> None:
        """Wait until all events are in the log. Raises as ``append``."""
        await self._here.flush()

    async def put(self, piece: str | Mapping[str, Any] | Event) -> Sequence[bytes]:
        """As ``append_nowait``, and as fast as the log takes it: waits while the buffer is full. Raises as ``append``.

        A str is a piece of ``text``. What is put shares appends: use it for the many small pieces of an answer, where
        ``text`` and ``append`` would wait for Redis each time. A later call raises the error of a refusal. Returns the
        events as the log will store them.
        """
        if isinstance(piece, str):
            return await self._put(lambda: self._parts.piece("text", piece, lost=self._lost))
        return await self._put(lambda: self._parts.events(piece, lost=self._lost))

    async def end_part(self) -> Sequence[bytes]:
        """Put the end of the open part of ``text`` or ``reasoning``, as ``close`` does; returns it as it is stored."""
        return await self._put(lambda: self._parts.events(lost=self._lost))

    async def close(self, end: Mapping[str, Any] | TerminalEvent | None = None) -> Cursor:
        """End the feed now, with this event (None: ``finish``); the end of the block does nothing more.

        Raises InvalidEvent, StreamClosed when it has ended otherwise, or LogUnavailable.
        """
        await self.end_part()
        return await self._close(end)

    def statistics(self) -> WriterStatistics:
        """Events that wait to be appended, and counters of those appended so far."""
        return self._here.statistics()

    async def end_from_outside(self) -> None:
        """End it as a cancellation would, while its block still runs (there, StreamClosed follows).

        A block that is being left has a little time to send its end.
        """
        if self._ending is not None:
            await asyncio.wait({self._ending}, timeout=CANCELLED_S)
            self._ending.cancel()
            await self._here.aclose()
            return
        self._was_ended_from_outside = True
        await self._end_after(asyncio.CancelledError())
        await self._here.aclose()

    @property
    def _lost(self) -> int:
        counts = self._here.statistics()
        return counts.dropped + counts.lost

    async def _append_piece(self, kind: PartKind, piece: str) -> None:
        with self._parts.piece(kind, piece, lost=self._lost) as given:
            await self._here.append(*given)

    async def _put(self, taking: Callable[[], AbstractContextManager[Given]]) -> Sequence[bytes]:
        """Put what ``taking`` gives once there is room: other calls may open and close parts until then."""
        writer = self._here
        if self._lost > self._dropped_before:
            self._dropped_before = self._lost
            await writer.flush()
        while True:
            try:
                with taking() as given:
                    return writer.append_nowait(*given)
            except Busy:
                await writer.flush()

    async def _leave_opening(self, opening: asyncio.Task[bool], error: asyncio.CancelledError) -> None:
        """Rule 5."""
        try:
            await asyncio.wait({opening}, timeout=CANCELLED_S if self._closes else 0)
        finally:
            opening.cancel()
        (created,) = await asyncio.gather(opening, return_exceptions=True)
        if not isinstance(created, BaseException):
            await self._leave(error)
            return
        if self._closes and isinstance(created, asyncio.CancelledError):
            _log.warning("feed_end_not_told", stream=self.id, code=LogUnavailable.code)
        self._registry.discard(self)
        await self._here.aclose()

    async def _leave(self, error: BaseException | None) -> None:
        try:
            if self._was_ended_from_outside:
                if error is None:
                    raise StreamClosed("the Broadcaster was closed while this feed was open")
            elif error is not None:
                await self._end_after(_refusal_in(error))
            elif self.end is None:
                await self._end_in_good_order()
        finally:
            self._registry.discard(self)
            await self._here.aclose()

    def _log_late_failure(self, ending: asyncio.Task[None]) -> None:
        """Log the failure of an end whose caller no longer waits."""
        if not ending.cancelled() and (failure := ending.exception()) is not None:
            _log.warning("feed_end_not_told", stream=self.id, error=type(failure).__name__)

    async def _end_in_good_order(self) -> None:
        try:
            await self.end_part()
            await self._end()
        except (LogUnavailable, StreamClosed):
            raise
        except BroadcasterError as refusal:  # of an earlier event: the feed is not complete
            await self._end_after(refusal)
            raise

    async def _end(self, end: TerminalEvent | None = None) -> None:
        if self._closes:
            await self._close(end)
        else:
            await self._here.flush()

    async def _close(self, end: Mapping[str, Any] | TerminalEvent | None) -> Cursor:
        self.end_event = Finish() if end is None else end
        self.end = await self._here.close(end)
        if self._here.has_lost and as_mapping(self.end_event).get("type", "finish") == "finish":
            self.end_event = TORN
        return self.end

    async def _end_after(self, error: BaseException) -> None:
        """End the feed as ``error`` ends its block. Raises only at a second cancellation."""
        if self.end is not None or isinstance(error, StreamClosed):
            return
        limit_s = self._limits.timeout_s if isinstance(error, Exception) else CANCELLED_S
        try:
            async with asyncio.timeout(limit_s):
                await self._flush_before(error)
                await self._end(self._end_for(error))
        except (BroadcasterError, TimeoutError) as failure:
            _log.warning("feed_end_not_told", stream=self.id, code=getattr(failure, "code", LogUnavailable.code))

    async def _flush_before(self, error: BaseException) -> None:
        """Log why an earlier event was refused: that refusal does not prevent the end."""
        try:
            await self._here.flush()
        except LogUnavailable:
            raise
        except BroadcasterError as refusal:
            if refusal is not error:
                _log.warning("feed_events_lost", stream=self.id, code=refusal.code)

    def _end_for(self, error: BaseException) -> TerminalEvent:
        if isinstance(error, Exception):
            return end_after_failure(error)
        return Abort(reason=self.stopped_for or "cancelled")


def _refusal_in(error: BaseException) -> BaseException:
    """The refusal of the feed that all errors of a group are; otherwise the error itself."""
    first = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    is_common = isinstance(first, StreamFull | StreamClosed) and (
        not isinstance(error, BaseExceptionGroup) or error.split(type(first))[1] is None
    )
    return first if is_common else error


def end_after_failure(error: Exception) -> TerminalEvent:
    """The end of a feed whose block fails with this error."""
    if isinstance(error, CallExited):
        return Abort(reason="cancelled")
    if isinstance(error, StreamFull):
        return Error(error_text="the stream holds all that it may", code=StreamFull.code)
    return Error(error_text="the publisher of this stream failed", code=PUBLISHER_FAILED)
