"""The providers' lists of models: a worker, which has the keys, stores them; front-ends read them.

One value per provider, bounded (core/providers/listed_models.py) and with an expiry, so that the list of a provider
without a worker is forgotten. Beside it is a turn: of all workers, only the one that takes it requests the list from
the provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from broadcaster.core.providers.listed_models import ListedModel, ModelLists, decode_list, encode_list
from broadcaster.log.redis.connect import LogConnection, log_errors, reply_to


class StoredModelLists:
    """Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection) -> None:
        self._redis = connection.redis
        self._keys = connection.keys

    async def take_turn(self, provider: str, *, for_s: float) -> bool:
        """Whether the caller may request this provider's list; for so long no other process may."""
        taken = await reply_to(self._redis.set(self._keys.models_turn(provider), b"", nx=True, px=_ms(for_s)))
        return bool(taken)

    async def keep_turn(self, provider: str, *, for_s: float) -> None:
        """The turn lasts for so long from now on."""
        await reply_to(self._redis.pexpire(self._keys.models_turn(provider), _ms(for_s)))

    async def store(self, provider: str, models: Sequence[ListedModel], *, keep_s: float) -> None:
        """Keep this list in place of the one before."""
        await reply_to(self._redis.set(self._keys.models(provider), encode_list(models), px=_ms(keep_s)))

    async def read(self, providers: Iterable[str]) -> ModelLists:
        """The stored lists, in the order of the providers."""
        names = list(providers)
        with log_errors():
            values: Any = await asyncio.gather(*(self._redis.get(self._keys.models(name)) for name in names))
        lists = {name: decode_list(raw) for name, raw in zip(names, values, strict=True) if raw is not None}
        return {name: models for name, models in lists.items() if models is not None}


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))
