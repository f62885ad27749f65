"""The JavaScript client in a node process, and servers for it: a front-end, and one that fails as networks fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broadcaster.web.services import Services
from tests.client.conftest import STORY, as_log
from tests.compat.node_clients import Driver, start_driver
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import own_app, served, until_watched
from tests.support.servers.programs import find_program
from tests.support.servers.sse_server import SseServer


@dataclass
class FrontEnd:
    """A front-end over a world in memory."""

    url: str
    world: MemoryWorld
    services: Services

    async def until_watched(self, stream_id: str, viewers: int = 1) -> None:
        await until_watched(self.services, stream_id, viewers)


@pytest.fixture
async def driver() -> AsyncIterator[Driver]:
    node = find_program("node", remedy="install it, e.g. apt install nodejs")
    async with start_driver(node, Path(__file__).parent / "driver.mjs") as driver:
        yield driver


@pytest.fixture
async def server() -> AsyncIterator[SseServer]:
    async with SseServer(as_log(*STORY)) as server:
        yield server


@pytest.fixture
async def front_end() -> AsyncIterator[FrontEnd]:
    world = MemoryWorld()
    async with memory_services(world) as services, served(own_app(services), services) as client:
        yield FrontEnd(str(client.base_url).rstrip("/"), world, services)
