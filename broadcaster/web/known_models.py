"""The providers' lists of models as this front-end last read them, so that ``/v1/models`` costs Redis next to nothing.

Rules
1. They are read at most once in FRESH_S. Callers that come meanwhile share one read, and cancelling one caller does not
   cancel it for the others.
2. A read that fails or takes longer than READ_S is no error of ``/v1/models``: the lists read before stay,
   and at first there are no lists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from broadcaster.core.providers.listed_models import ModelLists
from broadcaster.errors import LogUnavailable

FRESH_S: Final = 15.0
READ_S: Final = 1.0


async def no_lists() -> ModelLists:
    """Where no provider's list is read."""
    return {}


class KnownModels:
    """Call it for the lists. It belongs to one event loop."""

    def __init__(self, read: Callable[[], Awaitable[ModelLists]]) -> None:
        self._read = read
        self._lists: ModelLists = {}
        self._fresh_until: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __call__(self) -> ModelLists:
        """The lists. Raises nothing of Redis (rule 2)."""
        if self._fresh_until is None or self._fresh_until <= asyncio.get_running_loop().time():
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._renew())
            await asyncio.shield(self._reading)
        return self._lists

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(READ_S):
                self._lists = await self._read()
        except (LogUnavailable, TimeoutError):
            pass  # rule 2
        self._fresh_until = asyncio.get_running_loop().time() + FRESH_S
