"""Draining: how long running tasks may continue when a worker ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any


async def wait_within(
    tasks: Callable[[], Collection[asyncio.Task[Any]]], *, grace_s: float, hurried: asyncio.Event
) -> None:
    """Wait until ``tasks`` is empty, the grace is over, or a second signal has set ``hurried``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_s
    hurry = asyncio.create_task(hurried.wait())
    try:
        while (left := tasks()) and not hurried.is_set() and (rest_s := deadline - loop.time()) > 0:
            await asyncio.wait({*left, hurry}, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hurry.cancel()
