"""Slots: how much a worker takes on at once, in generations and in bytes of re-send buffer.

A slot reserves a stream's whole bound before its job is claimed, because Redis may lose everything and the worker must
then hold all of it. When the generation is over the reservation shrinks to what the buffer really holds, and ends when
the buffer is dropped.

One tenant may hold a share of the slots and of the buffers, so that others find the rest free: of ten slots and a share
of nine tenths nine, of four three, of two one. A worker with one slot has none to keep free. The tenant of a server
without keys is alone and may hold all. An answer that had started before (handed back, taken over from a silent worker)
is taken beyond the share: its viewers wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from broadcaster.core.stream_ids import LOCAL_TENANT
from broadcaster.log.job_reader import TenantRooms


class Slot:
    """A reservation of one generation; ``shrink`` and ``free`` are idempotent."""

    __slots__ = ("_bytes", "_running", "_slots", "_tenant")

    def __init__(self, slots: Slots, tenant: str, size_bytes: int) -> None:
        self._slots = slots
        self._tenant = tenant
        self._bytes = size_bytes
        self._running = True

    def shrink(self, size_bytes: int) -> None:
        """The generation is over; its buffer of this size is kept for a while."""
        released = max(0, self._bytes - size_bytes)
        self._bytes -= released
        self._slots.release(self._tenant, generations=int(self._running), size_bytes=released)
        self._running = False

    def free(self) -> None:
        """Nothing is held any more."""
        self.shrink(0)


class Slots:
    """At most ``concurrency`` generations and ``buffer_bytes`` of buffers, ``max_bytes`` reserved for each.

    ``tenant_share``: the share of both that one tenant may hold. ``changed`` is set whenever something was released;
    the caller clears it.
    """

    def __init__(self, *, concurrency: int, buffer_bytes: int, max_bytes: int, tenant_share: float = 1.0) -> None:
        self._free = concurrency
        self._free_bytes = buffer_bytes
        self._max_bytes = max_bytes
        self._tenant_most = max(1, int(min(concurrency, buffer_bytes // max_bytes) * tenant_share))
        self._tenant_most_bytes = max(max_bytes, int(buffer_bytes * tenant_share))
        self._held: Counter[str] = Counter()
        self._held_bytes: Counter[str] = Counter()
        self.changed = asyncio.Event()

    @property
    def free(self) -> int:
        """Generations that could begin now."""
        return max(0, min(self._free, self._free_bytes // self._max_bytes))

    def rooms(self, count: int) -> TenantRooms:
        """How many of ``count`` new generations may be of one tenant."""
        others = min(count, self._tenant_most)
        rooms = {
            tenant: room
            for tenant in self._held_bytes
            if tenant != LOCAL_TENANT and (room := self._room(tenant)) < others
        }
        return TenantRooms(others, rooms if others == count else {**rooms, LOCAL_TENANT: count})

    def take_nowait(self, tenant: str) -> Slot:
        """Reserve one. A job that was delivered beyond the free slots is taken all the same: the next read waits."""
        self._free -= 1
        self._free_bytes -= self._max_bytes
        self._held[tenant] += 1
        self._held_bytes[tenant] += self._max_bytes
        return Slot(self, tenant, self._max_bytes)

    async def wait_free(self) -> int:
        """Until at least one could begin; how many."""
        while self.free == 0:
            self.changed.clear()
            await self.changed.wait()
        return self.free

    def release(self, tenant: str, *, generations: int, size_bytes: int) -> None:
        """Called by slots."""
        self._free += generations
        self._free_bytes += size_bytes
        for held, released in ((self._held, generations), (self._held_bytes, size_bytes)):
            held[tenant] -= released
            if held[tenant] == 0:
                del held[tenant]
        self.changed.set()

    def _room(self, tenant: str) -> int:
        room_bytes = self._tenant_most_bytes - self._held_bytes[tenant]
        return max(0, min(self._tenant_most - self._held[tenant], room_bytes // self._max_bytes))
