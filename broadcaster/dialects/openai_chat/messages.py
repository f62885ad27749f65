"""The messages of a chat completions request → those of the Messages API, in which requests are stored.

Rules
1. Messages of ``system`` and ``developer`` before all others are the system prompt. Later ones stay where they are, and
   so do those that no other message follows: the model answers them.
2. Consecutive results of tools become one message of the user, as the Messages API requires.
3. What that API cannot express is stored under the key ``openai`` of the message or part it belongs to: a ``name``, the
   ``detail`` of an image, ``prompt_cache_breakpoint``, the mark of a refusal, arguments that are not a JSON object.
   Only OpenAI providers read it. ``cache_control`` of a part is that of the Messages API.
4. Every other field of a message is left out, because the model does not need it: clients send answers back as they
   received them, and frameworks leave fields of their own in messages (``provider_specific_fields``, ``metadata``).
   Reasoning is stored under ``openai`` if a server of the model takes it back: some refuse calls without theirs.
5. What the model needs and cannot be stored is refused by its place, and so are calls under a role that makes none.

The inverse is openai_chat/provider_request.py. Source: the openai package's ``ChatCompletionMessageParam``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from broadcaster.core.requests.excerpts import excerpt_of
from broadcaster.dialects.arguments import ArgumentsReader
from broadcaster.dialects.openai.own_fields import BREAKPOINT, OPENAI, REASONING
from broadcaster.dialects.openai.parameters import MISSING, WRONG_TYPE, WRONG_VALUE, BadParameter
from broadcaster.dialects.openai.tools import stored_arguments
from broadcaster.dialects.openai_chat.wire import REASONING_FIELDS
from broadcaster.dialects.reading import Json

_SYSTEM: Final = frozenset({"system", "developer"})
_ROLES: Final = ("system", "developer", "user", "assistant", "tool")
_OF_ONE_ROLE: Final = {
    **dict.fromkeys(("tool_calls", "function_call", "refusal", "audio"), "assistant"),
    "tool_call_id": "tool",
}
"""Fields that the model needs, each allowed under one role only (rule 5)."""
_CALL: Final = frozenset({"id", "type", "index", "function", "custom"})
_CACHE_CONTROL: Final = "cache_control"
_MARKABLE: Final = frozenset({"text", "image", "document"})
_DATA_URL: Final = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)


def stored_messages(messages: Any, *, keeps_reasoning: bool = False) -> tuple[list[Json], str | list[Json] | None]:
    """The messages and the system prompt; ``keeps_reasoning``: see rule 4. Raises BadParameter."""
    if not isinstance(messages, list):
        raise BadParameter("messages", "must be a list", api_code=MISSING if messages is None else WRONG_TYPE)
    stored: list[Json] = []
    system: list[Json] = []
    reader = ArgumentsReader()
    for at, message in enumerate(messages):
        place = f"messages[{at}]"
        role = _checked(message, place)
        if role in _SYSTEM and not stored:
            system.append(_message(message, role="system", place=place, reader=reader))
        elif role == "tool":
            _add_result(stored, message, place)
        else:
            found = _message(message, role="system" if role in _SYSTEM else role, place=place, reader=reader)
            stored.append(_with_reasoning(found, message) if keeps_reasoning and role == "assistant" else found)
    if not stored and not system:
        raise BadParameter("messages", "holds no message", api_code=WRONG_VALUE)
    return (stored, _prompt(system)) if stored else (system, None)


def _prompt(system: list[Json]) -> str | list[Json] | None:
    """Rule 1. A name of the system's has no place."""
    if len(system) == 1:
        content: str | list[Json] = system[0]["content"]
        return content
    return [part for message in system for part in _parts_of(message["content"])] or None


def _checked(message: Any, place: str) -> str:
    """The role of a message that holds nothing of another role's (rule 5)."""
    if not isinstance(message, Mapping):
        raise BadParameter(place, "must be an object", api_code=WRONG_TYPE)
    role = message.get("role")
    if role is None:
        raise BadParameter(f"{place}.role", "is missing", api_code=MISSING)
    if role not in _ROLES:
        detail = f"{excerpt_of(role)} is not one of {', '.join(_ROLES)}"
        raise BadParameter(f"{place}.role", detail, api_code=WRONG_VALUE)
    for name, only in _OF_ONE_ROLE.items():
        if message.get(name) and role != only:
            raise BadParameter(f"{place}.{name}", f"belongs to a message of the role {only}", api_code=WRONG_VALUE)
    return str(role)


def _message(message: Mapping[str, Any], *, role: str, place: str, reader: ArgumentsReader) -> Json:
    """A message of any role but ``tool``."""
    content = _content(message.get("content"), f"{place}.content")
    if role == "assistant":
        content = _answer(message, content, place=place, reader=reader)
    elif content is None:
        raise BadParameter(f"{place}.content", "is missing", api_code=MISSING)
    stored: Json = {"role": role, "content": content}
    return {**stored, OPENAI: {"name": message["name"]}} if message.get("name") is not None else stored


def _with_reasoning(stored: Json, message: Mapping[str, Any]) -> Json:
    """The assistant's message with its reasoning, which clients send under any of its names or all (rule 4)."""
    given = (text for name in REASONING_FIELDS if isinstance(text := message.get(name), str) and text)
    if (reasoning := next(given, None)) is None:
        return stored
    return {**stored, OPENAI: {**stored.get(OPENAI, {}), REASONING: reasoning}}


