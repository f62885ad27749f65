"""Slots: how much a worker takes on at once, in generations and in bytes of re-send buffer.

A slot reserves a stream's whole bound before its job is claimed, because Redis may lose everything and the worker must
then hold all of it. When the generation is over the reservation shrinks to what the buffer really holds, and ends when
the buffer is dropped.
"""

from __future__ import annotations

import asyncio


class Slot:
    """A reservation of one generation; ``shrink`` and ``free`` are idempotent."""

    __slots__ = ("_bytes", "_running", "_slots")

    def __init__(self, slots: Slots, size_bytes: int) -> None:
        self._slots = slots
        self._bytes = size_bytes
        self._running = True

    def shrink(self, size_bytes: int) -> None:
        """The generation is over; its buffer of this size is kept for a while."""
        released = max(0, self._bytes - size_bytes)
        self._bytes -= released
        self._slots.release(generations=int(self._running), size_bytes=released)
        self._running = False

    def free(self) -> None:
        """Nothing is held any more."""
        self.shrink(0)


class Slots:
    """At most ``concurrency`` generations and ``buffer_bytes`` of buffers, ``max_bytes`` reserved for each."""

    def __init__(self, *, concurrency: int, buffer_bytes: int, max_bytes: int) -> None:
        self._free = concurrency
        self._free_bytes = buffer_bytes
        self._max_bytes = max_bytes
        self._changed = asyncio.Event()

    @property
    def free(self) -> int:
        """Generations that could begin now."""
        return max(0, min(self._free, self._free_bytes // self._max_bytes))

    def take_nowait(self) -> Slot:
        """Reserve one. A job that was delivered beyond the free slots is taken all the same: the next read waits."""
        self._free -= 1
        self._free_bytes -= self._max_bytes
        return Slot(self, self._max_bytes)

    async def wait_free(self) -> int:
        """Until at least one could begin; how many."""
        while self.free == 0:
            self._changed.clear()
            await self._changed.wait()
        return self.free

    def release(self, *, generations: int, size_bytes: int) -> None:
        """Called by slots."""
        self._free += generations
        self._free_bytes += size_bytes
        self._changed.set()
