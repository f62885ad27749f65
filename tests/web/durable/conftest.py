"""A front-end over a real Redis, as a client of Durable Streams sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import own_app, served
from tests.web.durable.calls import DurableClient


@pytest.fixture
def settings(connection: LogConnection) -> Settings:
    # A busy machine may keep a reply for seconds, and none of these tests is of an outage.
    return Settings(
        redis_url=connection.url, redis_timeout_s=10, feed_append_rate=10_000, retry_ms=100, max_event_bytes=2**18
    )


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    async with open_services(settings) as opened:
        yield opened


@pytest.fixture
async def client(settings: Settings, services: Services) -> AsyncIterator[DurableClient]:
    async with served(own_app(services, settings), services) as http:
        yield DurableClient(http)
