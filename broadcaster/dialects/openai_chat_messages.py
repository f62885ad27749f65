"""The messages of a chat completions request → those of the Messages API, in which requests are stored.

Rules
1. Messages of ``system`` and ``developer`` before all others are the system prompt; later ones stay where they are, and
   so do those that no other message follows: the model answers them.
2. Results of tools that follow each other become one message of the user, as the Messages API wants them.
3. What has no word over there is kept under the key ``openai`` of the message or part it belongs to: a ``name``, the
   ``detail`` of an image, that a text is a refusal, arguments that are no JSON object. Only OpenAI providers read it.
4. Every other field of a message is left out, because it says nothing to the model: clients send answers back as they
   got them, and frameworks leave fields of their own in messages (``provider_specific_fields``, ``metadata``).
5. What says something to the model and cannot be kept is refused by its place: calls under a role that makes none, too.

The inverse is ``openai_request``. Source: the openai package's ``ChatCompletionMessageParam``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from broadcaster.dialects.openai_chat_refusal import MISSING, WRONG_TYPE, WRONG_VALUE, Refused
from broadcaster.dialects.reading import Json

OPENAI: Final = "openai"
"""The key of what only OpenAI's wires know, in the words of chat completions (rule 3)."""

_SYSTEM: Final = frozenset({"system", "developer"})
_ROLES: Final = ("system", "developer", "user", "assistant", "tool")
_OF_ONE_ROLE: Final = {
    **dict.fromkeys(("tool_calls", "function_call", "refusal", "audio"), "assistant"),
    "tool_call_id": "tool",
}
"""What says something to the model, but under one role only (rule 5)."""
_CALL: Final = frozenset({"id", "type", "index", "function", "custom"})
_DATA_URL: Final = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)


def stored_messages(messages: Any) -> tuple[list[Json], str | list[Json] | None]:
    """The messages and the system prompt. Raises Refused."""
    if not isinstance(messages, list):
        raise Refused("messages", "must be a list", word=MISSING if messages is None else WRONG_TYPE)
    stored: list[Json] = []
    system: list[Json] = []
    for at, message in enumerate(messages):
        place = f"messages[{at}]"
        role = _checked(message, place)
        if role in _SYSTEM and not stored:
            system.append(_said(message, role="system", place=place))
        elif role == "tool":
            _add_result(stored, message, place)
        else:
            stored.append(_said(message, role="system" if role in _SYSTEM else role, place=place))
    if not stored and not system:
        raise Refused("messages", "holds no message", word=WRONG_VALUE)
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
        raise Refused(place, "must be an object", word=WRONG_TYPE)
    role = message.get("role")
    if role is None:
        raise Refused(f"{place}.role", "is missing", word=MISSING)
    if role not in _ROLES:
        raise Refused(f"{place}.role", f"is none of {', '.join(_ROLES)}", word=WRONG_VALUE)
    for name, only in _OF_ONE_ROLE.items():
        if message.get(name) and role != only:
            raise Refused(f"{place}.{name}", f"belongs to a message of the role {only}", word=WRONG_VALUE)
    return str(role)


def _said(message: Mapping[str, Any], *, role: str, place: str) -> Json:
    """A message of any role but ``tool``."""
    content = _content(message.get("content"), f"{place}.content")
    if role == "assistant":
        content = _answer(message, content, place)
    elif content is None:
        raise Refused(f"{place}.content", "is missing", word=MISSING)
    stored: Json = {"role": role, "content": content}
    return {**stored, OPENAI: {"name": message["name"]}} if message.get("name") is not None else stored


def _answer(message: Mapping[str, Any], content: str | list[Json] | None, place: str) -> str | list[Json]:
    """The content of the assistant's message: its texts, its refusal and its calls."""
    for name in ("audio", "function_call"):
        if message.get(name) is not None:
            raise Refused(f"{place}.{name}", "is not served here")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise Refused(f"{place}.tool_calls", "must be a list", word=WRONG_TYPE)
    rest = [_call(call, f"{place}.tool_calls[{at}]") for at, call in enumerate(calls)]
    if isinstance(refusal := message.get("refusal"), str):
        rest.insert(0, _refusal(refusal))
    if rest:
        return [*_parts_of(content or []), *rest]
    if content is None:
        raise Refused(f"{place}.content", "is missing, and there are no tool_calls", word=MISSING)
    return content


def _call(call: Any, place: str) -> Json:
    match call:
        case {"id": str(id), "function": {"name": str(name), "arguments": str(arguments)}}:
            input, own = _arguments(arguments)
        case {"id": str(id), "custom": {"name": str(name), "input": str(text)}}:
            input, own = {"input": text}, {"type": "custom", "input": text}
        case _:
            raise Refused(place, "must have an id, and a function with name and arguments", word=WRONG_VALUE)
    own |= {key: value for key, value in call.items() if key not in _CALL and value is not None}
    return {"type": "tool_use", "id": id, "name": name, "input": input, **({OPENAI: own} if own else {})}


def _arguments(text: str) -> tuple[Json, Json]:
    """The arguments as an object; as they came, too, where they are none (rule 3)."""
    try:
        input = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        input = None
    return (input, {}) if isinstance(input, dict) else ({}, {"arguments": text})


def _add_result(stored: list[Json], message: Mapping[str, Any], place: str) -> None:
    """Rule 2."""
    id = message.get("tool_call_id")
    if not isinstance(id, str):
        raise Refused(f"{place}.tool_call_id", "is missing", word=MISSING)
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
        raise Refused(place, "must be a text or a list of parts", word=WRONG_TYPE)
    return [_part(part, f"{place}[{at}]") for at, part in enumerate(content)]


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
            raise Refused(f"{place}.type", "is no part that is served here, or lacks its value", word=WRONG_VALUE)
        case _:
            raise Refused(place, "must be an object with a type", word=WRONG_TYPE)


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
            # Without a media type it is what the API takes files for.
            url = data if data.startswith("data:") else f"data:application/pdf;base64,{data}"
            return {"type": "document", "source": _source(url), **title}
        case _:
            raise Refused(f"{place}.file", "must have file_data or file_id", word=MISSING)


def _source(url: str) -> Json:
    if (match := _DATA_URL.fullmatch(url)) is not None:
        return {"type": "base64", "media_type": match[1], "data": match[2]}
    return {"type": "url", "url": url}


def _parts_of(content: str | Iterable[Json]) -> list[Json]:
    """The content as parts; an empty text is none."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content)
