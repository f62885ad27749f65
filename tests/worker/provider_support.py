"""What the tests of the providers share: requests, collecting, providers that are closed in the end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from broadcaster.core import events as ev
from broadcaster.testing import ScriptedProvider
from worker.providers.anthropic import AnthropicProvider
from worker.providers.base import Provider, ProviderRequest

KEY = "sk-ant-very-secret-0123456789"
PROMPT = "tell me the story of the seven hidden doors"


def request_for(model: str, **fields: Any) -> ProviderRequest:
    return ProviderRequest(
        **{"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 64, **fields}
    )


async def collect(provider: Provider, request: ProviderRequest) -> list[ev.Event]:
    events: list[ev.Event] = []
    async with provider.stream(request) as stream:
        async for batch in stream:
            assert batch
            events += batch
    return events


def text_of(events: list[ev.Event]) -> str:
    return "".join(event.delta for event in events if isinstance(event, ev.TextDelta))


@asynccontextmanager
async def anthropic_at(base_url: str, **settings: Any) -> AsyncIterator[AnthropicProvider]:
    settings = {"api_key": KEY, "max_connections": 100, "read_timeout_s": 5.0, **settings}
    provider = AnthropicProvider(base_url=base_url, **settings)
    try:
        yield provider
    finally:
        await provider.aclose()


@asynccontextmanager
async def scripted(**settings: Any) -> AsyncIterator[tuple[ScriptedProvider, AnthropicProvider]]:
    """A scripted server and the real SDK in front of it."""
    async with ScriptedProvider() as server, anthropic_at(server.base_url, **settings) as provider:
        yield server, provider
