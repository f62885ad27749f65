"""The ``input`` items of the Responses API → messages of the Messages API.

Rules
1. Consecutive items of one turn are one message: the model's thoughts, texts and calls; or the results of its tools.
2. System and developer messages before all others are the head of the system prompt; later ones stay where they are.
   If no other item follows them, they are a message of the conversation, which the model answers. A request that builds
   on an earlier response has the head of that response too.
3. A thought of Claude's is restored from what was sealed in it. OpenAI's is kept as it is. A thought that holds nothing
   that a provider could read back is left out, and so are calls that another provider ran by itself.
4. Calls of custom tools, arguments that are not a JSON object, the detail and the cache mark of a part, the caller of a
   call and the ``phase`` of an assistant's message are stored under ``openai``, because no other wire knows them. So
   is what a server of chat completions attached to a call (a signature): it refuses the call without.
   Messages has no form for the other items of this API: they are kept as parts. Other wires leave out what it ran
   itself (openai/own_fields.py, rule 5), and refuse the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from broadcaster.core.requests.excerpts import excerpt_of
from broadcaster.dialects.anthropic.wire import PROVIDER as ANTHROPIC
from broadcaster.dialects.arguments import ArgumentsReader
from broadcaster.dialects.openai.namespaces import NAMESPACE, Namespaced
from broadcaster.dialects.openai.own_fields import BREAKPOINT, OPENAI
from broadcaster.dialects.openai.parameters import MISSING, WRONG_TYPE, WRONG_VALUE, BadParameter
from broadcaster.dialects.openai.tools import stored_arguments
from broadcaster.dialects.openai_responses.encoding.tool_items import UNNAMED
from broadcaster.dialects.openai_responses.ids import with_provider_ids
from broadcaster.dialects.openai_responses.provider_request import NATIVE_ITEMS, PHASE, RESPONSES_ONLY
from broadcaster.dialects.openai_responses.sealed import unseal
from broadcaster.dialects.reading import Json

_HEADS: Final = ("system", "developer")
_ROLES: Final = ("user", "assistant", *_HEADS)
_OUTPUTS: Final = ("_output", "_response")
_OF_PARTS: Final = ("detail", BREAKPOINT)
"""The fields of a part that only OpenAI's wires know."""
_OF_THIS_WIRE: Final = ("caller", "async")
"""The fields of a call or result that only this wire knows, and no field of ours holds."""
_OF_CALL: Final = frozenset(
    {
        *("type", "id", "call_id", "status", "name", "arguments", "created_by", NAMESPACE, *_OF_THIS_WIRE),
        *("parsed_arguments", RESPONSES_ONLY),
    }
)
"""The fields of a call that its wire, an SDK or a stored part has; others came from a server of chat completions."""
_FOREIGN_LABELS: Final = (ANTHROPIC, UNNAMED)
"""The server labels of calls that another provider ran by itself."""


class EarlierTurns(NamedTuple):
    """The conversation up to and with an earlier response; ``heads``: the head of its system prompt (rule 2)."""

    messages: Sequence[Mapping[str, Any]] = ()
    heads: Sequence[Json] = ()


NO_TURNS: Final = EarlierTurns()


def messages_of(items: Sequence[Any], *, earlier: EarlierTurns = NO_TURNS) -> tuple[list[Json], list[Json]]:
    """The messages, behind those of an earlier response, and the head of the system prompt (rule 2).

    Raises BadParameter with the item that is malformed, or cannot be kept.
    """
    turns = _Turns([dict(message) for message in earlier.messages], heads=[*earlier.heads])
    for at, item in enumerate(items):
        place = f"input[{at}]"
        if not isinstance(item, dict):
            raise BadParameter(place, "an item must be an object", api_code=WRONG_TYPE)
        _take(with_provider_ids(item), turns, place=place)
    if turns.heads and not turns.is_begun:
        return [{"role": "system", "content": turns.heads}], []
    return turns.done(), turns.heads


