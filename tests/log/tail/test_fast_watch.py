"""When a watch lets its fast path open, and that it knows what came by it; on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import StallReason
from broadcaster.log.tail.watch import StreamWatch
from tests.support.log.tail_world import DEADLINE_S, TAILS, Room, TailWorld, open_tail, until


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[TailWorld]:
    async with open_tail(redis_url) as opened:
        yield opened


async def until_open(room: Room) -> None:
    path = room.fast_path
    assert path is not None
    await until(lambda: path.is_open)


async def opened(world: TailWorld) -> tuple[Room, StreamWatch, list[Entry]]:
    """A stream of one entry whose fast path is open."""
    room, watch = await world.watch_live("s")
    written = await world.writer.append("s", 1)
    await room.holds(written)
    await until_open(room)
    return room, watch, written


async def test_after_the_first_entry_all_come_by_the_fast_path(world: TailWorld) -> None:
    room, watch, written = await opened(world)
    for count in (1, 3, 1):
        written += await world.writer.append("s", count)
        await room.holds(written)
    assert room.came_fast == 5
    assert watch.last == written[-1].cursor
    assert world.reads == ["s"], "nothing was repaired"


async def test_the_terminal_ends_the_path_and_the_stream(world: TailWorld) -> None:
    room, watch, written = await opened(world)
    written += await world.writer.append("s", 1)
    written.append(await world.writer.finish("s"))
    await room.holds(written)
    assert watch.is_over
    assert room.fast_path is not None
    await asyncio.sleep(0)
    assert not room.fast_path.is_open


async def test_it_does_not_open_while_the_log_may_be_silent_and_opens_when_it_answers(world: TailWorld) -> None:
    room, watch, written = await opened(world)
    watch.suspect_silence()
    assert room.fast_path is not None
    assert not room.fast_path.is_open
    assert watch.begin_fast() is None
    written += await world.writer.append("s", 1)  # its push is the answer
    await room.holds(written)
    assert watch.begin_fast() == written[-1].cursor


async def test_it_is_closed_for_a_read_of_the_log_and_by_the_end_of_the_watch(world: TailWorld) -> None:
    room, watch, _ = await opened(world)
    watch.reread()
    assert watch.begin_fast() is None
    await room.until(lambda: room.lives == 2)
    await until_open(room)
    watch.close()
    assert room.fast_path is not None
    assert not room.fast_path.is_open
    assert watch.begin_fast() is None


async def test_an_entry_whose_push_is_lost_while_the_path_is_open_is_found_by_the_tail_check(redis_url: str) -> None:
    async with open_tail(redis_url, times=TAILS) as world:
        await world.know("s")
        room, _, written = await opened(world)
        written += await world.writer.append("s", 1)
        written += await world.writer.append("s", 1, push="none")
        await room.holds(written)


async def test_a_worker_that_is_lost_while_the_path_is_open_is_reported(redis_url: str) -> None:
    async with open_tail(redis_url, times=TAILS) as world:
        await world.writer.set_worker("s", leased=True)
        room, _, _ = await opened(world)
        await world.writer.append("s", 1)
        await world.writer.set_worker("s", leased=False)
        await room.until(lambda: room.stall is StallReason.WORKER_LOST)
        assert room.fast_path is not None
        assert not room.fast_path.is_open


async def test_a_sink_that_raises_at_what_came_by_the_path_is_sent_the_stream_anew(world: TailWorld) -> None:
    room, _, written = await opened(world)
    faults = [RuntimeError("once")]

    def fail_once(name: str) -> None:
        if name == "deliver" and faults:
            raise faults.pop()

    room.on_call = fail_once
    written += await world.writer.append("s", 1)
    await room.until(lambda: ("rewound", Cursor(0, 0)) in room.notices, within_s=DEADLINE_S)
    await room.holds(written)
    assert not faults
