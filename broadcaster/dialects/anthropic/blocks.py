"""The content blocks of an answer, each from its start to its stop.

Rules
1. A block appends its events to ``out``. ``grow`` returns False for what our events cannot express: the decoder passes
   that on whole.
2. Content that a start already holds (text, thinking, signature, citations, input) is not lost: it comes out as deltas,
   or is the value when no delta follows.
3. Tool arguments are parsed only when whole. Without fragments, or with empty ones only, the input of the start counts.
4. Citations come out one by one where they belong, and all together at the end of their text, since a fold keeps only
   the last value of a metadata key. A cited web page is also a source, once for each URL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.providers.metering import OutputMeter
from broadcaster.dialects.anthropic import wire
from broadcaster.dialects.arguments import ArgumentsReader
from broadcaster.dialects.reading import Json, Sources, extras_of, tool_input

CALL_TYPES: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_RESULT_SUFFIX: Final = "_tool_result"


@dataclass(slots=True)
class AnthropicOutput:
    """What the blocks of one answer share: how much is written, the sources so far, and the bound of arguments."""

    meter: OutputMeter = field(default_factory=OutputMeter)
    sources: Sources = field(default_factory=Sources)
    reader: ArgumentsReader = field(default_factory=ArgumentsReader)


class BlockDecoder(Protocol):
    """An open block."""

    def grow(self, delta: wire.Delta, out: list[ev.Event]) -> bool:
        """Take a delta; False when it is not of this block's kind."""

    def end(self, out: list[ev.Event]) -> None:
        """The block is whole."""


def open_block(
    start: Json, id: str, *, output: AnthropicOutput, out: list[ev.Event], json_tool: str | None = None
) -> BlockDecoder | None:
    """Open the block of a ``content_block_start``; None when our events cannot express it.

    The input of a call of ``json_tool`` is the text of the answer (``answer_format``, rule 3).
    """
    match start:
        case {"type": "tool_use", "id": str(), "name": str(name)} if name == json_tool:
            return _JsonAnswerDecoder(start, id, output=output, out=out)
        case {"type": "text"}:
            return _TextDecoder(start, id, output=output, out=out)
        case {"type": "thinking"}:
            return _ThinkingDecoder(start, id, output=output, out=out)
        case {"type": "redacted_thinking", "data": str(data)}:
            out.append(ev.ReasoningStart(id=id, provider_metadata=wire.metadata({"redactedData": data})))
            return _WholeDecoder(ev.ReasoningEnd(id=id))
        case {"type": str(type), "id": str(), "name": str()} if type in CALL_TYPES:
            return _ToolCallDecoder(start, output=output, out=out)
        case {"type": str(type), "tool_use_id": str(), "content": _} if type.endswith(_RESULT_SUFFIX):
            out.append(_tool_result(start))
            return _WholeDecoder()
        case _:
            return None


class _TextDecoder:
    def __init__(self, start: Json, id: str, *, output: AnthropicOutput, out: list[ev.Event]) -> None:
        self._id = id
        self._output = output
        self._citations: list[Json] = []
        extras = extras_of(start, "type", "text", "citations")
        out.append(ev.TextStart(id=id, provider_metadata=wire.metadata(extras)))
        if isinstance(text := start.get("text"), str) and text:
            self.grow(wire.AnthropicTextDelta(text), out)
        citations = start.get("citations")
        for citation in citations if isinstance(citations, list) else ():
            self._cite(citation, out)

    def grow(self, delta: wire.Delta, out: list[ev.Event]) -> bool:
        if isinstance(delta, wire.AnthropicTextDelta):
            self._output.meter.count(delta.text)
            out.append(ev.TextDelta(id=self._id, delta=delta.text))
            return True
        if isinstance(delta, wire.CitationsDelta):
            self._cite(delta.citation, out)
            return True
        return False

    def end(self, out: list[ev.Event]) -> None:
        out.append(ev.TextEnd(id=self._id, provider_metadata=wire.metadata(extras_of({"citations": self._citations}))))

    def _cite(self, citation: Json, out: list[ev.Event]) -> None:
        self._citations.append(citation)
        out.append(ev.TextDelta(id=self._id, delta="", provider_metadata=wire.metadata({"citation": citation})))
        self._output.sources.cite(citation, out)


