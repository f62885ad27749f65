"""A feed's events between the program's threads and the log: the queue to the loop's thread.

Rules
1. It is bounded in events and bytes, events under way included. Beyond the bounds the newest events are refused or
   dropped. Consecutive dropped events are counted, and become one ``data-dropped`` in their place.
2. The loop is woken once for all events put until it takes them: a call is a lock and an append to a list. A wait wakes
   it, too.
3. An error of the feed is raised to one caller, the next one; the events it lost count as dropped. An error after which
   nothing can be appended is raised to every caller.
4. Every wait here has a deadline.
5. A signal handler may run, and raise, at any call that the main thread makes, and it may call this buffer. So the
   program's threads call nothing between a check under the lock and the change that it allows: each change happens as a
   whole, or not at all. ``+=`` on a deque is one step without a call. An exception after it wakes the loop, too.
6. ``written`` is what the next append depends on. What was planned after an older one is not taken: a signal handler
   has overtaken it.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, NoReturn

from broadcaster.core.requests.publishing import encode_dropped
from broadcaster.errors import Busy, LogUnavailable, StreamClosed
from broadcaster.library.parts import Written
from broadcaster.process.thread_event import Waiters


class Given(NamedTuple):
    """One event to append; a ``data-dropped`` (``own`` 0) stands for all ``events`` that it counts."""

    raw: bytes
    own: int = 1
    events: int = 1

    @classmethod
    def dropped(cls, events: int) -> Given:
        """The event that reports so many dropped events."""
        return cls(encode_dropped(events), 0, events)

    @property
    def size(self) -> int:
        """The bytes that it takes of the buffer."""
        return len(self.raw) if self.own else 0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a feed is left: ended with this event, or (None) only left, for other writers to go on."""

    end: Mapping[str, Any] | None


class Put(Enum):
    """What became of the events of one ``put``."""

    TAKEN = "taken"
    DROPPED = "dropped"
    FIRST_DROPPED = "the first to be dropped since nothing waited"
    OVERTAKEN = "not taken: planned after what is no longer the last"


