"""A request of the Responses API → the Messages API, the format in which requests are stored.

Rules
1. What the Messages API has too is stored under its name there, so that any model can answer. What only OpenAI's wires
   know goes under the key ``openai``, under the names of chat completions if they have it (openai_chat/request.py),
   else under ``responses`` in it.
2. What cannot be stored is refused by its name. Only default values are ignored, and ``client_metadata``, which a
   client (Codex) sends about itself.
3. ``echo`` holds the fields that the Response repeats. It is stored as ``shown`` under ``surface``, and no provider
   receives it.
4. ``input``, and the answer of an earlier response, become messages in openai_responses/input.py.

The inverse is openai_responses/provider_request.py. Source: the openai package's ``ResponseCreateParams``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broadcaster.core.requests.passed_headers import SURFACE
from broadcaster.dialects.openai.namespaces import MAX_NAME, NAMESPACE, functions_in, stored_places
from broadcaster.dialects.openai.own_fields import OPENAI
from broadcaster.dialects.openai.parameters import (
    MAX_TOKENS,
    MISSING,
    NO_BOUND,
    UNKNOWN,
    WRONG_VALUE,
    BadParameter,
    RequestFields,
    UnknownParameters,
)
from broadcaster.dialects.openai.tools import STORED_CHOICES, parse_choice, stored_choice, stored_custom_tool
from broadcaster.dialects.openai_chat.request import RESERVED
from broadcaster.dialects.openai_responses.input import NO_TURNS, EarlierTurns, messages_of
from broadcaster.dialects.openai_responses.provider_request import LOGPROBS, RESPONSES_ONLY
from broadcaster.dialects.reading import Json

SURFACE_NAME: Final = "openai-responses"

_VERBATIM: Final = frozenset(
    {
        *("frequency_penalty", "presence_penalty", "service_tier", "top_logprobs", "user"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier"),
    }
)
"""What only OpenAI knows, under the name that both of its wires have. The penalties are Open Responses' and those of
chat completions: OpenAI's own Responses API refuses them by their names."""
_OWN: Final = frozenset({"access_programs", "context_management", "image", "max_tool_calls"})
"""What only this wire knows."""
_READ: Final = frozenset(
    {
        *("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens"),
        *("temperature", "top_p", "text", "reasoning", "truncation", "metadata", "previous_response_id"),
        *("background", "stream", "store", "stream_options", "include", "client_metadata"),
        *_VERBATIM,
        *_OWN,
    }
)
_UNSUPPORTED: Final = {
    "background_options": "a Response in the background begins at once here",
    "conversation": "conversations are not kept here; send previous_response_id, or the items themselves",
    "prompt": "prompt templates are not kept here; send instructions and input",
    "moderation": "answers are not moderated here",
}
_ECHOED: Final = frozenset(
    {
        *("background", "frequency_penalty", "instructions", "max_output_tokens", "max_tool_calls", "metadata"),
        *("model", "parallel_tool_calls", "presence_penalty", "previous_response_id", "prompt_cache_key", "reasoning"),
        *("safety_identifier", "store", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p"),
        *("truncation", "user"),
    }
)
_RESERVED: Final = RESERVED | {
    *("messages", "stop", "response_format", "reasoning_effort", "verbosity", "n", "functions", "function_call"),
    *("max_tokens", "max_completion_tokens", "logprobs", "audio", "modalities"),
}
"""Besides, the names of chat completions for what has a field of its own here."""
_PREFERENCES: Final = ("defer_loading", "allowed_callers", "async", "output_schema")
"""What only this wire knows of a function: how it is found and called, and what it returns. Elsewhere the model sees
it at once, and calls it directly."""
_FUNCTION: Final = frozenset({"type", "name", "description", "parameters", "strict", *_PREFERENCES})

_TWICE: Final = (
    "two functions have the name {} where their namespaces are part of their names (namespace__function); rename one"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesRequest:
    """A parsed request. ``request`` lacks ``messages``: they may stand behind an earlier response's."""

    model: str | None
    items: Sequence[Any]
    request: Json
    max_tokens: int | None
    metadata: Json
    background: bool
    stream: bool
    previous_response_id: str | None
    echo: Json = field(default_factory=dict)

    def stored(self, *, earlier: EarlierTurns = NO_TURNS, max_tokens: int | None = None, model: str) -> Json:
        """The request to store; ``max_tokens`` bounds an answer if the body has no bound.

        Raises BadParameter when the input is malformed.
        """
        messages, heads = messages_of(self.items, earlier=earlier)
        request = {**self.request, "messages": messages}
        if (bound := self.max_tokens or max_tokens) is not None:
            request["max_tokens"] = bound
        if heads:
            system = request.get("system")
            request["system"] = [*([{"type": "text", "text": system}] if system else []), *heads]
        if self.metadata:
            request["metadata"] = self.metadata
        return {**request, SURFACE: {"name": SURFACE_NAME, "shown": {"model": model, **self.echo}}}


def heads_of(request: Mapping[str, Any]) -> list[Json]:
    """The head of a stored system prompt that items of the input made: the rest of it is ``instructions``."""
    match request:
        case {"surface": {"name": name, "shown": shown}, "system": [*parts]} if name == SURFACE_NAME:
            return parts[1:] if shown.get("instructions") else parts
        case _:
            return []


def parse_responses_request(body: Mapping[str, Any], *, unknown: UnknownParameters = "refuse") -> ResponsesRequest:
    """The request in a body. Raises BadParameter with the parameter that cannot be served.

    ``unknown``: as with ``parse_chat_request``.
    """
    given = {name: value for name, value in body.items() if value is not None}
    for name in given:
        if name in _UNSUPPORTED:
            raise BadParameter(name, _UNSUPPORTED[name])
        if name not in _READ and (unknown == "refuse" or name in _RESERVED):
            raise BadParameter(name, "this parameter is not known here", api_code=UNKNOWN)
    if unknown == "drop":
        given = {name: value for name, value in given.items() if name in _READ}
    fields = RequestFields(given)
    request: Json = {
        "system": fields.text("instructions"),
        "temperature": fields.number("temperature", most=2.0),
        "top_p": fields.number("top_p", most=1.0),
        "tools": _tools(fields.objects("tools")) or None,
    }
    own = _openai(fields)
    is_parallel, choice = fields.flag("parallel_tool_calls"), _choice(given.get("tool_choice"), own)
    request["tool_choice"] = stored_choice(choice, is_parallel=is_parallel, has_tools=request["tools"] is not None)
    request[OPENAI] = own or None
    items = given.get("input", [])
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list) or not (items or "previous_response_id" in given):
        raise BadParameter("input", "input must be a text or a list of items", api_code=MISSING)
    return ResponsesRequest(
        model=fields.model(),
        items=items,
        request={name: value for name, value in request.items() if value is not None},
        max_tokens=_bound(fields),
        metadata=fields.object("metadata"),
        background=fields.flag("background") is True,
        stream=fields.flag("stream") is True,
        previous_response_id=fields.text("previous_response_id"),
        echo={name: value for name, value in given.items() if name in _ECHOED},
    )


def _bound(fields: RequestFields) -> int | None:
    name = "max_output_tokens"
    bound = fields.whole(name)
    if bound is not None and (isinstance(bound, bool) or not 1 <= bound <= MAX_TOKENS):
        detail = f"must be a whole number between 1 and {MAX_TOKENS}; {NO_BOUND}"
        raise BadParameter(name, detail, api_code=WRONG_VALUE)
    return bound


def _tools(tools: Sequence[Json]) -> list[Json]:
    """The tools, with each function of a namespace as one of its own."""
    found: list[Json] = []
    is_joined: dict[str, bool] = {}
    for at, tool in enumerate(tools):
        functions = functions_in(tool)
        for stored in [_tool(tool, at=f"tools[{at}]")] if functions is None else _functions(tool, functions, at=at):
            found.append(stored)
            if not isinstance(name := stored.get("name"), str):
                continue
            if name in is_joined and (functions is not None or is_joined[name]):
                raise BadParameter(f"tools[{at}]", _TWICE.format(name), api_code=WRONG_VALUE)
            is_joined[name] = functions is not None
    return found


def _functions(tool: Json, functions: Sequence[Json], *, at: int) -> list[Json]:
    """The functions of a namespace, with what they keep of it."""
    names = [
        (f"tools[{at}]", tool),
        *((f"tools[{at}].tools[{place}]", each) for place, each in enumerate(tool["tools"])),
    ]
    for holder, named in names:
        if len(named["name"]) > MAX_NAME:
            detail = f"a name of a namespace, or of a function in it, has at most {MAX_NAME} characters"
            raise BadParameter(f"{holder}.name", f"{detail}, not {len(named['name'])}", api_code=WRONG_VALUE)
    stored = [_tool(function, at=f"tools[{at}].tools[{place}]") for place, function in enumerate(functions)]
    kept = zip(stored, stored_places(tool), strict=True)
    return [{**each, OPENAI: {**each.get(OPENAI, {}), NAMESPACE: place}} for each, place in kept]


def _tool(tool: Json, *, at: str) -> Json:
    """A function as Messages defines it; the provider's own tools as they are."""
    if not isinstance(tool.get("type"), str):
        raise BadParameter(f"{at}.type", "a tool needs a type", api_code=MISSING)
    if tool["type"] not in ("function", "custom"):
        return tool
    if not isinstance(name := tool.get("name"), str) or not name:
        raise BadParameter(f"{at}.name", "a tool of yours needs a name", api_code=MISSING)
    if tool["type"] == "custom":
        return _custom(tool, name)
    for key, value in tool.items():
        if key not in _FUNCTION and value is not None:
            raise BadParameter(f"{at}.{key}", f"functions are not served with {key}")
    stored: Json = {"name": name}
    if isinstance(description := tool.get("description"), str):
        stored["description"] = description
    parameters = tool.get("parameters")
    stored["input_schema"] = parameters if isinstance(parameters, dict) else {"type": "object", "properties": {}}
    if tool.get("strict") is True:
        stored["strict"] = True
    if preferences := {name: tool[name] for name in _PREFERENCES if tool.get(name) not in (None, False)}:
        stored[OPENAI] = {RESPONSES_ONLY: preferences}
    return stored


def _custom(tool: Json, name: str) -> Json:
    """A tool that takes any text."""
    custom = {key: value for key, value in tool.items() if key != "type" and value is not None}
    match custom.get("format"):
        case {"type": "grammar", **grammar}:
            custom["format"] = {"type": "grammar", "grammar": grammar}
    return stored_custom_tool(name, {"type": "custom", "custom": custom})


def _choice(choice: Any, own: Json) -> Json | None:
    """``tool_choice``; one that only OpenAI knows is kept in ``own``."""
    match choice:
        case {"type": "function" | "custom", "name": str()}:
            choice = _allowed(choice)
        case {"type": "allowed_tools", "mode": mode, "tools": [*tools]}:
            allowed = {"mode": mode, "tools": [_allowed(tool) for tool in tools]}
            choice = {"type": "allowed_tools", "allowed_tools": allowed}
        case {"type": str()}:
            return dict(choice)
        case _ if choice not in (None, *STORED_CHOICES):
            detail = "tool_choice is auto, none, required, or names a tool"
            raise BadParameter("tool_choice", detail, api_code=WRONG_VALUE)
    return parse_choice(choice, own)


def _allowed(tool: Any) -> Any:
    match tool:
        case {"type": "function" | "custom" as type, "name": str(name)}:
            return {"type": type, type: {"name": name}}
        case _:
            return tool


def _openai(fields: RequestFields) -> Json:
    """What only OpenAI's wires know (rule 1)."""
    own: Json = {name: value for name, value in fields.given.items() if name in _VERBATIM or name not in _READ}
    responses: Json = {name: fields.given[name] for name in fields.given if name in _OWN}
    if (truncation := fields.text("truncation")) not in (None, "disabled"):
        responses["truncation"] = truncation
    included = fields.texts("include")
    if LOGPROBS in included:
        own["logprobs"] = True
    if included := [each for each in included if each != LOGPROBS]:
        responses["include"] = included
    reasoning = fields.object("reasoning")
    if (effort := reasoning.pop("effort", None)) is not None:
        own["reasoning_effort"] = effort
    if rest := {name: value for name, value in reasoning.items() if value is not None}:
        responses["reasoning"] = rest
    if responses:
        own[RESPONSES_ONLY] = responses
    text = fields.object("text")
    if (verbosity := text.pop("verbosity", None)) is not None:
        own["verbosity"] = verbosity
    shape = text.pop("format", None)
    if text:
        raise BadParameter(f"text.{next(iter(text))}", "this parameter is not known here", api_code=UNKNOWN)
    match shape:
        case None | {"type": "text"}:
            pass
        case {"type": "json_schema", **schema}:
            own["response_format"] = {"type": "json_schema", "json_schema": schema}
        case {"type": "json_object"}:
            own["response_format"] = {"type": "json_object"}
        case _:
            raise BadParameter("text.format", "text.format is text, json_object or json_schema", api_code=WRONG_VALUE)
    return own
