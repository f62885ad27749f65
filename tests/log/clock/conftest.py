"""A world whose Redis has a clock that tests set."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.log.clock_world import open_clock_world
from tests.support.log.log_world import World
from tests.support.log.stepping_clock import SteppingClock


@pytest.fixture
async def stepping() -> AsyncIterator[tuple[World, SteppingClock]]:
    async with open_clock_world() as opened:
        yield opened


@pytest.fixture
def world(stepping: tuple[World, SteppingClock]) -> World:
    return stepping[0]


@pytest.fixture
def clock(stepping: tuple[World, SteppingClock]) -> SteppingClock:
    return stepping[1]
