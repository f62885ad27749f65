"""Events between threads: one sets, and event loops (``ThreadEvent``) or threads (``Once``, ``Waiters``) wait.

A signal handler may interrupt a thread that waits, and may raise there. ``threading.Condition`` and ``threading.Event``
hold a lock in Python code: an exception in that code leaves it locked, and the thread that sets them stops for ever.
Here a thread that waits has a lock of its own, and nothing else is held.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress


class ThreadEvent:
    """``asyncio.Event`` without ``clear``, for any number of loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._waiters: set[asyncio.Future[None]] = set()

    def is_set(self) -> bool:
        """Whether it has been set."""
        return self._is_set

    def set(self) -> None:
        """Wake all waiters, now and later. From any thread."""
        with self._lock:
            self._is_set = True
            waiters = tuple(self._waiters)
        here = asyncio._get_running_loop()
        for waiter in waiters:
            loop = waiter.get_loop()
            if loop is here:
                _wake(waiter)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_wake, waiter)

    async def wait(self) -> None:
        """Until it is set."""
        waiter = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._is_set:
                return
            self._waiters.add(waiter)
        try:
            await waiter
        finally:
            with self._lock:
                self._waiters.discard(waiter)


class Waiters:
    """Threads that wait until something is so; another thread makes it so, and wakes them."""

    def __init__(self) -> None:
        self._locked: deque[threading.Lock] = deque()

    def wake(self) -> None:
        """Let all of them check. After a change, from any thread."""
        with suppress(IndexError):
            while True:
                self._locked.popleft().release()

    def wait(self, is_so: Callable[[], bool], limit_s: float | None) -> bool:
        """Whether it is so within ``limit_s`` (None: no limit)."""
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while not is_so():
            left_s = -1.0 if deadline is None else deadline - time.monotonic()
            if deadline is not None and left_s <= 0:
                return False
            self._wait_for_change(is_so, left_s)
        return True

    def _wait_for_change(self, is_so: Callable[[], bool], limit_s: float) -> None:
        waiter = threading.Lock()
        waiter.acquire()
        try:
            self._locked.append(waiter)
            if not is_so():
                waiter.acquire(timeout=min(limit_s, threading.TIMEOUT_MAX))
        finally:
            with suppress(ValueError):
                self._locked.remove(waiter)


class Once:
    """As ``threading.Event``, without ``clear``."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters = Waiters()

    def is_set(self) -> bool:
        """Whether it has been set."""
        return self._is_set

    def set(self) -> None:
        """Wake all waiters, now and later. From any thread."""
        self._is_set = True
        self._waiters.wake()

    def wait(self, limit_s: float | None = None) -> bool:
        """Whether it is set within ``limit_s`` (None: no limit)."""
        return self._waiters.wait(self.is_set, limit_s)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
