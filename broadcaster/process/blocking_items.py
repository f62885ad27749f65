"""The items of an async generator on the loop's thread, for a thread that blocks, over a bounded queue.

Rules
1. At most QUEUED items wait; then the generator waits. The thread takes all waiting items at once.
2. The end of the generator, or its error, comes after its items.
3. A thread that waits wakes up once in CHECK_S and checks that the other side still exists: a forked child has no loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from typing import Final, Generic, TypeVar

from broadcaster.process.blocking import BackgroundTask
from broadcaster.process.loop_thread import loop_thread
from broadcaster.process.thread_event import Waiters

QUEUED: Final = 64
CHECK_S: Final = 5.0

_T = TypeVar("_T")


class ItemsForThread(Generic[_T]):
    """See the rules above."""

    def __init__(self) -> None:
        self._items: deque[_T] = deque()
        self._lock = threading.Lock()
        self._waiters = Waiters()
        self._has_room = asyncio.Event()
        self._is_full = False
        self._is_over = False
        self._thread = loop_thread()

    def take(self, is_alive: Callable[[], bool]) -> deque[_T]:
        """All that wait, at least one; empty: the generator is over."""
        while not self._has_changed() and is_alive():
            self._waiters.wait(self._has_changed, CHECK_S)
        with self._lock:
            taken, self._items = self._items, deque()
            was_full, self._is_full = self._is_full, False
        if was_full:
            self._thread.call_soon(self._has_room.set)
        return taken

    async def put_all(self, start: Callable[[], AsyncGenerator[_T, None]]) -> None:
        """Put what the generator yields. On the loop."""
        async with aclosing(start()) as source:
            async for item in source:
                if self._put(item):
                    await self._has_room.wait()

    def end(self) -> None:
        """No further item comes. On the loop."""
        self._is_over = True
        self._waiters.wake()

    def _put(self, item: _T) -> bool:
        with self._lock:
            self._items.append(item)
            self._is_full = len(self._items) >= QUEUED
            if self._is_full:
                self._has_room.clear()
            is_full = self._is_full
        self._waiters.wake()
        return is_full

    def _has_changed(self) -> bool:
        return bool(self._items) or self._is_over


def iterate_blocking(start: Callable[[], AsyncGenerator[_T, None]]) -> Generator[_T, None, None]:
    """What the async generator yields, for one thread; raises what it raises. Leaving it closes the generator."""
    items: ItemsForThread[_T] = ItemsForThread()
    task = BackgroundTask(lambda: items.put_all(start), ended=items.end)
    try:
        while taken := items.take(lambda: task.is_of_this_process):
            yield from taken
        if not task.is_of_this_process:
            raise RuntimeError("this iteration began in the parent process: begin one here, after its last cursor")
        task.outcome(CHECK_S)
    finally:
        task.leave()
