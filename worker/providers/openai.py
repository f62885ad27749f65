"""The OpenAI provider: chat completions or Responses, at OpenAI or at any server that speaks the wire.

As with Anthropic's: the SDK for the request, the credentials and the errors, without its retries; raw bytes for the
answer. The SDK's own stream costs four to five times as much for each token and takes a cut answer for a whole one.

The SDK reads the server and the key when the provider is created: OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_ORG_ID,
OPENAI_PROJECT_ID. A base URL given here is another server, see ``transport``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final, Literal, TypeAlias

import httpx2
import openai

from broadcaster.core.providers.listed_models import ListedModel, read_page
from broadcaster.dialects.errors import ProviderFault
from broadcaster.dialects.openai.errors import fault_of, known_code
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.dialects.reading import ProviderDecoder
from worker.providers.base import ProviderRequest
from worker.providers.bounds import LIST_BYTES, CallBounds
from worker.providers.errors import UNSENDABLE, Failures, ParsedError, Sdk, bad_address
from worker.providers.openai_arguments import chat_arguments, responses_arguments
from worker.providers.passed import create_decoder, passed_body
from worker.providers.transport import (
    NO_KEY,
    bearer,
    bounded_body,
    check_stream,
    client_options,
    connection_headers,
    header_names,
    sent_as_bytes,
)
from worker.providers.wire_stream import WireStream

Wire: TypeAlias = Literal["chat", "responses"]

_Response: TypeAlias = openai.AsyncAPIResponse[Any]

_NO_CREDENTIALS: Final = ProviderFault(
    "provider_auth",
    "no credentials for the OpenAI API: set OPENAI_API_KEY in the worker's environment; a server that needs no key is "
    "named in BROADCASTER_PROVIDERS",
    False,
)
_ORGANIZATION_HEADERS: Final = ("OpenAI-Organization", "OpenAI-Project")


def _parse_error(error: openai.APIStatusError) -> ParsedError:
    body = error.body if isinstance(error.body, dict) else None
    message = (body.get("message") or body.get("detail")) if body is not None else None
    # Ollama and others send {"error": "a sentence"}. A body that is not JSON is a gateway's page.
    if isinstance(error.body, str) and error.response.headers.get("content-type", "").startswith("application/json"):
        message = error.body
    fields = body or {}
    names = {name: fields.get(name) for name in ("type", "code", "param")}
    return ParsedError(fault_of(body, status=error.status_code), known_code(body), message, **names)


_SDK: Final = Sdk(
    root=openai.OpenAIError, status_error=openai.APIStatusError, parse=_parse_error, no_credentials=_NO_CREDENTIALS
)


class OpenAIProvider:
    """The OpenAI API, or another server with one of its wires. Belongs to one event loop; close it in that loop."""

    def __init__(
        self,
        wire: Wire,
        bounds: CallBounds,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        is_local: bool = False,
    ) -> None:
        """See AnthropicProvider for the arguments; the base URL contains the ``/v1``.

        Raises ProviderFailed: (1) provider_auth, there is no key for OpenAI's own server; (2) provider_unreachable, the
        base URL is not a URL.
        """
        self._bounds = bounds
        options = client_options(bounds, is_local=is_local)
        self._address_from = "OPENAI_BASE_URL" if base_url is None else "the provider's base URL"
        if base_url is not None:
            api_key = api_key or NO_KEY
        try:
            self._client = openai.AsyncOpenAI(
                base_url=base_url,
                api_key=api_key,
                max_retries=0,
                timeout=options["timeout"],
                http_client=openai.DefaultAioHttpClient(**options),
            )
        except openai.OpenAIError:
            raise _NO_CREDENTIALS.failure() from None
        except httpx2.InvalidURL:
            raise bad_address(self._address_from) from None
        foreign = {} if base_url is None else _only(str(api_key))
        self._headers = {**foreign, **connection_headers(self._client.base_url)}
        # Bound here, because the SDK imports the module of a resource at its first use.
        self._list = self._client.models.with_streaming_response.list
        self._decoder: Callable[[str | None], ProviderDecoder]
        if wire == "chat":
            self._path = "/chat/completions"
            self._decoder = lambda request_id: OpenAIChatDecoder(request_id=request_id)
            self._arguments = chat_arguments
        else:
            self._path = "/responses"
            self._decoder = lambda request_id: OpenAIResponsesDecoder(request_id=request_id)
            self._arguments = responses_arguments

    async def start(self) -> None:
        """See Provider.start."""

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[WireStream]:
        """See Provider.stream."""
        failures = Failures(_SDK, request, address_from=self._address_from, secrets=self._secrets(request))
        async with AsyncExitStack() as stack:
            response = await self._send(request, stack, failures=failures)
            request_id = failures.safe_id(response.headers.get("x-request-id"))
            stack.enter_context(failures.naming(request_id))
            if request.call is None:
                check_stream(response.http_response)
                decoder = self._decoder(request_id)
            else:
                bound = self._bounds.answer_bytes
                decoder = create_decoder(request, response.http_response, request_id=request_id, max_bytes=bound)
            yield WireStream(response.iter_bytes(), decoder, failures=failures, silence_s=self._bounds.read_timeout_s)

    async def models(self, *, api_key: str | None) -> Sequence[ListedModel]:
        """See ListsModels; the wire has no pages."""
        async with self._list(extra_headers={**self._headers, **bearer(api_key)}) as response:
            return read_page(
                await bounded_body(response.http_response, response.iter_bytes(), max_bytes=LIST_BYTES)
            ).models

    async def aclose(self) -> None:
        """See Provider.aclose."""
        await self._client.close()

    async def _send(self, request: ProviderRequest, stack: AsyncExitStack, *, failures: Failures) -> _Response:
        if not self._client.api_key:  # OPENAI_ADMIN_KEY alone satisfies the SDK, but generates nothing
            raise _NO_CREDENTIALS.failure()
        try:
            headers = {**self._headers, **bearer(request.api_key)}
            async with asyncio.timeout(self._bounds.headers_timeout_s):
                return await stack.enter_async_context(self._sending(request, headers))
        except (*failures.errors, *UNSENDABLE) as error:
            failure = failures.of(error)
        # Raised outside the ``except``: no traceback shows the SDK's error, whose text quotes the provider's response.
        raise failure

    def _sending(self, request: ProviderRequest, headers: Mapping[str, Any]) -> AbstractAsyncContextManager[_Response]:
        if request.call is not None:
            return sent_as_bytes(self._client.post, f"/{request.call}", passed_body(request), headers=headers)
        arguments = self._arguments(request, host=self._client.base_url.host)
        body = {**arguments.pop("extra_body"), **arguments, "stream": True}
        return sent_as_bytes(self._client.post, self._path, body, headers=headers)

    def _secrets(self, request: ProviderRequest) -> tuple[str, ...]:
        return tuple(secret for secret in (request.api_key, self._client.api_key) if secret)


def _only(api_key: str) -> Mapping[str, str | openai.Omit]:
    """The headers for a server with its own base URL: its key, and nothing of the SDK's environment."""
    foreign = (*_ORGANIZATION_HEADERS, *header_names("OPENAI_CUSTOM_HEADERS"))
    return {**{name: openai.Omit() for name in foreign}, **bearer(api_key)}
