"""An event that one event loop sets and another one, in another thread, waits for."""

from __future__ import annotations

import asyncio
import threading


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


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
