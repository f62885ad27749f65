"""The watchdog: a thread that logs when the event loop is blocked, and where, while it is blocked.

Theory of operation. The loop updates a timestamp, the beat, and the thread checks it. A blocked loop renews no lease,
so another worker takes over its generations although this one is alive. The watchdog logs the stack of the loop's
thread after half a lease without a beat: one renewal (every quarter) is then missed, and the lease is still valid.

Rules
1. Each block is logged once, while it lasts, and once more when the loop runs again, with the duration.
2. If a check itself comes late, the whole process stood still (SIGSTOP, a suspended machine, code that never releases
   the interpreter). The watchdog then logs that, and not a blocked loop: the stack would show unrelated code.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from typing import Final

from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

BEATS_PER_LEASE: Final = 10
_MAX_FRAMES: Final = 12


class LoopWatchdog:
    """Watches the event loop while the block is entered."""

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
        # A daemon: if the loop stays blocked, the watchdog must not keep the process alive.
        self._thread = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="loop-watchdog", daemon=True
        )
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._thread is not None
        assert self._beat is not None
        self._left.set()
        self._beat.cancel()
        self._thread.join()

    def _on_beat(self) -> None:
        self._beat_at = time.monotonic()
        self._beat = asyncio.get_running_loop().call_later(self._every_s, self._on_beat)

    def _watch(self, loop_thread: int) -> None:
        """The thread's work. It shares one float with the loop."""
        blocked_since: float | None = None
        checked_at = time.monotonic()
        not_before = checked_at
        while not self._left.wait(self._every_s):
            now, beat_at = time.monotonic(), self._beat_at
            if now - checked_at > self._every_s + self._lease_ttl_s / 4:
                _log.warning("process_stood_still", stood_s=round(now - checked_at, 3), lease_s=self._lease_ttl_s)
                not_before = now
            checked_at = now
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
    """The stack of a thread now, the innermost call last: files, lines and names, no values."""
    frame = sys._current_frames().get(thread)
    return "" if frame is None else "".join(traceback.format_stack(frame)[-_MAX_FRAMES:])
