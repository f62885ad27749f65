"""The providers' own lists of models, read by a worker and stored for the front-ends, which hold no provider keys.

Rules
1. The worker that takes a provider's turn (log/jobs/lists/model_lists.py) reads its list, once every ``every_s``. After
   a failure the next turn follows after FAILED_S.
2. If a list cannot be read, the last one stays stored until KEEP_S after it was read. Nothing else fails.
3. Reading a list takes at most LIST_S, over all pages.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.lists.model_lists import StoredModelLists
from broadcaster.observability.logs import get_logger
from worker.providers.base import ListsModels
from worker.providers.registry import Providers

_log = get_logger(__name__)

LIST_S: Final = 15.0
FAILED_S: Final = 60.0
KEEP_S: Final = 6 * 3600.0
_CHECKS_PER_INTERVAL: Final = 4


class ModelListReader:
    """Reads the lists of these providers while ``run`` runs."""

    def __init__(self, providers: Providers, names: Sequence[str], stored: StoredModelLists, *, every_s: float) -> None:
        self._providers = providers
        self._names = names
        self._stored = stored
        self._every_s = every_s

    async def run(self) -> None:
        """Refresh repeatedly, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._every_s / _CHECKS_PER_INTERVAL * random.uniform(0.75, 1.25))

    async def refresh(self) -> None:
        """Read the lists whose turn this worker gets."""
        await asyncio.gather(*map(self._renew, self._names))

    async def _renew(self, name: str) -> None:
        try:
            # The turn is short until the list is stored: if this worker is lost, the others wait no longer.
            if await self._stored.take_turn(name, for_s=min(FAILED_S, self._every_s)):
                await self._read(name)
        except LogUnavailable:
            pass  # the next refresh follows

    async def _read(self, name: str) -> None:
        try:
            provider = await self._providers.named(name)
            if not isinstance(provider, ListsModels):
                return
            with self._providers.keys_of(name).taken() as key:
                async with asyncio.timeout(LIST_S):
                    models = await provider.models(api_key=key.value)
        except Exception as error:  # rule 2; the SDK's text may quote the provider's response
            _log.info("model_list_unknown", provider=name, error=type(error).__name__)
            return
        await self._stored.store(name, models, keep_s=max(KEEP_S, 3 * self._every_s))
        await self._stored.keep_turn(name, for_s=self._every_s)
        _log.debug("model_list_stored", provider=name, models=len(models))
