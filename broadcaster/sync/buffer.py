"""A feed's events between the program's threads and the log: the queue to the loop's thread.

Rules
1. It is bounded in events and bytes, events under way included. Beyond the bounds the newest events are refused or
   dropped. Consecutive dropped events are counted, and become one ``data-dropped`` in their place.
2. The loop is woken once for all events put until it takes them: a call is a lock and an append to a list.
3. An error of the feed is raised to one caller, the next one; the events it lost count as dropped. An error after which
   nothing can be appended is raised to every caller.
4. Every wait here has a deadline.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from broadcaster.core.events import DataEvent, encode_event
from broadcaster.errors import Busy, LogUnavailable, StreamClosed

DROPPED_TYPE: Final = "data-dropped"


class Given(NamedTuple):
    """One event to append; a ``data-dropped`` (``own`` 0) stands for all ``events`` that it counts."""

    raw: bytes
    own: int = 1
    events: int = 1

    @classmethod
    def dropped(cls, events: int) -> Given:
        """The event that reports so many dropped events."""
        return cls(encode_event(DataEvent(type=DROPPED_TYPE, data={"events": events})), 0, events)

    @property
    def size(self) -> int:
        """The bytes that it takes of the buffer."""
        return len(self.raw) if self.own else 0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a feed is left: ended with this event, or (None) only left, for other writers to go on."""

    end: Mapping[str, Any] | None


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
        self._changed = threading.Condition()
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

    def put(self, raws: Sequence[bytes], *, drops: bool) -> bool:
        """Take all of these or none; returns whether they are the first to be dropped since nothing waited.

        Raises the feed's error, StreamClosed, or Busy when full and not to drop.
        """
        size = sum(map(len, raws))
        with self._changed:
            self._raise_error()
            if self.ending is not None:
                raise StreamClosed("this feed was closed here")
            events = self._given - self._processed
            # One that alone is more than the bound has room when nothing else waits.
            if events and (events + len(raws) > self._max_events or self._bytes + size > self._max_bytes):
                if not drops:
                    raise Busy(f"the feed's buffer is full: {events} events wait")
                return self._drop(len(raws))
            self._take(raws)
            wakes, self._is_awake = not self._is_awake, True
        if wakes:
            self._wake()
        return False

    def finish(self, ending: Ending, *, last: Sequence[bytes] = ()) -> None:
        """After these last events no others are put. The first ending counts; after an error the feed is not whole."""
        with self._changed:
            if self.ending is None and not self.has_error:
                self._take(last)
            self.ending = self.ending or ending
            self._is_awake = True
        self._wake()

    def wait_processed(self, deadline: float) -> bool:
        """Whether all earlier events are in the log or refused by ``deadline`` (monotonic)."""
        with self._changed:
            upto = self._given
            return self._wait(lambda: self._processed >= upto, deadline)

    def wait_ended(self, deadline: float) -> bool:
        """Whether the feed is left, and ended if it was to, by ``deadline`` (monotonic)."""
        with self._changed:
            return self._wait(lambda: self.has_ended, deadline)

    def log_unavailable(self, detail: str) -> LogUnavailable:
        """The error of a wait that was not long enough, with its cause as far as it is known."""
        error = LogUnavailable(detail)
        error.__cause__ = self._outage()
        return error

    def raise_error(self) -> None:
        """Raise the feed's error, if it was not raised before."""
        with self._changed:
            if self._error is not None or not self._is_over_raised:
                self._raise_error()

    # -- the loop

    def take(self, *, most_events: int, most_bytes: int) -> list[Given]:
        """The next events; none: nothing waits, and the next ``put`` wakes the loop."""
        with self._changed:
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
        with self._changed:
            self._free(given)

    def lose(self, given: Sequence[Given]) -> int:
        """These are not in the log, or may not be. Returns how many events they stand for."""
        with self._changed:
            return self._lose(given)

    def fail(self, error: Exception, *, is_over: bool = False) -> int:
        """Refuse all waiting events, and keep the error to raise. Returns how many events were lost."""
        with self._changed:
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
        with self._changed:
            self.has_ended = True
            self._changed.notify_all()

    # -- under the lock

    def _take(self, raws: Sequence[bytes]) -> None:
        self._waiting.extend(map(Given, raws))
        self._given += len(raws)
        self._bytes += sum(map(len, raws))

    def _drop(self, events: int) -> bool:
        self.dropped += events
        if self._waiting and not self._waiting[-1].own:
            events += self._waiting.pop().events
        else:
            self._given += 1
        self._waiting.append(Given.dropped(events))
        was_dropping, self._is_dropping = self._is_dropping, True
        return not was_dropping

    def _free(self, given: Collection[Given]) -> None:
        self._processed += len(given)
        self._bytes -= sum(each.size for each in given)
        self._changed.notify_all()

    def _lose(self, given: Collection[Given]) -> int:
        # Dropped events are counted already.
        self.dropped += sum(each.own for each in given)
        return sum(each.events for each in given)

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._over is not None:
            self._is_over_raised = True
            # A new one for each caller: a raised exception collects the frames that it went through.
            raise copy.copy(self._over) from self._over.__cause__

    def _wait(self, is_so: Callable[[], bool], deadline: float) -> bool:
        while not is_so():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            self._changed.wait(left_s)
        return True
