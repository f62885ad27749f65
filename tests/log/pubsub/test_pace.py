"""A busy connection is read less often; an idle one is read at once."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.log.pubsub.pace import CLOSE_S, MANY, PACE_S, ReadPace


class Reading(asyncio.Transport):
    """A transport that only shows whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True
        self.was_closed = False

    def is_closing(self) -> bool:
        return self.was_closed

    def pause_reading(self) -> None:
        assert self.is_read
        self.is_read = False

    def resume_reading(self) -> None:
        assert not self.was_closed
        self.is_read = True


@pytest.fixture
async def transport() -> Reading:
    return Reading()


async def until_read(transport: Reading) -> float:
    """How long it was not read."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(20):
        while not transport.is_read:
            await asyncio.sleep(0)
    return loop.time() - began


async def test_reads_that_are_apart_are_never_delayed(transport: Reading) -> None:
    pace = ReadPace(transport)
    for turn in range(1, 100):
        pace.has_read(1000, now=turn * 2 * CLOSE_S)
        assert transport.is_read


async def test_the_second_of_two_close_reads_is_followed_by_a_pause(transport: Reading) -> None:
    pace = ReadPace(transport)
    pace.has_read(1, now=1.0)
    assert transport.is_read
    pace.has_read(1, now=1.0 + CLOSE_S / 2)
    assert not transport.is_read
    assert await until_read(transport) >= PACE_S * 0.9


async def test_pauses_continue_for_as_long_as_reads_find_many(transport: Reading) -> None:
    pace = ReadPace(transport)
    pace.has_read(1, now=1.0)
    pace.has_read(1, now=1.0)
    now = 1.0
    for _ in range(5):
        await until_read(transport)
        now += 2 * PACE_S
        pace.has_read(MANY, now=now)
        assert not transport.is_read
    await until_read(transport)
    pace.has_read(MANY - 1, now=now + 2 * PACE_S)
    assert transport.is_read


async def test_a_connection_that_is_gone_is_left_alone(transport: Reading) -> None:
    pace = ReadPace(transport)
    pace.has_read(1, now=1.0)
    pace.has_read(1, now=1.0)
    timer = pace._timer
    pace.close()
    assert timer is not None
    assert timer.cancelled()


async def test_a_connection_that_closes_is_not_paused_any_more(transport: Reading) -> None:
    pace = ReadPace(transport)
    transport.was_closed = True
    pace.has_read(1, now=1.0)
    pace.has_read(1, now=1.0)
    assert transport.is_read
