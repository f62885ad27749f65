"""Signals on a server that is not ours: the drain begins, and the handlers of others are kept and given back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from broadcaster.web.server.draining import draining_on_signals
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld, memory_services

DEADLINE_S = 30.0
NUMBERS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    async with memory_services(MemoryWorld()) as opened:
        yield opened


@pytest.fixture
def received() -> Iterator[list[int]]:
    """What the server's own handler received; the former handlers are restored."""
    numbers: list[int] = []

    def note(number: int, _frame: object) -> None:
        numbers.append(number)

    before = {number: signal.signal(number, note) for number in NUMBERS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
async def test_a_signal_begins_the_drain_and_reaches_the_servers_own_handler_every_time(
    services: Services, received: list[int], number: signal.Signals
) -> None:
    async with draining_on_signals(services):
        signal.raise_signal(number)
        signal.raise_signal(number)
        async with asyncio.timeout(DEADLINE_S):
            await services.draining.wait()
    assert received == [number, number]
    assert services.hub.is_draining


async def test_two_front_ends_in_one_process_both_drain_and_give_the_signals_back(
    services: Services, received: list[int]
) -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    async with memory_services(MemoryWorld()) as other:
        async with draining_on_signals(services), draining_on_signals(other):
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE_S):
                await services.draining.wait()
                await other.draining.wait()
    assert received == [signal.SIGTERM]
    assert [signal.getsignal(number) for number in NUMBERS] == before


async def test_a_handler_that_was_set_meanwhile_is_left_alone(services: Services, received: list[int]) -> None:
    def newer(_number: int, _frame: object) -> None:
        """Of a library that came later."""

    async with draining_on_signals(services):
        signal.signal(signal.SIGTERM, newer)
    assert signal.getsignal(signal.SIGTERM) is newer


@pytest.mark.parametrize("default", [signal.SIG_DFL, signal.SIG_IGN])
async def test_the_default_action_of_a_signal_is_left_in_place(
    services: Services, received: list[int], default: signal.Handlers
) -> None:
    signal.signal(signal.SIGTERM, default)
    async with draining_on_signals(services):
        assert signal.getsignal(signal.SIGTERM) is default


def test_outside_the_main_thread_no_handler_is_touched(received: list[int]) -> None:
    async def read_handler() -> object:
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(memory_services(MemoryWorld()))
            await stack.enter_async_context(draining_on_signals(services))
            return signal.getsignal(signal.SIGTERM)

    async def in_a_thread() -> object:
        return await asyncio.to_thread(asyncio.run, read_handler())

    before = signal.getsignal(signal.SIGTERM)
    assert asyncio.run(in_a_thread()) is before
