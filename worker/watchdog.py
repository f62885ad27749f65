"""The watchdog: a thread that tells while it lasts that the event loop stands still, and where.

Theory of operation. The loop beats; the thread looks at the beats. A loop that stands still renews no lease, and some
other worker takes its generations over although it lives: that is told after half a lease without a beat, when renewal
(every quarter) has been missed once and the lease still holds, with the stack of the loop's thread.

Rules
1. Once for each time it stands still, at once; and once when it moves again, with how long it took.
2. A look that comes late itself says that the whole process stood still (SIGSTOP, a suspended machine, code that never
   lets go of the interpreter): nothing is told of the loop then, whose stack would show somebody innocent.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

BEATS_PER_LEASE: Final = 10
_FRAMES_TOLD: Final = 12


class LoopWatchdog:
    """Watches the loop it is entered in, until it is left."""

    def __init__(self, *, lease_ttl_s: float) -> None:
        self._lease_ttl_s = lease_ttl_s
        self._every_s = lease_ttl_s / BEATS_PER_LEASE
        self._blocked_s = lease_ttl_s / 2
        self._beat_at = 0.0
        self._beat: asyncio.TimerHandle | None = None
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> LoopWatchdog:
        self._on_beat()
        # A daemon: if the loop never moves again, its watchdog must not be what keeps the process.
        self._thread = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="loop-watchdog", daemon=True
        )
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        assert self._beat is not None
        self._left.set()
        self._beat.cancel()
        self._thread.join()

    def _on_beat(self) -> None:
        self._beat_at = time.monotonic()
        self._beat = asyncio.get_running_loop().call_later(self._every_s, self._on_beat)

    def _watch(self, loop_thread: int) -> None:
        """The thread's own work. What it shares with the loop is one float."""
        blocked_since: float | None = None
        looked_at = time.monotonic()
        not_before = looked_at
        while not self._left.wait(self._every_s):
            now, beat_at = time.monotonic(), self._beat_at
            if now - looked_at > self._every_s + self._lease_ttl_s / 4:
                _log.warning("process_stood_still", stood_s=round(now - looked_at, 3), lease_s=self._lease_ttl_s)
                not_before = now
            looked_at = now
            if blocked_since is not None and beat_at > blocked_since:
                _log.warning("event_loop_moves", blocked_s=round(beat_at - blocked_since, 3))
                blocked_since = None
            elif blocked_since is None and now - max(beat_at, not_before) > self._blocked_s:
                blocked_since = beat_at
                _log.error(
                    "event_loop_blocked",
                    blocked_s=round(now - beat_at, 3),
                    lease_s=self._lease_ttl_s,
                    stack=_stack_of(loop_thread),
                )


def _stack_of(thread: int) -> str:
    """Where a thread is now, the innermost call last: files, lines and names, no values."""
    frame = sys._current_frames().get(thread)
    return "" if frame is None else "".join(traceback.format_stack(frame)[-_FRAMES_TOLD:])
