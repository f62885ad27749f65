"""The OpenAI provider: chat completions or Responses, at OpenAI or at any server that speaks the wire.

The SDK's own stream costs four to five times as much for each token and takes a cut answer for a whole one.

The SDK reads the server and the key when the provider is created: OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_ORG_ID,
OPENAI_PROJECT_ID. A base URL given here is another server, see SdkProvider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import openai

from broadcaster.core.providers.listed_models import ListedModel
from broadcaster.dialects.errors import ProviderFault
from broadcaster.dialects.openai.errors import fault_of, known_code, listed_error
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from worker.providers.base import CallBounds, ProviderRequest
from worker.providers.errors import ParsedError, Sdk
from worker.providers.openai_arguments import chat_arguments, responses_arguments
from worker.providers.sdk_provider import SdkCall, SdkProvider
from worker.providers.transport import connection_headers

Wire: TypeAlias = Literal["chat", "responses"]

_WIRES: Final = {
    "chat": ("/chat/completions", chat_arguments, OpenAIChatDecoder),
    "responses": ("/responses", responses_arguments, OpenAIResponsesDecoder),
}
"""The path, the arguments and the decoder of each wire."""

_NO_CREDENTIALS: Final = ProviderFault(
    "provider_auth",
    "no credentials for the OpenAI API: set OPENAI_API_KEY in the worker's environment; a server that needs no key is "
    "named in BROADCASTER_PROVIDERS",
    False,
)


def _parse_error(error: openai.APIStatusError) -> ParsedError:
    found = listed_error(error.body) or error.body
    body = found if isinstance(found, dict) else None
    message = (body.get("message") or body.get("detail")) if body is not None else None
    # Ollama and others send {"error": "a sentence"}. A body that is not JSON is a gateway's page.
    if isinstance(found, str) and error.response.headers.get("content-type", "").startswith("application/json"):
        message = found
    fields = body or {}
    names = {name: fields.get(name) for name in ("type", "code", "param")}
    return ParsedError(fault_of(body, status=error.status_code), known_code(body), message, **names)


_SDK: Final = Sdk(
    client=openai.AsyncOpenAI,
    http_client=openai.DefaultAioHttpClient,
    url_variable="OPENAI_BASE_URL",
    headers_variable="OPENAI_CUSTOM_HEADERS",
    own_headers=("OpenAI-Organization", "OpenAI-Project"),
    omit=openai.Omit(),
    id_header="x-request-id",
    root=openai.OpenAIError,
    status_error=openai.APIStatusError,
    parse=_parse_error,
    no_credentials=_NO_CREDENTIALS,
)


class OpenAIProvider(SdkProvider):
    """The OpenAI API, or another server with one of its wires; the base URL contains the ``/v1``."""

    _sdk = _SDK
    _client: openai.AsyncOpenAI

    def __init__(
        self,
        wire: Wire,
        bounds: CallBounds,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        is_local: bool = False,
        reasoning_field: str | None = None,
    ) -> None:
        """See SdkProvider, and ``chat_arguments`` for ``reasoning_field``.

        Raises ProviderFailed (provider_auth) also if there is no key for OpenAI's own server.
        """
        try:
            super().__init__(bounds, base_url=base_url, api_key=api_key, is_local=is_local)
        except openai.OpenAIError:
            raise _NO_CREDENTIALS.failure() from None
        self._headers |= connection_headers(self._client.base_url)
        # Bound here, because the SDK imports the module of a resource at its first use.
        self._list = self._client.models.with_streaming_response.list
        self._path, self._arguments, self._decoder = _WIRES[wire]
        self._reasoning_field = reasoning_field

    async def models(self, *, api_key: str | None) -> Sequence[ListedModel]:
        """See ListsModels; the wire has no pages."""
        return (await self._page(self._list, api_key=api_key)).models

    def _secrets(self) -> Sequence[str | None]:
        if not self._client.api_key:  # OPENAI_ADMIN_KEY alone satisfies the SDK, but generates nothing
            raise _NO_CREDENTIALS.failure()
        return (self._client.api_key,)

    async def _answer_call(self, request: ProviderRequest, headers: Mapping[str, Any]) -> SdkCall:
        host = self._client.base_url.host
        arguments = self._arguments(request, host=host, reasoning_field=self._reasoning_field)
        body = {**arguments.pop("extra_body"), **arguments, "stream": True}
        return SdkCall(self._path, body, self._decoder)
