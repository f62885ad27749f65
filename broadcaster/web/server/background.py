"""The tasks that run beside a front-end for as long as it lives: each is restarted when a defect ends it.

A front-end without its sweep, its probe or its topology still serves requests, but is broken. So an error of such a
task is logged and the task is restarted, after a pause that grows while it keeps failing: a defect that occurs at every
start costs a log line a minute, and one that occurs once costs a second. A task that returns is done.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from broadcaster.core.backoff import BackOff
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)


Begin: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


PAUSES: Final = BackOff(1.0, 60.0)
"""The pauses before a restart; after a run of more than ``cap_s`` the count of failures starts anew."""


@asynccontextmanager
async def kept_running(begins: Mapping[str, Begin], *, pauses: BackOff = PAUSES) -> AsyncIterator[None]:
    """Run these, by their names, beside the block, and cancel them at its end."""
    tasks = [asyncio.create_task(_keep_running(name, begin, pauses)) for name, begin in begins.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_running(name: str, begin: Begin, pauses: BackOff) -> None:
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        begun_at = loop.time()
        try:
            await begin()
            return
        except Exception as error:
            failures = 1 if loop.time() - begun_at > pauses.cap_s else failures + 1
            pause_s = pauses.pause_s(failures, luck=random.random())
            _log.critical("front_end_task_failed", task=name, retry_in_s=round(pause_s, 1), exc_info=error)
        await asyncio.sleep(pause_s)
