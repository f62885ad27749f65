"""A chat completions request → the Messages API, in which requests are stored.

Rules
1. What the Messages API has too is stored under its name there, so that any model can answer. What only OpenAI's wires
   know is stored under the key ``openai``, as they name it: no other provider receives it.
2. What cannot be stored is refused by its name: several choices, audio, the functions of the older wire. Only nulls,
   default values, and ``store`` are ignored, the last because this server stores every answer.
3. Fields that the Messages API has and this one has not (``top_k``, ``thinking``) pass. Every other field is refused,
   unless ``unknown`` is ``drop``, or ``pass``: the field then passes unread, because the model's server is the
   operator's own and has parameters of its own. Other APIs' names for something that has a field here stay refused.
4. A function without parameters takes none. A tool with nothing but a name is one of the worker's.

The inverse is openai_chat/provider_request.py. Source: the openai package's ``CompletionCreateParams``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broadcaster.dialects.openai.own_fields import OPENAI
from broadcaster.dialects.openai.parameters import (
    MAX_TOKENS,
    MISSING,
    NO_BOUND,
    UNKNOWN,
    WRONG_TYPE,
    WRONG_VALUE,
    BadParameter,
    RequestFields,
    UnknownParameters,
)
from broadcaster.dialects.openai.tools import custom_names, parse_choice, stored_choice, stored_custom_tool
from broadcaster.dialects.openai_chat.messages import stored_messages
from broadcaster.dialects.reading import Json

_OWN: Final = frozenset(
    {
        *("frequency_penalty", "presence_penalty", "logit_bias", "seed", "logprobs", "top_logprobs", "prediction"),
        *("reasoning_effort", "verbosity", "response_format", "service_tier", "user", "safety_identifier"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "web_search_options"),
    }
)
"""What only OpenAI's wires know (rule 1)."""
_SHARED: Final = frozenset({"top_k", "thinking"})
_READ: Final = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "store"),
        *("temperature", "top_p", "tools", "tool_choice", "parallel_tool_calls", "metadata", "n", "modalities"),
    }
)
_UNSUPPORTED: Final = {
    "audio": "audio answers are not served here",
    "functions": "send tools",
    "function_call": "send tool_choice",
    "moderation": "answers are not moderated here",
}
_DEFAULTS: Final[Mapping[str, tuple[Any, str]]] = {
    "n": (1, "one request has one answer here"),
    "modalities": (["text"], "answers are text here"),
}
"""Fields that are accepted with this value alone."""
RESERVED: Final = frozenset(
    {
        *("system", "input", "instructions", "prompt", "max_output_tokens", "stop_sequences", "output_config"),
        *("background", "previous_response_id", "conversation", "responses", OPENAI),
    }
)
"""Names that are always refused: they would replace what has a field of its own, or mean something of ours."""
_FUNCTION: Final = ("name", "description", "parameters", "strict")
_MAX_TEMPERATURE: Final = 2.0
_MAX_STOPS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A parsed request. ``request`` is what is stored; ``hidden_tools`` are the worker's tools in it (rule 4).

    ``custom_tools`` are the names of the client's custom tools.
    """

    model: str
    request: Json
    stream: bool
    include_usage: bool
    hidden_tools: frozenset[str]
    custom_tools: frozenset[str]


def parse_chat_request(
    body: Mapping[str, Any],
    *,
    max_tokens: int | None = None,
    unknown: UnknownParameters = "refuse",
    keeps_reasoning: bool = False,
) -> ChatRequest:
    """The request in a body; ``max_tokens`` bounds an answer if the body has no bound. Raises BadParameter.

    ``unknown``: see rule 3. ``keeps_reasoning``: a server of the model takes the reasoning of earlier answers back.
    """
    given = _checked_names({name: value for name, value in body.items() if value is not None}, unknown=unknown)
    fields = RequestFields(given)
    model = fields.model()
    if not model:
        raise BadParameter("model", "is missing", api_code=MISSING)
    messages, system = stored_messages(given.get("messages"), keeps_reasoning=keeps_reasoning)
    tools = fields.items("tools")
    stored_tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(tools)]
    own = {name: given[name] for name in given if name not in _READ and name not in _SHARED}
    choice = stored_choice(
        parse_choice(given.get("tool_choice"), own),
        is_parallel=fields.flag("parallel_tool_calls"),
        has_tools=bool(tools),
    )
    request = {
        "messages": messages,
        "system": system,
        "max_tokens": _bound(fields) or max_tokens,
        "temperature": fields.number("temperature", most=_MAX_TEMPERATURE),
        "top_p": fields.number("top_p", most=1.0),
        "stop_sequences": _stops(given.get("stop")),
        "tools": stored_tools or None,
        "tool_choice": choice,
        "metadata": fields.object("metadata") or None,
        **{name: given[name] for name in given if name in _SHARED},
        OPENAI: own or None,
    }
    stream = fields.flag("stream") is True
    fields.flag("store")
    return ChatRequest(
        model=model,
        request={name: value for name, value in request.items() if value is not None},
        stream=stream,
        include_usage=_stream_options(fields, stream=stream).get("include_usage") is True,
        hidden_tools=frozenset(tool["name"] for tool in stored_tools if tool.keys() == {"name"}),
        custom_tools=custom_names(tools),
    )


def _checked_names(given: Json, *, unknown: UnknownParameters) -> Json:
    """The fields that are kept, by rules 2 and 3."""
    kept: Json = {}
    for name, value in given.items():
        if name in _UNSUPPORTED:
            raise BadParameter(name, _UNSUPPORTED[name])
        if name in _DEFAULTS and (value != _DEFAULTS[name][0] or isinstance(value, bool)):
            raise BadParameter(name, _DEFAULTS[name][1])
        is_known = name in _READ or name in _OWN or name in _SHARED
        if not is_known and (unknown == "refuse" or name in RESERVED):
            raise BadParameter(name, "this parameter is not known here", api_code=UNKNOWN)
        if is_known or unknown == "pass":
            kept[name] = value
    return kept


def _stream_options(fields: RequestFields, *, stream: bool) -> Json:
    """The checked options; ``include_obfuscation`` concerns OpenAI's own servers and is ignored."""
    options: Json = fields.object("stream_options")
    if options and not stream:
        raise BadParameter("stream_options", "is of no use without stream: true", api_code=WRONG_VALUE)
    for name, value in options.items():
        if name not in ("include_usage", "include_obfuscation"):
            raise BadParameter(f"stream_options.{name}", "this parameter is not known here", api_code=UNKNOWN)
        if value is not None and not isinstance(value, bool):
            raise BadParameter(f"stream_options.{name}", "must be true or false", api_code=WRONG_TYPE)
    return options


