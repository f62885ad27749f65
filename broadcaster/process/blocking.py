"""Async code for callers that block: it runs on the loop's thread, and the caller waits on a thread of its own.

Rules
1. A call waits for its outcome until its deadline. An iteration, and a call without a deadline, wait as long as the
   async code that they run, which has deadlines of its own.
2. A caller that stops waiting (KeyboardInterrupt, its deadline, a ``for`` loop left early) cancels the task, and gives
   it CANCEL_S to clean up. The garbage collector may be that caller, on any thread: on the loop's own it only cancels.
3. A task belongs to the process that began it. A forked child cannot wait for it, and does not touch it.
4. A signal handler may raise in any of it. What the loop's thread waits for is never held here (`thread_event`), and a
   cancellation that was not sent is sent by the next ``leave``.
5. Code on the loop's thread (a callback) cannot block there: the loop that it waits for would stand still.
6. SystemExit and KeyboardInterrupt of a thread that the async code waits for reach the caller as they were raised.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from broadcaster.process.loop_thread import loop_thread, process_identity
from broadcaster.process.tasks import CallExited
from broadcaster.process.thread_event import Once

CANCEL_S: Final = 5.0

_T = TypeVar("_T")


class PerProcess(Generic[_T]):
    """A value that each process makes at its first use. A forked child keeps its parent's, and never touches it."""

    def __init__(self, make: Callable[[], _T]) -> None:
        """``make`` opens nothing: two threads may call it at once, and one of the values is dropped."""
        self._make = make
        self._values: dict[object, _T] = {}

    def get(self) -> _T:
        """The value of this process."""
        value = self.made
        return self._values.setdefault(process_identity(), self._make()) if value is None else value

    @property
    def made(self) -> _T | None:
        """The value of this process, if it is made."""
        return self._values.get(process_identity())


class BackgroundTask(Generic[_T]):
    """A coroutine on the loop's thread, and its outcome for the thread that waits; see the rules above."""

    def __init__(
        self, start: Callable[[], Coroutine[Any, Any, _T]], *, ended: Callable[[], object] = lambda: None
    ) -> None:
        """``start`` and ``ended`` are called on the loop. Raises RuntimeError on the loop's thread (rule 5)."""
        self._thread = loop_thread()
        if self._thread.is_current:
            raise RuntimeError("this is the thread of the event loop, where a call cannot block: use the async form")
        self._process = process_identity()
        self._start = start
        self._call_at_end = ended
        self._has_ended = Once()
        self._task: asyncio.Task[_T] | None = None
        self._is_left = False
        self._is_cancelled = False  # touched on the loop alone
        self._thread.call_soon(self._begin)

    def outcome(self, limit_s: float | None) -> _T:
        """Its result. Raises what it raises; TimeoutError, and cancels it, after ``limit_s`` (None: no limit)."""
        try:
            if not self._has_ended.wait(limit_s):
                raise TimeoutError(f"no outcome within {limit_s:g} s, and the call was given up")
        finally:
            self.leave()
        assert self._task is not None
        error = None if self._task.cancelled() else self._task.exception()
        if isinstance(error, CallExited) and error.__cause__ is not None:  # rule 6
            raise error.__cause__
        return self._task.result()

    def leave(self) -> None:
        """Cancel it unless it has ended (rule 2)."""
        if self._is_left or self._has_ended.is_set() or not self.is_of_this_process:
            return
        self._thread.call_soon(self._cancel)
        self._is_left = True
        if not (self._thread.is_current or sys.is_finalizing()):
            self._has_ended.wait(CANCEL_S)

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process began it."""
        return self._process is process_identity()

    # -- on the loop

    def _begin(self) -> None:
        self._task = self._thread.start(self._run())
        self._task.add_done_callback(self._end)

    async def _run(self) -> _T:
        return await self._start()

    def _cancel(self) -> None:
        assert self._task is not None
        if not self._is_cancelled:  # a second one would interrupt its cleaning up
            self._is_cancelled = True
            self._task.cancel()

    def _end(self, task: asyncio.Task[_T]) -> None:
        if not task.cancelled():
            task.exception()  # retrieved here, because its caller may be gone
        self._call_at_end()
        self._has_ended.set()


def call_blocking(start: Callable[[], Coroutine[Any, Any, _T]], *, limit_s: float | None) -> _T:
    """What the coroutine returns. Raises what it raises; TimeoutError after ``limit_s`` (None: no limit)."""
    return BackgroundTask(start).outcome(limit_s)
