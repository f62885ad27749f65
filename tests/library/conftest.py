"""A Broadcaster over the run's server, emptied for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broadcaster import Broadcaster
from broadcaster.log.redis.connect import LogConnection


@pytest.fixture
async def broadcaster(connection: LogConnection) -> AsyncIterator[Broadcaster]:
    async with Broadcaster.from_url(connection.url, heartbeat_s=0.5, redis_timeout_s=10, drain_s=2) as opened:
        yield opened
