"""The JavaScript client under node, Deno or Bun; a front-end for it, and a server that fails as networks fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from broadcaster.web.services import Services
from tests.client.conftest import STORY, as_log
from tests.clients_js.runtimes import find_runtime, runtime_params
from tests.compat.node_clients import Driver, start_driver
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import own_app, served, until_watched
from tests.support.servers.programs import find_program, lacking
from tests.support.servers.sse_server import SseServer


@dataclass
class FrontEnd:
    """A front-end over a world in memory."""

    url: str
    world: MemoryWorld
    services: Services

    async def until_watched(self, stream_id: str, viewers: int = 1) -> None:
        await until_watched(self.services, stream_id, viewers)


@pytest.fixture(params=runtime_params())
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    runtime = find_runtime(request.param)
    script = Path(__file__).parent / "driver.mjs"
    async with start_driver(runtime.program, script, options=runtime.options) as driver:
        yield driver


@pytest.fixture
async def ws_driver() -> AsyncIterator[Driver]:
    """The same with ``globalThis.WebSocket``, which Node has by itself from version 22 on."""
    if not find_spec("websockets"):
        lacking("no package websockets found: make install")
    node = find_program("node", remedy="install it, e.g. apt install nodejs")
    async with start_driver(node, Path(__file__).parent / "driver.mjs", options=["--experimental-websocket"]) as driver:
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
