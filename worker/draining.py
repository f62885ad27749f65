"""Draining: how long what runs may go on when a worker ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any


async def wait_within(
    tasks: Callable[[], Collection[asyncio.Task[Any]]], *, grace_s: float, hurried: asyncio.Event
) -> None:
    """Until ``tasks`` answers none, or the grace is over, or ``hurried`` is set: somebody asked a second time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_s
    hurry = asyncio.create_task(hurried.wait())
    try:
        while (left := tasks()) and not hurried.is_set() and (rest_s := deadline - loop.time()) > 0:
            await asyncio.wait({*left, hurry}, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hurry.cancel()
