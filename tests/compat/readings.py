"""What a person reads of a client's final object, whatever its shape: text, thinking, calls of tools."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from broadcaster.core.entry import Entry
from broadcaster.core.fold import Fold

Json = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """What a client made of a stream: its final object, the error it raised or received, the types that it saw.

    ``received`` is the object as its pieces alone make it, where the stream's end repeats the whole.
    """

    final: Any
    error: Json | None = None
    seen: tuple[str, ...] = ()
    received: Any = None


@dataclass(frozen=True)
class Read:
    """``calls`` are names with arguments, of tools that the application runs."""

    text: str
    thinking: str
    calls: tuple[tuple[str, Any], ...]


def arguments(text: str) -> Any:
    """A call's arguments; the text itself when they were torn."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def of_entries(entries: Iterable[Entry]) -> Read:
    """What the log holds: what all clients must show."""
    fold = Fold()
    for entry in entries:
        fold.apply(entry.event)
    return of_parts(fold.state.parts)


def of_parts(parts: Iterable[Json]) -> Read:
    """Parts of a fold."""
    parts = list(parts)
    return Read(
        text="".join(part["text"] for part in parts if part["type"] == "text"),
        thinking="".join(part["text"] for part in parts if part["type"] == "reasoning"),
        calls=tuple(
            (part["toolName"], part.get("input"))
            for part in parts
            if part["type"] == "tool" and not part.get("providerExecuted")
        ),
    )


def of_native(final: list[Json]) -> Read:
    """Entries as an EventSource, or curl, got them."""
    fold = Fold()
    for entry in final:
        fold.apply(msgspec.json.encode(entry["event"]))
    return of_parts(fold.state.parts)


def of_chat(final: Json) -> Read:
    """A ChatCompletion."""
    message = final["choices"][0]["message"]
    return Read(
        text=message.get("content") or "",
        thinking=message.get("reasoning_content") or "",
        calls=tuple(
            (call["function"]["name"], arguments(call["function"]["arguments"]))
            for call in message.get("tool_calls") or ()
        ),
    )


def of_response(final: Json) -> Read:
    """A Response."""
    output = final["output"]
    contents = [part for item in output if item["type"] == "message" for part in item["content"]]
    thoughts = [
        part
        for item in output
        if item["type"] == "reasoning"
        for part in (item.get("summary") or []) + (item.get("content") or [])
    ]
    return Read(
        text="".join(part.get("text", "") for part in contents),
        thinking="".join(part["text"] for part in thoughts),
        calls=tuple((item["name"], arguments(item["arguments"])) for item in output if item["type"] == "function_call"),
    )


def of_message(final: Json) -> Read:
    """A Message of Anthropic's."""
    blocks = final["content"]
    return Read(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        thinking="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        calls=tuple((block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"),
    )


def of_ui_message(final: Json) -> Read:
    """A UIMessage of the AI SDK."""
    parts = final["parts"]
    return Read(
        text="".join(part["text"] for part in parts if part["type"] == "text"),
        thinking="".join(part["text"] for part in parts if part["type"] == "reasoning"),
        calls=tuple(
            (part.get("toolName") or part["type"].removeprefix("tool-"), part.get("input"))
            for part in parts
            if (part["type"].startswith("tool-") or part["type"] == "dynamic-tool") and not part.get("providerExecuted")
        ),
    )


def of_messages(final: list[Json]) -> Read:
    """The messages that an AG-UI agent holds; they do not name the calls that the provider made itself."""
    messages = [message for message in final if message["role"] == "assistant"]
    return Read(
        text="".join(message.get("content") or "" for message in messages),
        thinking="".join(message.get("content") or "" for message in final if message["role"] == "reasoning"),
        calls=tuple(
            (call["function"]["name"], arguments(call["function"]["arguments"]))
            for message in messages
            for call in message.get("toolCalls") or ()
            if not call["id"].startswith("srvtoolu_")
        ),
    )
