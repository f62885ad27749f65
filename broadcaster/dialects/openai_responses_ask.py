"""A request of the Responses API → the words of the Messages API, in which requests are stored.

Rules
1. What has a word of its own there gets it: any model can be asked so. What only OpenAI's wires know goes under the key
   ``openai``, in the words of chat completions where they know the matter (``openai_chat_request``), else under
   ``responses`` in it.
2. What cannot be kept is refused by its name; nothing is ignored but what says the default, and ``client_metadata``,
   which a client (Codex) sends about itself.
3. ``shown`` is what the Response repeats of its request; it is stored under ``surface`` and no provider sees it.
4. ``input``, and the answer of an earlier response, become messages in ``openai_responses_input``.

The inverse is ``openai_responses_request``. Source: the openai package's ``ResponseCreateParams``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broadcaster.core.passed_headers import SURFACE
from broadcaster.dialects.openai_chat_messages import OPENAI
from broadcaster.dialects.openai_chat_refusal import (
    MISSING,
    UNKNOWN,
    WRONG_TYPE,
    WRONG_VALUE,
    Refused,
    UnknownParameters,
)
from broadcaster.dialects.openai_chat_request import MAX_TOKENS, NO_BOUND, RESERVED
from broadcaster.dialects.openai_responses_input import messages_of
from broadcaster.dialects.openai_responses_request import LOGPROBS, RESPONSES_ONLY
from broadcaster.dialects.reading import Json

SURFACE_NAME: Final = "openai-responses"

_VERBATIM: Final = frozenset(
    {
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier"),
        *("service_tier", "top_logprobs", "user"),
    }
)
"""What only OpenAI knows, under the name that both of its wires have."""
_OWN: Final = frozenset({"context_management", "max_tool_calls"})
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
    "conversation": "conversations are not kept here; send previous_response_id, or the items themselves",
    "prompt": "prompt templates are not kept here; send instructions and input",
    "moderation": "answers are not moderated here",
}
_SHOWN: Final = frozenset(
    {
        *("background", "instructions", "max_output_tokens", "max_tool_calls", "metadata", "model"),
        *("parallel_tool_calls", "previous_response_id", "prompt_cache_key", "reasoning", "safety_identifier"),
        *("store", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user"),
    }
)
_RESERVED: Final = RESERVED | {
    *("messages", "stop", "response_format", "reasoning_effort", "verbosity", "n", "functions", "function_call"),
    *("max_tokens", "max_completion_tokens", "logprobs", "audio", "modalities"),
}
"""Besides, the names of chat completions for what has a field of its own here."""
_CHOICES: Final = {"auto": "auto", "required": "any", "none": "none"}
_DEFERRED: Final = "defer_loading"
"""That a function is loaded when a search finds it: only this wire knows. Elsewhere the model sees it at once."""
_FUNCTION: Final = frozenset({"type", "name", "description", "parameters", "strict", _DEFERRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request as it was understood. ``request`` lacks ``messages``: they may stand behind an earlier response's."""

    model: str | None
    items: Sequence[Any]
    request: Json
    max_tokens: int | None
    metadata: Json
    background: bool
    stream: bool
    previous_response_id: str | None
    shown: Json = field(default_factory=dict)

    def wish(self, *, earlier: Sequence[Mapping[str, Any]] = (), max_tokens: int | None = None, model: str) -> Json:
        """The request to store; ``max_tokens`` bounds an answer for which it names no bound.

        Raises Refused when the input is malformed.
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
        return {**request, SURFACE: {"name": SURFACE_NAME, "shown": {"model": model, **self.shown}}}


def ask_of(body: Mapping[str, Any], *, unknown: UnknownParameters = "refuse") -> Ask:
    """What a body asks for. Raises Refused with the parameter that cannot be served.

    ``unknown``: as with ``chat_ask``.
    """
    given = {name: value for name, value in body.items() if value is not None}
    for name in given:
        if name in _UNSUPPORTED:
            raise Refused(name, _UNSUPPORTED[name])
        if name not in _READ and (unknown == "refuse" or name in _RESERVED):
            raise Refused(name, "this parameter is not known here", word=UNKNOWN)
    if unknown == "drop":
        given = {name: value for name, value in given.items() if name in _READ}
    asked = _Asked(given)
    request: Json = {}
    if (instructions := asked.text("instructions")) is not None:
        request["system"] = instructions
    for name, most in (("temperature", 2.0), ("top_p", 1.0)):
        if (value := asked.number(name, most=most)) is not None:
            request[name] = value
    if tools := asked.objects("tools"):
        request["tools"] = [_tool(tool, at=f"tools[{at}]") for at, tool in enumerate(tools)]
    own = _openai(asked)
    if choice := _choice(given.get("tool_choice"), own, is_parallel=asked.flag("parallel_tool_calls")):
        if tools:
            request["tool_choice"] = choice
        elif choice["type"] not in ("auto", "none"):
            raise Refused("tool_choice", "is of no use without tools", word=WRONG_VALUE)
    if own:
        request[OPENAI] = own
    items = given.get("input", [])
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list) or not (items or "previous_response_id" in given):
        raise Refused("input", "input must be a text or a list of items", word=MISSING)
    return Ask(
        model=asked.text("model"),
        items=items,
        request=request,
        max_tokens=asked.count("max_output_tokens"),
        metadata=asked.object("metadata"),
        background=asked.flag("background") is True,
        stream=asked.flag("stream") is True,
        previous_response_id=asked.text("previous_response_id"),
        shown={name: value for name, value in given.items() if name in _SHOWN},
    )


class _Asked:
    """The body's values, each of the type that it must have."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    def text(self, name: str) -> str | None:
        value: str | None = self._of(name, str, "a text")
        return value

    def flag(self, name: str) -> bool | None:
        value: bool | None = self._of(name, bool, "true or false")
        return value

    def object(self, name: str) -> Json:
        return dict(self._of(name, dict, "an object") or {})

    def objects(self, name: str) -> list[Json]:
        found = self._of(name, list, "a list") or []
        for at, each in enumerate(found):
            if not isinstance(each, dict):
                raise Refused(f"{name}[{at}]", "must be an object", word=WRONG_TYPE)
        return list(found)

    def texts(self, name: str) -> list[str]:
        found = self._of(name, list, "a list") or []
        if not all(isinstance(each, str) for each in found):
            raise Refused(name, "must be a list of texts", word=WRONG_TYPE)
        return list(found)

    def number(self, name: str, *, most: float) -> float | None:
        value = self.given.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(name, "must be a number", word=WRONG_TYPE)
        if not 0 <= value <= most:
            raise Refused(name, f"must be between 0 and {most}", word=WRONG_VALUE)
        return value

    def count(self, name: str) -> int | None:
        value = self._of(name, int, "a whole number")
        if value is not None and (isinstance(value, bool) or not 1 <= value <= MAX_TOKENS):
            raise Refused(name, f"must be a whole number between 1 and {MAX_TOKENS}; {NO_BOUND}", word=WRONG_VALUE)
        return value

    def _of(self, name: str, type: type, what: str) -> Any:
        value = self.given.get(name)
        if value is not None and not isinstance(value, type):
            raise Refused(name, f"must be {what}", word=WRONG_TYPE)
        return value


