"""A request in the words of the OpenAI wires: the SDK's arguments for chat completions and for Responses.

Rules
1. What has a place of its own in a ``ProviderRequest`` cannot be replaced by ``extra``, under whatever name a wire has
   for it; everything else of ``extra`` goes into the body as it is.
2. Chat completions know two names for the bound of the output, and no server takes both: OpenAI refuses the pair, and
   for its reasoning models the old name; Ollama ignores the new one (the answer then has no bound), others refuse it.
   So OpenAI's own hosts get ``max_completion_tokens``, and so do its reasoning models behind a gateway; every other
   server gets ``max_tokens``, which all of them know. A request without a bound is sent without one: these APIs then
   answer as long as the model has to say something.
3. Responses are not stored at the provider unless the caller asks for it: ours is the log. They are never made in the
   background: closing the socket must stop them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from broadcaster.dialects.openai_request import chat_messages, chat_options, chat_tools
from broadcaster.dialects.openai_responses_request import responses_input, responses_options, responses_tools
from worker.providers.base import ProviderRequest

_OWNED: Final = frozenset(
    {
        *("model", "messages", "input", "system", "instructions", "tools", "stream"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "background"),
    }
)
_OPENAI_HOSTS: Final = (".openai.com", ".openai.azure.com")
# o1, o3-mini, gpt-5, openai/gpt-5-mini (a gateway's name); not gpt-4o, and not gpt-oss, which others serve.
_REASONING_MODEL: Final = re.compile(r"(?:.*/)?(?:o\d|gpt-(?:[5-9]|\d\d))")


def chat_arguments(request: ProviderRequest, *, host: str) -> dict[str, Any]:
    """The arguments of ``chat.completions.create``, without ``stream``. Counts come in the last chunk, if asked for."""
    body = {name: value for name, value in chat_options(_body(request)).items() if name not in _OWNED}
    options = body.pop("stream_options", None)
    arguments: dict[str, Any] = {
        "model": request.model,
        "messages": chat_messages(request.messages, system=request.system),
        "stream_options": {**(options if isinstance(options, Mapping) else {}), "include_usage": True},
        "extra_body": body,
    }
    if request.max_tokens is not None:
        arguments[output_bound(request.model, host=host)] = request.max_tokens
    if request.tools:
        arguments["tools"] = chat_tools(request.tools)
    return arguments


def responses_arguments(request: ProviderRequest, *, host: str) -> dict[str, Any]:
    """The arguments of ``responses.create``, without ``stream``; ``host`` makes no difference here."""
    arguments: dict[str, Any] = {
        "model": request.model,
        "input": responses_input(request.messages),
        # Rule 3.
        "extra_body": {"store": False, **_options(request)},
    }
    if (instructions := _instructions(request.system)) is not None:
        arguments["instructions"] = instructions
    if request.max_tokens is not None:
        arguments["max_output_tokens"] = request.max_tokens
    if request.tools:
        arguments["tools"] = responses_tools(request.tools)
    return arguments


def _options(request: ProviderRequest) -> dict[str, Any]:
    return {name: value for name, value in responses_options(_body(request)).items() if name not in _OWNED}


def output_bound(model: str, *, host: str) -> str:
    """What this server calls the bound of this model's output (rule 2)."""
    is_openai = f".{host}".endswith(_OPENAI_HOSTS)
    return "max_completion_tokens" if is_openai or _REASONING_MODEL.match(model) else "max_tokens"


def _body(request: ProviderRequest) -> dict[str, Any]:
    body = {name: value for name, value in request.extra.items() if name not in _OWNED}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return body


def _instructions(system: str | Sequence[Mapping[str, Any]] | None) -> str | None:
    """The system prompt as one text: Responses know no parts here."""
    if system is None or isinstance(system, str):
        return system
    return "\n\n".join(text for part in system if isinstance(text := part.get("text"), str))
