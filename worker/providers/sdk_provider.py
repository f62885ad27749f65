"""What the providers of all wires share: one call through an SDK, whose answer is read as raw bytes.

The bytes are those of the response's own stream: no content coding is allowed (transport.py), so nothing decodes them.
The SDK adds the transport, the credentials and the errors. Its retries are off: the provider alone would decide how
long they wait. A call that is passed on unchanged (core/requests/passed_calls.py) has its own body and decoder.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias, cast

import httpx2

from broadcaster.core.providers.listed_models import ModelPage, read_page
from broadcaster.core.requests.passed_calls import COMPLETIONS
from broadcaster.dialects.errors import ProviderFault
from broadcaster.dialects.passed.decode import BodyDecoder, StreamDecoder
from broadcaster.dialects.reading import ProviderDecoder
from worker.providers.base import LIST_BYTES, CallBounds, ProviderRequest
from worker.providers.errors import ENCODED, UNSENDABLE, Failures, Sdk, bad_address
from worker.providers.transport import (
    NO_KEY,
    bearer,
    bounded_body,
    check_stream,
    create_http_client,
    header_names,
    is_encoded,
    is_own_host,
    sent_as_bytes,
)
from worker.providers.wire_stream import WireStream

_NO_JSON: Final = ProviderFault("provider_bad_data", "the provider's answer is not JSON", True)

CreateDecoder: TypeAlias = Callable[..., ProviderDecoder]
"""Takes the ``request_id`` that the provider has given."""


class SdkCall(NamedTuple):
    """A request as its wire expresses it. ``create_decoder`` None: it is passed on unchanged."""

    path: str
    body: Mapping[str, Any]
    create_decoder: CreateDecoder | None = None


class SdkProvider(ABC):
    """A provider that is called through an SDK. Belongs to one event loop; close it in that loop."""

    _sdk: ClassVar[Sdk]
    _client: Any

    def __init__(self, bounds: CallBounds, *, base_url: str | None, api_key: str | None, is_local: bool) -> None:
        """``is_local``: the server is a child process of the worker and is reached without a proxy.

        Raises (1) ProviderFailed (provider_unreachable) if the base URL is not a URL, (2) what the SDK raises.
        """
        sdk = self._sdk
        http_client = create_http_client(sdk.http_client, bounds, is_local=is_local)
        self._bounds = bounds
        self._address_from = sdk.url_variable if base_url is None else "the provider's base URL"
        try:
            self._client = sdk.client(
                base_url=base_url,
                api_key=api_key if base_url is None else api_key or NO_KEY,
                max_retries=0,
                timeout=http_client.timeout,
                http_client=http_client,
            )
        except httpx2.InvalidURL:
            raise bad_address(self._address_from) from None
        # A server with its own base URL gets its key, and nothing of the SDK's environment.
        foreign = () if base_url is None else (*sdk.own_headers, *header_names(sdk.headers_variable))
        own = {} if base_url is None else bearer(api_key or NO_KEY)
        self._headers: dict[str, Any] = {**dict.fromkeys(foreign, sdk.omit), **own}
        host = str(self._client.base_url.host)
        self._finishing: set[asyncio.Task[None]] = set()
        self._takes_trace = bounds.trace_to == "all" or (bounds.trace_to == "own" and is_own_host(host))

    async def start(self) -> None:  # noqa: B027 - an SDK needs no preparation
        """See Provider.start."""

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[WireStream]:
        """See Provider.stream."""
        secrets = tuple(secret for secret in (request.api_key, *self._secrets()) if secret)
        failures = Failures(self._sdk, request, address_from=self._address_from, secrets=secrets)
        async with AsyncExitStack() as stack:
            response, create_decoder = await self._send(request, stack, failures=failures)
            request_id = failures.safe_id(response.headers.get(self._sdk.id_header))
            stack.enter_context(failures.naming(request_id))
            if create_decoder is None:
                decoder = self._passed_decoder(request, response.http_response, request_id=request_id)
            else:
                check_stream(response.http_response)
                decoder = create_decoder(request_id=request_id)
            chunks = aiter(cast(httpx2.AsyncByteStream, response.http_response.stream))
            answer = WireStream(chunks, decoder, failures=failures, silence_s=self._bounds.read_timeout_s)
            yield answer
            if answer.has_rest:
                finishing = asyncio.create_task(_finish(answer, stack.pop_all()))
                self._finishing.add(finishing)
                finishing.add_done_callback(self._finishing.discard)

    async def aclose(self) -> None:
        """See Provider.aclose. What is being finished is bounded by DRAIN_TIMEOUT_S."""
        if self._finishing:
            await asyncio.wait(self._finishing)
        await self._client.close()

    @abstractmethod
    def _secrets(self) -> Sequence[str | None]:
        """The client's own secrets. Raises ProviderFailed (provider_auth) if it has no credentials."""

    @abstractmethod
    async def _answer_call(self, request: ProviderRequest, headers: Mapping[str, Any]) -> SdkCall:
        """The request on this wire; ``headers`` are those of every call. May raise ProviderFailed."""

    async def _page(
        self, fetch: Callable[..., AbstractAsyncContextManager[Any]], *, api_key: str | None, **query: Any
    ) -> ModelPage:
        """A page of the provider's list of models; see ListsModels."""
        async with fetch(**query, extra_headers={**self._headers, **bearer(api_key)}) as response:
            return read_page(await bounded_body(response, max_bytes=LIST_BYTES))

    async def _send(
        self, request: ProviderRequest, stack: AsyncExitStack, *, failures: Failures
    ) -> tuple[Any, CreateDecoder | None]:
        """The response, and what creates its decoder."""
        headers = {**self._headers, **bearer(request.api_key)}
        try:
            if request.call is None:
                call = await self._answer_call(request, headers)
            else:
                call = SdkCall(f"{self._sdk.passed_path}{request.call}", {**request.extra, "model": request.model})
            sent = {**headers, **request.headers} if self._sdk.takes_headers else headers
            if self._takes_trace and request.trace is not None:
                sent = {**sent, **request.trace.headers()}
            sending = sent_as_bytes(self._client.post, call.path, call.body, headers=sent)
            async with asyncio.timeout(self._bounds.headers_timeout_s):
                return await stack.enter_async_context(sending), call.create_decoder
        except (*failures.errors, *UNSENDABLE) as error:
            failure = failures.of(error)
        # Raised outside the ``except``: no traceback shows the SDK's error, whose text quotes the provider's response.
        raise failure

    def _passed_decoder(
        self, request: ProviderRequest, response: httpx2.Response, *, request_id: str | None
    ) -> ProviderDecoder:
        """The decoder of a passed call. Raises ProviderFailed (provider_bad_data) if its type does not fit the call."""
        if request.call == COMPLETIONS and request.extra.get("stream") is True:
            check_stream(response)
            return StreamDecoder(request_id=request_id)
        if response.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _NO_JSON.failure()
        if is_encoded(response):
            raise ENCODED.failure()
        return BodyDecoder(request_id=request_id, max_bytes=self._bounds.answer_bytes)


async def _finish(answer: WireStream, response: AsyncExitStack) -> None:
    """Read the rest of the body, which the caller does not wait for, and close the response."""
    async with response:
        await answer.drain()