def answer_of(output: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The messages that a response's output is: what a later request builds on."""
    turns = _Turns([], heads=[])
    for at, item in enumerate(output):
        _take(with_provider_ids(item), turns, place=f"output[{at}]")
    return turns.done()


class _Turns:
    """Messages as they are joined (rule 1)."""

    def __init__(self, messages: list[Json], *, heads: list[Json]) -> None:
        self.heads = heads
        self.reader = ArgumentsReader()
        self._messages = messages
        self._joinable: str | None = None

    @property
    def is_begun(self) -> bool:
        return bool(self._messages)

    def message(self, role: str, content: Any) -> None:
        """A message of its own."""
        self._messages.append({"role": role, "content": content})
        self._joinable = None

    def join(self, role: str, parts: list[Json]) -> None:
        """Add parts to the current turn."""
        if self._joinable == role:
            self._messages[-1]["content"] += parts
        else:
            self._messages.append({"role": role, "content": list(parts)})
            self._joinable = role

    def done(self) -> list[Json]:
        """The messages; an answer of a single text becomes that text."""
        return [_plain(message) for message in self._messages]


def _plain(message: Json) -> Json:
    match message:
        case {"role": "assistant", "content": [{"type": "text", "text": str(text), **rest}]} if not rest:
            return {**message, "content": text}
        case _:
            return message


def _take(item: Json, turns: _Turns, *, place: str) -> None:
    type = item.get("type", "message")
    match item:
        case {"role": str(role), "content": content} if type == "message":
            _take_message(role, content, turns, place=place, phase=item.get(PHASE))
        case {"type": "function_call", "call_id": str(id), "name": str(name)}:
            input, own = _arguments(item.get("arguments"), turns.reader, place=place)
            call = {"type": "tool_use", "id": id, **_called(name, item), "input": input}
            turns.join("assistant", [_with_own(call, _attached(item) | own | _caller(item))])
        case {"type": "custom_tool_call", "call_id": str(id), "name": str(name), "input": str(text)}:
            own = {"type": "custom", "input": text}
            call = {"type": "tool_use", "id": id, "name": name, "input": {"input": text}, OPENAI: own}
            turns.join("assistant", [_with_own(call, _caller(item, NAMESPACE))])
        case {"type": "function_call_output" | "custom_tool_call_output", "call_id": str(id)}:
            content = _result(item.get("output"), place=f"{place}.output")
            result = {"type": "tool_result", "tool_use_id": id, "content": content}
            turns.join("user", [_with_own(result, _caller(item))])
        case {"type": "reasoning"}:
            if (thought := _thought(item)) is not None:
                turns.join("assistant", [thought])
        case {"type": str()} if type in NATIVE_ITEMS:
            if not (type == "mcp_call" and item.get("server_label") in _FOREIGN_LABELS):
                turns.join("user" if type.endswith(_OUTPUTS) else "assistant", [item])
        case _:
            raise BadParameter(place, "no item of a known type, with the fields that it needs", api_code=WRONG_VALUE)


def _with_own(part: Json, own: Json) -> Json:
    """The part with more that only OpenAI's wires know."""
    return {**part, OPENAI: {**part.get(OPENAI, {}), **own}} if own else part


def _caller(item: Json, *names: str) -> Json:
    """What only this wire knows of a call or result, and no field of ours holds."""
    kept = {name: item[name] for name in (*_OF_THIS_WIRE, *names) if item.get(name) is not None}
    return {RESPONSES_ONLY: kept} if kept else {}


def _attached(item: Json) -> Json:
    """What a server of chat completions attached to a call. Names in camel case are ours."""
    rest = {name: value for name, value in item.items() if name not in _OF_CALL and name.islower()}
    return {name: value for name, value in rest.items() if value is not None}


def _called(name: str, item: Json) -> Json:
    """The name of a function that is called, joined with its namespace."""
    if not isinstance(namespace := item.get(NAMESPACE), str):
        return {"name": name}
    return {"name": Namespaced(namespace, name).joined, OPENAI: {NAMESPACE: namespace}}


def _take_message(role: str, content: Any, turns: _Turns, *, place: str, phase: Any) -> None:
    if role not in _ROLES:
        detail = f"{excerpt_of(role)} is not one of {', '.join(_ROLES)}"
        raise BadParameter(f"{place}.role", detail, api_code=WRONG_VALUE)
    if not isinstance(content, str | list):
        raise BadParameter(f"{place}.content", "content must be a text or a list of parts", api_code=WRONG_TYPE)
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else []
    for at, part in enumerate(content if isinstance(content, list) else ()):
        parts.append(_part(part, place=f"{place}.content[{at}]"))
    if role == "assistant":
        label = {PHASE: phase} if isinstance(phase, str) else {}
        turns.join("assistant", [_with_own(part, label) for part in parts])
    elif role in _HEADS and not turns.is_begun:
        turns.heads += parts
    else:
        turns.message("system" if role in _HEADS else role, content if isinstance(content, str) else parts)


def _part(part: Any, *, place: str) -> Json:
    stored = _stored(part, place=place)
    own = {name: part[name] for name in _OF_PARTS if part.get(name) not in (None, "auto")}
    return _with_own(stored, own)


def _stored(part: Any, *, place: str) -> Json:
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "text", "text": text, OPENAI: {"type": "refusal"}}
        case {"type": "input_image"}:
            return {"type": "image", "source": _source(part, "image_url", place=place)}
        case {"type": "input_file"}:
            title = part.get("filename")
            named = {"title": title} if isinstance(title, str) else {}
            return {"type": "document", **named, "source": _source(part, "file_url", "file_data", place=place)}
        case {"type": str(type)}:
            raise BadParameter(place, f"parts of type {type} are not served")
        case _:
            raise BadParameter(place, "a part must be an object with a type", api_code=WRONG_VALUE)


