"""What a room is told while nothing comes: the strongest reason in force, once, and its end.

Rules
1. Silence: a read is due and has had no success for ``silence_s``, or nothing at all was heard of the log's node for
   so long → ``log_unavailable``.
2. Loss: a running stream (a generation, or a feed whose writers asked for a lease) whose lease has been seen missing
   for ``stall_notice_s`` → ``worker_lost``; a feed whose meta has been seen missing for so long → ``stream_lost``.
3. The log being away goes before the worker being away: nobody can know the second during the first.
4. Whatever moves (entries, an answer of the log, a lease) ends its reason; None is told when no reason is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broadcaster.core.notices import StallReason
from broadcaster.log.feed_options import FeedTimes


class Stall:
    """The stall of one stream. ``tell`` is called with each change of the reason in force; ``unheard_s`` answers for
    how long nothing was heard of the node."""

    def __init__(
        self, tell: Callable[[StallReason | None], None], *, times: FeedTimes, unheard_s: Callable[[], float]
    ) -> None:
        self._tell = tell
        self._times = times
        self._unheard_s = unheard_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._read_due_since: float | None = None
        self._is_unheard = False
        self._is_silent = False
        self._unleased_since: float | None = None
        self._is_lost = False
        self._loss = StallReason.WORKER_LOST
        self.told: StallReason | None = None

    @property
    def is_suspect(self) -> bool:
        """A lease is missing and that is not told yet: look again soon."""
        return self._unleased_since is not None and not self._is_lost

    @property
    def is_lost(self) -> bool:
        """A lease (or all that was known of a feed) has been missing for long enough to be told."""
        return self._is_lost

    def read_due(self) -> None:
        """A read must succeed from now on; ``answered`` says that it did."""
        if self._read_due_since is None:
            self._read_due_since = self._loop.time()
        self._look()

    def unheard(self) -> None:
        """Something says that the node may be silent (its connection is lost, a request had no answer)."""
        self._is_unheard = True
        self._look()

    def moved(self) -> None:
        """Entries came: the log answers, and somebody writes."""
        if self._timer is None and self._unleased_since is None and self.told is None and not self._is_unheard:
            if self._read_due_since is None and not self._is_silent:
                return  # nearly always: nothing to take back
        self._unleased_since, self._is_lost = None, False
        self.answered()

    def answered(self) -> None:
        """The log answered."""
        self._stop_timer()
        self._read_due_since = None
        self._is_unheard = self._is_silent = False
        self._update()

    def leased(self, is_leased: bool, *, loss: StallReason = StallReason.WORKER_LOST) -> None:
        """What a tail check saw of the lease; True as well when the stream needs none (queued, ended, many a feed).

        ``loss`` is what it means when it stays missing.
        """
        self._loss = loss
        if is_leased:
            self._unleased_since, self._is_lost = None, False
        else:
            now = self._loop.time()
            if self._unleased_since is None:
                self._unleased_since = now
            self._is_lost = now - self._unleased_since >= self._times.stall_notice_s
        self._update()

    def close(self) -> None:
        """Tell nothing more."""
        self._stop_timer()

    def _look(self) -> None:
        """Fall silent when it has been too long, else look again when it will have been."""
        self._stop_timer()
        silent_s = self._silent_s()
        if silent_s >= self._times.silence_s:
            self._is_silent = True
            self._update()
        elif self._is_unheard or self._read_due_since is not None:
            self._timer = self._loop.call_later(self._times.silence_s - silent_s, self._look)

    def _silent_s(self) -> float:
        due_s = self._loop.time() - self._read_due_since if self._read_due_since is not None else 0.0
        unheard_s = self._unheard_s() if self._is_unheard else 0.0
        return max(due_s, unheard_s)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _update(self) -> None:
        reason = None
        if self._is_silent:
            reason = StallReason.LOG_UNAVAILABLE
        elif self._is_lost:
            reason = self._loss
        if reason is not self.told:
            self.told = reason
            self._tell(reason)
