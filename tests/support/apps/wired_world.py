"""A world in memory whose generations a worker's providers answer, each wire from the same scripted server.

    async with wired(world) as server, memory_services(world, routes=ROUTES) as services:
        server.script(CHAT.model, CHAT.script(text("Hello ", "world"), call("f", '{"a":', "1}")))

What stands between a client and a provider is the product's own: surfaces, dialects, SDKs; only Redis is left out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from broadcaster.core import events as ev
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.core.providers.refusals import refusal_metadata
from broadcaster.core.providers.retrying import RetryBounds
from broadcaster.errors import ProviderFailed
from broadcaster.settings.values import ProviderSpec
from broadcaster.testing import Script, ScriptedProvider, Send, wires
from tests.support.memory.memory_world import MemoryWorld
from worker.attempt import provider_request
from worker.providers.base import CallBounds
from worker.providers.registry import Providers, default_factories
from worker.retry import ModelAnswer

DEADLINE_S = 20.0
Part = Callable[[wires.Wire], Any]
"""A part of an answer, on whichever wire."""


@dataclass(frozen=True)
class WiredModel:
    """A model behind a wire: its name is the wire's."""

    model: str
    provider: str
    wire: wires.Wire
    prefix: str = "/v1"

    def __str__(self) -> str:
        return self.model

    def script(self, *parts: Part, reason: str | None = None) -> Script:
        """A whole answer of these parts."""
        composer = self.wire.compose(self.model)
        events = [event for part in parts for event in _composed(composer, part(self.wire))]
        return Script(Send(*events, *composer.finish(reason)))


CHAT = WiredModel("chat", "openai", wires.CHAT)
RESPONSES = WiredModel("responses", "openai-responses", wires.RESPONSES)
MESSAGES = WiredModel("messages", "anthropic", wires.MESSAGES, prefix="")
MODELS = (CHAT, RESPONSES, MESSAGES)
ROUTES = ModelRoutes({each.model: each.provider for each in MODELS})
_ONE_TRY = RetryBounds(retries=0, cap_s=0.01)
on_every_wire = pytest.mark.parametrize("on", MODELS, ids=str)


def text(*pieces: str) -> Part:
    """Text; every piece is a delta."""
    return lambda wire: pieces


def call(name: str, *fragments: str, id: str) -> Part:
    """A call of a tool; every fragment of its arguments is a delta."""
    return lambda wire: wire.tool_call(name, *fragments, id=id)


def thought(*pieces: str) -> Part:
    """Reasoning; every piece is a delta."""
    return lambda wire: wire.reasoning(*pieces)


def own(part: Any) -> Part:
    """A part that the wire's own module built."""
    return lambda wire: part


def _composed(composer: wires.WireComposer, part: Any) -> list[Any]:
    if isinstance(part, tuple):
        return [event for piece in part for event in composer.text(piece)]
    return composer.part(part)


@asynccontextmanager
async def wired(world: MemoryWorld) -> AsyncIterator[ScriptedProvider]:
    """The server that serves every model of ``ROUTES``; a generation runs as soon as it is created."""
    async with ScriptedProvider() as server:
        specs = {
            each.provider: ProviderSpec.model_validate(
                {"wire": each.provider, "base_url": server.base_url + each.prefix}
            )
            for each in MODELS
        }
        bounds = CallBounds(max_connections=10, read_timeout_s=DEADLINE_S)
        providers = Providers(ROUTES, default_factories(bounds, specs=specs))
        runs: set[asyncio.Task[None]] = set()
        world.on_create = lambda id: runs.add(asyncio.create_task(_run(world, id, providers)))
        try:
            yield server
        finally:
            await asyncio.gather(*runs)
            await providers.aclose()


async def _run(world: MemoryWorld, generation_id: str, providers: Providers) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    request = provider_request(world.streams[generation_id].meta)
    answer = ModelAnswer(
        request, providers, bounds=RetryBounds(retries=0, cap_s=0.01), deadline=deadline, name=generation_id
    )
    try:
        async with asyncio.timeout_at(deadline):
            last: Iterable[ev.Event] = await answer.run(lambda events: _append(world, generation_id, events))
    except ProviderFailed as failure:
        last = [_error(failure)]
    _append(world, generation_id, last)


def _append(world: MemoryWorld, generation_id: str, events: Iterable[ev.Event]) -> None:
    world.append_raw(generation_id, *map(ev.encode_event, events))


def _error(failure: ProviderFailed) -> ev.Event:
    return ev.Error(error_text=failure.detail, code=failure.reason, provider_metadata=refusal_metadata(failure))


async def posted(client: httpx2.AsyncClient, path: str, **body: Any) -> Any:
    """The object that was answered, or the events of a stream, ``[DONE]`` left out."""
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    if not body.get("stream"):
        return answer.json()
    data = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]
