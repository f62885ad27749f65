"""What the tests of the providers share: the wires, requests, collecting, providers that are closed in the end."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.errors import ProviderFailed
from broadcaster.testing import ScriptedProvider, Send, wires
from worker.providers.anthropic import AnthropicProvider
from worker.providers.base import CallBounds, Provider, ProviderRequest
from worker.providers.openai import OpenAIProvider

KEY = "sk-ant-very-secret-0123456789"
PROMPT = "tell me the story of the seven hidden doors"
MODEL = "claude-x"


@dataclass(frozen=True)
class Wire:
    """A wire as the tests know it: how it is scripted, which provider reads it, where its server is."""

    name: str
    scripted: wires.Wire
    provider: Callable[..., Provider]
    prefix: str

    def __str__(self) -> str:
        return self.name

    def half(self) -> Send:
        """Two pieces of text, ``half an answer``, and no end."""
        composer = self.scripted.compose(MODEL)
        return Send(*composer.text("half an "), *composer.text("answer"))

    def fail(self, type: str, message: str) -> Send:
        """The wire's error in the middle of an answer."""
        composer = self.scripted.compose(MODEL)
        composer.start()
        return Send(*composer.fail(type, message))

    def frames(self, *pieces: str) -> bytes:
        """A whole answer as bytes."""
        composer = self.scripted.compose(MODEL)
        events = [event for piece in pieces for event in composer.text(piece)] + composer.finish()
        return b"".join(map(self.scripted.frame, events))


ANTHROPIC = Wire("anthropic", wires.MESSAGES, AnthropicProvider, "")
CHAT = Wire("chat", wires.CHAT, partial(OpenAIProvider, "chat"), "/v1")
RESPONSES = Wire("responses", wires.RESPONSES, partial(OpenAIProvider, "responses"), "/v1")
WIRES = (ANTHROPIC, CHAT, RESPONSES)
OPENAI_WIRES = (CHAT, RESPONSES)

on_every_wire = pytest.mark.parametrize("on", WIRES, ids=str)
on_openai_wires = pytest.mark.parametrize("on", OPENAI_WIRES, ids=str)


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


async def failing(provider: Provider, request: ProviderRequest) -> tuple[ProviderFailed, list[ev.Event]]:
    """The failure of a call, and what came before it; no key in its text, nothing of the prompt, and no Finish."""
    events: list[ev.Event] = []
    with pytest.raises(ProviderFailed) as caught:
        async with provider.stream(request) as stream:
            async for batch in stream:
                events += batch
    assert not any(isinstance(event, ev.Finish) for event in events)
    assert KEY not in str(caught.value)
    assert PROMPT not in str(caught.value)
    return caught.value, events


def text_of(events: list[ev.Event]) -> str:
    return "".join(event.delta for event in events if isinstance(event, ev.TextDelta))


@asynccontextmanager
async def provider_at(
    base_url: str, wire: Wire = ANTHROPIC, *, api_key: str = KEY, is_local: bool = False, **settings: Any
) -> AsyncIterator[Provider]:
    """A provider of the wire for the server at this URL; ``settings`` are its bounds."""
    bounds = CallBounds(**{"max_connections": 100, "read_timeout_s": 5.0, **settings})
    provider = wire.provider(bounds, base_url=base_url, api_key=api_key, is_local=is_local)
    try:
        yield provider
    finally:
        await provider.aclose()


@asynccontextmanager
async def scripted(wire: Wire = ANTHROPIC, **settings: Any) -> AsyncIterator[tuple[ScriptedProvider, Provider]]:
    """A scripted server and the real SDK in front of it."""
    async with (
        ScriptedProvider() as server,
        provider_at(server.base_url + wire.prefix, wire, **settings) as provider,
    ):
        yield server, provider
