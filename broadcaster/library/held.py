"""Something that is opened at its first use, and held open until it is told to close.

Rules
1. It is opened once, however many come meanwhile. An opening that fails is raised to each of them; the next use tries
   again.
2. It is entered and left by one task of its own: what it holds has tasks and cancel scopes that must not be left by
   whoever happens to be the last.
3. It belongs to the event loop of its first use; on another one it says so. Once closed it may be opened anew, on any
   loop. The end of its loop (``asyncio.run``) closes it too, but all tasks are cancelled at once there: a connection
   in use may be left to the garbage collector.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Held(Generic[_Value]):
    """``open`` makes the context; ``get`` answers what it gives."""

    def __init__(self, open: Callable[[], AbstractAsyncContextManager[_Value]]) -> None:
        self._open = open
        self._holding: _Holding[_Value] | None = None

    async def get(self) -> _Value:
        """What is held, opened if it is not. Raises what its opening raises, RuntimeError on a second event loop."""
        holding = self._here()
        if holding is None:
            holding = self._holding = _Holding()
            holding.task = asyncio.create_task(self._hold(holding))
            holding.task.add_done_callback(partial(self._ended, holding))
        return await asyncio.shield(holding.opened)

    @property
    def value(self) -> _Value | None:
        """What is held, if it is open."""
        opened = None if self._holding is None else self._holding.opened
        is_open = opened is not None and opened.done() and not opened.cancelled() and opened.exception() is None
        return opened.result() if opened is not None and is_open else None

    async def aclose(self) -> None:
        """Close it, if it is open, and raise what its closing raises. Idempotent."""
        holding = self._here()
        if holding is None or holding.task is None:
            return
        self._holding = None
        holding.leave.set()
        if not holding.opened.done():
            holding.task.cancel()
        await asyncio.wait({holding.task})
        if not holding.task.cancelled():
            holding.task.result()

    def _here(self) -> _Holding[_Value] | None:
        if self._holding is not None and self._holding.loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "this Broadcaster is in use on another event loop: make one for each loop, or close it there first"
            )
        return self._holding

    async def _hold(self, holding: _Holding[_Value]) -> None:
        try:
            async with self._open() as value:
                holding.opened.set_result(value)
                await holding.leave.wait()
        except Exception as error:
            if holding.opened.done():
                raise
            self._let_go(holding)  # before who asked hears of it, and asks again
            holding.opened.set_exception(error)
            holding.opened.exception()  # who asked may be gone by now

    def _ended(self, holding: _Holding[_Value], _: asyncio.Task[None]) -> None:
        """Also when it was cancelled before it began."""
        holding.opened.cancel()
        self._let_go(holding)

    def _let_go(self, holding: _Holding[_Value]) -> None:
        if self._holding is holding:
            self._holding = None


class _Holding(Generic[_Value]):
    """One opening, and what became of it."""

    __slots__ = ("leave", "loop", "opened", "task")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[_Value] = self.loop.create_future()
        self.leave = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
