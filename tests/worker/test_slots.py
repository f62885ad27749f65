"""Slots: what is reserved, shrunk and freed."""

from __future__ import annotations

import asyncio

import pytest

from worker.slots import Slots


def test_a_generation_begins_only_with_room_for_its_whole_buffer() -> None:
    slots = Slots(concurrency=10, buffer_bytes=250, max_bytes=100)
    assert slots.free == 2
    slots.take_nowait("a")
    assert slots.free == 1
    slots.take_nowait("a")
    assert slots.free == 0


def test_an_ended_generation_holds_only_what_its_buffer_really_holds() -> None:
    slots = Slots(concurrency=2, buffer_bytes=200, max_bytes=100)
    first, second = slots.take_nowait("a"), slots.take_nowait("a")
    first.shrink(10)
    assert slots.free == 0  # 90 bytes are free, a stream's bound is 100
    second.shrink(5)
    assert slots.free == 1
    first.free()
    first.free()
    second.free()
    assert slots.free == 2


async def test_a_waiting_caller_gets_a_slot_when_one_is_freed() -> None:
    slots = Slots(concurrency=1, buffer_bytes=100, max_bytes=100)
    slot = slots.take_nowait("a")
    waiting = asyncio.create_task(slots.wait_free())
    await asyncio.sleep(0)
    assert not waiting.done()
    slot.free()
    assert await asyncio.wait_for(waiting, 10) == 1


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (2, 1), (4, 3), (10, 9), (16, 14), (100, 90)])
def test_one_tenant_may_hold_nine_tenths_of_the_slots(concurrency: int, most: int) -> None:
    slots = Slots(concurrency=concurrency, buffer_bytes=10**6, max_bytes=100, tenant_share=0.9)
    taken = 0
    while slots.free and room(slots, "a"):
        slots.take_nowait("a")
        taken += 1
    assert taken == most
    assert room(slots, "b") == concurrency - most


def test_one_tenant_may_hold_nine_tenths_of_the_buffers_whatever_its_ended_answers_keep() -> None:
    slots = Slots(concurrency=100, buffer_bytes=1000, max_bytes=100, tenant_share=0.9)
    for _ in range(9):
        slots.take_nowait("a").shrink(90)
    assert (room(slots, "a"), room(slots, "b")) == (0, 1)


def test_the_tenant_of_a_server_without_keys_may_hold_every_slot() -> None:
    slots = Slots(concurrency=2, buffer_bytes=10**6, max_bytes=100, tenant_share=0.9)
    slots.take_nowait("local")
    assert (room(slots, "local"), room(slots, "a")) == (1, 1)


def test_the_room_of_a_tenant_is_forgotten_with_its_last_buffer() -> None:
    slots = Slots(concurrency=2, buffer_bytes=10**6, max_bytes=100, tenant_share=0.9)
    slot = slots.take_nowait("a")
    assert slots.rooms(1).rooms == {"a": 0}
    slot.shrink(10)
    slot.free()
    assert slots.rooms(1).rooms == {}


def room(slots: Slots, tenant: str) -> int:
    """How many more generations of this tenant may begin."""
    rooms = slots.rooms(slots.free)
    return min(slots.free, rooms.rooms.get(tenant, rooms.others))
