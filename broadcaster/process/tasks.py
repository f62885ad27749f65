"""Ending what runs beside other work: tasks, and child processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any


@asynccontextmanager
async def running(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
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
