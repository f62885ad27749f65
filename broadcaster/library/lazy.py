"""A resource that is opened at its first use, and stays open until ``aclose``.

Rules
1. It is opened once, however many callers wait for it. A failed opening is raised to each of them; the next use tries
   to open it anew.
2. One task of its own enters and leaves it: its tasks and cancel scopes must not be left by the task of the last
   caller.
3. A caller that waits while it is closed gets Busy, not a cancellation: that caller was not cancelled.
4. It belongs to the event loop of its first use, and raises RuntimeError on another one. Once closed it may be opened
   anew, on any loop. The end of its loop (``asyncio.run``) closes it too, but cancels all tasks at once: a connection
   in use may be left to the garbage collector.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Generic, TypeVar

from broadcaster.errors import Busy

_Value = TypeVar("_Value")


class LazyResource(Generic[_Value]):
    """``open`` makes the context; ``get`` returns its value."""

    def __init__(self, open: Callable[[], AbstractAsyncContextManager[_Value]]) -> None:
        self._open = open
        self._opening: _Opening[_Value] | None = None

    async def get(self) -> _Value:
        """The resource, opened if necessary.

        Raises what its opening raises, Busy when it is closed meanwhile, RuntimeError on a second event loop.
        """
        opening = self._here()
        if opening is None:
            opening = self._opening = _Opening()
            opening.task = asyncio.create_task(self._hold(opening))
            opening.task.add_done_callback(partial(self._ended, opening))
        try:
            return await asyncio.shield(opening.opened)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if not opening.opened.cancelled() or (caller is not None and caller.cancelling()):
                raise
        raise Busy("the Broadcaster was closed while it was being opened; try again")

    @property
    def value(self) -> _Value | None:
        """The resource, if it is open."""
        opened = None if self._opening is None else self._opening.opened
        is_open = opened is not None and opened.done() and not opened.cancelled() and opened.exception() is None
        return opened.result() if opened is not None and is_open else None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that it belongs to; None while it is closed."""
        return None if self._opening is None else self._opening.loop

    async def aclose(self) -> None:
        """Close it, if it is open, and raise what its closing raises. Idempotent."""
        opening = self._here()
        if opening is None or opening.task is None:
            return
        self._opening = None
        opening.leave.set()
        if not opening.opened.done():
            opening.task.cancel()
        await asyncio.wait({opening.task})
        if not opening.task.cancelled():
            opening.task.result()

    def _here(self) -> _Opening[_Value] | None:
        if self._opening is not None and self._opening.loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "this Broadcaster is in use on another event loop: make one for each loop, or close it there first"
            )
        return self._opening

    async def _hold(self, opening: _Opening[_Value]) -> None:
        try:
            async with self._open() as value:
                opening.opened.set_result(value)
                await opening.leave.wait()
        except Exception as error:
            if opening.opened.done():
                raise
            self._release(opening)  # before the callers resume and may call ``get`` anew
            opening.opened.set_exception(error)
            opening.opened.exception()  # retrieved here, because every caller may be gone

    def _ended(self, opening: _Opening[_Value], _: asyncio.Task[None]) -> None:
        """Called also when the task was cancelled before it began."""
        opening.opened.cancel()
        self._release(opening)

    def _release(self, opening: _Opening[_Value]) -> None:
        if self._opening is opening:
            self._opening = None


class _Opening(Generic[_Value]):
    """One opening and its outcome."""

    __slots__ = ("leave", "loop", "opened", "task")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[_Value] = self.loop.create_future()
        self.leave = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
