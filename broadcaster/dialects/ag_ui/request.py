"""A run's input in AG-UI 1.0 → a request of the Messages API, the format of stored requests.

Rules
1. ``system`` and ``developer`` messages, then the ``context``, are the system prompt, wherever they stand.
2. Consecutive messages of the assistant and its reasoning make one turn, and so do results and the user's messages
   after them.
3. A call without a result is left out: a stopped run leaves one, and every provider refuses it.
4. Reasoning goes back only where its ``encryptedValue`` is one of ours (ag_ui/wire.py): signed or redacted thinking.
   Providers do not accept thinking that they did not sign. A turn of thinking alone is left out.
5. ``forwardedProps`` has the model and its parameters (``FORWARDED``). Everything else in it belongs to the
   application, as do ``state`` and ``activity`` messages: models do not read them.
6. Input that would be lost in silence is refused by name: audio, video, ``resume``.

The input has been checked by the schema of the surface (web/surfaces/ag_ui_schemas.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from broadcaster.dialects.ag_ui.wire import REDACTED, SIGNATURE
from broadcaster.dialects.arguments import ArgumentsReader, UnparsedArguments
from broadcaster.dialects.reading import Json

FORWARDED: Final = ("max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "tool_choice", "thinking")
"""The fields of the Messages API that ``forwardedProps`` may hold, besides ``model``."""

_NO_PARAMETERS: Final[Json] = {"type": "object", "properties": {}}


class UnsupportedInput(ValueError):
    """A part of the input that a request cannot express; ``pointer`` is its place."""

    def __init__(self, detail: str, *, pointer: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


def model_of(run: Mapping[str, Any]) -> str | None:
    """The requested model; None: the server's default."""
    model = _forwarded(run).get("model")
    return model if isinstance(model, str) and model else None


def request_of(run: Mapping[str, Any]) -> Json:
    """The request without its model. Raises UnsupportedInput (rule 6)."""
    if run.get("resume"):
        raise UnsupportedInput("no run is interrupted here, so none can be resumed", pointer="/resume")
    messages = run["messages"]
    request: Json = {"messages": _turns(messages)}
    if system := "\n\n".join(_system(messages, run.get("context") or ())):
        request["system"] = system
    if tools := run.get("tools"):
        request["tools"] = [_tool(tool) for tool in tools]
    forwarded = _forwarded(run)
    return request | {name: forwarded[name] for name in FORWARDED if forwarded.get(name) is not None}


def _forwarded(run: Mapping[str, Any]) -> Mapping[str, Any]:
    forwarded = run.get("forwardedProps")
    return forwarded if isinstance(forwarded, Mapping) else {}


def _system(messages: Iterable[Json], context: Iterable[Json]) -> Iterable[str]:
    for message in messages:
        if message["role"] in ("system", "developer") and message["content"]:
            yield message["content"]
    for each in context:
        yield f"{each['description']}:\n{each['value']}"


def _tool(tool: Json) -> Json:
    schema = tool.get("parameters") or _NO_PARAMETERS
    return {"name": tool["name"], "description": tool["description"], "input_schema": schema}


def _turns(messages: Sequence[Json]) -> list[Json]:
    """Rules 2 to 4."""
    answered = {message["toolCallId"] for message in messages if message["role"] == "tool"}
    turns: list[Json] = []
    reader = ArgumentsReader()
    for at, message in enumerate(messages):
        role, parts = _parts_of(message, answered, pointer=f"/messages/{at}", reader=reader)
        if not parts:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += parts
        else:
            turns.append({"role": role, "content": parts})
    return [{**turn, "content": plain(turn["content"])} for turn in turns if not _only_thinks(turn)]


def _parts_of(message: Json, answered: set[str], *, pointer: str, reader: ArgumentsReader) -> tuple[str, list[Json]]:
    """The role and the parts of a message; without parts, a model reads nothing of it."""
    match message["role"]:
        case "user":
            return "user", _content(message["content"], pointer=f"{pointer}/content")
        case "tool":
            return "user", [_result(message, pointer=f"{pointer}/content")]
        case "assistant":
            calls = [_call(call, reader) for call in message.get("toolCalls") or () if call["id"] in answered]
            return "assistant", _content(message.get("content") or "", pointer=pointer) + calls
        case "reasoning":
            return "assistant", _thinking(message)
        case _:
            return "", []


def _content(content: str | Sequence[Json], *, pointer: str) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [_part(part, pointer=f"{pointer}/{at}") for at, part in enumerate(content)]


def _part(part: Json, *, pointer: str) -> Json:
    match part:
        case {"type": "text", "text": text}:
            return {"type": "text", "text": text}
        case {"type": "image" | "document" as kind, "source": source}:
            return {"type": kind, "source": _source(source, pointer=pointer)}
        case {"type": kind}:
            raise UnsupportedInput(f"no model is asked with {kind} here", pointer=f"{pointer}/type")
        case _:
            raise UnsupportedInput("a part has a type", pointer=pointer)


def _source(source: Json, *, pointer: str) -> Json:
    match source:
        case {"type": "data", "value": data, "mimeType": media_type}:
            return {"type": "base64", "media_type": media_type, "data": data}
        case {"type": "url", "value": url}:
            return {"type": "url", "url": url}
        case {"type": "file", "value": id}:
            return {"type": "file", "file_id": id}
        case _:
            raise UnsupportedInput("a source is data, url or file, with its value", pointer=f"{pointer}/source")


def _result(message: Json, *, pointer: str) -> Json:
    content = message["content"]
    parts = content if isinstance(content, str) else _content(content, pointer=pointer)
    result: Json = {"type": "tool_result", "tool_use_id": message["toolCallId"], "content": parts}
    if error := message.get("error"):
        result |= {"content": parts or error, "is_error": True}
    return result


def _call(call: Json, reader: ArgumentsReader) -> Json:
    function = call["function"]
    input = _input(function["arguments"], reader)
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": input}


def _input(arguments: str, reader: ArgumentsReader) -> Any:
    """The arguments as an object, as providers require; any other value, and a text that is not parsed, is in one."""
    try:
        parsed = reader.parse(arguments) if arguments.strip() else {}
    except UnparsedArguments:
        parsed = arguments
    return parsed if isinstance(parsed, dict) else {"arguments": parsed}


def _thinking(message: Json) -> list[Json]:
    encrypted = message.get("encryptedValue") or ""
    if encrypted.startswith(SIGNATURE):
        signature = encrypted.removeprefix(SIGNATURE)
        return [{"type": "thinking", "thinking": message["content"], "signature": signature}]
    if encrypted.startswith(REDACTED):
        return [{"type": "redacted_thinking", "data": encrypted.removeprefix(REDACTED)}]
    return []


def _only_thinks(turn: Json) -> bool:
    return all(part["type"] in ("thinking", "redacted_thinking") for part in turn["content"])


def plain(parts: list[Json]) -> str | list[Json]:
    """A single text stands as a string, as most of them come."""
    match parts:
        case [{"type": "text", "text": text}]:
            return str(text)
        case _:
            return parts
