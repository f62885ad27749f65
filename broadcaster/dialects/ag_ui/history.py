"""A stored request → the AG-UI messages of its conversation, for a client that joins a run and holds no messages.

The reverse of ag_ui/request.py. The ids of the client's own messages are not stored: each message has an id made of its
place, so every joiner gets the same ones. Context and instructions are one system message. A call without a result was
never stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from broadcaster.dialects.ag_ui.request import plain
from broadcaster.dialects.ag_ui.wire import REDACTED, SIGNATURE
from broadcaster.dialects.reading import Json, as_text

_SOURCES: Final = {"base64": ("data", "data"), "url": ("url", "url"), "file": ("file", "file_id")}


def history_of(request: Mapping[str, Any]) -> list[Json]:
    """The conversation before the run, oldest first."""
    messages = [*_system(request.get("system")), *(each for turn in request["messages"] for each in _messages(turn))]
    return [{"id": f"before-{at}", **message} for at, message in enumerate(messages, start=1)]


def _system(system: Any) -> Iterator[Json]:
    if isinstance(system, str) and system:
        yield {"role": "system", "content": system}


def _messages(turn: Json) -> Iterator[Json]:
    parts = _parts(turn["content"])
    if turn["role"] == "user":
        for part in parts:
            if part["type"] == "tool_result":
                yield _result(part)
        if content := [_part(part) for part in parts if part["type"] != "tool_result"]:
            yield {"role": "user", "content": plain(content)}
        return
    for part in parts:
        if part["type"] == "thinking":
            yield _reasoning(part["thinking"], SIGNATURE + part.get("signature", ""))
        elif part["type"] == "redacted_thinking":
            yield _reasoning("", REDACTED + part["data"])
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    calls = [_call(part) for part in parts if part["type"] == "tool_use"]
    if text or calls:
        yield {"role": "assistant"} | ({"content": text} if text else {}) | ({"toolCalls": calls} if calls else {})


def _parts(content: Any) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _part(part: Json) -> Json:
    if part["type"] not in ("image", "document"):
        return {"type": "text", "text": as_text(part.get("text", ""))}
    source = part["source"]
    kind, field = _SOURCES[source["type"]]
    media = {"mimeType": source["media_type"]} if kind == "data" else {}
    return {"type": part["type"], "source": {"type": kind, "value": source[field], **media}}


def _result(part: Json) -> Json:
    text = "".join(_texts(_parts(part["content"])))
    message: Json = {"role": "tool", "toolCallId": part["tool_use_id"], "content": text}
    return {**message, "error": text} if part.get("is_error") else message


def _texts(parts: Iterable[Json]) -> Iterator[str]:
    return (part["text"] for part in parts if part["type"] == "text")


def _reasoning(text: str, encrypted: str) -> Json:
    return {"role": "reasoning", "content": text, "encryptedValue": encrypted}


def _call(part: Json) -> Json:
    function = {"name": part["name"], "arguments": msgspec.json.encode(part["input"]).decode()}
    return {"id": part["id"], "type": "function", "function": function}
