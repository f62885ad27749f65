"""The body of ``POST /v1/messages`` → the stored request, which has the same format.

Rules
1. The fields of the API pass as they are; the provider reports best what is wrong inside. Only the fields that every
   provider needs are checked, and the outline of the others.
2. A field of another name is refused by its name: unknown fields must not be ignored in silence. With
   ``drops_unknown`` it is left out, unless OpenAI's APIs use that name for something that has another name here. In a
   message, fields besides ``role`` and ``content`` are left out, because frameworks keep their own there (``id``,
   ``metadata``), which the model does not need. The fields in which chat completions hold calls are refused, because
   the model needs them.
3. ``metadata`` is the caller's own: it is returned with the generation and sent to no provider.
4. Thinking without a signature is another provider's: no API takes it back, so it is left out of the messages.
5. ``output_format``, the beta's name, is read as ``output_config.format``.
6. This server keeps no threads. The SDKs continue without ``thread`` when the refusal has the API's own code for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

from broadcaster.core.providers.model_routing import MAX_MODEL_CHARS
from broadcaster.core.requests.excerpts import excerpt_of
from broadcaster.dialects.reading import Json
from broadcaster.errors import InvalidInput

MAX_MESSAGES: Final = 10_000
MAX_TOOLS: Final = 256
MAX_TOKENS: Final = 10_000_000
MAX_TEMPERATURE: Final = 2
ROLES: Final = ("user", "assistant", "system")

_CALLS_OF_CHAT: Final = ("tool_calls", "tool_call_id", "function_call")
_OF_OPENAI: Final = frozenset(
    {
        *("max_completion_tokens", "max_output_tokens", "stop", "response_format", "reasoning_effort", "reasoning"),
        *("input", "instructions", "prompt", "functions", "function_call", "parallel_tool_calls", "n", "openai"),
    }
)
_MISSING: Final = "Field required"
_UNKNOWN: Final = "Extra inputs are not permitted"


class ThreadsUnsupported(InvalidInput):
    """The request has ``thread`` (rule 6); ``details`` stand in the API's error beside the message."""

    details: ClassVar[Json] = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


class MessagesRequest(NamedTuple):
    """``request`` is sent to the provider; ``stream``: whether the client requested a stream."""

    model: str
    request: Json
    stream: bool


def read_request(body: object, *, drops_unknown: bool = False) -> MessagesRequest:
    """A request as it is stored. Raises InvalidInput, whose text begins with the place, as in the API.

    ``drops_unknown``: see rule 2.
    """
    if not isinstance(body, dict):
        raise InvalidInput("body: Input should be an object")
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            raise InvalidInput(f"{name}: {_MISSING}")
    if body.get("thread") is not None:
        raise ThreadsUnsupported("thread: this server keeps no threads; send the whole conversation without `thread`")
    for name, value in body.items():
        check = _FIELDS.get(name)
        if check is None and (not drops_unknown or name in _OF_OPENAI):
            raise InvalidInput(f"{name[:64]}: {_UNKNOWN}")
        if check is not None and (value is not None or name in _NEEDED):
            check(name, value)
    kept = {name: value for name, value in body.items() if value is not None and name in _STORED}
    kept["messages"] = [_kept(message) for message in body["messages"]]
    if (format := kept.pop("output_format", None)) is not None:
        kept["output_config"] = _with_format(kept.get("output_config", {}), format)
    return MessagesRequest(body["model"], kept, body.get("stream") is True)


def _with_format(config: Json, format: Json) -> Json:
    """Rule 5."""
    if config.get("format") not in (None, format):
        raise InvalidInput("output_format: it differs from output_config.format; send output_config.format alone")
    return {**config, "format": format}


def _kept(message: Json) -> Json:
    """What is stored of a message (rules 2 and 4)."""
    content = message["content"]
    if not isinstance(content, str):
        content = [part for part in content if not _is_unsigned(part)]
    return {"role": message["role"], "content": content}


def _is_unsigned(part: Mapping[str, Any]) -> bool:
    return part["type"] == "thinking" and not part.get("signature")


# ---------------------------------------------------------------------------------------------------------- the checks


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(place: str, expected: str) -> InvalidInput:
    return InvalidInput(f"{place}: {expected}")