def _tool(tool: Json, *, at: str) -> Json:
    """A function in the words of Messages; the provider's own tools as they are."""
    if not isinstance(tool.get("type"), str):
        raise Refused(f"{at}.type", "a tool needs a type", word=MISSING)
    if tool["type"] not in ("function", "custom"):
        return tool
    if not isinstance(name := tool.get("name"), str) or not name:
        raise Refused(f"{at}.name", "a tool of yours needs a name", word=MISSING)
    if tool["type"] == "custom":
        return _custom(tool, name)
    for key, value in tool.items():
        if key not in _FUNCTION and value is not None:
            raise Refused(f"{at}.{key}", f"functions are not served with {key}")
    told: Json = {"name": name}
    if isinstance(description := tool.get("description"), str):
        told["description"] = description
    parameters = tool.get("parameters")
    told["input_schema"] = parameters if isinstance(parameters, dict) else {"type": "object", "properties": {}}
    if tool.get("strict") is True:
        told["strict"] = True
    if tool.get(_DEFERRED) is True:
        told[OPENAI] = {RESPONSES_ONLY: {_DEFERRED: True}}
    return told


def _custom(tool: Json, name: str) -> Json:
    """A tool that takes any text: a model that has no such tools can still call it with its text."""
    custom = {key: value for key, value in tool.items() if key != "type" and value is not None}
    match custom.get("format"):
        case {"type": "grammar", **grammar}:
            custom["format"] = {"type": "grammar", "grammar": grammar}
    schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    told = {"description": custom["description"]} if isinstance(custom.get("description"), str) else {}
    return {"name": name, **told, "input_schema": schema, OPENAI: {"type": "custom", "custom": custom}}


