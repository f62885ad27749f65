"""A request as the OpenAI wires express it: the SDK's arguments for chat completions and for Responses.

Rules
1. ``extra`` cannot replace a field of ``ProviderRequest``, under any name that a wire has for it; everything else of
   ``extra`` goes into the body as it is, except what rule 4 leaves out.
2. Chat completions have two names for the bound of the output, and no server accepts both: OpenAI refuses the pair, and
   for its reasoning models the old name; Ollama ignores the new one (the answer then has no bound), others refuse it.
   OpenAI's own hosts therefore get ``max_completion_tokens``, and so do its reasoning models behind a gateway; every
   other server gets ``max_tokens``. A request without a bound is sent without one: the answer is then as long as the
   model makes it.
3. The provider stores no Response unless the caller requests it: broadcaster has the log. Responses never run in the
   background: closing the socket must stop them.
4. OpenAI's own hosts refuse every field that they do not know. Fields of the Messages API that express a preference are
   left out there: Claude Code sends them to every model, and a fallback from Claude has them. Every other server gets
   them, because some servers have them too.
5. OpenAI's own hosts bound the ids of calls (dialects/call_ids.py). Every other server gets the ids as they came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from broadcaster.core.requests.passed_calls import is_openai_host
from broadcaster.dialects.call_ids import CHAT_IDS, RESPONSES_IDS, with_fitted_ids
from broadcaster.dialects.openai.own_fields import breakpoint_of, without_idle_choice
from broadcaster.dialects.openai_chat.provider_request import chat_messages, chat_options, chat_tools
from broadcaster.dialects.openai_responses.provider_request import responses_input, responses_options, responses_tools
from worker.providers.base import ProviderRequest

_OWNED: Final = frozenset(
    {
        *("model", "messages", "input", "system", "instructions", "tools", "stream"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "background"),
    }
)
_PREFERENCES: Final = frozenset({"thinking", "context_management", "cache_control", "top_k"})
"""Of the Messages API (rule 4). Responses' own ``context_management`` is stored under ``openai``, and stays."""
# o1, o3-mini, gpt-5, openai/gpt-5-mini (a gateway's name); not gpt-4o, and not gpt-oss, which others serve.
_REASONING_MODEL: Final = re.compile(r"(?:.*/)?(?:o\d|gpt-(?:[5-9]|\d\d))")


def chat_arguments(request: ProviderRequest, *, host: str, reasoning_field: str | None = None) -> dict[str, Any]:
    """The arguments of ``chat.completions.create``, without ``stream``. They request the counts in the last chunk.

    ``reasoning_field``: where a message has its reasoning at a server that takes it back; None: it takes none.
    """
    tools = chat_tools(request.tools)
    body = _options(request, chat_options, host=host, tools=tools)
    options = body.pop("stream_options", None)
    messages = _messages(request, CHAT_IDS, host=host)
    arguments: dict[str, Any] = {
        "model": request.model,
        "messages": chat_messages(messages, system=request.system, reasoning_field=reasoning_field),
        "stream_options": {**(options if isinstance(options, Mapping) else {}), "include_usage": True},
        "extra_body": body,
    }
    if request.max_tokens is not None:
        arguments[output_bound(request.model, host=host)] = request.max_tokens
    if tools:
        arguments["tools"] = tools
    return arguments


def responses_arguments(request: ProviderRequest, *, host: str, reasoning_field: str | None = None) -> dict[str, Any]:
    """The arguments of ``responses.create``, without ``stream``; ``reasoning_field`` is not used."""
    tools = responses_tools(request.tools)
    arguments: dict[str, Any] = {
        "model": request.model,
        "input": responses_input(_messages(request, RESPONSES_IDS, host=host)),
        # Rule 3.
        "extra_body": {"store": False, **_options(request, responses_options, host=host, tools=tools)},
    }
    if _has_breakpoint(request.system):
        # Instructions are one text, which has no place for the mark.
        head = {"role": "developer", "content": request.system}
        arguments["input"] = [*responses_input([head]), *arguments["input"]]
    elif (instructions := _instructions(request.system)) is not None:
        arguments["instructions"] = instructions
    if request.max_tokens is not None:
        arguments["max_output_tokens"] = request.max_tokens
    if tools:
        arguments["tools"] = tools
    return arguments


def output_bound(model: str, *, host: str) -> str:
    """The name of the bound of this model's output at this server (rule 2)."""
    return "max_completion_tokens" if is_openai_host(host) or _REASONING_MODEL.match(model) else "max_tokens"


def _messages(request: ProviderRequest, fits: re.Pattern[str], *, host: str) -> Sequence[Mapping[str, Any]]:
    """The messages, with ids that the server accepts (rule 5)."""
    return with_fitted_ids(request.messages, fits) if is_openai_host(host) else request.messages


def _options(
    request: ProviderRequest,
    of_wire: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    *,
    host: str,
    tools: Sequence[Any],
) -> dict[str, Any]:
    """The body's options as the wire names them (rules 1 and 4); ``tools`` are those that are sent."""
    left_out = _OWNED | _PREFERENCES if is_openai_host(host) else _OWNED
    extra = without_idle_choice(request.extra, offered=request.tools, sent=tools)
    body = {name: value for name, value in extra.items() if name not in left_out}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return {name: value for name, value in of_wire(body).items() if name not in _OWNED}


def _has_breakpoint(system: str | Sequence[Mapping[str, Any]] | None) -> bool:
    return isinstance(system, Sequence) and any(map(breakpoint_of, system))


def _instructions(system: str | Sequence[Mapping[str, Any]] | None) -> str | None:
    """The system prompt as one text: Responses accept no parts here."""
    if system is None or isinstance(system, str):
        return system
    return "\n\n".join(text for part in system if isinstance(text := part.get("text"), str))
