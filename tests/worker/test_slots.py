"""Slots: what is reserved, shrunk and freed."""

from __future__ import annotations

import asyncio

from worker.slots import Slots


def test_a_generation_begins_only_with_room_for_its_whole_buffer() -> None:
    slots = Slots(concurrency=10, buffer_bytes=250, max_bytes=100)
    assert slots.free == 2
    slots.take_nowait()
    assert slots.free == 1
    slots.take_nowait()
    assert slots.free == 0


def test_an_ended_generation_holds_only_what_its_buffer_really_holds() -> None:
    slots = Slots(concurrency=2, buffer_bytes=200, max_bytes=100)
    first, second = slots.take_nowait(), slots.take_nowait()
    first.shrink(10)
    assert slots.free == 0  # 90 bytes are free, a stream's bound is 100
    second.shrink(5)
    assert slots.free == 1
    first.free()
    first.free()
    second.free()
    assert slots.free == 2


async def test_who_waits_for_a_slot_gets_it_when_one_is_freed() -> None:
    slots = Slots(concurrency=1, buffer_bytes=100, max_bytes=100)
    slot = slots.take_nowait()
    waiting = asyncio.create_task(slots.wait_free())
    await asyncio.sleep(0)
    assert not waiting.done()
    slot.free()
    assert await asyncio.wait_for(waiting, 1) == 1