def _choice(choice: Any, own: Json, *, is_parallel: bool | None) -> Json | None:
    """``tool_choice`` with ``parallel_tool_calls`` in it; one that only OpenAI knows is kept in ``own``."""
    match choice:
        case None:
            told: Json | None = None
        case str(word) if word in _CHOICES:
            told = {"type": _CHOICES[word]}
        case {"type": "function", "name": str(name)}:
            told = {"type": "tool", "name": name}
        case {"type": "custom", "name": str(name)}:
            told, own["tool_choice"] = {"type": "tool", "name": name}, {"type": "custom", "custom": {"name": name}}
        case {"type": "allowed_tools", "mode": mode, "tools": [*tools]}:
            allowed = {"mode": mode, "tools": [_allowed(tool) for tool in tools]}
            told = {"type": "any" if mode == "required" else "auto"}
            own["tool_choice"] = {"type": "allowed_tools", "allowed_tools": allowed}
        case {"type": str()}:
            told = dict(choice)
        case _:
            raise Refused("tool_choice", "tool_choice is auto, none, required, or names a tool", word=WRONG_VALUE)
    if is_parallel is not False or (told is not None and told["type"] == "none"):
        return told
    return {**(told or {"type": "auto"}), "disable_parallel_tool_use": True}


def _allowed(tool: Any) -> Any:
    match tool:
        case {"type": "function" | "custom" as type, "name": str(name)}:
            return {"type": type, type: {"name": name}}
        case _:
            return tool


def _openai(asked: _Asked) -> Json:
    """What only OpenAI's wires know (rule 1)."""
    own: Json = {name: value for name, value in asked.given.items() if name in _VERBATIM or name not in _READ}
    responses: Json = {name: asked.given[name] for name in asked.given if name in _OWN}
    if (truncation := asked.text("truncation")) not in (None, "disabled"):
        responses["truncation"] = truncation
    included = asked.texts("include")
    if LOGPROBS in included:
        own["logprobs"] = True
    if included := [each for each in included if each != LOGPROBS]:
        responses["include"] = included
    reasoning = asked.object("reasoning")
    if (effort := reasoning.pop("effort", None)) is not None:
        own["reasoning_effort"] = effort
    if rest := {name: value for name, value in reasoning.items() if value is not None}:
        responses["reasoning"] = rest
    if responses:
        own[RESPONSES_ONLY] = responses
    text = asked.object("text")
    if (verbosity := text.pop("verbosity", None)) is not None:
        own["verbosity"] = verbosity
    shape = text.pop("format", None)
    if text:
        raise Refused(f"text.{next(iter(text))}", "this parameter is not known here", word=UNKNOWN)
    match shape:
        case None | {"type": "text"}:
            pass
        case {"type": "json_schema", **schema}:
            own["response_format"] = {"type": "json_schema", "json_schema": schema}
        case {"type": "json_object"}:
            own["response_format"] = {"type": "json_object"}
        case _:
            raise Refused("text.format", "text.format is text, json_object or json_schema", word=WRONG_VALUE)
    return own
