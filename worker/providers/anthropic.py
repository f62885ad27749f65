"""The Anthropic provider: the SDK for the request, the credentials and the errors; raw bytes for the answer.

Why not the SDK's own stream: it costs 4 to 8 times as much for each token, raises no error when an answer is
truncated, and lets errors of two other libraries pass. Its retries are off: they wait as long as a provider likes.

Where to and by which key is the SDK's own business: ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, or
a profile; read once, when the provider is made. A base URL given here is another server, see ``transport``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import anthropic
import httpx2

from broadcaster.dialects.answer_format import with_json_answer
from broadcaster.dialects.anthropic import AnthropicDecoder, fault_of
from broadcaster.dialects.faults import BAD_REQUEST, Fault
from broadcaster.dialects.openai_only import messages_options, plain_messages, plain_tools, wants_json_object
from broadcaster.errors import ProviderFailed
from worker.providers.base import ProviderRequest
from worker.providers.bounds import CallBounds
from worker.providers.errors import UNSENDABLE, Failures, Sdk, Told, bad_address
from worker.providers.output_limits import OutputLimits
from worker.providers.transport import (
    NO_KEY,
    bearer,
    check_stream,
    client_options,
    connection_headers,
    header_names,
    is_encoded,
)
from worker.providers.wire_stream import WireStream

_Response: TypeAlias = anthropic.AsyncAPIResponse[anthropic.AsyncStream[anthropic.types.RawMessageStreamEvent]]

_OWNED: Final = frozenset({"model", "messages", "max_tokens", "stream", "system", "tools"})
_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "x-api-key"})
_NO_CREDENTIALS: Final = (
    "no credentials for the Anthropic API: set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN) in the worker's environment"
)
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


def _told(error: anthropic.APIStatusError) -> Told:
    fault = fault_of(error.type)
    # Gateways call everything an invalid request: then the status knows better.
    if fault is not None and (fault is not BAD_REQUEST or error.status_code in _OF_REQUESTS):
        return Told(fault, str(error.type), error.api_message, type=error.type)
    default = "api_error" if error.status_code >= 500 else "invalid_request_error"
    fault = fault_of(_TYPE_OF_STATUS.get(error.status_code, default))
    assert fault is not None
    return Told(fault, None, error.api_message, type=error.type)


_SDK: Final = Sdk(
    root=anthropic.AnthropicError,
    status_error=anthropic.APIStatusError,
    told=_told,
    credentials=(anthropic.CredentialsError,),
    no_credentials=Fault(
        "provider_auth", "the Anthropic credentials cannot be loaded; set ANTHROPIC_API_KEY or mend the profile", False
    ),
)


class AnthropicProvider:
    """The Claude API, or whatever speaks its wire. Belongs to one event loop; close it in that loop."""

    def __init__(
        self,
        bounds: CallBounds,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        is_local: bool = False,
    ) -> None:
        """``is_local`` says that the server is a child of ours: no proxy stands between.

        Raises ProviderFailed: (1) provider_auth, a credentials profile is broken; (2) provider_unreachable, the base
        URL is none.
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
        self._create = self._client.messages.with_streaming_response.create
        self._look_up = self._client.models.with_streaming_response.retrieve
        self._limits = OutputLimits(bounds.fallback_tokens)

    async def start(self) -> None:
        """See Provider.start."""

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[WireStream]:
        """See Provider.stream."""
        failures = Failures(_SDK, request, address_from=self._address_from, secrets=self._secrets(request))
        async with AsyncExitStack() as stack:
            response, json_tool = await self._send(request, stack, failures=failures)
            check_stream(response.http_response)
            decoder = AnthropicDecoder(request_id=response.headers.get("request-id"), json_tool=json_tool)
            yield WireStream(response.iter_bytes(), decoder, failures=failures, silence_s=self._bounds.read_timeout_s)

    async def aclose(self) -> None:
        """See Provider.aclose."""
        await self._limits.aclose()
        await self._client.close()

    async def _send(
        self, request: ProviderRequest, stack: AsyncExitStack, *, failures: Failures
    ) -> tuple[_Response, str | None]:
        """The response, and the tool whose input is the answer, if there is one."""
        if not self._has_credentials():
            raise ProviderFailed(_NO_CREDENTIALS, reason="provider_auth")
        try:
            headers = {**self._headers, **bearer(request.api_key)}
            arguments, json_tool = _arguments(request)
            arguments["max_tokens"] = await self._max_tokens(request, headers)
            sending = self._create(**arguments, stream=True, extra_headers={**headers, **request.headers})
            async with asyncio.timeout(self._bounds.headers_timeout_s):
                return await stack.enter_async_context(sending), json_tool
        except (*failures.errors, *UNSENDABLE) as error:
            failure = failures.of(error)
        # Raised out here, so that no traceback shows the SDK's error, whose text repeats the provider's answer.
        raise failure

    async def _max_tokens(self, request: ProviderRequest, headers: Mapping[str, Any]) -> int:
        """What the wire must be sent: the caller's bound, else the model's own limit."""
        if request.max_tokens is not None:
            return request.max_tokens
        limit = await self._limits.of(request.model, partial(self._limit_of, request.model, headers))
        # A budget for thinking counts within the limit, and must be below it.
        match request.extra.get("thinking"):
            case {"budget_tokens": int(budget)} if limit <= budget:
                return budget + self._bounds.fallback_tokens
        return limit

    async def _limit_of(self, model: str, headers: Mapping[str, Any]) -> int | None:
        """The limit that the provider's list of models names; None when it names none."""
        async with self._look_up(model, extra_headers=headers) as response:
            body = bytearray()
            if not is_encoded(response.http_response):
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > self._bounds.error_bytes:
                        return None
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
    """The headers by which a server of its own gets its key and nothing of the SDK's environment."""
    omitted = {name: anthropic.Omit() for name in header_names("ANTHROPIC_CUSTOM_HEADERS")}
    return {**omitted, **connection_headers(url), **bearer(api_key)}


def _arguments(request: ProviderRequest) -> tuple[dict[str, Any], str | None]:
    """The SDK's arguments but ``max_tokens``, and the tool whose input is the answer, if there is one.

    Sampling parameters have no argument any more and go into the body directly.

    Raises ProviderFailed when what was asked for in OpenAI's words cannot be had here.
    """
    body = {name: value for name, value in messages_options(request.extra).items() if name not in _OWNED}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    arguments: dict[str, Any] = {
        "model": request.model,
        "messages": plain_messages(request.messages),
        "extra_body": body,
    }
    if request.system is not None:
        arguments["system"] = request.system
    if request.tools:
        arguments["tools"] = plain_tools(request.tools)
    json_tool = with_json_answer(arguments, body) if wants_json_object(request.extra) else None
    return arguments, json_tool
