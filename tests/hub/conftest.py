"""A hub over a log in memory, and short ways to write what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from tests.support.memory.fake_tail import FakeTail

LIMITS = HubLimits(heartbeat_s=60, slow_viewer_s=60, linger_s=60)


@pytest.fixture
def tail() -> FakeTail:
    return FakeTail()


@pytest.fixture
async def open_hub(tail: FakeTail) -> AsyncIterator[Callable[..., Hub]]:
    """Opens hubs over the tail; closes them, and sees that they leave no task behind."""
    hubs: list[Hub] = []

    def open_one(limits: HubLimits = LIMITS) -> Hub:
        hubs.append(Hub(tail, tail, limits=limits))
        return hubs[-1]

    yield open_one
    for hub in hubs:
        await hub.aclose()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left


@pytest.fixture
def hub(open_hub: Callable[..., Hub]) -> Hub:
    return open_hub()
