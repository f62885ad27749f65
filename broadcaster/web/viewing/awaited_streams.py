"""Streams that requests wait for before they exist: one shared look-up for all requests that wait, at a bounded rate.

Rules
1. A request that waits costs a future, not a look-up of its own. Creation is not announced, so streams are polled:
   ``LOOKUPS_AT_ONCE`` of them every ``LOOKUP_EVERY_S``, in one pipelined read, for any number of requests.
2. Tenants have equal shares of each look-up, and each tenant's streams take turns: a tenant that waits for thousands
   waits longer itself, and the others do not.
3. Only a stream of the tenant's own is found. A stream of another tenant, or a deleted one, is treated as missing.
4. A drain ends all waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from broadcaster.core.requests.stream_ids import stored_ids
from broadcaster.errors import LogUnavailable
from broadcaster.observability.logs import get_logger

LOOKUP_EVERY_S: Final = 0.25
LOOKUPS_AT_ONCE: Final = 250

_log = get_logger(__name__)

_Waiters = dict[str, set[asyncio.Future[bool]]]


@dataclass(slots=True, eq=False)
class AwaitedStreams:
    """One for a front-end. ``owners`` reads the tenant of each stored stream from the log (None: no stream)."""

    owners: Callable[[Sequence[str]], Awaitable[Sequence[str | None]]]
    draining: asyncio.Event = field(kw_only=True)
    _tenants: dict[str, _Waiters] = field(default_factory=dict, init=False)  # by id, least recently looked up first
    _search: asyncio.Task[None] | None = field(default=None, init=False)

    @contextmanager
    def awaiting(self, stream_id: str, *, tenant: str) -> Iterator[asyncio.Future[bool]]:
        """A future that is True once the tenant has this stream, and False when a drain begins."""
        found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._tenants.setdefault(tenant, {}).setdefault(stream_id, set()).add(found)
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._look_up_awaited())
        try:
            yield found
        finally:
            self._forget(stream_id, tenant, found)

    def _forget(self, stream_id: str, tenant: str, found: asyncio.Future[bool]) -> None:
        waiters = self._tenants[tenant]
        waiters[stream_id].discard(found)
        if not waiters[stream_id]:
            del waiters[stream_id]
        if not waiters:
            del self._tenants[tenant]
        if not self._tenants and self._search is not None:
            self._search.cancel()
            self._search = None

    async def _look_up_awaited(self) -> None:
        while self._tenants and not await self._drains_within(LOOKUP_EVERY_S):
            try:
                await self._look_up(self._next())
            except LogUnavailable:
                continue
            except Exception as error:
                _log.error("look_for_streams_failed", exc_info=error)
        for waiters in self._tenants.values():
            for stream_id in waiters:
                _resolve(waiters[stream_id], False)

    async def _drains_within(self, pause_s: float) -> bool:
        try:
            async with asyncio.timeout(pause_s):
                return await self.draining.wait()
        except TimeoutError:
            return False

    def _next(self) -> list[tuple[str, str]]:
        """Tenant and id of the streams to look up now, which go to the end of their queue (rule 2)."""
        share = max(1, LOOKUPS_AT_ONCE // max(1, len(self._tenants)))
        chosen: list[tuple[str, str]] = []
        for tenant, waiters in self._tenants.items():
            for stream_id in list(waiters)[:share]:
                waiters[stream_id] = waiters.pop(stream_id)
                chosen.append((tenant, stream_id))
        return chosen

    async def _look_up(self, wanted: Sequence[tuple[str, str]]) -> None:
        places = [(*each, stored) for each in wanted for stored in stored_ids(each[1], tenant=each[0])]
        owners = await self.owners([stored for _, _, stored in places])
        for (tenant, stream_id, _), owner in zip(places, owners, strict=True):
            if owner == tenant:
                _resolve(self._tenants.get(tenant, {}).get(stream_id, ()), True)


def _resolve(waiters: set[asyncio.Future[bool]] | tuple[()], is_there: bool) -> None:
    for found in waiters:
        if not found.done():
            found.set_result(is_there)
