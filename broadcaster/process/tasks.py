"""What runs beside other work, and its end: tasks, daemon threads and child processes."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

_T = TypeVar("_T")


@asynccontextmanager
async def running(*coroutines: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run these beside the block, and cancel them at its end; a failure of one of them does not reach the block."""
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        yield
    finally:
        await end_tasks(*tasks)


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel these tasks, as far as there are any that run, and wait for their clean-up; results stay in the tasks."""
    left = [task for task in tasks if task is not None and not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)


async def end_process(process: asyncio.subprocess.Process, *, timeout_s: float) -> None:
    """Terminate the process, unless it has ended; kill it if it does not end in time."""
    for stop in (process.terminate, process.kill):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await process.wait()
            return


class CallExited(RuntimeError):
    """A call in a thread of its own has raised SystemExit or KeyboardInterrupt, which is the cause of this."""


def raisable_by_future(error: BaseException) -> BaseException:
    """The error, or a RuntimeError in place of one that no future may have.

    No future takes StopIteration: its caller would wait for ever. A task that SystemExit or KeyboardInterrupt reaches
    raises it out of the loop, and all other tasks stand still: CallExited stands for these two.
    """
    if isinstance(error, SystemExit | KeyboardInterrupt):
        raised: RuntimeError = CallExited(f"the call raised {type(error).__name__}")
    elif isinstance(error, StopIteration):
        raised = RuntimeError("the call raised StopIteration")
    else:
        return error
    raised.__cause__ = error
    return raised


def in_daemon_thread(call: Callable[[], _T], *, name: str, on_end: Callable[[], None]) -> asyncio.Future[_T]:
    """Call it in a thread of its own: a call that hangs delays neither other calls nor the end of the process.

    ``on_end`` is called in the loop when the call has ended, which may be long after the future was cancelled. Raises
    RuntimeError if no thread can be started.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()
    context = contextvars.copy_context()

    def end(came: _T | None, error: BaseException | None) -> None:
        on_end()
        if future.done():
            return
        if error is not None:
            future.set_exception(raisable_by_future(error))
        else:
            future.set_result(came)  # type: ignore[arg-type]  # without an error there is a result

    def run() -> None:
        came, failed = None, None
        try:
            came = context.run(call)
        except BaseException as error:  # any error: the caller waits
            failed = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(end, came, failed)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
