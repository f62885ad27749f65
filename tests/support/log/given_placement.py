"""A placement that a test gives and changes."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping

from redis.asyncio.connection import AbstractConnection

from broadcaster.log.redis.topology.key_slots import SLOTS, slot_of
from broadcaster.log.redis.topology.refresh import TopologyClient


class GivenPlacement:
    """Implements ``Placement``: the server of each slot, as the test sets it; ``on_refresh`` may change it."""

    def __init__(self, owner: str) -> None:
        self.owners: list[str | None] = [owner] * SLOTS
        self.doubted: set[str | None] = set()
        self.on_refresh: Callable[[], None] = lambda: None
        self.clients: weakref.WeakSet[TopologyClient] = weakref.WeakSet()

    def register(self, client: TopologyClient) -> None:
        self.clients.add(client)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(sorted(each for each in set(self.owners) if each is not None))

    @property
    def replicas(self) -> tuple[str, ...]:
        return ()

    @property
    def has_served(self) -> bool:
        return True

    @property
    def is_whole(self) -> bool:
        return True

    def node_of(self, key: bytes) -> str | None:
        return self.owners[slot_of(key)]

    def give(self, owners: Mapping[str, str]) -> None:
        """Keys, and the servers of their slots from now on."""
        for key, owner in owners.items():
            self.owners[slot_of(key.encode())] = owner

    def is_doubtful(self, node: str | None) -> bool:
        return node in self.doubted

    def doubt(self, node: str) -> None:
        self.doubted.add(node)

    def move(self, slot: int, *, source: str, target: str) -> None:
        self.owners[slot] = target

    async def refresh(self, *, max_age_s: float = 0.0) -> None:
        await asyncio.sleep(0)
        self.on_refresh()
        self.doubted.clear()
        await asyncio.gather(*(each.close_others() for each in list(self.clients)))

    async def verify(self, connection: AbstractConnection) -> None:
        return None

    async def aclose(self) -> None:
        return None