def _source(part: Json, *names: str, place: str) -> Json:
    """Where the bytes of an image or file are."""
    if isinstance(file_id := part.get("file_id"), str):
        return {"type": "file", "file_id": file_id}
    for name in names:
        if not isinstance(url := part.get(name), str):
            continue
        if not url.startswith("data:"):
            if name == "file_data":
                raise BadParameter(f"{place}.{name}", "file_data must be a data URL", api_code=WRONG_VALUE)
            return {"type": "url", "url": url}
        head, _, data = url.removeprefix("data:").partition(",")
        if not head.endswith(";base64"):
            raise BadParameter(f"{place}.{name}", "a data URL must be base64", api_code=WRONG_VALUE)
        return {"type": "base64", "media_type": head.split(";", 1)[0], "data": data}
    raise BadParameter(place, f"needs one of file_id, {', '.join(names)}", api_code=MISSING)


def _arguments(text: Any, reader: ArgumentsReader, *, place: str) -> tuple[Json, Json]:
    if not isinstance(text, str):
        raise BadParameter(f"{place}.arguments", "arguments must be JSON text", api_code=WRONG_TYPE)
    return stored_arguments(text, reader)


def _result(output: Any, *, place: str) -> Any:
    if isinstance(output, str):
        return output
    if not isinstance(output, list):
        raise BadParameter(place, "an output is a text or a list of parts", api_code=WRONG_TYPE)
    return [_part(part, place=f"{place}[{at}]") for at, part in enumerate(output)]


def _thought(item: Json) -> Json | None:
    """Rule 3."""
    sealed = item.get("encrypted_content")
    if not isinstance(sealed, str) or not sealed:
        return None
    parts = item.get("content") or item.get("summary") or []
    texts = [text for part in parts if isinstance(part, dict) and isinstance(text := part.get("text"), str)]
    return unseal(sealed, text="".join(texts)) or {name: item[name] for name in item if name != "status"}
