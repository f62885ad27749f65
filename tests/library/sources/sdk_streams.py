"""Streams of the real SDKs at a scripted provider, and what a worker makes of the same wire."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import anthropic
import msgspec
import openai

from broadcaster import Broadcaster
from broadcaster.core import events as ev
from broadcaster.errors import ProviderFailed
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Script, ScriptedProvider
from tests.library.support import raw_events
from tests.worker.providers.provider_support import ANTHROPIC, CHAT, RESPONSES, Wire, provider_at, request_for

MODEL: Final = "gpt-4o-published"
PROMPT: Final = [{"role": "user", "content": "Why is the sea salty?"}]


@dataclass(frozen=True)
class SdkStream:
    """One way in which programs call an SDK; ``open`` gives what the call of this client returns."""

    name: str
    wire: Wire
    client: Callable[[str], Any]
    open: Callable[[Any], Any]

    def __str__(self) -> str:
        return self.name

    @asynccontextmanager
    async def opened(self, url: str) -> AsyncIterator[Any]:
        """The stream of a client that is closed at the end."""
        client = self.client(url)
        try:
            stream = self.open(client)
            yield await stream if inspect.iscoroutine(stream) else stream
        finally:
            closing = client.close()
            if closing is not None:
                await closing


def _openai(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)


def _blocking_openai(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)


def _anthropic(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0)


def _blocking_anthropic(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)


_CHAT: Final[dict[str, Any]] = {"model": MODEL, "messages": PROMPT, "stream_options": {"include_usage": True}}
_RESPONSES: Final[dict[str, Any]] = {"model": MODEL, "input": "Why?"}
_MESSAGES: Final[dict[str, Any]] = {"model": MODEL, "messages": PROMPT, "max_tokens": 64}


def _lazily(create: Callable[[], Any]) -> Any:
    """A blocking generator: the provider runs in the loop of the test, so that the call itself needs the thread."""
    with create() as stream:
        yield from stream


CALLS: Final = (
    SdkStream("openai chat", CHAT, _openai, lambda client: client.chat.completions.create(**_CHAT, stream=True)),
    SdkStream("openai chat, helper", CHAT, _openai, lambda client: client.chat.completions.stream(**_CHAT)),
    SdkStream(
        "openai chat, blocking",
        CHAT,
        _blocking_openai,
        lambda client: _lazily(lambda: client.chat.completions.create(**_CHAT, stream=True)),
    ),
    SdkStream(
        "openai Responses", RESPONSES, _openai, lambda client: client.responses.create(**_RESPONSES, stream=True)
    ),
    SdkStream("openai Responses, helper", RESPONSES, _openai, lambda client: client.responses.stream(**_RESPONSES)),
    SdkStream("anthropic", ANTHROPIC, _anthropic, lambda client: client.messages.create(**_MESSAGES, stream=True)),
    SdkStream("anthropic, helper", ANTHROPIC, _anthropic, lambda client: client.messages.stream(**_MESSAGES)),
    SdkStream(
        "anthropic, blocking", ANTHROPIC, _blocking_anthropic, lambda client: client.messages.stream(**_MESSAGES)
    ),
)


class Published(msgspec.Struct):
    """What was published, what a worker gives for the same wire, and what ``publish`` raised."""

    events: Sequence[Any]
    of_a_worker: Sequence[Any]
    error: Exception | None


async def publish_and_compare(
    broadcaster: Broadcaster, connection: LogConnection, call: SdkStream, script: Script
) -> Published:
    """Publish the call's answer to this script, and run a worker's provider on the same script."""
    error: Exception | None = None
    async with ScriptedProvider(default=script) as server:
        of_a_worker = await _of_a_worker(server, call.wire)
        try:
            async with call.opened(server.base_url) as stream:
                await broadcaster.publish(stream, id="answer")
        except Exception as raised:
            error = raised
    events = [ev.read_event(raw) for raw in await raw_events(connection, "answer")]
    return Published([_plain(each) for each in events], [_plain(each) for each in of_a_worker], error)


async def _of_a_worker(server: ScriptedProvider, wire: Wire) -> list[ev.Event]:
    """The events of a worker's provider, and the end that a worker writes after its failure."""
    events: list[ev.Event] = []
    async with provider_at(server.base_url + wire.prefix, wire) as provider:
        async with provider.stream(request_for(MODEL)) as stream:
            try:
                async for batch in stream:
                    events += batch
            except ProviderFailed as failure:
                events += [stream.usage_so_far(), ev.Error(error_text=failure.detail, code=failure.reason)]
    return events


def _plain(event: ev.Event) -> Any:
    """The event as JSON, without the id of the request: only a worker has the response's headers."""
    fields = msgspec.to_builtins(event)
    for extras in (fields.get("providerMetadata") or {}).values():
        extras.pop("requestId", None)
    return fields