class _JsonAnswerDecoder:
    def __init__(self, start: Json, id: str, *, output: AnthropicOutput, out: list[ev.Event]) -> None:
        self._id = id
        self._output = output
        self._input = start.get("input")
        self._is_empty = True
        out.append(ev.TextStart(id=id))

    def grow(self, delta: wire.Delta, out: list[ev.Event]) -> bool:
        if not isinstance(delta, wire.InputJsonDelta):
            return False
        if delta.partial_json:
            self._is_empty = False
            self._output.meter.count(delta.partial_json)
            out.append(ev.TextDelta(id=self._id, delta=delta.partial_json))
        return True

    def end(self, out: list[ev.Event]) -> None:
        if self._is_empty:  # rule 3
            text = msgspec.json.encode(self._input if isinstance(self._input, dict) else {}).decode()
            out.append(ev.TextDelta(id=self._id, delta=text))
        out.append(ev.TextEnd(id=self._id))


class _ThinkingDecoder:
    def __init__(self, start: Json, id: str, *, output: AnthropicOutput, out: list[ev.Event]) -> None:
        self._id = id
        self._output = output
        extras = extras_of(start, "type", "thinking", "signature")
        out.append(ev.ReasoningStart(id=id, provider_metadata=wire.metadata(extras)))
        if isinstance(text := start.get("thinking"), str) and text:
            self.grow(wire.ThinkingDelta(text), out)
        if isinstance(signature := start.get("signature"), str) and signature:
            self.grow(wire.SignatureDelta(signature), out)

    def grow(self, delta: wire.Delta, out: list[ev.Event]) -> bool:
        if isinstance(delta, wire.ThinkingDelta):
            self._output.meter.count(delta.thinking)
            out.append(ev.ReasoningDelta(id=self._id, delta=delta.thinking))
            return True
        if isinstance(delta, wire.SignatureDelta):
            signed = wire.metadata({"signature": delta.signature})
            out.append(ev.ReasoningDelta(id=self._id, delta="", provider_metadata=signed))
            return True
        return False

    def end(self, out: list[ev.Event]) -> None:
        out.append(ev.ReasoningEnd(id=self._id))


class _WholeDecoder:
    """A block that its start held whole; ``end`` is the event of its stop, if it has one."""

    def __init__(self, *end: ev.Event) -> None:
        self._end = end

    def grow(self, delta: wire.Delta, out: list[ev.Event]) -> bool:
        return False

    def end(self, out: list[ev.Event]) -> None:
        out += self._end


class _ToolCallDecoder:
    """A call of a tool of ours (``tool_use``) or of the provider's (the other types)."""

    def __init__(self, start: Json, *, output: AnthropicOutput, out: list[ev.Event]) -> None:
        self._output = output
        self._fragments: list[str] = []
        self._input = start.get("input", {})
        extras = extras_of(start, "type", "id", "name", "input")
        if start["type"] != "tool_use":
            extras["blockType"] = start["type"]  # metadata also tells other dialects which provider ran the call
        self._call: dict[str, Any] = {
            "tool_call_id": start["id"],
            "tool_name": start["name"],
            "provider_executed": None if start["type"] == "tool_use" else True,
            "dynamic": True if start["type"] == "mcp_tool_use" else None,
            "provider_metadata": wire.metadata(extras),
        }
        out.append(ev.ToolInputStart(**self._call))

    def grow(self, delta: wire.Delta, out: list[ev.Event]) -> bool:
        if not isinstance(delta, wire.InputJsonDelta):
            return False
        self._output.meter.count(delta.partial_json)
        self._fragments.append(delta.partial_json)
        out.append(ev.ToolInputDelta(tool_call_id=self._call["tool_call_id"], input_text_delta=delta.partial_json))
        return True

    def end(self, out: list[ev.Event]) -> None:
        text = "".join(self._fragments)
        out.append(tool_input(self._call, text, empty=self._input, reader=self._output.reader))


def _tool_result(block: Json) -> ev.Event:
    """The result of a tool that the provider ran."""
    call: dict[str, Any] = {"tool_call_id": block["tool_use_id"], "provider_executed": True}
    if (error := _tool_error(block)) is not None:
        return ev.ToolOutputError(**call, error_text=error, provider_metadata=wire.metadata({"toolResult": block}))
    rest = {name: value for name, value in block.items() if name not in ("content", "tool_use_id")}
    return ev.ToolOutputAvailable(
        **call, output=block["content"], provider_metadata=wire.metadata({"toolResult": rest})
    )


def _tool_error(block: Json) -> str | None:
    """The error in a result block, for people; None: the tool succeeded."""
    match block:
        case {"content": {"type": str(type), **rest}} if type.endswith("_error"):
            return str(rest.get("error_code") or type)
        case {"is_error": True}:
            return "the tool reported an error"
        case _:
            return None
