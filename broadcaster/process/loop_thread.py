"""The one thread of a process on which the event loop of its blocking callers runs.

Rules
1. It starts at its first use, is a daemon and never ends: a process must be able to end whatever state Redis is in.
2. At a fork the thread is stopped between two steps: a module that it was importing would stay half imported in the
   child, and a lock that it had taken would stay locked. A fork waits at most STAND_S for that.
3. A forked child has the object and not the thread: it gets a thread of its own at its next use. The parent's loop is
   kept and never touched: its selector and sockets are shared with the parent, and closing them would reach into it.
4. Host names are resolved on the thread itself, not in an executor: at the interpreter's end executors accept nothing,
   and that is when a short script's first connection is made. A slow look-up delays the other calls of this loop; the
   callers' own deadlines hold, because the callers wait on their own threads.
5. SystemExit and KeyboardInterrupt of a task are that task's outcome, as any exception is, although asyncio also raises
   them out of the loop: the loop continues, because the other callers of the process run on it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

THREAD_NAME: Final = "broadcaster-sync"
STAND_S: Final = 1.0

_T = TypeVar("_T")


class _Loop(asyncio.SelectorEventLoop):
    async def getaddrinfo(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Rule 4."""
        return socket.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)


class LoopThread:
    """A loop that runs on a thread of its own."""

    def __init__(self) -> None:
        self._loop = _Loop()
        self._tasks: set[asyncio.Task[Any]] = set()  # touched on the loop alone, which holds no task by itself
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on it."""
        return threading.current_thread() is self._thread

    def call_soon(self, call: Callable[[], object]) -> None:
        """Run this on the loop, soon. From any thread."""
        self._loop.call_soon_threadsafe(call)

    def start(self, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """A task that is held until it ends. On the loop alone."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def end(self) -> None:
        """End it. Only one that has run nothing: a signal handler made another one meanwhile."""
        self.call_soon(self._loop.stop)

    def stand_still(self) -> threading.Event:
        """Stop the loop between two steps, within STAND_S; it continues when the returned event is set."""
        stands, goes_on = threading.Event(), threading.Event()

        def stand() -> None:
            stands.set()
            goes_on.wait()

        self.call_soon(stand)
        stands.wait(STAND_S)
        return goes_on

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        while True:
            with suppress(SystemExit, KeyboardInterrupt):  # rule 5
                self._loop.run_forever()
                break
        self._loop.close()


class _ProcessLoop:
    """The thread of this process; reset in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may make the first call inside another first call
        self._thread: LoopThread | None = None
        self._goes_on: threading.Event | None = None
        self._of_parents: list[LoopThread] = []
        self.identity = object()  # of this process: a forked child has another one

    def loop_thread(self) -> LoopThread:
        with self._lock:
            thread = self._thread
            if thread is None:
                made = LoopThread()
                thread = self._thread = self._thread or made
                if thread is not made:
                    made.end()
            return thread

    def before_fork(self) -> None:
        self._lock.acquire()
        if self._thread is not None:
            self._goes_on = self._thread.stand_still()

    def after_fork_in_parent(self) -> None:
        goes_on, self._goes_on = self._goes_on, None
        if goes_on is not None:
            goes_on.set()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._goes_on = None
        self.identity = object()
        if self._thread is not None:
            self._of_parents.append(self._thread)
            self._thread = None


_process = _ProcessLoop()
os.register_at_fork(
    before=_process.before_fork,
    after_in_parent=_process.after_fork_in_parent,
    after_in_child=_process.after_fork_in_child,
)


def loop_thread() -> LoopThread:
    """This process's thread, started at the first call."""
    return _process.loop_thread()


def process_identity() -> object:
    """An object that stands for this process: a forked child has another one, also when a process id returns."""
    return _process.identity
