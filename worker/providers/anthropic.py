"""The Anthropic provider: the SDK for the request, the credentials and the errors; raw bytes for the answer.

The SDK's own stream costs 4 to 8 times as much for each token, raises no error for a truncated answer, and passes on
errors of two other libraries. The SDK's retries are off: the provider alone would decide how long they wait.

The SDK reads the server and the key when the provider is created: ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY,
ANTHROPIC_AUTH_TOKEN, or a profile. A base URL given here is another server, see ``transport``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import anthropic
import httpx2

from broadcaster.core.providers.listed_models import ListedModel, read_page
from broadcaster.dialects.answer_format import with_json_answer
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.anthropic.wire import fault_of
from broadcaster.dialects.errors import BAD_REQUEST, ProviderFault
from broadcaster.dialects.openai.own_fields import messages_options, plain_messages, plain_tools, wants_json_object
from broadcaster.dialects.reading import ProviderDecoder
from broadcaster.errors import ProviderFailed
from worker.providers.base import ProviderRequest
from worker.providers.bounds import LIST_BYTES, LIST_PAGES, CallBounds
from worker.providers.errors import UNSENDABLE, Failures, ParsedError, Sdk, bad_address
from worker.providers.output_limits import OutputLimits
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

_Response: TypeAlias = anthropic.AsyncAPIResponse[anthropic.AsyncStream[anthropic.types.RawMessageStreamEvent]]

_OWNED: Final = frozenset({"model", "messages", "max_tokens", "stream", "system", "tools"})
_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "x-api-key"})
_NO_CREDENTIALS: Final = (
    "no credentials for the Anthropic API: set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN) in the worker's environment"
)
_PAGE_MODELS: Final = 1000
"""The most that the API lists on one page."""
_OF_REQUESTS: Final = frozenset({400, 404, 413, 422})
_TYPE_OF_STATUS: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    408: "timeout_error",
    409: "conflict_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _parse_error(error: anthropic.APIStatusError) -> ParsedError:
    fault = fault_of(error.type)
    # Gateways call every error an invalid request: then the status is more exact.
    if fault is not None and (fault is not BAD_REQUEST or error.status_code in _OF_REQUESTS):
        return ParsedError(fault, str(error.type), error.api_message, type=error.type)
    default = "api_error" if error.status_code >= 500 else "invalid_request_error"
    fault = fault_of(_TYPE_OF_STATUS.get(error.status_code, default))
    assert fault is not None
    return ParsedError(fault, None, error.api_message, type=error.type)


_SDK: Final = Sdk(
    root=anthropic.AnthropicError,
    status_error=anthropic.APIStatusError,
    parse=_parse_error,
    credentials=(anthropic.CredentialsError,),
    no_credentials=ProviderFault(
        "provider_auth", "the Anthropic credentials cannot be loaded; set ANTHROPIC_API_KEY or mend the profile", False
    ),
)


class AnthropicProvider:
    """The Claude API, or another server that speaks its wire. Belongs to one event loop; close it in that loop."""

    def __init__(
        self,
        bounds: CallBounds,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        is_local: bool = False,
    ) -> None:
        """``is_local``: the server is a child process of the worker and is reached without a proxy.

        Raises ProviderFailed: (1) provider_auth, a credentials profile is broken; (2) provider_unreachable, the base
        URL is not a URL.
        """
        self._bounds = bounds
        options = client_options(bounds, is_local=is_local)
        self._address_from = "ANTHROPIC_BASE_URL" if base_url is None else "the provider's base URL"
        if base_url is not None:
            api_key = api_key or NO_KEY
        try:
            self._client = anthropic.AsyncAnthropic(
                base_url=base_url,
                api_key=api_key,
                max_retries=0,
                timeout=options["timeout"],
                http_client=anthropic.DefaultAioHttpClient(**options),
            )
        except anthropic.CredentialsError as error:
            raise _SDK.no_credentials.failure(detail=type(error).__name__) from None
        except httpx2.InvalidURL:
            raise bad_address(self._address_from) from None
        self._headers = {} if base_url is None else _only(str(api_key), self._client.base_url)
        self._retrieve = self._client.models.with_streaming_response.retrieve
        self._list = self._client.models.with_streaming_response.list
        self._limits = OutputLimits(bounds.fallback_tokens)

    async def start(self) -> None:
        """See Provider.start."""

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[WireStream]:
        """See Provider.stream."""
        failures = Failures(_SDK, request, address_from=self._address_from, secrets=self._secrets(request))
        async with AsyncExitStack() as stack:
            response, json_tool = await self._send(request, stack, failures=failures)
            request_id = failures.safe_id(response.headers.get("request-id"))
            stack.enter_context(failures.naming(request_id))
            decoder: ProviderDecoder
            if request.call is None:
                check_stream(response.http_response)
                decoder = AnthropicDecoder(request_id=request_id, json_tool=json_tool)
            else:
                bound = self._bounds.answer_bytes
                decoder = create_decoder(request, response.http_response, request_id=request_id, max_bytes=bound)
            yield WireStream(response.iter_bytes(), decoder, failures=failures, silence_s=self._bounds.read_timeout_s)

    async def models(self, *, api_key: str | None) -> Sequence[ListedModel]:
        """See ListsModels; at most LIST_PAGES pages."""
        found: list[ListedModel] = []
        page: dict[str, Any] = {"limit": _PAGE_MODELS}
        for _ in range(LIST_PAGES):
            async with self._list(**page, extra_headers={**self._headers, **bearer(api_key)}) as response:
                body = await bounded_body(response.http_response, response.iter_bytes(), max_bytes=LIST_BYTES)
            read = read_page(body)
            found += read.models
            if read.after is None:
                break
            page["after_id"] = read.after
        return found

    async def aclose(self) -> None:
        """See Provider.aclose."""
        await self._limits.aclose()
        await self._client.close()

    async def _send(
        self, request: ProviderRequest, stack: AsyncExitStack, *, failures: Failures
    ) -> tuple[_Response, str | None]:
        """The response, and the tool whose input is the answer, if any."""
        if not self._has_credentials():
            raise ProviderFailed(_NO_CREDENTIALS, reason="provider_auth")
        try:
            headers = {**self._headers, **bearer(request.api_key)}
            sending, json_tool = await self._sending(request, headers)
            async with asyncio.timeout(self._bounds.headers_timeout_s):
                return await stack.enter_async_context(sending), json_tool
        except (*failures.errors, *UNSENDABLE) as error:
            failure = failures.of(error)
        # Raised outside the ``except``: no traceback shows the SDK's error, whose text quotes the provider's response.
        raise failure

    async def _sending(
        self, request: ProviderRequest, headers: Mapping[str, Any]
    ) -> tuple[AbstractAsyncContextManager[_Response], str | None]:
        sent = {**headers, **request.headers}
        if request.call is not None:
            return sent_as_bytes(self._client.post, f"/v1/{request.call}", passed_body(request), headers=sent), None
        body, json_tool = _body(request)
        body["max_tokens"] = await self._max_tokens(request, headers)
        return sent_as_bytes(self._client.post, "/v1/messages", body, headers=sent), json_tool

    async def _max_tokens(self, request: ProviderRequest, headers: Mapping[str, Any]) -> int:
        """The ``max_tokens`` that the wire requires: the caller's bound, else the model's limit."""
        if request.max_tokens is not None:
            return request.max_tokens
        limit = await self._limits.of(request.model, partial(self._limit_of, request.model, headers))
        # A budget for thinking counts within the limit, and must be below it.
        match request.extra.get("thinking"):
            case {"budget_tokens": int(budget)} if limit <= budget:
                return budget + self._bounds.fallback_tokens
        return limit

    async def _limit_of(self, model: str, headers: Mapping[str, Any]) -> int | None:
        """The limit of the model in the provider's list; None if the list has no limit."""
        async with self._retrieve(model, extra_headers=headers) as response:
            body = await bounded_body(response.http_response, response.iter_bytes(), max_bytes=self._bounds.error_bytes)
        match json.loads(body):
            case {"max_tokens": int(limit)} if limit >= 1 and limit is not True:
                return limit
        return None

    def _has_credentials(self) -> bool:
        headers = (name.lower() for name in self._client.default_headers)
        return self._client.credentials is not None or not _CREDENTIAL_HEADERS.isdisjoint(headers)

    def _secrets(self, request: ProviderRequest) -> tuple[str, ...]:
        known = (request.api_key, self._client.api_key, self._client.auth_token)
        return tuple(secret for secret in known if secret)


def _only(api_key: str, url: httpx2.URL) -> Mapping[str, str | anthropic.Omit]:
    """The headers for a server with its own base URL: its key, and nothing of the SDK's environment."""
    omitted = {name: anthropic.Omit() for name in header_names("ANTHROPIC_CUSTOM_HEADERS")}
    return {**omitted, **connection_headers(url), **bearer(api_key)}


def _body(request: ProviderRequest) -> tuple[dict[str, Any], str | None]:
    """The request's body without ``max_tokens``, and the tool whose input is the answer, if any.

    Raises ProviderFailed if the request has an OpenAI option that this API does not offer.
    """
    body = {name: value for name, value in messages_options(request.extra).items() if name not in _OWNED}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    body |= {"model": request.model, "messages": plain_messages(request.messages), "stream": True}
    if request.system is not None:
        body["system"] = request.system
    if tools := plain_tools(request.tools):
        body["tools"] = tools
    json_tool = with_json_answer(body) if wants_json_object(request.extra) else None
    return body, json_tool
