"""The local model: a real, small one on this machine, without a key, for a first run and for tests.

It speaks the wire of chat completions, on which llama.cpp enforces JSON by a grammar; on its Messages wire it does not.
The OpenAI provider therefore does everything except the process. Requests that the model cannot serve are refused here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from broadcaster.dialects.errors import BAD_REQUEST
from broadcaster.dialects.openai.own_fields import OPENAI
from worker.providers.base import CallBounds, ProviderRequest, ProviderStream
from worker.providers.local.process import SLOT_TOKENS, SLOTS, LocalServer
from worker.providers.openai import OpenAIProvider

# The settings of this model's best English; greedy sampling loops.
TEMPERATURE: Final = 0.2
TOP_P: Final = 0.9

_UNREADABLE: Final = frozenset({"image", "image_url", "audio", "input_audio", "video", "file"})
"""Kinds of parts that llama.cpp answers with 500 for a text model."""
_FILES: Final = frozenset({"base64", "url", "file"})
"""Sources of a document that are not text."""


class LocalModel:
    """A provider whose model runs in a child process, which the first request or ``start`` starts."""

    def __init__(self, *, read_timeout_s: float, server: LocalServer | None = None) -> None:
        self._read_timeout_s = read_timeout_s
        self._server = server or LocalServer()
        self._slots = asyncio.Semaphore(SLOTS)
        self._url: str | None = None
        self._provider: OpenAIProvider | None = None

    async def start(self) -> None:
        """See Provider.start: load the model. Raises ProviderFailed (see LocalServer.url)."""
        await self._server.url()

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderStream]:
        """See Provider.stream. It waits here for a free slot, without a limit.

        If the request waited in the server, it would run into the read timeout. Raises ProviderFailed
        (provider_bad_request) for what the model cannot do.
        """
        _check(request)
        async with self._slots:
            provider = await self._provider_at(await self._server.url())
            async with provider.stream(_with_defaults(request)) as stream:
                yield stream

    async def aclose(self) -> None:
        """See Provider.aclose."""
        await self._server.aclose()
        retired, self._provider = self._provider, None
        if retired is not None:
            await retired.aclose()

    async def _provider_at(self, url: str) -> OpenAIProvider:
        """The client of this child; a restarted child has another port."""
        if self._provider is not None and url == self._url:
            return self._provider
        provider = OpenAIProvider(
            "chat",
            CallBounds(max_connections=SLOTS, read_timeout_s=self._read_timeout_s),
            base_url=f"{url}/v1",
            api_key=self._server.key,
            is_local=True,
        )
        retired, self._provider, self._url = self._provider, provider, url
        if retired is not None:
            await retired.aclose()
        return provider


def _check(request: ProviderRequest) -> None:
    """Refuse what llama.cpp would ignore, or answer with an internal error."""
    for name, detail in _unmet(request):
        raise BAD_REQUEST.failure(detail=f"{name}: the local model {detail}")


def _unmet(request: ProviderRequest) -> Iterator[tuple[str, str]]:
    """The parameters that the model does not support, each with the remedy."""
    match request.extra.get("tool_choice"):
        case {"type": "any" | "tool"}:
            yield "tool_choice", "cannot be made to call a tool; send auto, or ask for a json_schema"
    match request.extra.get("thinking"):
        case {"type": "enabled"}:
            yield "thinking", "does not think; leave it out"
    own = request.extra.get(OPENAI)
    if isinstance(own, Mapping) and own.get("web_search_options") is not None:
        yield "web_search_options", "does not search"
    for kind in _kinds(request.messages):
        if kind in _UNREADABLE:
            yield "messages", f"reads text alone, and no {kind}"


def _kinds(parts: Any) -> Iterator[str]:
    """The kinds of the parts of messages, down to those of tools' results."""
    for part in parts if isinstance(parts, list | tuple) else ():
        if isinstance(part, Mapping):
            if isinstance(kind := part.get("type"), str):
                yield kind
            if isinstance(source := part.get("source"), Mapping) and source.get("type") in _FILES:
                yield "file"
            yield from _kinds(part.get("content"))


def _with_defaults(request: ProviderRequest) -> ProviderRequest:
    if request.call is not None:
        sampling = {"temperature": TEMPERATURE, "top_p": TOP_P, "max_tokens": SLOT_TOKENS}
        return replace(request, extra={**sampling, **request.extra})
    temperature = TEMPERATURE if request.temperature is None else request.temperature
    # No answer can have more tokens than its slot: without the caller's bound, only the context is the limit.
    max_tokens = SLOT_TOKENS if request.max_tokens is None else request.max_tokens
    extra = {"top_p": TOP_P, **request.extra}
    return replace(request, temperature=temperature, max_tokens=max_tokens, extra=extra)