def _answer(
    message: Mapping[str, Any], content: str | list[Json] | None, *, place: str, reader: ArgumentsReader
) -> str | list[Json]:
    """The content of the assistant's message: its texts, its refusal and its calls."""
    for name in ("audio", "function_call"):
        if message.get(name) is not None:
            raise BadParameter(f"{place}.{name}", "is not served here")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise BadParameter(f"{place}.tool_calls", "must be a list", api_code=WRONG_TYPE)
    rest = [_call(call, f"{place}.tool_calls[{at}]", reader) for at, call in enumerate(calls)]
    if isinstance(refusal := message.get("refusal"), str):
        rest.insert(0, _refusal(refusal))
    if rest:
        return [*_parts_of(content or []), *rest]
    if content is None:
        raise BadParameter(f"{place}.content", "is missing, and there are no tool_calls", api_code=MISSING)
    return content


def _call(call: Any, place: str, reader: ArgumentsReader) -> Json:
    match call:
        case {"id": str(id), "function": {"name": str(name), "arguments": str(arguments)}}:
            input, own = stored_arguments(arguments, reader)
        case {"id": str(id), "custom": {"name": str(name), "input": str(text)}}:
            input, own = {"input": text}, {"type": "custom", "input": text}
        case _:
            raise BadParameter(place, "must have an id, and a function with name and arguments", api_code=WRONG_VALUE)
    own |= {key: value for key, value in call.items() if key not in _CALL and value is not None}
    return {"type": "tool_use", "id": id, "name": name, "input": input, **({OPENAI: own} if own else {})}


def _add_result(stored: list[Json], message: Mapping[str, Any], place: str) -> None:
    """Rule 2."""
    id = message.get("tool_call_id")
    if not isinstance(id, str):
        raise BadParameter(f"{place}.tool_call_id", "is missing", api_code=MISSING)
    content = _content(message.get("content"), f"{place}.content")
    result = {"type": "tool_result", "tool_use_id": id, "content": "" if content is None else content}
    last = stored[-1] if stored else None
    if last is not None and last["role"] == "user" and _is_results(last["content"]):
        last["content"].append(result)
    else:
        stored.append({"role": "user", "content": [result]})


def _is_results(content: Any) -> bool:
    return isinstance(content, list) and all(part.get("type") == "tool_result" for part in content)


# ----------------------------------------------------------------------------------------------------------- the parts


def _content(content: Any, place: str) -> str | list[Json] | None:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadParameter(place, "must be a text or a list of parts", api_code=WRONG_TYPE)
    return [_marked(_part(part, f"{place}[{at}]"), part) for at, part in enumerate(content)]


def _marked(stored: Json, part: Mapping[str, Any]) -> Json:
    """A stored part with the marks that its part has for the provider's cache."""
    if stored["type"] not in _MARKABLE:
        return stored
    control, breakpoint = part.get(_CACHE_CONTROL), part.get(BREAKPOINT)
    marks = {_CACHE_CONTROL: control} if isinstance(control, Mapping) else {}
    own = {BREAKPOINT: breakpoint} if isinstance(breakpoint, Mapping) else {}
    return {**stored, **marks, **({OPENAI: {**stored.get(OPENAI, {}), **own}} if own else {})}


def _part(part: Any, place: str) -> Json:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return _refusal(text)
        case {"type": "image_url", "image_url": {"url": str(url)} as image}:
            return _image(url, {name: value for name, value in image.items() if name != "url" and value is not None})
        case {"type": "image_url", "image_url": str(url)}:
            return _image(url, {})
        case {"type": "file", "file": Mapping() as file}:
            return _file(file, place)
        case {"type": "input_audio", "input_audio": Mapping()}:
            return dict(part)
        case {"type": str()}:
            raise BadParameter(
                f"{place}.type", "is no part that is served here, or lacks its value", api_code=WRONG_VALUE
            )
        case _:
            raise BadParameter(place, "must be an object with a type", api_code=WRONG_TYPE)


def _refusal(text: str) -> Json:
    return {"type": "text", "text": text, OPENAI: {"type": "refusal"}}


def _image(url: str, own: Json) -> Json:
    return {"type": "image", "source": _source(url), **({OPENAI: own} if own else {})}


def _file(file: Mapping[str, Any], place: str) -> Json:
    title = {"title": file["filename"]} if isinstance(file.get("filename"), str) else {}
    match file:
        case {"file_id": str(id)}:
            return {"type": "document", "source": {"type": "file", "file_id": id}, **title}
        case {"file_data": str(data)}:
            # The API takes files without a media type for PDF.
            url = data if data.startswith("data:") else f"data:application/pdf;base64,{data}"
            return {"type": "document", "source": _source(url), **title}
        case _:
            raise BadParameter(f"{place}.file", "must have file_data or file_id", api_code=MISSING)


def _source(url: str) -> Json:
    if (match := _DATA_URL.fullmatch(url)) is not None:
        return {"type": "base64", "media_type": match[1], "data": match[2]}
    return {"type": "url", "url": url}


def _parts_of(content: str | Iterable[Json]) -> list[Json]:
    """The content as parts; an empty text has no part."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content)