class Buffer:
    """Between the threads that put and the loop that takes; see the rules above."""

    def __init__(
        self,
        *,
        max_events: int,
        max_bytes: int,
        wake: Callable[[], None],
        outage: Callable[[], Exception | None] = lambda: None,
    ) -> None:
        """``wake`` wakes the loop; ``outage`` returns why the log is unavailable now, for errors that report it."""
        self.dropped = 0  # events that are not in the log, as far as is known
        self.ending: Ending | None = None
        self.has_ended = False  # it is left, and ended if it was to
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._wake = wake
        self._outage = outage
        self.written = Written()  # rule 6
        self._lock = threading.RLock()
        self._waiters = Waiters()
        self._waiting: deque[Given] = deque()
        self._bytes = 0  # waiting or under way
        self._given = 0  # ever put here
        self._processed = 0  # of them, those in the log or refused
        self._is_awake = False
        self._is_dropping = False
        self._error: Exception | None = None
        self._over: Exception | None = None
        self._is_over_raised = False

    @property
    def waiting(self) -> tuple[int, int]:
        """Events and bytes that wait or are under way."""
        return self._given - self._processed, self._bytes

    # -- the program's threads

    def put(
        self, raws: Sequence[bytes], *, drops: bool, after: Written | None = None, then: Written | None = None
    ) -> Put:
        """Take all of these or none. ``after``: what was written when they were planned; ``then``: what is with them.

        Raises the feed's error, StreamClosed, or Busy when full and not to drop.
        """
        given, size, count = [*map(Given, raws)], sum(map(len, raws)), len(raws)
        is_put = False
        try:
            with self._lock:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                is_open = self._over is None and self.ending is None
                is_next = after is None or self.written is after
                waiting = self._given - self._processed
                # One that alone is more than the bound has room when nothing else waits.
                fits = waiting + count <= self._max_events and self._bytes + size <= self._max_bytes
                if is_open and is_next and (fits or not waiting):
                    is_put = True
                    self.written = then or self.written
                    self._given += count
                    self._bytes += size
                    self._waiting += given
            if is_put:
                self._wake_once()
        except BaseException:
            if is_put:
                self._is_awake = False
                self._wake()
            raise
        if is_put:
            return Put.TAKEN
        if not is_open:
            self._raise_closed()
        if not is_next:
            return Put.OVERTAKEN
        if not drops:
            raise Busy(f"the feed's buffer is full: {waiting} events wait")
        return self._drop(count, then=then)

    def finish(
        self,
        ending: Ending,
        *,
        last: Sequence[bytes] = (),
        after: Written | None = None,
        then: Written | None = None,
    ) -> bool:
        """After these last events no others are put; False: they were overtaken, as with ``put``.

        The first ending counts; after an error the feed is not whole.
        """
        given, size, count = [*map(Given, last)], sum(map(len, last)), len(last)
        is_left = False
        try:
            with self._lock:
                is_whole = self.ending is None and self._error is None and self._over is None
                if not is_whole or after is None or self.written is after:
                    is_left = True
                    if is_whole:
                        self.written = then or self.written
                        self._given += count
                        self._bytes += size
                        self._waiting += given
                    self.ending = self.ending or ending
            if is_left:
                self._wake()
        except BaseException:
            if is_left:
                self._wake()
            raise
        return is_left

    def wake(self) -> None:
        """Wake the loop, whatever waits here."""
        self._wake()

    def wait_processed(self, deadline: float) -> bool:
        """Whether all earlier events are in the log or refused by ``deadline`` (monotonic)."""
        upto = self._given
        return self._wait(lambda: self._processed >= upto, deadline)

    def wait_ended(self, deadline: float) -> bool:
        """Whether the feed is left, and ended if it was to, by ``deadline`` (monotonic)."""
        return self._wait(lambda: self.has_ended, deadline)

    def log_unavailable(self, detail: str) -> LogUnavailable:
        """The error of a wait that was not long enough, with its cause as far as it is known."""
        error = LogUnavailable(detail)
        error.__cause__ = self._outage()
        return error

    def raise_error(self) -> None:
        """Raise the feed's error, if it was not raised before."""
        with self._lock:
            error, self._error = self._error, None
            if error is not None:
                raise error
        if self._over is not None and not self._is_over_raised:
            self._raise_closed()

    # -- the loop

    def take(self, *, most_events: int, most_bytes: int) -> list[Given]:
        """The next events; none: nothing waits, and the next ``put`` wakes the loop."""
        with self._lock:
            given: list[Given] = []
            size = 0
            while self._waiting and len(given) < most_events:
                size += self._waiting[0].size
                if given and size > most_bytes:
                    break
                given.append(self._waiting.popleft())
            self._is_awake = bool(given)
            self._is_dropping = self._is_dropping and bool(given)
            return given

    def settle(self, given: Sequence[Given]) -> None:
        """These are in the log, or refused."""
        with self._lock:
            self._free(given)

    def lose(self, given: Sequence[Given]) -> int:
        """These are not in the log, or may not be. Returns how many events they stand for."""
        with self._lock:
            return self._lose(given)

    def count_lost(self, events: int) -> None:
        """Redis has lost so many events that were in the log."""
        with self._lock:
            self.dropped += events

    def fail(self, error: Exception, *, is_over: bool = False) -> int:
        """Refuse all waiting events, and keep the error to raise. Returns how many events were lost."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
            if is_over:
                self._over = error
            else:
                self._error = self._error or error
            self._free(waiting)
            return self._lose(waiting)

    @property
    def has_error(self) -> bool:
        """Whether an error waits to be raised."""
        return self._error is not None or self._over is not None

    def ended(self) -> None:
        """The feed is left; no more events are taken."""
        with self._lock:
            self.has_ended = True
            self._waiters.wake()

    def _free(self, given: Collection[Given]) -> None:
        self._processed += len(given)
        self._bytes -= sum(each.size for each in given)
        self._waiters.wake()

    def _lose(self, given: Collection[Given]) -> int:
        # Dropped events are counted already.
        self.dropped += sum(each.own for each in given)
        return sum(each.events for each in given)

    # -- the program's threads, without the lock

    def _wake_once(self) -> None:
        if not self._is_awake:
            self._is_awake = True
            self._wake()

    def _drop(self, count: int, *, then: Written | None) -> Put:
        while True:
            with self._lock:
                last = self._waiting[-1] if self._waiting else None
            is_further = last is not None and not last.own
            report = Given.dropped(count + (last.events if last is not None and is_further else 0))
            reports = (report,)
            with self._lock:
                is_open = self._over is None and self.ending is None
                if is_open and (self._waiting[-1] if self._waiting else None) is last:
                    self.written = then or self.written
                    self.dropped += count
                    was_dropping, self._is_dropping = self._is_dropping, True
                    if is_further:
                        self._waiting[-1] = report
                    else:
                        self._given += 1
                        self._waiting += reports
                    break
            if not is_open:
                self._raise_closed()
        self._wake_once()
        return Put.DROPPED if was_dropping else Put.FIRST_DROPPED

    def _raise_closed(self) -> NoReturn:
        """Raise why no event is taken any more."""
        if self._over is None:
            raise StreamClosed("this feed was closed here")
        self._is_over_raised = True
        # A new one for each caller: a raised exception collects the frames that it went through.
        raise copy.copy(self._over) from self._over.__cause__

    def _wait(self, is_so: Callable[[], bool], deadline: float) -> bool:
        """Waits without the lock: the call may be one of a signal handler, and the loop's thread needs the lock."""
        if is_so():
            return True
        # A call that put events may have been left by an exception before it woke the loop.
        self._wake()
        return self._waiters.wait(is_so, max(0.0, deadline - time.monotonic()))
