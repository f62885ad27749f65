"""Decode a request: from the UI messages and settings of the AI SDK to the Messages API.

Rules
1. A message of the assistant is cut at its steps: the texts and calls of a step are a message of the assistant, the
   results of the caller's tools a message of the user behind it. The user's next message joins those results.
2. A call without a result is left out: every provider refuses a conversation that has one, and a chat that was stopped
   within a call could not continue.
3. Thinking is kept if its provider signed it: providers refuse it unsigned. Empty texts are left out too.
4. Left out are parts that models do not read: sources, ``data-*``, borders of steps, files that a model made, and
   unknown types.
5. A part that a model should read but cannot be given is refused with its place: ``BadUiMessage``.
6. The input of a call is an object, as providers require. Any other one (arguments that were cut off, the text of a
   custom tool) stays as it came under ``openai``, as in openai_chat/messages.py; other providers get an empty object.
   What a server of chat completions attached to the call (a signature) is kept there too: it refuses the call without.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import unquote

from broadcaster.core.requests.excerpts import excerpt_of
from broadcaster.dialects.openai.own_fields import OPENAI, attached_to_call
from broadcaster.dialects.reading import Json, as_text
from broadcaster.errors import InvalidInput

Part: TypeAlias = Mapping[str, Any]

_DATA_URL: Final = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),(?P<data>.*)", re.DOTALL)
_TOOL: Final = "tool-"
_ANSWERED: Final = frozenset({"output-available", "output-error", "output-denied"})
_CHOICES: Final = {"auto": "auto", "required": "any", "none": "none"}
_DENIED: Final = "The call was denied."


class BadUiMessage(InvalidInput):
    """A part that cannot be read; ``pointer`` leads to it from ``messages``."""

    def __init__(self, detail: str, *, pointer: str) -> None:
        super().__init__(detail)
        self.pointer = pointer


class UiConversation(NamedTuple):
    """``system``: the text of the system messages, "" without one."""

    system: str
    messages: list[Json]


def conversation_of(ui_messages: Sequence[Part]) -> UiConversation:
    """The conversation that these messages show. Raises BadUiMessage."""
    system: list[str] = []
    messages: list[Json] = []
    for number, message in enumerate(ui_messages):
        parts = _UiMessageParts(message, number)
        match message.get("role"):
            case "system":
                system += [part["text"] for part in parts.user() if part["type"] == "text"]
            case "user":
                _append(messages, "user", parts.user())
            case "assistant":
                for content, answered in parts.steps():
                    _append(messages, "assistant", content)
                    _append(messages, "user", answered)
            case role:
                detail = f"{excerpt_of(role)} is not one of system, user, assistant"
                raise BadUiMessage(detail, pointer=f"/{number}/role")
    return UiConversation("\n\n".join(system), messages)


def continued_message(ui_messages: Sequence[Part]) -> str | None:
    """The id of the assistant's message that the answer continues: the last one; None when the user's is last."""
    last = ui_messages[-1] if ui_messages else {}
    id = last.get("id")
    return id if last.get("role") == "assistant" and isinstance(id, str) and id else None


def tools_of(tools: Sequence[Part] | Mapping[str, Any]) -> list[Json]:
    """The tools of a request: a list of them, or the SDK's map of names to ``{description?, inputSchema}``."""
    if not isinstance(tools, Mapping):
        return [_tool(tool) for tool in tools]
    return [
        _tool({"name": name, **tool} if isinstance(tool, Mapping) else {"name": name}) for name, tool in tools.items()
    ]


def tool_choice_of(choice: str | Part) -> Json:
    """The SDK's ``toolChoice``; one in the shape of the Messages API passes."""
    match choice:
        case str() if choice in _CHOICES:
            return {"type": _CHOICES[choice]}
        case {"type": "tool", "toolName": str(name)}:
            return {"type": "tool", "name": name}
        case Mapping():
            return dict(choice)
        case _:
            raise BadUiMessage("a choice is auto, none, required, or a tool by its name", pointer="")


def _tool(tool: Part) -> Json:
    known = {name: value for name, value in tool.items() if name not in ("inputSchema", "parameters")}
    schema = tool.get("inputSchema", tool.get("parameters"))
    if isinstance(schema, Mapping):
        # What jsonSchema() makes holds the schema one member down.
        known["input_schema"] = schema.get("jsonSchema", schema)
    return known


def _append(messages: list[Json], role: str, content: list[Json]) -> None:
    """Add a message, or join the answers of tools that stand before it (rule 1)."""
    if not content:
        return
    last = messages[-1] if messages else None
    if last is not None and last["role"] == role == "user" and last["content"][0]["type"] == "tool_result":
        last["content"] += content
    else:
        messages.append({"role": role, "content": content})


