"""A feed for a thread of the program: calls return at once, a thread of ours sends the events to Redis.

Rules
1. ``text``, ``data``, ``progress`` and the like never wait. ``flush``, ``close`` and the block's end wait for Redis,
   each at most the publisher's ``timeout_s``.
2. The block's end is the feed's: without an exception ``finish``; by an exception ``error`` (``publisher_failed``,
   without the exception's text, which viewers must not see); by KeyboardInterrupt, SystemExit and other exceptions that
   are not an Exception ``abort``. With ``close=False`` the feed stays open: another writer ends it. An open part of
   ``text`` or ``reasoning`` is closed before the end, but not after an exception: it was never completed.
3. An error of the feed (closed, full, another's id) is raised by the next call, or at the block's end. When the block
   is left by an exception, that one is raised and the feed's is logged.
4. While Redis is unavailable, events wait as long as there is room. Then, and for an end that cannot be sent in time,
   the publisher's ``on_full_buffer`` decides: "drop" logs it and lets the job continue, "raise" raises Busy or
   LogUnavailable. Waiting events are sent when Redis is back, as long as the process lives.
5. A forked child writes through a buffer and a connection of its own; it leaves a feed of its parent without ending it.
6. A signal handler may call the feed inside another call of the main thread, and may raise there. Its events come as a
   whole before or after those of that call. An event whose call was left by an exception is in the stream, or is not;
   the feed goes on. A ``close`` that was left so before the end was given is repeated by the next one, or by the
   block's end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn, Self

from broadcaster.core.events import Abort, Error, Event, TerminalEvent
from broadcaster.core.requests.publishing import (
    MAX_EVENTS_PER_APPEND,
    PUBLISHER_FAILED,
    as_mapping,
    encode_end,
    encode_published,
)
from broadcaster.errors import EventTooLarge, InvalidInput
from broadcaster.library.parts import Parts, Plan, Written
from broadcaster.observability.logs import get_logger
from broadcaster.sync.buffer import Buffer, Ending, Put

# A ``data-dropped`` may come before them in the same append.
MOST_APPENDED: Final = MAX_EVENTS_PER_APPEND - 1
FAILED: TerminalEvent = Error(error_text="the publisher of this stream failed", code=PUBLISHER_FAILED)

_STILL_SENDING: Final = "Redis has not replied within {:g} s; the events are still being sent"
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLimits:
    """What a feed may hold and wait for, in seconds, events and bytes."""

    timeout_s: float
    drops: bool
    buffer_events: int
    buffer_bytes: int
    max_event_bytes: int


class FeedStatistics(NamedTuple):
    """What waits now, and how many events were dropped, refused, given up or lost by Redis so far."""

    buffered_events: int
    buffered_bytes: int
    dropped: int


class Feed:
    """Made by ``Publisher.feed``, for any number of threads; see the rules above."""

    def __init__(
        self,
        stream_id: str,
        *,
        carry: Callable[[], Buffer],
        limits: FeedLimits,
        closes: bool,
        left: Callable[[Feed], None],
    ) -> None:
        self.id = stream_id
        self._carry = carry
        self._limits = limits
        self.closes = closes  # whether leaving it ends it
        self._left = left
        self._buffer: Buffer | None = None
        self._parts = Parts()
        self._appending = threading.RLock()  # over the order of what threads put: none plans in vain
        self._was_left = False  # by the parent of this process
        self._is_end_awaited = False

    @property
    def is_left(self) -> bool:
        """Whether it accepts no more events here."""
        return self._was_left or (self._buffer is not None and self._buffer.ending is not None)

    def __enter__(self) -> Self:
        self._open().wake()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self._leave(None if error is None else _end_after(error), is_whole=error is None)
        except BaseException as failure:
            if self._buffer is not None:  # a signal handler may have raised it before the end was given
                self.begin_to_leave(_end_after(error or failure), closes=self.closes)
            if error is None or not isinstance(failure, Exception):
                raise
            _log.warning("feed_failed_too", stream=self.id, error=str(failure))

    def text(self, piece: str) -> None:
        """Append a piece of text. Its part opens and closes by itself. Raises as ``append``, TypeError for no str."""
        self._put(lambda written, lost: self._parts.plan_piece("text", piece, written=written, lost=lost))

    def reasoning(self, piece: str) -> None:
        """Append a piece of reasoning, as ``text`` does."""
        self._put(lambda written, lost: self._parts.plan_piece("reasoning", piece, written=written, lost=lost))

    def data(self, name: str, value: Any) -> None:
        """Append ``{"type": "data-<name>", "data": value}``. Raises as ``append``."""
        self.append({"type": f"data-{name}", "data": value})

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Append a ``data-progress``, which the console and the command line draw as a bar. Raises as ``append``."""
        fields = {"done": done, "total": total, "message": message}
        self.data("progress", {name: value for name, value in fields.items() if value is not None})

    def send(self, *_: object) -> NoReturn:
        """The former name of ``data``. Raises TypeError."""
        raise TypeError("feed.send(name, value) is feed.data(name, value) now")

    def append(self, *events: Mapping[str, Any] | Event) -> None:
        """Append these (at most 999), all or none; returns at once. Closes the open part of ``text`` first.

        Raises InvalidEvent, EventTooLarge; StreamClosed after the feed's end; what an earlier event was refused with;
        Busy when too much waits and the publisher does not drop.
        """
        if len(events) > MOST_APPENDED:
            raise InvalidInput(f"one append has at most {MOST_APPENDED} events")
        if events:
            self._put(lambda written, lost: self._parts.plan_events(*events, written=written, lost=lost))

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all events are in the log, at most ``timeout_s`` (None: the publisher's).

        Raises what an event was refused with, or LogUnavailable: the events are still being sent.
        """
        if self._buffer is None:
            return
        limit_s = self._limits.timeout_s if timeout_s is None else timeout_s
        is_in_time = self._buffer.wait_processed(time.monotonic() + limit_s)
        self._buffer.raise_error()
        if not is_in_time:
            raise self._buffer.log_unavailable(_STILL_SENDING.format(limit_s))

    def close(self, end: Mapping[str, Any] | TerminalEvent | None = None) -> None:
        """End the feed now, with this event (None: ``finish``); the end of its block does nothing more.

        Raises InvalidEvent, what an event was refused with, StreamClosed when it has ended otherwise; LogUnavailable
        after ``timeout_s`` when the publisher does not drop.
        """
        encode_end({} if end is None else as_mapping(end))
        self._leave(end, closes=True, is_whole=True)

    def statistics(self) -> FeedStatistics:
        """What waits now, and what was lost so far, in this process."""
        buffer = self._buffer
        return FeedStatistics(0, 0, 0) if buffer is None else FeedStatistics(*buffer.waiting, buffer.dropped)

    # -- for the publisher

    def begin_to_leave(
        self, end: TerminalEvent | Mapping[str, Any] | None, *, closes: bool, is_whole: bool = False
    ) -> Buffer | None:
        """Accept no more events and end the feed, unless that was done; returns the buffer to wait for.

        None: the parent of this process has left it. ``is_whole``: the open part ends, too.
        """
        if self._was_left:
            return None
        buffer, ending = self._open(), Ending(as_mapping(end or {}) if closes else None)
        with self._appending:
            while buffer.ending is None:
                written = buffer.written
                last, then = self._parts.plan_events(written=written, lost=buffer.dropped)
                raws = [encode_published(as_mapping(event)) for event in last] if is_whole else ()
                buffer.finish(ending, last=raws, after=written, then=then)
        self._left(self)
        return buffer

    def begin_anew(self) -> None:
        """In a forked child: what the parent has opened is the parent's to end (rule 5)."""
        self._was_left = self.is_left
        self._appending = threading.RLock()
        self._parts = Parts()
        if self._buffer is not None:
            self._buffer = None
            self.closes = False

    def _open(self) -> Buffer:
        if self._buffer is None:
            self._buffer = self._carry()
        return self._buffer

    def _put(self, plan: Callable[[Written, int], Plan]) -> None:
        """Put what is planned after what is written, and after so many lost events."""
        buffer, limits = self._open(), self._limits
        with self._appending:
            put = Put.OVERTAKEN
            while put is Put.OVERTAKEN:
                written = buffer.written
                events, then = plan(written, buffer.dropped)
                if not events:
                    return
                raws = [encode_published(as_mapping(event)) for event in events]
                for raw in raws:
                    if len(raw) > limits.max_event_bytes:
                        raise EventTooLarge(
                            f"the event has {len(raw)} bytes; one event has at most {limits.max_event_bytes}"
                        )
                put = buffer.put(raws, drops=limits.drops, after=written, then=then)
        if put is Put.FIRST_DROPPED:
            _log.warning("feed_events_dropped", stream=self.id, buffered_events=self.statistics().buffered_events)

    def _leave(
        self,
        end: TerminalEvent | Mapping[str, Any] | None,
        *,
        closes: bool | None = None,
        is_whole: bool = False,
    ) -> None:
        deadline = time.monotonic() + self._limits.timeout_s
        buffer = self.begin_to_leave(end, closes=self.closes if closes is None else closes, is_whole=is_whole)
        if buffer is None or self._is_end_awaited:
            return
        is_in_time = buffer.wait_ended(deadline)
        self._is_end_awaited = True
        buffer.raise_error()
        if is_in_time:
            return
        if not self._limits.drops:
            raise buffer.log_unavailable(_STILL_SENDING.format(self._limits.timeout_s))
        _log.warning("feed_end_waits", stream=self.id, buffered_events=self.statistics().buffered_events)


def _end_after(error: BaseException) -> TerminalEvent:
    """The end of a feed whose block was left by this exception (rule 2)."""
    return FAILED if isinstance(error, Exception) else Abort(reason="cancelled")
