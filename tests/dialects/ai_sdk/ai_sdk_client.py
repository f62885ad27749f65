"""The AI SDK's client as far as a stream determines it, written after ``processUIMessageStream`` of versions 6 and 7.

It is as strict as the original: an unknown type or field of a wrong kind, a delta without its start, an output without
its call end the stream. ``tests/compat`` holds it against the packages themselves.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broadcaster.core.sse import SseDecoder

Json = dict[str, Any]

OPTIONAL: Mapping[str, type] = {"providerMetadata": dict, "providerExecuted": bool, "dynamic": bool, "title": str}
TOOL: Mapping[str, type] = {"toolCallId": str, "toolName": str}
FIELDS: dict[str, Mapping[str, type]] = {
    "text-start": {"id": str},
    "text-delta": {"id": str, "delta": str},
    "text-end": {"id": str},
    "reasoning-start": {"id": str},
    "reasoning-delta": {"id": str, "delta": str},
    "reasoning-end": {"id": str},
    "error": {"errorText": str},
    "tool-input-start": TOOL,
    "tool-input-delta": {"toolCallId": str, "inputTextDelta": str},
    "tool-input-available": {**TOOL, "input": object},
    "tool-input-error": {**TOOL, "input": object, "errorText": str},
    "tool-output-available": {"toolCallId": str, "output": object},
    "tool-output-error": {"toolCallId": str, "errorText": str},
    "source-url": {"sourceId": str, "url": str},
    "source-document": {"sourceId": str, "mediaType": str, "title": str},
    "file": {"url": str, "mediaType": str},
    "start": {},
    "start-step": {},
    "finish-step": {},
    "reset-step": {},
    "finish": {},
    "abort": {},
    "message-metadata": {"messageMetadata": object},
}
REASONS = {"stop", "length", "content-filter", "tool-calls", "error", "other"}


class StreamDead(Exception):
    """The client throws: nothing after this is read."""


@dataclass
class Client:
    """One chat page that reads one stream."""

    version: int = 6
    id: str | None = None
    metadata: Json | None = None
    parts: list[Json] = field(default_factory=list)
    fields: list[Json] = field(default_factory=list)
    error: str | None = None
    is_aborted: bool = False
    is_done: bool = False
    finish_reason: str | None = None

    def __post_init__(self) -> None:
        self._open: dict[tuple[str, str], Json] = {}
        self._inputs: dict[str, Json] = {}

    @property
    def message(self) -> Json:
        """What the page holds in the end."""
        return {"id": self.id, "metadata": self.metadata, "parts": copy.deepcopy(self.parts)}

    def read(self, stream: bytes) -> Client:
        """Read a whole body. Raises StreamDead at what the package would not take."""
        assert b"\r" not in stream
        assert stream == b"" or stream.endswith(b"\n\n")
        for message in SseDecoder().decode(stream):
            assert message.data
            if self.error is not None:
                break
            if message.data == "[DONE]":
                self.is_done = True
                continue
            self.take(json.loads(message.data))
        return self

    def take(self, chunk: Json) -> None:
        """The next chunk."""
        kind = chunk.get("type", "")
        if kind.startswith("data-"):
            self._data(chunk)
            return
        if kind not in FIELDS or (kind == "reset-step" and self.version < 7):
            raise StreamDead(f"unknown type {kind}")
        for name, type in FIELDS[kind].items():
            if name not in chunk or not isinstance(chunk[name], type):
                raise StreamDead(f"{kind}.{name}")
        for name, type in OPTIONAL.items():
            if name in chunk and not isinstance(chunk[name], type):
                raise StreamDead(f"{kind}.{name}")
        getattr(self, "_" + kind.replace("-", "_"), self._of_family)(chunk)

    # -- the message

    def _start(self, chunk: Json) -> None:
        self.id = chunk.get("messageId", self.id)
        self._message_metadata(chunk)

    def _message_metadata(self, chunk: Json) -> None:
        metadata = chunk.get("messageMetadata")
        if metadata is not None:
            self.metadata = merge(self.metadata or {}, metadata)

    def _finish(self, chunk: Json) -> None:
        if (reason := chunk.get("finishReason")) is not None:
            if reason not in REASONS:
                raise StreamDead(f"finishReason {reason}")
            self.finish_reason = reason
        self._message_metadata(chunk)

    def _error(self, chunk: Json) -> None:
        self.error = chunk["errorText"]

    def _abort(self, _: Json) -> None:
        self.is_aborted = True

    def _start_step(self, _: Json) -> None:
        self.parts.append({"type": "step-start"})

    def _finish_step(self, _: Json) -> None:
        if self.version == 6:
            self._open.clear()

    def _reset_step(self, _: Json) -> None:
        self._open.clear()
        self._inputs.clear()
        self.parts = self.parts[: self._step_at()]

    def _data(self, chunk: Json) -> None:
        if "data" not in chunk:
            raise StreamDead("data")
        if chunk.get("transient"):
            self.fields.append(chunk)
            return
        id = chunk.get("id")
        known = next(
            (p for p in self.parts if id is not None and (p["type"], p.get("id")) == (chunk["type"], id)), None
        )
        if known is not None:
            known["data"] = chunk["data"]
        else:
            self.parts.append(dict(chunk))

    # -- parts

    def _of_family(self, chunk: Json) -> None:
        kind = chunk["type"]
        if kind.startswith(("text-", "reasoning-")):
            self._written(chunk, *kind.split("-"))
        elif kind.startswith("tool-input-"):
            self._tool_input(chunk)
        elif kind.startswith("tool-output-"):
            self._tool_output(chunk)
        else:
            self.parts.append(dict(chunk))

    def _written(self, chunk: Json, kind: str, what: str) -> None:
        key = kind, chunk["id"]
        if what == "start":
            part: Json = {"type": kind, "text": "", "state": "streaming"}
            if kind == "reasoning":
                part["id"] = chunk["id"]
            self._open[key] = part
            self.parts.append(part)
        elif key not in self._open:
            raise StreamDead(f"{chunk['type']} without its start")
        part = self._open[key]
        part["text"] += chunk.get("delta", "")
        if "providerMetadata" in chunk:
            part["providerMetadata"] = chunk["providerMetadata"]
        if what == "end":
            part["state"] = "done"
            del self._open[key]

    def _tool_input(self, chunk: Json) -> None:
        id, what = chunk["toolCallId"], chunk["type"].removeprefix("tool-input-")
        if what == "start":
            self._inputs[id] = {"text": "", "toolName": chunk["toolName"], "dynamic": chunk.get("dynamic")}
            self._set(chunk, "input-streaming")
        elif what == "delta":
            if id not in self._inputs:
                raise StreamDead("tool-input-delta without its start")
            known = self._inputs[id]
            known["text"] += chunk["inputTextDelta"]
            fields = {"toolCallId": id, "toolName": known["toolName"], "dynamic": known["dynamic"]}
            self._set(fields, "input-streaming", input=("partial", known["text"]), rawInput=known["text"])
        elif what == "available":
            self._set(chunk, "input-available", input=chunk["input"])
        else:
            self._set(chunk, "output-error", input=chunk["input"], errorText=chunk["errorText"])

    def _tool_output(self, chunk: Json) -> None:
        part = self._call(chunk["toolCallId"], self.parts[self._step_at() :]) or self._call(
            chunk["toolCallId"], self.parts[::-1]
        )
        if part is None:
            raise StreamDead("an output without its call")
        fields = {**chunk, "toolName": part["toolName"]}
        if chunk["type"] == "tool-output-error":
            self._set(fields, "output-error", part, input=part.get("input"), errorText=chunk["errorText"])
        else:
            visible = {"input": part.get("input"), "output": chunk["output"], "preliminary": chunk.get("preliminary")}
            self._set(fields, "output-available", part, **visible)

    def _set(self, chunk: Json, state: str, part: Json | None = None, **visible: Any) -> None:
        kind = "dynamic-tool" if (chunk.get("dynamic") if part is None else part["type"] == "dynamic-tool") else "tool"
        if part is None:
            step = [each for each in self.parts[self._step_at() :] if each["type"] == kind]
            part = self._call(chunk["toolCallId"], step)
        if part is None:
            part = {"type": kind, "toolCallId": chunk["toolCallId"]}
            self.parts.append(part)
        for name in ("input", "output", "errorText", "rawInput", "preliminary"):
            part[name] = visible.get(name)
        part |= {"toolName": chunk["toolName"], "state": state}
        part["providerExecuted"] = chunk.get("providerExecuted", part.get("providerExecuted"))
        if "providerMetadata" in chunk:
            whose = "result" if state.startswith("output") else "call"
            part[f"{whose}ProviderMetadata"] = chunk["providerMetadata"]

    def _call(self, id: str, parts: list[Json]) -> Json | None:
        return next((part for part in parts if part.get("toolCallId") == id), None)

    def _step_at(self) -> int:
        steps = [at for at, part in enumerate(self.parts) if part["type"] == "step-start"]
        return steps[-1] + 1 if steps else 0


def merge(base: Json, news: Json) -> Json:
    """Metadata as the package merges it."""
    merged = dict(base)
    for name, value in news.items():
        old = merged.get(name)
        merged[name] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
