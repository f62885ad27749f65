"""What a room is notified of while no entry comes: the strongest reason in force, once, and its end.

Rules
1. Silence: a read is due and has not succeeded for ``silence_s``, or the log's node has sent nothing for that long →
   ``log_unavailable``.
2. Loss: a running stream (a generation, or a feed with a lease) whose lease has been seen missing for
   ``stall_notice_s`` → ``worker_lost``; a feed whose meta has been seen missing for that long → ``stream_lost``.
3. Silence outranks loss, because a lease cannot be read while the log is away.
4. Entries, a response of the log, or a lease end the reason that they disprove. When no reason is left, the notice is
   None.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broadcaster.core.notices import StallReason
from broadcaster.log.tail.options import TailTimes


class Stall:
    """The stall of one stream.

    ``notify`` is called with each change of the reason in force. ``node_silent_s`` returns for how long the node of the
    stream has sent nothing.
    """

    def __init__(
        self, notify: Callable[[StallReason | None], None], *, times: TailTimes, node_silent_s: Callable[[], float]
    ) -> None:
        self._notify = notify
        self._times = times
        self._node_silent_s = node_silent_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._read_due_since: float | None = None
        self._may_be_silent = False
        self._is_silent = False
        self._unleased_since: float | None = None
        self.is_lost = False
        """A lease, or the meta of a feed, has been missing for long enough to be reported."""
        self._loss = StallReason.WORKER_LOST
        self.reported: StallReason | None = None

    @property
    def is_suspect(self) -> bool:
        """A lease is missing, which has not been reported yet: check again soon."""
        return self._unleased_since is not None and not self.is_lost

    @property
    def is_calm(self) -> bool:
        """No reason is in force, and none is about to be."""
        if self._timer is not None or self._unleased_since is not None or self.reported is not None:
            return False
        return self._read_due_since is None and not self._may_be_silent and not self._is_silent

    def read_due(self) -> None:
        """A read must succeed within ``silence_s``; call ``responded`` when it has."""
        if self._read_due_since is None:
            self._read_due_since = self._loop.time()
        self._check()

    def suspect_silence(self) -> None:
        """The node may be silent: its connection is lost, or a request had no response."""
        self._may_be_silent = True
        self._check()

    def moved(self) -> None:
        """Entries came: the log responds, and the stream has a writer."""
        if not self.is_calm:
            self._unleased_since, self.is_lost = None, False
            self.responded()

    def responded(self) -> None:
        """The log responded."""
        self._stop_timer()
        self._read_due_since = None
        self._may_be_silent = self._is_silent = False
        self._update()

    def leased(self, is_leased: bool, *, loss: StallReason = StallReason.WORKER_LOST) -> None:
        """A tail check saw this; True as well when the stream needs no lease (queued, ended, a feed without one).

        ``loss`` is the reason to report if the lease stays missing.
        """
        self._loss = loss
        if is_leased:
            self._unleased_since, self.is_lost = None, False
        else:
            now = self._loop.time()
            if self._unleased_since is None:
                self._unleased_since = now
            self.is_lost = now - self._unleased_since >= self._times.stall_notice_s
        self._update()

    def close(self) -> None:
        """Notify no more."""
        self._stop_timer()

    def _check(self) -> None:
        """Report silence when it has lasted ``silence_s``, else check again when it will have."""
        self._stop_timer()
        silent_s = self._silence_s()
        if silent_s >= self._times.silence_s:
            self._is_silent = True
            self._update()
        elif self._may_be_silent or self._read_due_since is not None:
            self._timer = self._loop.call_later(self._times.silence_s - silent_s, self._check)

    def _silence_s(self) -> float:
        due_s = self._loop.time() - self._read_due_since if self._read_due_since is not None else 0.0
        node_silent_s = self._node_silent_s() if self._may_be_silent else 0.0
        return max(due_s, node_silent_s)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _update(self) -> None:
        reason = None
        if self._is_silent:
            reason = StallReason.LOG_UNAVAILABLE
        elif self.is_lost:
            reason = self._loss
        if reason is not self.reported:
            self.reported = reason
            self._notify(reason)
