"""A stored request → the messages of AG-UI that it was asked with, for a client that joins a run and holds none.

The reverse of ``ag_ui_request.py``. The ids of the client's own messages are not stored: each message has one of its
place here, so every joiner gets the same ones. Context and instructions are one system message; a call that had no
result was never stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from broadcaster.dialects.ag_ui_words import REDACTED, SIGNATURE, text_of
from broadcaster.dialects.reading import Json

_SOURCES: Final = {"base64": ("data", "data"), "url": ("url", "url"), "file": ("file", "file_id")}


def history_of(request: Mapping[str, Any]) -> list[Json]:
    """The conversation before the run, oldest first."""
    told = [*_system(request.get("system")), *(each for turn in request["messages"] for each in _messages(turn))]
    return [{"id": f"before-{at}", **message} for at, message in enumerate(told, start=1)]


def _system(system: Any) -> Iterator[Json]:
    if isinstance(system, str) and system:
        yield {"role": "system", "content": system}


def _messages(turn: Json) -> Iterator[Json]:
    parts = _parts(turn["content"])
    if turn["role"] == "user":
        for part in parts:
            if part["type"] == "tool_result":
                yield _result(part)
        if said := [_part(part) for part in parts if part["type"] != "tool_result"]:
            yield {"role": "user", "content": _plain(said)}
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
        return {"type": "text", "text": text_of(part.get("text", ""))}
    source = part["source"]
    kind, field = _SOURCES[source["type"]]
    media = {"mimeType": source["media_type"]} if kind == "data" else {}
    return {"type": part["type"], "source": {"type": kind, "value": source[field], **media}}


def _plain(said: list[Json]) -> str | list[Json]:
    match said:
        case [{"type": "text", "text": text}]:
            return str(text)
        case _:
            return said


def _result(part: Json) -> Json:
    text = "".join(_texts(_parts(part["content"])))
    told: Json = {"role": "tool", "toolCallId": part["tool_use_id"], "content": text}
    return {**told, "error": text} if part.get("is_error") else told


def _texts(parts: Iterable[Json]) -> Iterator[str]:
    return (part["text"] for part in parts if part["type"] == "text")


def _reasoning(text: str, encrypted: str) -> Json:
    return {"role": "reasoning", "content": text, "encryptedValue": encrypted}


def _call(part: Json) -> Json:
    function = {"name": part["name"], "arguments": msgspec.json.encode(part["input"]).decode()}
    return {"id": part["id"], "type": "function", "function": function}
