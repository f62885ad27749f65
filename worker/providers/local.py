"""The local model: a real, small one on this machine, without a key, for a first run and for tests.

It speaks the Messages wire, so everything but its process is the Anthropic provider's work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from worker.providers.anthropic import AnthropicProvider
from worker.providers.base import ProviderRequest, ProviderStream
from worker.providers.bounds import CallBounds
from worker.providers.local_process import SLOT_TOKENS, SLOTS, LocalServer

# What this model writes its best English with; a greedy one loops.
TEMPERATURE: Final = 0.2
TOP_P: Final = 0.9


class LocalModel:
    """A provider whose model runs in a child process of this one, started by the first request or by ``start``."""

    def __init__(self, *, read_timeout_s: float, server: LocalServer | None = None) -> None:
        self._read_timeout_s = read_timeout_s
        self._server = server or LocalServer()
        self._slots = asyncio.Semaphore(SLOTS)
        self._url: str | None = None
        self._provider: AnthropicProvider | None = None

    async def start(self) -> None:
        """See Provider.start: load the model. Raises ProviderFailed (see LocalServer.url)."""
        await self._server.url()

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderStream]:
        """See Provider.stream. While every slot is taken it waits, as long as the caller likes.

        Held by the server instead, a request would wait in silence and run into the read timeout.
        """
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

    async def _provider_at(self, url: str) -> AnthropicProvider:
        """The client of this child; a child that was started again has another port."""
        if self._provider is not None and url == self._url:
            return self._provider
        provider = AnthropicProvider(
            CallBounds(max_connections=SLOTS, read_timeout_s=self._read_timeout_s),
            base_url=url,
            api_key=self._server.key,
            is_local=True,
        )
        retired, self._provider, self._url = self._provider, provider, url
        if retired is not None:
            await retired.aclose()
        return provider


def _with_defaults(request: ProviderRequest) -> ProviderRequest:
    temperature = TEMPERATURE if request.temperature is None else request.temperature
    # No answer can have more tokens than its slot: without a bound of the caller's, the context alone is the limit.
    max_tokens = SLOT_TOKENS if request.max_tokens is None else request.max_tokens
    extra = {"top_p": TOP_P, **request.extra}
    return replace(request, temperature=temperature, max_tokens=max_tokens, extra=extra)
