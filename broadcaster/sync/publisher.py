"""``sync.Publisher``: feeds for programs without an event loop.

    publisher = sync.Publisher.from_url("redis://localhost:6379")        # once in a program, at import if you like

    with publisher.feed("job-42") as feed:                               # in the job
        feed.progress(3, 10, "rendering")

Rules
1. Nothing is opened before the first event; then one thread of this process sends the events of all its publishers.
   A forked child (Celery's prefork, multiprocessing) starts with a thread and connections of its own. Redis's client
   and the settings are imported when a publisher is made, and not with this module.
2. No call waits longer than ``timeout_s`` in all, whatever state Redis is in; nor does the end of the process.
3. At ``close``, and at the end of the process, feeds that are still open are flushed and end with ``abort`` (reason
   ``publisher_closed``): no block has declared them complete. A killed process ends nothing: viewers learn of it by
   the lease (``error``, ``writer_lost``). A child of ``multiprocessing`` runs no exit handlers: leave its blocks.
4. A feed that was left while Redis was unavailable is waited for like an open one, and ends as its block ended. Events
   not appended within the time limit are lost, and logged as ``feed_events_lost``.
5. A signal handler may call it inside another call of the main thread, and may raise there (`feed`, rule 6). A
   ``close`` that was left so is continued by the next one. The loop's thread waits for no lock of this module: a
   handler that waits for the loop may have interrupted the call that holds it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Final, Literal, Self, Unpack

from broadcaster.core.access.api_keys import check_tenant
from broadcaster.core.events import Abort
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import StreamClosed
from broadcaster.observability.logs import get_logger
from broadcaster.sync.buffer import Buffer
from broadcaster.sync.feed import Feed, FeedLimits

if TYPE_CHECKING:
    from broadcaster.core.requests.options import FeedOptions
    from broadcaster.log.feeds.feeds import FeedConfig
    from broadcaster.settings import Settings
    from broadcaster.settings.options import PublisherSettingOptions
    from broadcaster.sync.session import PublisherSession

TIMEOUT_S: Final = 2.0
BUFFER_EVENTS: Final = 10_000
BUFFER_BYTES: Final = 8 * 2**20
PUBLISHER_CLOSED: Final = Abort(reason="publisher_closed")

_log = get_logger(__name__)


class Publisher:
    """For any number of threads and feeds; see the rules above. Errors are those of `broadcaster.errors`."""

    def __init__(
        self,
        settings: Settings,
        *,
        tenant: str = LOCAL_TENANT,
        timeout_s: float = TIMEOUT_S,
        on_full_buffer: Literal["drop", "raise"] = "drop",
        buffer_events: int = BUFFER_EVENTS,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        """Opens nothing. ``buffer_events`` and ``buffer_bytes`` bound what waits for Redis, feed by feed.

        Raises SetupError when the URL of Redis or its certificates cannot be read.
        """
        self._loop_side: ModuleType = import_module("broadcaster.sync.session")
        self._loop_side.check_url(settings)
        self._settings = settings
        self._tenant = check_tenant(tenant)
        self._limits = FeedLimits(
            timeout_s=timeout_s,
            drops=on_full_buffer == "drop",
            buffer_events=buffer_events,
            buffer_bytes=buffer_bytes,
            max_event_bytes=settings.max_event_bytes,
        )
        self._lock = threading.RLock()
        self._session: PublisherSession | None = None
        self._of_parents: list[PublisherSession] = []
        self._made: weakref.WeakSet[Feed] = weakref.WeakSet()
        self._carried: dict[Feed, Buffer] = {}  # until a feed is left and has ended
        self._is_closed = False
        _process.known.add(self)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        tenant: str = LOCAL_TENANT,
        timeout_s: float = TIMEOUT_S,
        on_full_buffer: Literal["drop", "raise"] = "drop",
        buffer_events: int = BUFFER_EVENTS,
        buffer_bytes: int = BUFFER_BYTES,
        **settings: Unpack[PublisherSettingOptions],
    ) -> Self:
        """Over the Redis at ``redis://``, ``rediss://`` or ``unix://``. Opens nothing.

        Other settings come from the environment (``BROADCASTER_*``, as a server's do) or, first, from keywords.
        Raises TypeError for a keyword that is no setting, SetupError for a value that it cannot have.
        """
        return cls(
            import_module("broadcaster.settings").read_settings(url, settings),
            tenant=tenant,
            timeout_s=timeout_s,
            on_full_buffer=on_full_buffer,
            buffer_events=buffer_events,
            buffer_bytes=buffer_bytes,
        )

    def feed(self, id: str, *, close: bool = True, **options: Unpack[FeedOptions]) -> Feed:
        """The feed of this id, created at its first event or at the beginning of its block. Waits for nothing.

        ``close``: whether its block's end ends it. ``lease_s``: after so many seconds without a renewal it
        ends with ``error`` (``writer_lost``); None: never. The rest as with ``PUT /v1/streams/{id}``: None is the
        default of the settings. Raises InvalidInput, WebhookNotAllowed, TypeError for an unknown option; StreamClosed
        after ``close``.
        """
        config: FeedConfig = self._loop_side.feed_config(options, self._settings)
        if self._is_closed:
            raise StreamClosed("this publisher was closed")
        feed = Feed(
            id,
            carry=lambda: self._carry(feed, config),
            limits=self._limits,
            closes=close,
            left=self._forget,
        )
        self._made.add(feed)
        return feed

    def close(self) -> None:
        """End every open feed (rule 3) and the connections, within ``timeout_s``. Idempotent.

        Raises the first error of a feed that was not raised before; LogUnavailable when events were left and the
        publisher does not drop.
        """
        deadline = time.monotonic() + self._limits.timeout_s
        self.end_in_time(self.begin_to_end(), deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            _log.warning("publisher_failed_too", error=str(failure))

    def begin_to_end(self) -> Sequence[tuple[Feed, Buffer]]:
        """End every open feed; returns what to wait for, feeds that were left before included."""
        with self._lock:
            self._is_closed = True
            carried = tuple(self._carried.copy().items())
        for feed, _ in carried:
            feed.begin_to_leave(PUBLISHER_CLOSED, closes=feed.closes)
        return carried

    def end_in_time(self, leaving: Iterable[tuple[Feed, Buffer]], deadline: float) -> None:
        """Wait for them until ``deadline`` (monotonic), then end the connections. Raises as ``close``."""
        failures: list[Exception] = []
        for feed, buffer in leaving:
            is_in_time = buffer.wait_ended(deadline)
            try:
                buffer.raise_error()
            except Exception as error:
                failures.append(error)
            if not is_in_time:
                _log.warning("feed_events_lost", stream=feed.id, events=buffer.waiting[0])
                if not self._limits.drops:
                    failures.append(buffer.log_unavailable("Redis has not replied in time: events are lost"))
        session = self._session
        if session is not None:
            session.close(deadline)
        self._session = None
        self._carried.clear()
        _process.opened.discard(self)
        if failures:
            raise failures[0]

    def begin_anew(self) -> None:
        """In a forked child: nothing of the parent's is used, or closed."""
        self._lock = threading.RLock()
        if self._session is not None:
            self._of_parents.append(self._session)
            self._session = None
        for feed in self._made:
            feed.begin_anew()
        self._carried = {}

    @property
    def timeout_s(self) -> float:
        """The longest that a call waits."""
        return self._limits.timeout_s

    def _forget(self, feed: Feed) -> None:
        """Called when it is left and when it has ended, on any thread; the last call removes it."""
        buffer = self._carried.get(feed)
        if buffer is not None and buffer.has_ended and feed.is_left:
            self._carried.pop(feed, None)

    def _carry(self, feed: Feed, config: FeedConfig) -> Buffer:
        """The buffer of the feed. A signal handler may come in between: what it has made is not made again."""
        with self._lock:
            buffer = self._carried.get(feed)
            if buffer is None:
                made = self._opened_session().carry(
                    feed.id,
                    config,
                    max_events=self._limits.buffer_events,
                    max_bytes=self._limits.buffer_bytes,
                    ended=lambda: self._forget(feed),
                )
                if self._is_closed:  # checked last: nothing is called before the buffer is carried
                    raise StreamClosed("this publisher was closed")
                buffer = self._carried.setdefault(feed, made)
            return buffer

    def _opened_session(self) -> PublisherSession:
        if self._is_closed:
            raise StreamClosed("this publisher was closed")
        if self._session is not None and not self._session.serves(self._settings):
            self._session.close(time.monotonic())  # of the test before
            self._session = None
        if self._session is None:
            made = self._loop_side.PublisherSession(self._settings, tenant=self._tenant)
            _process.opened.add(self)
            if self._session is None:
                self._session = made
        return self._session


class _ProcessPublishers:
    """The publishers of this process: a fork resets them, and the end of the process ends their feeds."""

    def __init__(self) -> None:
        self.known: weakref.WeakSet[Publisher] = weakref.WeakSet()
        self.opened: set[Publisher] = set()

    def begin_anew(self) -> None:
        for publisher in self.known:
            publisher.begin_anew()
        self.opened.clear()

    def end(self) -> None:
        """All at once, so that the process waits for one time limit and not for their sum."""
        ending = [(publisher, publisher.begin_to_end()) for publisher in tuple(self.opened)]
        deadline = time.monotonic() + max((publisher.timeout_s for publisher, _ in ending), default=0.0)
        for publisher, leaving in ending:
            try:
                publisher.end_in_time(leaving, deadline)
            except Exception as error:
                _log.warning("feed_failed_untold", error=str(error))


_process = _ProcessPublishers()
os.register_at_fork(after_in_child=_process.begin_anew)
atexit.register(_process.end)
