"""Routes that a test gives and changes."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping

from redis.asyncio.connection import AbstractConnection

from broadcaster.log.key_slots import SLOTS, slot_of
from broadcaster.log.routes import RouteListener


class GivenRoutes:
    """Implements ``Routes``: who serves each slot, as the test says; ``on_look`` may change it."""

    def __init__(self, owner: str) -> None:
        self.owners = [owner] * SLOTS
        self.doubted: set[str | None] = set()
        self.on_look: Callable[[], None] = lambda: None
        self.listeners: weakref.WeakSet[RouteListener] = weakref.WeakSet()

    def listen(self, listener: RouteListener) -> None:
        self.listeners.add(listener)

    @property
    def primaries(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.owners)))

    @property
    def replicas(self) -> tuple[str, ...]:
        return ()

    @property
    def is_whole(self) -> bool:
        return True

    def node_of(self, key: bytes) -> str | None:
        return self.owners[slot_of(key)]

    def give(self, owners: Mapping[str, str]) -> None:
        """Keys, and who serves their slots from now on."""
        for key, owner in owners.items():
            self.owners[slot_of(key.encode())] = owner

    def is_doubtful(self, node: str | None) -> bool:
        return node in self.doubted

    def doubt(self, node: str) -> None:
        self.doubted.add(node)

    def move(self, slot: int, *, source: str, target: str) -> None:
        self.owners[slot] = target

    async def look(self, *, within_s: float = 0.0) -> None:
        await asyncio.sleep(0)
        self.on_look()
        self.doubted.clear()
        await asyncio.gather(*(each.drop_others() for each in list(self.listeners)))

    async def greet(self, connection: AbstractConnection) -> None:
        return None

    async def aclose(self) -> None:
        return None
