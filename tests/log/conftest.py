"""Fixtures of the log: a world over the run's server, and its worker's writer and lease keeper."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.appender import Appender
from tests.support.log.log_world import World


@pytest.fixture
def world(connection: LogConnection) -> World:
    return World(connection)


@pytest.fixture
async def appender(world: World) -> AsyncIterator[Appender]:
    async with world.appender() as opened:
        yield opened


@pytest.fixture
def keeper(world: World, appender: Appender) -> LeaseKeeper:
    return world.keeper(appender)
