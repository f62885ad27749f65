"""The Anthropic provider: the Messages API.

The SDK's own stream costs 4 to 8 times as much for each token, raises no error for a truncated answer, and passes on
errors of two other libraries.

The SDK reads the server and the key when the provider is created: ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY,
ANTHROPIC_AUTH_TOKEN, or a profile. A base URL given here is another server, see SdkProvider.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import anthropic

from broadcaster.core.providers.listed_models import ListedModel
from broadcaster.dialects.answer_format import with_json_answer
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.anthropic.wire import fault_of
from broadcaster.dialects.call_ids import CLAUDE_IDS, with_fitted_ids
from broadcaster.dialects.errors import BAD_REQUEST, ProviderFault
from broadcaster.dialects.openai.own_fields import (
    messages_options,
    plain_messages,
    plain_system,
    plain_tools,
    wants_json_object,
    without_idle_choice,
)
from broadcaster.dialects.openai.tools import allowed_tools
from broadcaster.errors import ProviderFailed
from worker.providers.base import LIST_PAGES, CallBounds, ProviderRequest
from worker.providers.errors import ParsedError, Sdk
from worker.providers.output_limits import OutputLimits
from worker.providers.sdk_provider import SdkCall, SdkProvider
from worker.providers.transport import bounded_body, connection_headers

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
    402: "permission_error",  # a gateway's: Anthropic names its own
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
    client=anthropic.AsyncAnthropic,
    http_client=anthropic.DefaultAioHttpClient,
    url_variable="ANTHROPIC_BASE_URL",
    headers_variable="ANTHROPIC_CUSTOM_HEADERS",
    omit=anthropic.Omit(),
    passed_path="/v1/",
    id_header="request-id",
    takes_headers=True,
    root=anthropic.AnthropicError,
    status_error=anthropic.APIStatusError,
    parse=_parse_error,
    credentials=(anthropic.CredentialsError,),
    no_credentials=ProviderFault(
        "provider_auth", "the Anthropic credentials cannot be loaded; set ANTHROPIC_API_KEY or mend the profile", False
    ),
)


class AnthropicProvider(SdkProvider):
    """The Claude API, or another server that speaks its wire."""

    _sdk = _SDK
    _client: anthropic.AsyncAnthropic

    def __init__(
        self, bounds: CallBounds, *, base_url: str | None = None, api_key: str | None = None, is_local: bool = False
    ) -> None:
        """See SdkProvider. Raises ProviderFailed (provider_auth) also if a credentials profile is broken."""
        try:
            super().__init__(bounds, base_url=base_url, api_key=api_key, is_local=is_local)
        except anthropic.CredentialsError as error:
            raise _SDK.no_credentials.failure(detail=type(error).__name__) from None
        if base_url is not None:
            self._headers |= connection_headers(self._client.base_url)
        self._retrieve = self._client.models.with_streaming_response.retrieve
        self._list = self._client.models.with_streaming_response.list
        self._limits = OutputLimits(bounds.fallback_tokens)

    async def models(self, *, api_key: str | None) -> Sequence[ListedModel]:
        """See ListsModels; at most LIST_PAGES pages."""
        found: list[ListedModel] = []
        query: dict[str, Any] = {"limit": _PAGE_MODELS}
        for _ in range(LIST_PAGES):
            page = await self._page(self._list, api_key=api_key, **query)
            found += page.models
            if page.after is None:
                break
            query["after_id"] = page.after
        return found

    async def aclose(self) -> None:
        """See Provider.aclose."""
        await self._limits.aclose()
        await super().aclose()

    def _secrets(self) -> Sequence[str | None]:
        headers = (name.lower() for name in self._client.default_headers)
        if self._client.credentials is None and _CREDENTIAL_HEADERS.isdisjoint(headers):
            raise ProviderFailed(_NO_CREDENTIALS, reason="provider_auth")
        return self._client.api_key, self._client.auth_token

    async def _answer_call(self, request: ProviderRequest, headers: Mapping[str, Any]) -> SdkCall:
        body, json_tool = _body(request)
        body["max_tokens"] = await self._max_tokens(request, headers)
        return SdkCall("/v1/messages", body, partial(AnthropicDecoder, json_tool=json_tool))

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
            body = await bounded_body(response, max_bytes=self._bounds.error_bytes)
        match json.loads(body):
            case {"max_tokens": int(limit)} if limit >= 1 and limit is not True:
                return limit
        return None


def _body(request: ProviderRequest) -> tuple[dict[str, Any], str | None]:
    """The request's body without ``max_tokens``, and the tool whose input is the answer, if any.

    Raises ProviderFailed if the request has an OpenAI option that this API does not offer, or allows none of its tools.
    """
    tools = plain_tools(allowed_tools(request.tools, request.extra))
    extra = without_idle_choice(request.extra, offered=request.tools, sent=tools)
    body = {name: value for name, value in messages_options(extra).items() if name not in _OWNED}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    body |= {"model": request.model, "messages": plain_messages(_messages(request)), "stream": True}
    if system := plain_system(request.system):
        body["system"] = system
    if tools:
        body["tools"] = tools
    json_tool = with_json_answer(body) if wants_json_object(request.extra) else None
    return body, json_tool


def _messages(request: ProviderRequest) -> Sequence[Mapping[str, Any]]:
    """The messages, with ids that Claude accepts. Other models behind this wire, such as Kimi, read their own ids."""
    return with_fitted_ids(request.messages, CLAUDE_IDS) if "claude" in request.model.lower() else request.messages