def _bound(fields: RequestFields) -> int | None:
    """The bound on the answer. It has two names, whose values must agree."""
    names = ("max_completion_tokens", "max_tokens")
    bounds = {name: bound for name in names if (bound := fields.whole(name)) is not None}
    for name, bound in bounds.items():
        if isinstance(bound, bool):
            raise BadParameter(name, "must be a whole number", api_code=WRONG_TYPE)
        if not 1 <= bound <= MAX_TOKENS:
            raise BadParameter(name, f"must be between 1 and {MAX_TOKENS}; {NO_BOUND}", api_code=WRONG_VALUE)
    if len(set(bounds.values())) > 1:
        raise BadParameter("max_tokens", "says otherwise than max_completion_tokens", api_code=WRONG_VALUE)
    return next(iter(bounds.values()), None)


def _stops(stop: Any) -> list[str] | None:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None or stops == []:
        return None
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise BadParameter("stop", "must be a text or a list of texts", api_code=WRONG_TYPE)
    if len(stops) > _MAX_STOPS:
        raise BadParameter("stop", f"holds at most {_MAX_STOPS} texts", api_code=WRONG_VALUE)
    return stops


# ----------------------------------------------------------------------------------------------------------- the tools


def _tool(tool: Any, place: str) -> Json:
    match tool:
        case {"name": str(name), **rest} if not rest:
            return {"name": name}
        case {"type": "function", "function": {"name": str(name)} as function, **rest}:
            _check_known(rest, (), place)
            _check_known(function, _FUNCTION, f"{place}.function")
            return {"name": name, **_declared(function)}
        case {"type": "custom", "custom": {"name": str(name)}}:
            return stored_custom_tool(name, dict(tool))
        case _:
            raise BadParameter(place, "must be a function with a name, or a custom tool", api_code=WRONG_VALUE)


def _check_known(whole: Mapping[Any, Any], known: Collection[str], place: str) -> None:
    for name, value in whole.items():
        if name not in known and value is not None:
            raise BadParameter(f"{place}.{name}", "this parameter is not known here", api_code=UNKNOWN)


def _declared(function: Mapping[str, Any]) -> Json:
    schema = function.get("parameters")
    declared = {
        "description": function.get("description"),
        "input_schema": {"type": "object", "properties": {}} if schema is None else schema,
        "strict": function.get("strict") or None,
    }
    return {name: value for name, value in declared.items() if value is not None}
