"""Large JSON is read and made one piece in a turn of the loop, so that other requests wait for one piece at most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadcaster.core.events import Finish, Start, TextDelta
from broadcaster.log.streams.pages import PAGE
from broadcaster.web.guards.json_ledger import LARGE_BYTES
from tests.support.apps.mounting import Mounted
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, in_process, own_app

REQUESTS = 12
LARGE = "x" * (LARGE_BYTES + 1)


@dataclass
class Turns:
    """In which turn of the loop the first request came, and each response began."""

    now: int = 0
    first: int | None = None
    answered: list[int] = field(default_factory=list)

    def noting(self, app: ASGIApp) -> Any:
        """The app, with its turns noted."""

        async def noted(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self.answered.append(self.now)
                await send(message)

            self.first = self.now if self.first is None else self.first
            await app(scope, receive, send_noted)

        return noted

    async def count(self) -> None:
        """Every turn, until it is cancelled."""
        while True:
            await asyncio.sleep(0)
            self.now += 1


@dataclass
class Served:
    """An app under test, the world it serves, and what stands before its paths."""

    client: httpx2.AsyncClient
    world: MemoryWorld
    turns: Turns
    prefix: str

    async def post(self, body: str) -> httpx2.Response:
        headers = {"content-type": "application/json"}
        return await self.client.post(f"{self.prefix}/v1/generations", content=body, headers=headers)

    async def get(self, generation_id: str) -> httpx2.Response:
        return await self.client.get(f"{self.prefix}/v1/generations/{generation_id}")


@asynccontextmanager
async def _own() -> AsyncIterator[tuple[FastAPI, MemoryWorld, str]]:
    world = MemoryWorld()
    async with memory_services(world) as services:
        yield own_app(services), world, ""


@asynccontextmanager
async def _mounted() -> AsyncIterator[tuple[FastAPI, MemoryWorld, str]]:
    mounted, app = Mounted(), FastAPI()
    app.include_router(mounted.router, prefix="/llm")
    async with app.router.lifespan_context(app):
        yield app, mounted.world, "/llm"


@pytest.fixture(params=[_own, _mounted], ids=["our own app", "a mounted router"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    turns = Turns()
    counting = asyncio.create_task(turns.count())
    async with request.param() as (app, world, prefix), in_process(turns.noting(app)) as client:
        yield Served(client, world, turns, prefix)
    counting.cancel()
    with suppress(asyncio.CancelledError):
        await counting


async def test_bodies_that_are_whole_in_one_turn_are_parsed_one_in_a_turn(served: Served) -> None:
    statuses = await _at_once(lambda: served.post(LARGE))
    assert statuses == {400}
    assert len(set(served.turns.answered)) == REQUESTS


async def test_the_schema_reads_a_large_body_in_a_turn_of_its_own(served: Served) -> None:
    created: list[int] = []
    served.world.on_create = lambda _: created.append(served.turns.now)
    statuses = await _at_once(lambda: served.post(f'{{"prompt": "{LARGE}"}}'))
    assert statuses == {202}
    assert len(set(created)) == REQUESTS
    assert served.turns.first is not None
    assert max(created) - served.turns.first >= 2 * REQUESTS - 1


async def test_small_bodies_wait_for_no_turn(served: Served) -> None:
    statuses = await _at_once(lambda: served.post('{"prompt": "a"}'))
    assert statuses == {202}
    assert len(set(served.turns.answered)) < REQUESTS


@pytest.mark.parametrize("events", [1, 40], ids=["few entries", "many entries"])
async def test_large_responses_are_made_one_in_a_turn(served: Served, events: int) -> None:
    served.world.add("gen_a")
    served.world.append("gen_a", Start(), *[TextDelta(id="0", delta=LARGE)] * events, Finish())
    assert await _at_once(lambda: served.get("gen_a")) == {200}
    assert len(set(served.turns.answered)) == REQUESTS


async def test_a_response_of_many_events_is_made_a_page_in_a_turn(served: Served) -> None:
    pages = 12
    served.world.add("gen_a")
    events = [TextDelta(id="0", delta="x")] * (pages * PAGE - 2)
    served.world.append("gen_a", Start(), *events, Finish())
    async with asyncio.timeout(DEADLINE_S):
        response = await served.client.get(f"{served.prefix}/v1/responses/resp_gen_a")
    assert len(response.json()["output"][0]["content"][0]["text"]) == len(events)
    assert served.turns.first is not None
    turns = served.turns.answered[0] - served.turns.first
    # A caller alone passes the gate every second turn: once for a page that is read, once for its part of the response.
    assert turns >= 4 * pages - 4


async def _at_once(call: Callable[[], Awaitable[httpx2.Response]]) -> set[int]:
    async with asyncio.timeout(DEADLINE_S):
        return {response.status_code for response in await asyncio.gather(*(call() for _ in range(REQUESTS)))}
