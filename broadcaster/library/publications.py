"""Publications: sources that this process reads into streams, from their creation to ``on_end``.

Rules
1. A publication has two tasks. One reads the source and writes the stream, or follows the stream that it has joined; a
   stop or the end of the Broadcaster cancels it, once. The other waits for it, folds the result and calls ``on_end``:
   no cancellation of the first one skips that. Its own end, in whatever way, gives every caller that waits an outcome.
2. The stream has one writer. A creation under an id that is taken, also by another publication with the same options,
   is decided by ``if_exists``: "fail" raises StreamExists, "replace" begins the stream anew, "join" closes the source
   unread and follows the stream that is there. Where that was deleted, "join" raises StreamExists, too.
3. Every WATCH_S the streams of all publications are checked in one round trip: a source whose stream was stopped,
   closed, deleted or replaced elsewhere is cancelled, also while it yields nothing. A publication that is writing its
   own end is left alone: a cancellation would replace its failure. A check that fails is followed by the next one.
4. A source that was cancelled has SOURCE_CLOSES_S to close. Then its stream is ended without it, and its task is left.
5. ``aclose`` also ends what ``on_end`` publishes meanwhile. From the end of the drain such a source is closed unread.
6. The result is folded from what the source has yielded, so it is known while Redis is away. Only an end that this
   process has not written is read from the log.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from broadcaster.client.errors import GaveUp
from broadcaster.core.events import Abort, Error, TerminalEvent, encode_event
from broadcaster.core.fold import Fold
from broadcaster.core.requests.publishing import as_mapping, encode_end
from broadcaster.errors import BroadcasterError, Busy, StreamClosed, StreamExists, UnknownStream
from broadcaster.library.feed import CANCELLED_S, OpenFeed, end_after_failure
from broadcaster.library.publishing import end_without_source, write_source
from broadcaster.library.results import OnEnd, StreamResult
from broadcaster.library.sources.opening import PublishedSource
from broadcaster.log.feeds.ends import FeedEnd
from broadcaster.observability.logs import get_logger
from broadcaster.process.tasks import end_tasks, in_daemon_thread

# A stop anywhere reaches the source within a second, with time for a slow reply.
WATCH_S: Final = 0.5
# How long a viewer's request waits for a stream that is about to be created.
VIEWER_WAITS_S: Final = 5
# The time that a published iterator has to close when it is cancelled; one that hangs is abandoned and logged.
SOURCE_CLOSES_S: Final = 3.0
# The time of ``on_end`` when the Broadcaster closes.
ON_END_S: Final = 10.0
# The longest time of ``aclose`` beyond its drain.
CLOSES_WITHIN_S: Final = SOURCE_CLOSES_S + CANCELLED_S + ON_END_S

_log = get_logger(__name__)


class StreamOperations(Protocol):
    """What a publication needs beside its feed."""

    async def read_end(self, stream_id: str, creation: str) -> FeedEnd | None: ...

    async def check_there(self, stream_id: str) -> None: ...

    async def follow(self, stream_id: str) -> StreamResult: ...

    async def stop_feed(self, stream_id: str) -> None: ...

    async def stop_creation(self, stream_id: str, creation: str) -> None: ...

    async def ended(self, feeds: Mapping[str, str]) -> set[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationPlan:
    """What to publish. ``create_feed`` raises InvalidInput for options that no feed has."""

    id: str
    source: PublishedSource
    create_feed: Callable[[], OpenFeed]
    joins: bool
    on_end: OnEnd | None
    is_awaited: bool  # its caller gets a failure, which is not logged then


class Publication:
    """A source on its way into a stream, made by ``publish_nowait``. It needs no reference to it to continue.

    ``id`` is the stream's, ``events_url`` the path of its events (below the prefix under which the router is mounted).
    """

    def __init__(self, plan: PublicationPlan, operations: StreamOperations) -> None:
        self.id = plan.id
        self.is_joined = False
        self._plan = plan
        self._operations = operations
        self._fold = Fold()
        self._feed: OpenFeed | None = None
        self._has_begun = False
        loop = asyncio.get_running_loop()
        self._cancelled: asyncio.Future[None] = loop.create_future()
        self._claimed: asyncio.Future[None] = loop.create_future()
        self._outcome: asyncio.Future[StreamResult] = loop.create_future()
        self.writing = loop.create_task(self._write(), name=f"publish {self.id}")
        self.finishing = loop.create_task(self._finish(), name=f"finish {self.id}")
        self.finishing.add_done_callback(self._settle_unfinished)

    @property
    def events_url(self) -> str:
        """The path for a viewer; it waits a few seconds for the stream to be created."""
        return f"/v1/streams/{self.id}/events?wait_s={VIEWER_WAITS_S}"

    @property
    def creation(self) -> str | None:
        """The creation of the feed that it writes now (log/feeds/fenced.py); None when it writes none, or its end.

        None also from its cancellation on.
        """
        is_over = self.writing.done() or self._cancelled.done()
        is_writing = self._claimed.done() and not self.is_joined and not is_over
        return self._feed.creation if is_writing and self._feed is not None and not self._feed.is_ending else None

    async def created(self) -> None:
        """Wait until the id belongs to this publication (or, with "join", the stream was found).

        Await it before viewers get an id that was chosen, not made: only then do they see this source. Raises
        StreamExists, InvalidInput, WebhookNotAllowed, LogUnavailable.
        """
        await asyncio.shield(self._claimed)

    async def result(self) -> StreamResult:
        """Wait for the end, and for ``on_end``. A stream that was stopped, or ended elsewhere, has a result, too.

        Raises what the source raised, StreamExists, InvalidInput, InvalidEvent, StreamFull, LogUnavailable; GaveUp
        when the Broadcaster is closed before a joined stream has ended.
        """
        return await asyncio.shield(self._outcome)

    async def stop(self) -> None:
        """Cancel the source and end the stream with ``abort`` (``stopped``); idempotent. Raises LogUnavailable.

        Only the stream that it writes or has joined: when the id was taken, or another publication has replaced the
        stream, that one is left alone.
        """
        await self.cancel_source(reason="stopped")
        if self.is_joined:
            await self._operations.stop_feed(self.id)
        elif self._is_claimed and self._feed is not None and self._feed.end is None:
            await self._operations.stop_creation(self.id, self._feed.creation)

    async def cancel_source(self, *, reason: str) -> None:
        """Cancel the source, and wait at most CANCELLED_S for the end of the stream. A joined stream is left alone."""
        if self.is_joined:
            return
        self.cancel_nowait(reason=reason)
        await asyncio.wait({self.writing}, timeout=CANCELLED_S)

    def cancel_nowait(self, *, reason: str = "") -> None:
        """Cancel the first task, once: a second cancellation would interrupt the source as it closes."""
        if self._cancelled.done() or self.writing.done():
            return
        self._cancelled.set_result(None)
        if self._feed is not None:
            self._feed.stopped_for = reason
        self.writing.cancel()

    async def _write(self) -> StreamResult | None:
        """The result of a stream that was joined; None of one that was written here."""
        self._has_begun = True
        try:
            await write_source(self._create_feed, self._plan.source, fold=self._fold, opened=self._note_claimed)
            return None
        except StreamExists as taken:
            if not self._plan.joins:
                raise
            try:
                await self._operations.check_there(self.id)
            except UnknownStream:
                raise taken from None
        self.is_joined = True
        self._note_claimed()
        return await self._operations.follow(self.id)

    def _create_feed(self) -> OpenFeed:
        self._feed = self._plan.create_feed()
        return self._feed

    def _note_claimed(self) -> None:
        if not self._claimed.done():
            self._claimed.set_result(None)

    async def _finish(self) -> None:
        """Rule 1."""
        begins: set[asyncio.Future[Any]] = {self.writing, self._cancelled}
        await asyncio.wait(begins, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({self.writing}, timeout=SOURCE_CLOSES_S)
        if not self.writing.done():
            await self._abandon()
        elif not self._has_begun:  # cancelled before its first step
            await self._close_unread()
        result, error = await self._ended()
        self._log_failure(error)
        try:
            if self._claimed.done():
                await self._call_on_end(result)
        finally:
            self._settle(result, error)

    async def _abandon(self) -> None:
        """Rule 4."""
        _log.error("publish_not_ended", stream=self.id)
        if self._feed is not None and self._is_claimed and not self.is_joined:
            await end_without_source(self._feed, self._plan.source, fold=self._fold)

    async def _close_unread(self) -> None:
        try:
            async with asyncio.timeout(SOURCE_CLOSES_S):
                await self._plan.source.aclose()
        except Exception:
            _log.warning("published_iterator_not_closed", exc_info=True)

    async def _ended(self) -> tuple[StreamResult, BaseException | None]:
        """The result, and the error instead of which callers get it, if there is one."""
        is_over = self.writing.done() and not self.writing.cancelled()
        error = self.writing.exception() if is_over else None
        if not self.is_joined:
            return await self._folded(error), error
        if is_over and error is None and (followed := self.writing.result()) is not None:
            return followed, None
        unread = StreamResult.of(self.id, self._fold.state, cursor=None, is_whole=False)
        return unread, error or GaveUp("this Broadcaster was closed before the joined stream had ended", cursor=None)

    def _settle(self, result: StreamResult, error: BaseException | None) -> None:
        _fail(self._claimed, error or StreamClosed("the publication was stopped before it was created"))
        if error is None or self._was_ended_elsewhere(error):
            self._outcome.set_result(result)
        else:
            _fail(self._outcome, error)

    def _settle_unfinished(self, finishing: asyncio.Task[None]) -> None:
        """Called also when the task was cancelled before it began."""
        error = None if finishing.cancelled() else finishing.exception()
        for waiting in (self._claimed, self._outcome):
            _fail(waiting, error or StreamClosed("the Broadcaster was closed before this publication had ended"))

    @property
    def _is_claimed(self) -> bool:
        return self._claimed.done() and self._claimed.exception() is None

    def _was_ended_elsewhere(self, error: BaseException) -> bool:
        return isinstance(error, StreamClosed) and self._is_claimed

    async def _folded(self, error: BaseException | None) -> StreamResult:
        """Rule 6."""
        feed = self._feed
        cursor, end = (None, None) if feed is None else (feed.end, feed.end_event)
        raw = encode_end(as_mapping(end)) if end is not None else self._end_after(error)
        if cursor is None and feed is not None and self._claimed.done():
            found = await self._read_end(feed.creation)
            if found is not None:
                cursor, raw = found.cursor, found.event
        self._fold.apply(raw)
        return StreamResult.of(self.id, self._fold.state, cursor=cursor)

    def _end_after(self, error: BaseException | None) -> bytes:
        end: TerminalEvent = Abort(reason="cancelled")
        if isinstance(error, BroadcasterError) and not isinstance(error, StreamClosed):
            end = Error(error_text=error.detail, code=error.code)
        elif isinstance(error, Exception) and not isinstance(error, StreamClosed):
            end = end_after_failure(error)
        return encode_event(end)

    async def _read_end(self, creation: str) -> FeedEnd | None:
        try:
            async with asyncio.timeout(CANCELLED_S):
                return await self._operations.read_end(self.id, creation)
        except (BroadcasterError, TimeoutError) as error:
            _log.warning("publication_end_not_read", stream=self.id, error=type(error).__name__)
            return None

    async def _call_on_end(self, result: StreamResult) -> None:
        on_end = self._plan.on_end
        if on_end is None:
            return
        try:
            if inspect.iscoroutinefunction(on_end):
                await on_end(result)
            elif inspect.isawaitable(outcome := await _in_thread(on_end, result)):
                await outcome
        except Exception:
            _log.exception("on_end_failed", stream=self.id)
        except (SystemExit, KeyboardInterrupt):  # of a coroutine: it ends the program whose loop this is
            _log.exception("on_end_failed", stream=self.id)
            raise

    def _log_failure(self, error: BaseException | None) -> None:
        if error is None:
            return
        if self._was_ended_elsewhere(error):  # a stop, not a defect
            _log.warning("publish_stopped", stream=self.id)
        elif not self._plan.is_awaited:
            _log.error("publish_failed", stream=self.id, exc_info=error)


class Publications:
    """All publications of a Broadcaster; see the rules above."""

    def __init__(self, operations: StreamOperations) -> None:
        self._operations = operations
        self._running: set[Publication] = set()
        self._writing: set[asyncio.Task[StreamResult | None]] = set()  # referenced here, also those that were abandoned
        self._watching: asyncio.Task[None] | None = None
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._running)

    def start(self, plan: PublicationPlan) -> Publication:
        """Begin to publish, on the running loop."""
        publication = Publication(plan, self._operations)
        self._running.add(publication)
        publication.finishing.add_done_callback(lambda _: self._running.discard(publication))
        self._writing.add(publication.writing)
        publication.writing.add_done_callback(self._forget)
        if self._is_closing:
            publication.cancel_nowait()  # rule 5
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="watch publications")
        return publication

    def _forget(self, writing: asyncio.Task[StreamResult | None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # retrieved here, because nothing waits for a task that was abandoned

    async def stop_local(self, stream_id: str) -> None:
        """Cancel the sources of this process that write this stream."""
        found = [each.cancel_source(reason="stopped") for each in self._running if each.id == stream_id]
        await asyncio.gather(*found)

    async def aclose(self, *, drain_s: float) -> None:
        """Wait for all, then cancel their sources; ``on_end`` of each is called."""
        await self._wait_for_all(drain_s)
        self._is_closing = True
        try:
            late = tuple(self._running)
            for each in late:
                each.cancel_nowait()
            if late:
                await asyncio.wait({each.writing for each in late}, timeout=SOURCE_CLOSES_S + CANCELLED_S)
            await self._wait_for_all(ON_END_S)
            while self._running:
                for each in self._running:
                    if not each.finishing.done():
                        _log.error("on_end_not_finished", stream=each.id)
                await end_tasks(*(each.finishing for each in self._running))
                await asyncio.sleep(0)  # one that is done leaves ``_running`` in the loop's next turn
        finally:
            self._is_closing = False
        await end_tasks(self._watching)

    async def _wait_for_all(self, limit_s: float) -> None:
        """Also for those that begin meanwhile, within the same time."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + limit_s
        while self._running and (left_s := give_up_at - loop.time()) > 0:
            await asyncio.wait({each.finishing for each in self._running}, timeout=left_s)

    async def _watch(self) -> None:
        """Rule 3, for as long as there are publications."""
        is_failing = False
        while self._running:
            await asyncio.sleep(WATCH_S)
            try:
                await self._check()
            except Busy:
                continue  # Redis is away: the writers know
            except Exception as error:  # a defect, or a Redis that refuses us: the next check may succeed
                if not is_failing:
                    _log.error("publications_not_watched", exc_info=error)
                is_failing = True
            else:
                is_failing = False

    async def _check(self) -> None:
        writing = {each.creation: each for each in self._running if each.creation is not None}
        ended = await self._operations.ended({creation: each.id for creation, each in writing.items()})
        late = [writing[creation] for creation in ended if writing[creation].creation is not None]
        for each in late:
            each.cancel_nowait(reason="stopped")


def _in_thread(on_end: OnEnd, result: StreamResult) -> asyncio.Future[Any]:
    """Call it in a thread of its own: one that hangs takes no thread of the loop's executor from others."""
    return in_daemon_thread(partial(on_end, result), name=f"on_end {result.id}", on_end=lambda: None)


def _fail(waiting: asyncio.Future[Any], error: BaseException) -> None:
    """Set the error of a future that has no outcome yet. It is retrieved here: a caller may wait for another future."""
    if not waiting.done():
        waiting.set_exception(error)
        waiting.exception()
