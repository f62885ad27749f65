"""The Anthropic provider: the SDK for the request, the credentials and the errors; raw bytes for the answer.

Why not the SDK's own stream: it costs 4 to 8 times as much for each token, raises no error when an answer is
truncated, and lets errors of two other libraries pass. Its retries are off: they wait as long as a provider likes.

Where to and by which key is the SDK's own business: ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, or
a profile; read once, when the provider is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, Self

import anthropic
import httpx2

from broadcaster.core.events import Event, Usage
from broadcaster.dialects.anthropic import AnthropicDecoder
from broadcaster.dialects.faults import Fault
from broadcaster.errors import ProviderFailed
from worker.providers.base import ProviderRequest
from worker.providers.errors import BAD_ADDRESS, NO_CREDENTIALS, TRANSPORT_ERRORS, TRUNCATED, UNSENDABLE, failure_of

CONNECT_TIMEOUT_S: Final = 5.0
# The end of the body comes with the terminal event or right after it; a connection that dawdles is not worth keeping.
DRAIN_TIMEOUT_S: Final = 0.25

_OWNED: Final = frozenset({"model", "messages", "max_tokens", "stream", "system", "tools"})
_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "x-api-key"})
_NO_STREAM: Final = Fault("provider_bad_data", "the provider's answer is not an event stream", True)
_NO_KEY: Final = (
    "no credentials for the Anthropic API: set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN) in the worker's environment"
)


class AnthropicProvider:
    """The Claude API, or whatever speaks its wire. Belongs to one event loop; close it in that loop."""

    def __init__(
        self,
        *,
        max_connections: int,
        read_timeout_s: float,
        base_url: str | None = None,
        api_key: str | None = None,
        is_local: bool = False,
    ) -> None:
        """``max_connections`` bounds the answers at once: a call beyond it waits CONNECT_TIMEOUT_S, then fails.

        ``read_timeout_s`` is the longest silence, each ping resets it. ``is_local`` says that the server is a child of
        ours: no proxy stands between, and a connection of its own for every answer costs nothing.

        Raises ProviderFailed: (1) provider_auth, a credentials profile is broken; (2) provider_unreachable, the base
        URL is none.
        """
        timeout = httpx2.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S)
        try:
            self._client = anthropic.AsyncAnthropic(
                base_url=base_url,
                api_key=api_key,
                max_retries=0,
                timeout=timeout,
                # The number must be given: without one this transport stops at 100.
                http_client=anthropic.DefaultAioHttpClient(
                    limits=httpx2.Limits(max_connections=max_connections), timeout=timeout, trust_env=not is_local
                ),
                # llama.cpp promises to keep the connection and closes it: the next request would run into that.
                default_headers={"Connection": "close"} if is_local else None,
            )
        except anthropic.CredentialsError as error:
            raise NO_CREDENTIALS.failure(detail=type(error).__name__) from None
        except httpx2.InvalidURL:
            raise BAD_ADDRESS.failure() from None

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[AnthropicStream]:
        """See Provider.stream."""
        async with AsyncExitStack() as stack:
            response = await self._send(request, stack)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise _NO_STREAM.failure()
            decoder = AnthropicDecoder(request_id=response.headers.get("request-id"))
            yield AnthropicStream(response.iter_bytes(), decoder, request=request, secrets=self._secrets())

    async def aclose(self) -> None:
        """See Provider.aclose."""
        await self._client.close()

    async def _send(
        self, request: ProviderRequest, stack: AsyncExitStack
    ) -> anthropic.AsyncAPIResponse[anthropic.AsyncStream[anthropic.types.RawMessageStreamEvent]]:
        if not self._has_credentials():
            raise ProviderFailed(_NO_KEY, reason="provider_auth")
        try:
            sending = self._client.messages.with_streaming_response.create(**_arguments(request), stream=True)
            return await stack.enter_async_context(sending)
        except (*TRANSPORT_ERRORS, *UNSENDABLE) as error:
            failure = failure_of(error, request=request, secrets=self._secrets())
        # Raised out here, so that no traceback shows the SDK's error, whose text repeats the provider's answer.
        raise failure

    def _has_credentials(self) -> bool:
        headers = (name.lower() for name in self._client.default_headers)
        return self._client.credentials is not None or not _CREDENTIAL_HEADERS.isdisjoint(headers)

    def _secrets(self) -> tuple[str, ...]:
        return tuple(secret for secret in (self._client.api_key, self._client.auth_token) if secret)


class AnthropicStream:
    """See ProviderStream."""

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        decoder: AnthropicDecoder,
        *,
        request: ProviderRequest,
        secrets: tuple[str, ...],
    ) -> None:
        self._chunks = chunks
        self._decoder = decoder
        self._request = request
        self._secrets = secrets

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Event]:
        decoder = self._decoder
        if decoder.failure is not None:
            raise decoder.failure
        if decoder.terminal_seen:
            await self._drain()
            raise StopAsyncIteration
        while True:
            chunk = await self._next_chunk()
            if chunk is None:
                decoder.flush()
                raise TRUNCATED.failure()
            if events := decoder.decode(chunk):
                return events

    def usage_so_far(self) -> Usage:
        """See ProviderStream.usage_so_far."""
        return self._decoder.usage_so_far()

    async def _next_chunk(self) -> bytes | None:
        try:
            return await anext(self._chunks, None)
        except TRANSPORT_ERRORS as error:
            failure = failure_of(error, request=self._request, secrets=self._secrets)
        raise failure

    async def _drain(self) -> None:
        """Read the end of the body, so that the connection serves the next request.

        The answer is whole already: a failure in here costs the connection and nothing else.
        """
        with suppress(*TRANSPORT_ERRORS):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while await anext(self._chunks, None) is not None:
                    pass


def _arguments(request: ProviderRequest) -> dict[str, Any]:
    """The SDK's arguments. Sampling parameters have none any more and go into the body directly."""
    body = {name: value for name, value in request.extra.items() if name not in _OWNED}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    arguments: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": list(request.messages),
        "extra_body": body,
    }
    if request.system is not None:
        arguments["system"] = request.system
    if request.tools:
        arguments["tools"] = list(request.tools)
    return arguments
