"""A chat completions request → the words of the Messages API, in which requests are stored.

Rules
1. What has a word of its own over there gets it, so that any model can be asked. What only OpenAI's wires know goes
   under the key ``openai``, in their words: no other provider is sent it.
2. What cannot be kept is refused by its name: several choices, audio, the functions of the older wire. Nothing is
   ignored but nulls, what says the default, and ``store``, because this server keeps every answer.
3. Fields that the Messages API has and this one has not (``top_k``, ``thinking``) pass. Every other field is refused,
   unless ``unknown`` is ``drop``, or ``pass``: the field passes unread, because the model's server is the operator's
   own and has parameters of its own. Only the names of other APIs for what has a field of its own here stay refused.
4. A function without parameters takes none. A tool of which only the name is given is one of the worker's.

The inverse is ``openai_request``. Source: the openai package's ``CompletionCreateParams``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broadcaster.dialects.openai_chat_messages import OPENAI, stored_messages
from broadcaster.dialects.openai_chat_refusal import (
    MISSING,
    UNKNOWN,
    WRONG_TYPE,
    WRONG_VALUE,
    Refused,
    UnknownParameters,
)
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
        *(
            "model",
            "messages",
            "stream",
            "stream_options",
            "max_tokens",
            "max_completion_tokens",
            "stop",
            "temperature",
        ),
        *("top_p", "tools", "tool_choice", "parallel_tool_calls", "metadata", "n", "modalities", "store"),
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
"""What is accepted at this value alone."""
RESERVED: Final = frozenset(
    {
        *("system", "input", "instructions", "prompt", "max_output_tokens", "stop_sequences", "output_config"),
        *("background", "previous_response_id", "conversation", "responses", OPENAI),
    }
)
"""Names that are always refused: they would replace what has a field of its own, or mean something of ours."""
_CHOICES: Final = {"auto": "auto", "required": "any", "none": "none"}
_FUNCTION: Final = ("name", "description", "parameters", "strict")
_MAX_TEMPERATURE: Final = 2.0
_MAX_STOPS: Final = 4
# As for /v1/generations: more than any model writes.
MAX_TOKENS: Final = 10_000_000
NO_BOUND: Final = "leave it out for an answer without a bound"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAsk:
    """A request as it was understood. ``request`` is what is stored; ``hidden_tools`` the worker's in it (rule 4)."""

    model: str
    request: Json
    stream: bool
    include_usage: bool
    hidden_tools: frozenset[str]


def chat_ask(
    body: Mapping[str, Any], *, max_tokens: int | None = None, unknown: UnknownParameters = "refuse"
) -> ChatAsk:
    """What a body asks for; ``max_tokens`` bounds an answer for which it names no bound. Raises Refused.

    ``unknown``: see rule 3.
    """
    given = _checked_names({name: value for name, value in body.items() if value is not None}, unknown=unknown)
    asked = _Asked(given)
    model = asked.get("model", str, "a text")
    if not model:
        raise Refused("model", "is missing", word=MISSING)
    messages, system = stored_messages(given.get("messages"))
    tools = asked.get("tools", list, "a list") or []
    stored_tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(tools)]
    own = {name: given[name] for name in given if name not in _READ and name not in _SHARED}
    choice = _tool_choice(given, own)
    if choice is not None and not tools:
        if choice["type"] not in ("auto", "none"):
            raise Refused("tool_choice", "is of no use without tools", word=WRONG_VALUE)
        choice = None
    request = {
        "messages": messages,
        "system": system,
        "max_tokens": _bound(asked) or max_tokens,
        "temperature": asked.number("temperature", most=_MAX_TEMPERATURE),
        "top_p": asked.number("top_p", most=1.0),
        "stop_sequences": _stops(given.get("stop")),
        "tools": stored_tools or None,
        "tool_choice": choice,
        "metadata": asked.get("metadata", dict, "an object") or None,
        **{name: given[name] for name in given if name in _SHARED},
        OPENAI: own or None,
    }
    stream = asked.get("stream", bool, "true or false") is True
    asked.get("store", bool, "true or false")
    return ChatAsk(
        model=model,
        request={name: value for name, value in request.items() if value is not None},
        stream=stream,
        include_usage=_stream_options(asked, stream=stream).get("include_usage") is True,
        hidden_tools=frozenset(tool["name"] for tool in stored_tools if tool.keys() == {"name"}),
    )