def check_model(place: str, value: object) -> None:
    """Raises InvalidInput."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_MODEL_CHARS:
        raise _refuse(place, f"Input should be a string of 1 to {MAX_MODEL_CHARS} characters")


def _max_tokens(place: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_TOKENS:
        raise _refuse(place, f"Input should be a whole number from 0 to {MAX_TOKENS}")


def _number(place: str, value: object) -> None:
    if not _is_number(value):
        raise _refuse(place, "Input should be a number")


def _temperature(place: str, value: Any) -> None:
    # The API's own models take at most 1; other providers check their own bound.
    if not _is_number(value) or not 0 <= value <= MAX_TEMPERATURE:
        raise _refuse(place, f"Input should be a number from 0 to {MAX_TEMPERATURE}")


def _of_type(place: str, value: object, *, type: type | tuple[type, ...], expected: str) -> None:
    if not isinstance(value, type):
        raise _refuse(place, f"Input should be {expected}")


_flag: Final = partial(_of_type, type=bool, expected="true or false")
_text: Final = partial(_of_type, type=str, expected="a string")
_text_or_object: Final = partial(_of_type, type=(str, dict), expected="a string or an object")
_object: Final = partial(_of_type, type=dict, expected="an object")
_list: Final = partial(_of_type, type=list, expected="a list")
_text_or_list: Final = partial(_of_type, type=(str, list), expected="a string or a list")
_content_list: Final = partial(_of_type, type=list, expected="a string or a list of content blocks")


def _typed(place: str, value: object) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str) or not value["type"]:
        raise _refuse(place, "Input should be an object with a type")


def _texts(place: str, texts: Any) -> None:
    _list(place, texts)
    for at, each in enumerate(texts):
        _text(f"{place}.{at}", each)


def _content(place: str, content: Any) -> None:
    if isinstance(content, str):
        return
    _content_list(place, content)
    for at, part in enumerate(content):
        _typed(f"{place}.{at}", part)


def _messages(place: str, messages: Any) -> None:
    _list(place, messages)
    if not 0 < len(messages) <= MAX_MESSAGES:
        raise _refuse(place, f"from 1 to {MAX_MESSAGES} messages are needed")
    for at, message in enumerate(messages):
        here = f"{place}.{at}"
        _object(here, message)
        for name in ("role", "content"):
            if name not in message:
                raise _refuse(f"{here}.{name}", _MISSING)
        for name in _CALLS_OF_CHAT:
            if message.get(name):
                raise _refuse(f"{here}.{name}", "Calls and results of tools are content blocks in this API")
        if message["role"] not in ROLES:
            detail = f"Input should be one of {', '.join(ROLES)}, not {excerpt_of(message['role'])}"
            raise _refuse(f"{here}.role", detail)
        _content(f"{here}.content", message["content"])


def _tools(place: str, tools: Any) -> None:
    _list(place, tools)
    if len(tools) > MAX_TOOLS:
        raise _refuse(place, f"at most {MAX_TOOLS} tools are taken")
    for at, tool in enumerate(tools):
        here = f"{place}.{at}"
        _object(here, tool)
        if tool.get("type") in (None, "custom"):  # others are the provider's, and are named by it
            for name in ("name", "input_schema"):
                if name not in tool:
                    raise _refuse(f"{here}.{name}", _MISSING)


_NEEDED: Final = frozenset({"model", "max_tokens", "messages"})

_FIELDS: Final[Mapping[str, Callable[[str, Any], object]]] = {
    "model": check_model,
    "max_tokens": _max_tokens,
    "messages": _messages,
    "system": _content,
    "stream": _flag,
    "temperature": _temperature,
    **dict.fromkeys(("top_p", "top_k"), _number),
    "stop_sequences": _texts,
    "tools": _tools,
    **dict.fromkeys(("tool_choice", "thinking"), _typed),
    **dict.fromkeys(("service_tier", "speed", "inference_geo"), _text),
    **dict.fromkeys(("metadata", "cache_control", "context_management", "thread", "diagnostics"), _object),
    **dict.fromkeys(("output_config", "output_format", "compaction"), _object),
    **dict.fromkeys(("container", "fallback_credit_token"), _text_or_object),
    "fallbacks": _text_or_list,
    "mcp_servers": _list,
}
"""The API's fields, with those of its betas that need no code of ours."""
_STORED: Final = _FIELDS.keys() - {"model", "stream"}
