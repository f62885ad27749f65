"""An app under test: called in process, or served on a real socket for streams."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import httpx2
from fastapi import FastAPI

from broadcaster.core.sse import SseDecoder, SseMessage
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.server.listener import open_listener
from broadcaster.web.server.runner import FrontEndServer
from broadcaster.web.services import Services

DEADLINE_S = 20.0


class _Current:
    """Stands for the services of the test that runs now."""

    services: Services

    def __getattr__(self, name: str) -> Any:
        return getattr(self.services, name)


@dataclass
class _Built:
    """An app of this process, and the test that has it, or had it last."""

    settings: Settings
    app: FastAPI
    current: _Current
    test: str = ""

    def is_free_for(self, test: str) -> bool:
        """No test has two front-ends with one app, and what outlives a test keeps its own."""
        return self.test != test and self.current.services.hub.is_draining


_built: list[_Built] = []


@cache
def _settings(given: str) -> Settings:
    return Settings.model_validate_json(given)


def own_app(services: Services, settings: Settings | None = None, /, **given: object) -> FastAPI:
    """Our own app over these services, until the test is over; a test must not change it.

    A later test with equal settings is given the same one: building takes 100 ms, and most tests take less. Its counts
    of requests live as long: a test that reads those needs ``create_app``. So does its log of refusals, which counts by
    the second: it writes the lines of all tests.
    """
    chosen = (settings or _settings(json.dumps(given))).model_copy(update={"log_refusals_per_s": 1000})
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" (")[0]
    equal = [each for each in _built if each.settings == chosen]
    built = next((each for each in equal if each.current.services is services or each.is_free_for(test)), None)
    if built is None:
        current = _Current()
        built = _Built(chosen, create_app(chosen, services=cast(Services, current)), current)
        _built.append(built)
    built.current.services, built.test = services, test
    return built.app


@asynccontextmanager
async def in_process(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the app without a server between. It collects whole bodies: not for streams."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


@asynccontextmanager
async def served(app: FastAPI, services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the app on a free port of our own runner."""
    server = FrontEndServer(
        app,
        listener=open_listener("127.0.0.1", 0),
        on_drain=lambda: services.hub.drain(window_s=0),
        drain_timeout_s=DEADLINE_S,
        direct=app.state.direct,
    )
    serving = asyncio.create_task(server.serve())
    try:
        await server.until_started()
        base_url = f"http://127.0.0.1:{server.port}"
        async with httpx2.AsyncClient(base_url=base_url, timeout=DEADLINE_S) as client:
            yield client
    finally:
        server.request_stop()
        await serving


async def until_watched(services: Services, stream_id: str, viewers: int = 1) -> None:
    """Until the stream has exactly so many viewers."""
    async with asyncio.timeout(DEADLINE_S):
        while services.hub.viewers().get(stream_id, 0) != viewers:
            await asyncio.sleep(0.001)


@dataclass
class Received:
    """What one connection received."""

    status: int
    headers: Mapping[str, str]
    messages: list[SseMessage] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [message.event for message in self.messages]

    @property
    def entries(self) -> list[tuple[str, str]]:
        return [(message.id, message.data) for message in self.messages if message.event == "message"]


async def listen(
    client: httpx2.AsyncClient,
    url: str,
    *,
    until: int | str | None = None,
    method: str = "GET",
    json: object = None,
    headers: Mapping[str, str] | None = None,
) -> Received:
    """Read a stream to its end, or until ``until`` entries or the first notice of that name arrived."""
    async with asyncio.timeout(DEADLINE_S), client.stream(method, url, headers=headers, json=json) as response:
        return await read_stream(response, until=until)


async def read_stream(response: httpx2.Response, *, until: int | str | None = None) -> Received:
    """The same for a response whose head has arrived: its viewer has joined."""
    received, decoder = Received(response.status_code, response.headers), SseDecoder()
    async for chunk in response.aiter_bytes():
        received.messages += decoder.decode(chunk)
        if (isinstance(until, int) and len(received.entries) >= until) or until in received.names:
            break
    return received
