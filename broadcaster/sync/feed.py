"""A feed for a thread of the program: calls return at once, a thread of ours sends the events to Redis.

Rules
1. ``send``, ``progress`` and ``append`` never wait. ``flush``, ``close`` and the block's end wait for Redis, each
   at most the publisher's ``timeout_s``.
2. The block's end is the feed's: without an exception ``finish``; by an exception ``error`` (``publisher_failed``,
   without the exception's text, which viewers must not see); by KeyboardInterrupt, SystemExit and other exceptions that
   are not an Exception ``abort``. With ``close=False`` the feed stays open: another writer ends it.
3. An error of the feed (closed, full, another's id) is raised by the next call, or at the block's end. When the block
   is left by an exception, that one is raised and the feed's is logged.
4. While Redis is unavailable, events wait as long as there is room. Then, and for an end that cannot be sent in time,
   the publisher's ``on_full_buffer`` decides: "drop" logs it and lets the job continue, "raise" raises Busy or
   LogUnavailable. Waiting events are sent when Redis is back, as long as the process lives.
5. A forked child writes through a buffer and a connection of its own; it leaves a feed of its parent without ending it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from broadcaster.core.events import Abort, Error, Event, TerminalEvent
from broadcaster.core.requests.publishing import (
    MAX_EVENTS_PER_APPEND,
    PUBLISHER_FAILED,
    as_mapping,
    encode_end,
    encode_published,
)
from broadcaster.errors import EventTooLarge, InvalidInput
from broadcaster.observability.logs import get_logger
from broadcaster.sync.buffer import Buffer, Ending

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
    """What waits now, and how many events were dropped, refused or given up so far."""

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
        self.is_left = False  # whether it accepts no more events here
        self._left = left
        self._lock = threading.Lock()
        self._buffer: Buffer | None = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self._leave(None)
            return
        end = FAILED if isinstance(error, Exception) else Abort(reason="cancelled")
        try:
            self._leave(end)
        except Exception as failure:
            _log.warning("feed_failed_too", stream=self.id, error=str(failure))

    def send(self, name: str, data: Any) -> None:
        """Append ``{"type": "data-<name>", "data": data}``. Raises as ``append``."""
        self.append({"type": f"data-{name}", "data": data})

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Append a ``data-progress``, which the console and the command line draw as a bar. Raises as ``append``."""
        fields = {"done": done, "total": total, "message": message}
        self.send("progress", {name: value for name, value in fields.items() if value is not None})

    def append(self, *events: Mapping[str, Any] | Event) -> None:
        """Append these (at most 999), all or none; returns at once.

        Raises InvalidEvent, EventTooLarge; StreamClosed after the feed's end; what an earlier event was refused with;
        Busy when too much waits and the publisher does not drop.
        """
        raws = [encode_published(as_mapping(event)) for event in events]
        if len(raws) >= MAX_EVENTS_PER_APPEND:
            raise InvalidInput(f"one append has at most {MAX_EVENTS_PER_APPEND - 1} events")
        for raw in raws:
            if len(raw) > self._limits.max_event_bytes:
                raise EventTooLarge(
                    f"the event has {len(raw)} bytes; one event has at most {self._limits.max_event_bytes}"
                )
        if raws and self._open().put(raws, drops=self._limits.drops):
            _log.warning("feed_events_dropped", stream=self.id, buffered_events=self.statistics().buffered_events)

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
        self._leave(end, closes=True)

    def statistics(self) -> FeedStatistics:
        """What waits now, and what was lost so far, in this process."""
        buffer = self._buffer
        return FeedStatistics(0, 0, 0) if buffer is None else FeedStatistics(*buffer.waiting, buffer.dropped)

    # -- for the publisher

    def begin_to_leave(self, end: TerminalEvent | Mapping[str, Any] | None, *, closes: bool) -> Buffer | None:
        """Accept no more events and end the feed; returns the buffer to wait for, None when it was left before."""
        with self._lock:
            was_left, self.is_left = self.is_left, True
        if was_left:
            return None
        buffer = self._open()
        buffer.finish(Ending(as_mapping(end or {}) if closes else None))
        self._left(self)
        return buffer

    def begin_anew(self) -> None:
        """In a forked child: what the parent has opened is the parent's to end (rule 5)."""
        self._lock = threading.Lock()
        if self._buffer is not None:
            self._buffer = None
            self.closes = False

    def _open(self) -> Buffer:
        with self._lock:
            if self._buffer is None:
                self._buffer = self._carry()
            return self._buffer

    def _leave(self, end: TerminalEvent | Mapping[str, Any] | None, *, closes: bool | None = None) -> None:
        deadline = time.monotonic() + self._limits.timeout_s
        buffer = self.begin_to_leave(end, closes=self.closes if closes is None else closes)
        if buffer is None:
            return
        is_in_time = buffer.wait_ended(deadline)
        buffer.raise_error()
        if is_in_time:
            return
        if not self._limits.drops:
            raise buffer.log_unavailable(_STILL_SENDING.format(self._limits.timeout_s))
        _log.warning("feed_end_waits", stream=self.id, buffered_events=self.statistics().buffered_events)
