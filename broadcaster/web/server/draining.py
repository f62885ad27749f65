"""Draining in a host's server: viewers are disconnected at SIGTERM and SIGINT, before the server waits for them.

uvicorn ends an app's lifespan only after its connections are closed, and a viewer's connection closes only when the
viewer is disconnected. Without this module, open streams would delay the server's end for as long as it lets them.

1. The server's own handler still runs, at once and every time: the server decides how and when it ends.
2. A signal that ends the process by default, or is ignored, stays so: such a process has no orderly end.
3. Handlers are restored in the reverse order, and only where they are still ours.
4. Outside the main thread Python has no signal handlers: a server there drains by its own means, or not at all.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any, Final

from broadcaster.observability.logs import get_logger
from broadcaster.web.services import Services, drain

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], Any]

_log = get_logger(__name__)


@asynccontextmanager
async def draining_on_signals(services: Services) -> AsyncIterator[None]:
    """While this is entered, the first SIGTERM or SIGINT begins the drain."""
    leaving = _Leaving(services)
    if threading.current_thread() is threading.main_thread():
        leaving.take_signals()
    try:
        yield
    finally:
        leaving.restore_signals()
        await leaving.aclose()


class _Leaving:
    """The drain of one front-end, begun once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, _Handler] = {}
        self._drain: asyncio.Task[None] | None = None

    def take_signals(self) -> None:
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if callable(before):  # rule 2: the default, "ignore" and a handler that is not Python's are not
                self._before[number] = before
                signal.signal(number, self._on_signal)

    def restore_signals(self) -> None:
        for number, before in self._before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, before)

    async def aclose(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
            await asyncio.wait({self._drain})

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin)
        self._before[number](number, frame)

    def _begin(self) -> None:
        if self._drain is None:
            self._drain = self._loop.create_task(drain(self._services))
            self._drain.add_done_callback(_log_failure)


def _log_failure(drained: asyncio.Task[None]) -> None:
    if not drained.cancelled() and (error := drained.exception()) is not None:
        _log.error("drain_failed", exc_info=error)
