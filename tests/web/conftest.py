"""The app over a world in memory, in process and served."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import in_process, own_app, served

MAX_BODY_BYTES = 4096


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld()


@pytest.fixture
async def services(world: MemoryWorld) -> AsyncIterator[Services]:
    async with memory_services(world, max_body_bytes=MAX_BODY_BYTES) as opened:
        yield opened


@pytest.fixture
def app(services: Services) -> FastAPI:
    return own_app(services)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(app) as opened:
        yield opened


@pytest.fixture
async def live_client(app: FastAPI, services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(app, services) as opened:
        yield opened
