"""Calls that are passed to a provider as they came: embeddings, legacy completions, counts of tokens. Pure.

Rules
1. Such a call is a generation whose stored request has ``call``, one of the names below, and ``body``, which the
   provider receives with its own name of the model. The names are the paths of the APIs, without ``/v1/``.
2. A provider serves the calls of the API whose wire it speaks. Only OpenAI serves ``responses/input_tokens``: other
   servers of that wire do not have it. The local model completes, and neither embeds nor counts.
3. A call is sent to those targets of the model's route that serve it, in their order.
4. It is stored for ``KEPT_S`` after its end, so that a client whose connection broke can repeat its Idempotency-Key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from broadcaster.core.providers.model_routing import BUILT_IN, ModelTarget

EMBEDDINGS: Final = "embeddings"
COMPLETIONS: Final = "completions"
COUNT_TOKENS: Final = "messages/count_tokens"
INPUT_TOKENS: Final = "responses/input_tokens"

KEPT_S: Final = 60.0

_ANTHROPIC, _OPENAI, _RESPONSES, _LOCAL = BUILT_IN
_OPENAI_HOSTS: Final = (".openai.com", ".openai.azure.com")
_OF_OPENAI: Final = frozenset({EMBEDDINGS, COMPLETIONS})
_OF_WIRES: Final[Mapping[str, frozenset[str]]] = {
    _ANTHROPIC: frozenset({COUNT_TOKENS}),
    _OPENAI: _OF_OPENAI,
    _RESPONSES: _OF_OPENAI | {INPUT_TOKENS},
    _LOCAL: frozenset({COMPLETIONS}),
}

ProviderCalls = Mapping[str, frozenset[str]]
"""Provider → the calls that it serves."""

BUILT_IN_CALLS: Final[ProviderCalls] = MappingProxyType(dict(_OF_WIRES))
"""The calls of the providers that every worker has: each provider is named after its wire."""


class ServerSpec(Protocol):
    """A server of the operator's own; no ``base_url``: the server of the wire's own API."""

    @property
    def wire(self) -> str: ...

    @property
    def base_url(self) -> str | None: ...


def provider_calls(specs: Mapping[str, ServerSpec]) -> ProviderCalls:
    """The calls of the providers that every worker has, and of the operator's own."""
    return {**BUILT_IN_CALLS, **{name: _calls_of(spec) for name, spec in specs.items()}}


def is_openai_host(host: str) -> bool:
    """Whether a server of this name is OpenAI's, or Azure's of OpenAI."""
    return f".{host}".endswith(_OPENAI_HOSTS)


def _calls_of(spec: ServerSpec) -> frozenset[str]:
    """Rule 2."""
    calls = _OF_WIRES[spec.wire]
    host = None if spec.base_url is None else urlsplit(spec.base_url).hostname
    return calls if host is None or is_openai_host(host) else calls - {INPUT_TOKENS}


def targets_answering(call: str, targets: Sequence[ModelTarget], calls: ProviderCalls) -> tuple[ModelTarget, ...]:
    """Rule 3; empty when no target serves the call."""
    return tuple(target for target in targets if call in calls.get(target.provider, ()))


def passed_request(call: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The request as it is stored."""
    return {"call": call, "body": dict(body)}


def call_of(request: Mapping[str, Any]) -> str | None:
    """The call that a stored request is; None: it is a request for an answer."""
    call = request.get("call")
    return call if isinstance(call, str) and isinstance(request.get("body"), Mapping) else None
