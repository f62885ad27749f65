"""The console in a real browser over a world in memory: the test is the worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Route

from broadcaster.core import events as ev
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.browser import Tab, Tabs, open_tabs
from tests.support.servers.front_end import own_app, served

DEADLINE_S = 20.0


@dataclass
class Worker:
    """Answers what the page asks, as the test says."""

    world: MemoryWorld
    _created: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.world.on_create = self._created.put_nowait

    async def take(self) -> tuple[str, Mapping[str, Any]]:
        """The next generation that the page has started, and its request."""
        async with asyncio.timeout(DEADLINE_S):
            generation_id = await self._created.get()
        return generation_id, self.world.requests[-1].request

    def write(self, generation_id: str, text: str) -> None:
        if not self.world.streams[generation_id].entries:
            self.world.append(generation_id, ev.Start(message_id="msg"), ev.TextStart(id="0"))
        self.world.append(generation_id, ev.TextDelta(id="0", delta=text))

    def finish(self, generation_id: str, text: str = "") -> None:
        if text:
            self.write(generation_id, text)
        self.world.append(generation_id, ev.TextEnd(id="0"), ev.Finish(finish_reason="stop"))

    async def answer(self, text: str) -> Mapping[str, Any]:
        """Answer the next generation whole; its request."""
        generation_id, request = await self.take()
        self.finish(generation_id, text)
        return request


async def open_held_back(tabs: Tabs, url: str, requests: str) -> tuple[Tab, asyncio.Event]:
    """The page with its requests of this pattern held back until the event is set."""
    is_let = asyncio.Event()

    async def hold(route: Route) -> None:
        await is_let.wait()
        await route.continue_()

    tab = await tabs.open("about:blank")
    await tab.page.route(requests, hold)
    await tab.page.goto(url)
    return tab, is_let


async def delete_held_back(tab: Tab, title: str, generation: str = "*") -> None:
    """Delete this conversation; the first call that deletes such a generation is held back for good."""
    is_held = asyncio.Event()

    async def hold_once(route: Route) -> None:
        if route.request.method == "DELETE" and not is_held.is_set():
            is_held.set()
        else:
            await route.continue_()

    await tab.page.route(f"**/v1/generations/{generation}", hold_once)
    await tab.page.get_by_role("button", name=f"Actions for {title}").click()
    await tab.part("row-delete").click()
    await tab.part("delete-confirm").click()
    async with asyncio.timeout(DEADLINE_S):
        await is_held.wait()


@pytest.fixture
def world() -> MemoryWorld:
    world = MemoryWorld()
    world.now_ms = lambda: int(time.time() * 1000)
    return world


@pytest.fixture
def worker(world: MemoryWorld) -> Worker:
    return Worker(world)


@pytest.fixture
async def services(world: MemoryWorld) -> AsyncIterator[Services]:
    async with memory_services(world) as opened:
        yield opened


@pytest.fixture
async def url(services: Services) -> AsyncIterator[str]:
    async with served(own_app(services), services) as client:
        yield str(client.base_url)


@pytest.fixture
async def tabs() -> AsyncIterator[Tabs]:
    async with open_tabs() as opened:
        yield opened
