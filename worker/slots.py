"""Slots: how many generations and bytes of re-send buffer a worker takes at once.

A slot reserves a stream's whole bound before its job is claimed, because Redis may lose everything and the worker must
then buffer all of it. When the generation is over, the reservation shrinks to the buffer's real size. It ends when the
buffer is dropped.

One tenant may use a share of the slots and of the buffers, so that the rest stays free for others: with a share of nine
tenths, nine of ten slots, three of four, one of two. A worker with one slot cannot keep one free. The tenant of a
server without keys is alone and may use all. An answer that had already started (handed back, or taken over from a
silent worker) may exceed the share, because its viewers wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.log.jobs.job_reader import TenantRooms
from broadcaster.observability.limits import limit_reached


@dataclass(slots=True)
class Slot:
    """A reservation of one generation; ``shrink`` and ``free`` are idempotent."""

    _slots: Slots
    _tenant: str
    _bytes: int
    _running: bool = True

    def shrink(self, size_bytes: int) -> None:
        """The generation is over; its buffer of this size stays for a while."""
        released = max(0, self._bytes - size_bytes)
        self._bytes -= released
        self._slots.release(self._tenant, generations=int(self._running), size_bytes=released)
        self._running = False

    def free(self) -> None:
        """Release the whole reservation."""
        self.shrink(0)


class Slots:
    """At most ``concurrency`` generations and ``buffer_bytes`` of buffers, ``max_bytes`` reserved for each.

    ``tenant_share``: the share of both that one tenant may use. ``changed`` is set whenever a reservation was released;
    the caller clears it.
    """

    def __init__(self, *, concurrency: int, buffer_bytes: int, max_bytes: int, tenant_share: float = 1.0) -> None:
        self.concurrency = concurrency
        self._free = concurrency
        self._free_bytes = buffer_bytes
        self._max_bytes = max_bytes
        self._tenant_most = max(1, int(min(concurrency, buffer_bytes // max_bytes) * tenant_share))
        self._tenant_most_bytes = max(max_bytes, int(buffer_bytes * tenant_share))
        self._used: Counter[str] = Counter()
        self._used_bytes: Counter[str] = Counter()
        self.changed = asyncio.Event()

    @property
    def free(self) -> int:
        """Generations that could begin now."""
        return min(self._free, self._free_bytes // self._max_bytes)

    def rooms(self, count: int) -> TenantRooms:
        """How many of ``count`` new generations may belong to one tenant."""
        others = min(count, self._tenant_most)
        rooms = {
            tenant: room
            for tenant in self._used_bytes
            if tenant != LOCAL_TENANT and (room := self._room(tenant)) < others
        }
        return TenantRooms(others, rooms if others == count else {**rooms, LOCAL_TENANT: count})

    def take_nowait(self, tenant: str) -> Slot:
        """Reserve a slot. The caller has seen that one is free."""
        self._free -= 1
        self._free_bytes -= self._max_bytes
        self._used[tenant] += 1
        self._used_bytes[tenant] += self._max_bytes
        self._count_limits(tenant)
        return Slot(self, tenant, self._max_bytes)

    async def wait_free(self) -> int:
        """Wait until at least one generation could begin; returns how many."""
        while self.free == 0:
            self.changed.clear()
            await self.changed.wait()
        return self.free

    def release(self, tenant: str, *, generations: int, size_bytes: int) -> None:
        """Called by slots."""
        self._free += generations
        self._free_bytes += size_bytes
        for used, released in ((self._used, generations), (self._used_bytes, size_bytes)):
            used[tenant] -= released
            if used[tenant] == 0:
                del used[tenant]
        self.changed.set()

    def _count_limits(self, tenant: str) -> None:
        """A generation has just begun: whether another one must wait."""
        if self.free == 0:
            limit_reached("CONCURRENCY" if self._free == 0 else "BUFFER_BYTES")
        elif tenant != LOCAL_TENANT and self._room(tenant) == 0:
            limit_reached("TENANT_SLOT_SHARE")

    def _room(self, tenant: str) -> int:
        room_bytes = self._tenant_most_bytes - self._used_bytes[tenant]
        return max(0, min(self._tenant_most - self._used[tenant], room_bytes // self._max_bytes))