class _UiMessageParts:
    """The parts of one UI message, and where it stands."""

    def __init__(self, message: Part, number: int) -> None:
        self._at = f"/{number}/parts"
        parts = message.get("parts")
        if not isinstance(parts, list | tuple):
            raise BadUiMessage("a message has a list of parts", pointer=self._at)
        for place, part in enumerate(parts):
            if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
                raise BadUiMessage("a part is an object with a type", pointer=f"{self._at}/{place}")
        self._parts: Sequence[Part] = parts

    def user(self) -> list[Json]:
        """The texts and files of a user's message."""
        content: list[Json] = []
        for place, part in enumerate(self._parts):
            if part["type"] == "text":
                content += self._text(part, place)
            elif part["type"] == "file":
                content.append(self._file(part, place))
        return content

    def steps(self) -> list[tuple[list[Json], list[Json]]]:
        """For each step: the assistant's texts and calls, and the results of the caller's tools (rule 1)."""
        steps: list[tuple[list[Json], list[Json]]] = [([], [])]
        for place, part in enumerate(self._parts):
            content, answered = steps[-1]
            kind = part["type"]
            if kind == "step-start":
                steps.append(([], []))
            elif kind == "text":
                content += self._text(part, place)
            elif kind == "reasoning":
                content += _thinking(part)
            elif kind == "dynamic-tool" or kind.startswith(_TOOL):
                called, outcome = self._call(part, place)
                content += called
                answered += outcome
        return steps

    def _text(self, part: Part, place: int) -> list[Json]:
        text = part.get("text")
        if not isinstance(text, str):
            raise self._bad("a text part has a text", place)
        return [{"type": "text", "text": text}] if text else []

    def _file(self, part: Part, place: int) -> Json:
        media_type, url = part.get("mediaType"), part.get("url")
        if not isinstance(media_type, str) or not isinstance(url, str):
            raise self._bad("a file part has a url and a mediaType", place)
        kind = "image" if media_type.startswith("image/") else "document"
        source = _source(media_type, url)
        if source is None:
            raise self._bad("a file's url is http:, https:, or data: that can be read", place)
        filename = part.get("filename")
        titled = {"title": filename} if kind == "document" and isinstance(filename, str) and filename else {}
        return {"type": kind, "source": source, **titled}

    def _call(self, part: Part, place: int) -> tuple[list[Json], list[Json]]:
        """A tool's call and its answer (rule 2); the provider answers its own within the same message."""
        name = part.get("toolName") if part["type"] == "dynamic-tool" else part["type"].removeprefix(_TOOL)
        id = part.get("toolCallId")
        if not isinstance(name, str) or not name or not isinstance(id, str):
            raise self._bad("a tool part has a toolCallId and a name", place)
        state = part.get("state")
        if not isinstance(state, str) or state not in _ANSWERED:
            return [], []
        call: Json = {"type": "tool_use", "id": id, "name": name, **_input(part)}
        if part.get("providerExecuted"):
            return _provider_run(part, call), []
        return [call], [{"type": "tool_result", "tool_use_id": id, **_answer(part)}]

    def _bad(self, detail: str, place: int) -> BadUiMessage:
        return BadUiMessage(detail, pointer=f"{self._at}/{place}")


def _source(media_type: str, url: str) -> Json | None:
    """The source of a file's bytes; None: a model cannot read it."""
    match = _DATA_URL.fullmatch(url)
    if match is None:
        return {"type": "url", "url": url} if url.startswith(("http://", "https://")) else None
    is_base64 = "base64" in match["parameters"].split(";")
    if media_type.startswith("text/"):
        text = _read_base64(match["data"]) if is_base64 else unquote(match["data"])
        return None if text is None else {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": "base64", "media_type": media_type, "data": match["data"]} if is_base64 else None


def _read_base64(data: str) -> str | None:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError:  # not base64, not ASCII, or not UTF-8
        return None


def _thinking(part: Part) -> list[Json]:
    """Rule 3."""
    match part:
        case {"providerMetadata": {"anthropic": {"redactedData": str(data)}}}:
            return [{"type": "redacted_thinking", "data": data}]
        case {"text": str(text), "providerMetadata": {"anthropic": {"signature": str(signature)}}}:
            return [{"type": "thinking", "thinking": text, "signature": signature}]
        case _:
            return []


def _input(part: Part) -> Json:
    """Rule 6."""
    input, metadata = part.get("input", part.get("rawInput")), part.get("callProviderMetadata")
    own = attached_to_call(metadata) if isinstance(metadata, Mapping) else {}
    if input is not None and not isinstance(input, Mapping):
        input, own = {}, {**own, "arguments": as_text(input)}
    return {"input": input or {}, **({OPENAI: own} if own else {})}


def _answer(part: Part) -> Json:
    if part["state"] == "output-available":
        return {"content": as_text(part.get("output"))}
    text = part.get("errorText") if part["state"] == "output-error" else _DENIED
    return {"content": text if isinstance(text, str) else "", "is_error": True}


def _provider_run(part: Part, call: Json) -> list[Json]:
    """A call that the provider ran, as its own blocks: only what came from Anthropic has that form."""
    match part.get("resultProviderMetadata"):
        case {"anthropic": {"toolResult": {"type": str(type)} as result}}:
            kind = "mcp_tool_use" if type == "mcp_tool_result" else "server_tool_use"
            answer = {"content": part.get("output"), **result, "tool_use_id": call["id"]}
            extras = _extras(part.get("callProviderMetadata"))
            return [{**extras, **call, "type": kind}, answer]
        case _:
            return []


def _extras(metadata: Any) -> Json:
    match metadata:
        case {"anthropic": Mapping() as extras}:
            return {name: value for name, value in extras.items() if name != "blockType"}
        case _:
            return {}
