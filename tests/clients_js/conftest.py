"""The JavaScript client in a node process, and a server that fails in the ways that front-ends and networks fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client.conftest import STORY, as_log
from tests.compat.node_clients import Driver, start_driver
from tests.support.servers.programs import find_program
from tests.support.servers.sse_server import SseServer


@pytest.fixture
async def driver() -> AsyncIterator[Driver]:
    node = find_program("node", remedy="install it, e.g. apt install nodejs")
    async with start_driver(node, Path(__file__).parent / "driver.mjs") as driver:
        yield driver


@pytest.fixture
async def server() -> AsyncIterator[SseServer]:
    async with SseServer(as_log(*STORY)) as server:
        yield server
