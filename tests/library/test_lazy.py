"""What is opened at first use: once, by one task, on one loop, and closed in good order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broadcaster.errors import Busy
from broadcaster.library.lazy import LazyResource


class Opening:
    """Counts how often it was opened and closed, and by which tasks."""

    def __init__(self) -> None:
        self.opened: list[asyncio.Task[object] | None] = []
        self.closed: list[asyncio.Task[object] | None] = []
        self.fault: Exception | None = None
        self.closing_fault: Exception | None = None
        self.may_open = asyncio.Event()
        self.may_open.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        await self.may_open.wait()
        self.opened.append(asyncio.current_task())
        if self.fault is not None:
            raise self.fault
        try:
            yield len(self.opened)
        finally:
            self.closed.append(asyncio.current_task())
            if self.closing_fault is not None:
                raise self.closing_fault


async def test_a_resource_is_opened_once_however_many_callers_come_meanwhile():
    opening = Opening()
    held = LazyResource(opening.open)
    assert await asyncio.gather(*(held.get() for _ in range(20))) == [1] * 20
    await held.aclose()


async def test_a_resource_is_left_by_the_task_that_entered_it():
    opening = Opening()
    held = LazyResource(opening.open)
    await held.get()
    await asyncio.create_task(held.aclose())
    assert opening.closed == opening.opened
    assert opening.opened != [asyncio.current_task()]


async def test_an_opening_that_fails_is_raised_to_each_caller_and_may_be_retried():
    opening = Opening()
    opening.fault = ValueError("no")
    held = LazyResource(opening.open)
    outcomes = await asyncio.gather(*(held.get() for _ in range(3)), return_exceptions=True)
    assert outcomes == [opening.fault] * 3
    assert held.value is None
    opening.fault = None
    assert await held.get() == 2
    await held.aclose()


async def test_a_caller_that_stops_waiting_for_the_opening_does_not_stop_it_for_the_others():
    opening = Opening()
    opening.may_open.clear()
    held = LazyResource(opening.open)
    impatient, patient = asyncio.create_task(held.get()), asyncio.create_task(held.get())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait({impatient})
    opening.may_open.set()
    assert await patient == 1
    await held.aclose()


async def test_closing_while_it_opens_ends_the_opening():
    opening = Opening()
    opening.may_open.clear()
    held = LazyResource(opening.open)
    waiting = asyncio.create_task(held.get())
    await asyncio.sleep(0)
    await held.aclose()
    with pytest.raises(Busy, match="closed while it was being opened"):
        await waiting
    assert opening.opened == []


async def test_a_caller_that_is_cancelled_as_the_opening_is_ended_stays_cancelled():
    opened_by: list[asyncio.Task[object]] = []

    @asynccontextmanager
    async def open() -> AsyncIterator[int]:
        task = asyncio.current_task()
        assert task is not None
        opened_by.append(task)
        await asyncio.Event().wait()
        yield 1

    held = LazyResource(open)
    waiting = asyncio.create_task(held.get())
    while not opened_by:
        await asyncio.sleep(0)
    opened_by[0].add_done_callback(lambda _: waiting.cancel())
    await held.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_closing_twice_does_nothing_and_the_next_use_opens_anew():
    opening = Opening()
    held = LazyResource(opening.open)
    await held.aclose()
    assert await held.get() == 1
    await held.aclose()
    await held.aclose()
    assert len(opening.closed) == 1
    assert await held.get() == 2
    await held.aclose()


async def test_an_error_of_its_closing_is_raised_to_the_caller_that_closes_it():
    opening = Opening()
    opening.closing_fault = ValueError("still busy")
    held = LazyResource(opening.open)
    await held.get()
    with pytest.raises(ValueError, match="still busy"):
        await held.aclose()


def test_on_a_second_loop_it_raises():
    async def use(held: LazyResource[int]) -> None:
        await held.get()
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, held.get())
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, held.aclose())
        assert await held.get() == 1
        await held.aclose()

    asyncio.run(use(LazyResource(Opening().open)))


def test_the_end_of_its_loop_closes_it_and_another_loop_may_open_it():
    opening = Opening()
    held = LazyResource(opening.open)
    assert asyncio.run(held.get()) == 1
    assert len(opening.closed) == 1
    assert asyncio.run(held.get()) == 2
