"""A blocking iterator, read in a thread of its own.

Rules
1. The thread reads the next item when it is requested: nothing is read ahead, and one item is under way at most.
2. The iterator is closed in the same thread, because a generator cannot be closed while it runs. If it is blocked then,
   ``aclose`` waits ``CLOSE_S``; the iterator is closed as soon as it returns.
3. The thread begins with the first request and ends with the close. It is a daemon: a provider that sends nothing does
   not hold up the end of the program.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any, Final, TypeAlias

from broadcaster.observability.logs import get_logger
from broadcaster.process.tasks import raisable_by_future

CLOSE_S: Final = 2.0

_log = get_logger(__name__)
_END: Final = object()
_Job: TypeAlias = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class ThreadedIterator:
    """The items of a blocking iterable; see the module's rules."""

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = source
        self._iterator: Any = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def __aiter__(self) -> ThreadedIterator:
        return self

    async def __anext__(self) -> Any:
        if self._is_closed or (item := await self._run(self._next)) is _END:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Close the iterator and its source. Idempotent. Raises what they raise."""
        if self._is_closed:
            return
        self._is_closed = True
        closing = self._run(self._close)
        self._jobs.put(None)
        await asyncio.wait({closing}, timeout=CLOSE_S)
        if closing.done():
            closing.result()
        else:
            closing.add_done_callback(_retrieve)
            _log.warning("published_iterator_blocked", source=type(self._source).__name__, waited_s=CLOSE_S)

    def _run(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        if self._thread is None:
            context = copy_context()
            self._thread = threading.Thread(
                target=context.run, args=(self._work,), name="published iterator", daemon=True
            )
            self._thread.start()
        result = asyncio.get_running_loop().create_future()
        self._jobs.put((call, result))
        return result

    def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._source)
        return next(self._iterator, _END)

    def _close(self) -> None:
        for each in (self._iterator, self._source):
            if (close := getattr(each, "close", None)) is not None:
                close()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, result = job
            try:
                outcome, error = call(), None
            except BaseException as raised:
                outcome, error = None, raised
            try:
                result.get_loop().call_soon_threadsafe(_settle, result, outcome, error)
            except RuntimeError:  # the loop has ended: the next job is the close, or none
                self._close()
                return


def _settle(result: asyncio.Future[Any], outcome: Any, error: BaseException | None) -> None:
    if result.done():
        return
    if error is None:
        result.set_result(outcome)
    else:
        result.set_exception(raisable_by_future(error))


def _retrieve(closing: asyncio.Future[Any]) -> None:
    if not closing.cancelled() and closing.exception() is not None:
        _log.warning("published_iterator_not_closed", exc_info=closing.exception())
