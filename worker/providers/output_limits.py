"""The largest ``max_tokens`` of a model, for a wire that requires one when the caller sets none.

Rules
1. The provider's list of models has the limit. It is valid for ``KNOWN_S``, and at most ``MAX_MODELS`` are stored.
2. One lookup of a model runs at a time: concurrent callers share it. Cancelling one caller does not cancel it for the
   others.
3. If a lookup fails, takes longer than ``LOOKUP_S`` or returns no limit, the answer still runs: with the last known
   limit, else the fallback. The next lookup follows after ``FAILED_S``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from broadcaster.observability.lines import showable
from broadcaster.observability.logs import get_logger
from broadcaster.process.tasks import end_tasks

_log = get_logger(__name__)

KNOWN_S: Final = 3600.0
FAILED_S: Final = 60.0
LOOKUP_S: Final = 3.0
MAX_MODELS: Final = 256

Lookup: TypeAlias = Callable[[], Awaitable[int | None]]


@dataclass(frozen=True, slots=True)
class _Known:
    limit: int | None
    until: float


class OutputLimits:
    """One for each provider. It belongs to one event loop."""

    def __init__(self, fallback: int) -> None:
        self._fallback = fallback
        self._known: dict[str, _Known] = {}  # the model looked up longest ago first
        self._running: dict[str, asyncio.Task[int | None]] = {}

    async def of(self, model: str, fetch_limit: Lookup) -> int:
        """The limit of this model; ``fetch_limit`` calls the provider, and may raise anything."""
        known = self._known.get(model)
        if known is None or known.until <= _now():
            task = self._running.get(model)
            if task is None:
                task = self._running[model] = asyncio.create_task(self._renew(model, fetch_limit))
                task.add_done_callback(lambda _: self._running.pop(model, None))
            return await asyncio.shield(task) or self._fallback
        return known.limit or self._fallback

    async def aclose(self) -> None:
        """Cancel the lookups that run. Idempotent."""
        await end_tasks(*self._running.values())

    async def _renew(self, model: str, fetch_limit: Lookup) -> int | None:
        limit: int | None = None
        try:
            async with asyncio.timeout(LOOKUP_S):
                limit = await fetch_limit()
        except Exception as error:  # rule 3: the answer itself will report what is wrong with this provider
            _log.info("model_limit_unknown", model=showable(model), error=type(error).__name__)
        last = self._known.pop(model, None)
        valid_s = KNOWN_S if limit is not None else FAILED_S
        kept = limit if limit is not None or last is None else last.limit
        while len(self._known) >= MAX_MODELS:
            del self._known[next(iter(self._known))]
        self._known[model] = _Known(kept, _now() + valid_s)
        return kept


def _now() -> float:
    return asyncio.get_running_loop().time()
