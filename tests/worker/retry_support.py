"""Several scripted providers behind one route, and an answer that is requested through its tries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.core.providers.retrying import RetryBounds
from broadcaster.errors import ProviderFailed
from broadcaster.settings.values import ProviderSpec
from broadcaster.testing import Script, ScriptedProvider
from tests.worker.providers.provider_support import CHAT, Wire, request_for
from worker.providers.base import CallBounds
from worker.providers.registry import Providers, default_factories
from worker.retry import ModelAnswer

MODEL = "claude-x"
QUICK = RetryBounds(retries=2, cap_s=0.01)
SETTINGS_WIRE = {"anthropic": "anthropic", "chat": "openai", "responses": "openai-responses"}
GOOD = Script.of_text("Hello ", "world")


class World:
    """Providers ``one``, ``two``, … on a wire, each with its own server; the route tries them in this order."""

    def __init__(self, on: Wire, servers: list[ScriptedProvider], providers: Providers) -> None:
        self.on, self.servers, self.providers = on, servers, providers
        self.given: list[ev.Event] = []

    @property
    def requested(self) -> list[int]:
        """How often each server was."""
        return [len(server.requests) for server in self.servers]

    def answer(self, *, bounds: RetryBounds = QUICK, left_s: float = 60, model: str = MODEL) -> ModelAnswer:
        deadline = asyncio.get_running_loop().time() + left_s
        return ModelAnswer(request_for(model), self.providers, bounds=bounds, deadline=deadline, name="gen_1")

    async def run(self, **how: Any) -> list[ev.Event]:
        """All events of one answer."""
        answer = self.answer(**how)
        async with asyncio.timeout(20):
            last = await answer.run(self._give)
        return [*self.given, *last]

    async def fail(self, **how: Any) -> ProviderFailed:
        with pytest.raises(ProviderFailed) as caught:
            await self.run(**how)
        return caught.value

    def _give(self, events: Iterable[ev.Event]) -> None:
        self.given += events


@asynccontextmanager
async def opened(
    on: Wire = CHAT, count: int = 2, *, targets: list[str] | None = None, keys: tuple[str, ...] = (), **settings: Any
) -> AsyncIterator[World]:
    names = ("one", "two", "three")[:count]
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ScriptedProvider(default=GOOD)) for _ in names]
        specs = {
            name: ProviderSpec.model_validate(
                {"wire": SETTINGS_WIRE[on.name], "base_url": server.base_url + on.prefix, "api_key_envs": keys}
            )
            for name, server in zip(names, servers, strict=True)
        }
        providers = Providers(
            ModelRoutes({"claude*": targets or list(names)}),
            default_factories(CallBounds(**{"max_connections": 10, "read_timeout_s": 5.0, **settings}), specs=specs),
            key_variables={name: spec.key_variables for name, spec in specs.items() if spec.key_variables},
        )
        stack.push_async_callback(providers.aclose)
        yield World(on, servers, providers)


def signature(events: list[ev.Event]) -> dict[str, Any] | None:
    assert isinstance(events[-1], ev.Finish)
    return (events[-1].provider_metadata or {}).get(ev.ANSWERED_BY)