class _Asked:
    """The body's values, each of the type that it must have."""

    def __init__(self, given: Json) -> None:
        self._given = given

    def get(self, name: str, type: type, what: str) -> Any:
        value = self._given.get(name)
        if value is not None and (not isinstance(value, type) or (type is int and isinstance(value, bool))):
            raise Refused(name, f"must be {what}", word=WRONG_TYPE)
        return value

    def number(self, name: str, *, most: float) -> float | None:
        value = self._given.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Refused(name, "must be a number", word=WRONG_TYPE)
        if value is not None and not 0 <= value <= most:
            raise Refused(name, f"must be between 0 and {most:g}", word=WRONG_VALUE)
        return value


def _checked_names(given: Json, *, unknown: UnknownParameters) -> Json:
    """The fields that are kept, by rules 2 and 3."""
    kept: Json = {}
    for name, value in given.items():
        if name in _UNSUPPORTED:
            raise Refused(name, _UNSUPPORTED[name])
        if name in _DEFAULTS and (value != _DEFAULTS[name][0] or isinstance(value, bool)):
            raise Refused(name, _DEFAULTS[name][1])
        is_known = name in _READ or name in _OWN or name in _SHARED
        if not is_known and (unknown == "refuse" or name in RESERVED):
            raise Refused(name, "this parameter is not known here", word=UNKNOWN)
        if is_known or unknown == "pass":
            kept[name] = value
    return kept


def _stream_options(asked: _Asked, *, stream: bool) -> Json:
    """``include_obfuscation`` is a favour of OpenAI's own servers."""
    options: Json = asked.get("stream_options", dict, "an object") or {}
    if options and not stream:
        raise Refused("stream_options", "is of no use without stream: true", word=WRONG_VALUE)
    for name, value in options.items():
        if name not in ("include_usage", "include_obfuscation"):
            raise Refused(f"stream_options.{name}", "this parameter is not known here", word=UNKNOWN)
        if value is not None and not isinstance(value, bool):
            raise Refused(f"stream_options.{name}", "must be true or false", word=WRONG_TYPE)
    return options


def _bound(asked: _Asked) -> int | None:
    """Two names for one thing; what both say must agree."""
    names = ("max_completion_tokens", "max_tokens")
    bounds = {name: bound for name in names if (bound := asked.get(name, int, "a whole number")) is not None}
    for name, bound in bounds.items():
        if not 1 <= bound <= MAX_TOKENS:
            raise Refused(name, f"must be between 1 and {MAX_TOKENS}; {NO_BOUND}", word=WRONG_VALUE)
    if len(set(bounds.values())) > 1:
        raise Refused("max_tokens", "says otherwise than max_completion_tokens", word=WRONG_VALUE)
    return next(iter(bounds.values()), None)


def _stops(stop: Any) -> list[str] | None:
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None or stops == []:
        return None
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise Refused("stop", "must be a text or a list of texts", word=WRONG_TYPE)
    if len(stops) > _MAX_STOPS:
        raise Refused("stop", f"holds at most {_MAX_STOPS} texts", word=WRONG_VALUE)
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
        case {"type": "custom", "custom": {"name": str(name)} as custom}:
            # A model that has no custom tools can still call it with its text.
            schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
            told = {"description": custom["description"]} if isinstance(custom.get("description"), str) else {}
            return {"name": name, **told, "input_schema": schema, OPENAI: dict(tool)}
        case _:
            raise Refused(place, "must be a function with a name, or a custom tool", word=WRONG_VALUE)


def _check_known(whole: Mapping[Any, Any], known: Collection[str], place: str) -> None:
    for name, value in whole.items():
        if name not in known and value is not None:
            raise Refused(f"{place}.{name}", "this parameter is not known here", word=UNKNOWN)


def _declared(function: Mapping[str, Any]) -> Json:
    schema = function.get("parameters")
    told = {
        "description": function.get("description"),
        "input_schema": {"type": "object", "properties": {}} if schema is None else schema,
        "strict": function.get("strict") or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _tool_choice(given: Json, own: Json) -> Json | None:
    """``tool_choice`` with ``parallel_tool_calls`` in it; one that only OpenAI knows is kept in ``own``."""
    choice: Json | None = None
    match given.get("tool_choice"):
        case None:
            pass
        case str(word) if word in _CHOICES:
            choice = {"type": _CHOICES[word]}
        case {"type": "function", "function": {"name": str(name)}}:
            choice = {"type": "tool", "name": name}
        case {"type": "custom", "custom": {"name": str(name)}} as told:
            choice, own["tool_choice"] = {"type": "tool", "name": name}, told
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode}} as told:
            choice, own["tool_choice"] = {"type": "any" if mode == "required" else "auto"}, told
        case _:
            raise Refused("tool_choice", "is auto, none, required, or names a tool", word=WRONG_VALUE)
    parallel = given.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        raise Refused("parallel_tool_calls", "must be true or false", word=WRONG_TYPE)
    if parallel is False and (choice is None or choice["type"] != "none"):
        return {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return choice
