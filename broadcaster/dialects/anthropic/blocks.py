"""The content blocks of an answer, each from its start to its stop.

Rules
1. A block appends its events to ``out``. ``grow`` and ``end`` return False for what our events cannot express: the
   decoder passes that on whole.
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
from broadcaster.dialects.anthropic.wire import (
    AnthropicTextDelta,
    CitationsDelta,
    Delta,
    InputJsonDelta,
    SignatureDelta,
    ThinkingDelta,
    metadata,
)
from broadcaster.dialects.reading import Json, extras_of, tool_input

CALL_TYPES: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_RESULT_SUFFIX: Final = "_tool_result"


@dataclass(slots=True)
class AnthropicOutput:
    """What the blocks of one answer share: how much the model has written, and the sources so far."""

    meter: OutputMeter = field(default_factory=OutputMeter)
    sources: dict[str, str] = field(default_factory=dict)


class BlockDecoder(Protocol):
    """An open block."""

    def grow(self, delta: Delta, out: list[ev.Event]) -> bool:
        """Take a delta; False when it is not of this block's kind."""

    def end(self, out: list[ev.Event]) -> bool:
        """The block is whole; False when its stop must be passed on as it came."""


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
            return _RedactedDecoder(data, id, out=out)
        case {"type": str(type), "id": str(), "name": str()} if type in CALL_TYPES:
            return _ToolCallDecoder(start, output=output, out=out)
        case {"type": str(type), "tool_use_id": str(), "content": _} if type.endswith(_RESULT_SUFFIX):
            return _ToolResultDecoder(start, out=out)
        case _:
            return None


class _TextDecoder:
    def __init__(self, start: Json, id: str, *, output: AnthropicOutput, out: list[ev.Event]) -> None:
        self._id = id
        self._output = output
        self._citations: list[Json] = []
        extras = extras_of(start, "type", "text", "citations")
        out.append(ev.TextStart(id=id, provider_metadata=metadata(extras)))
        if isinstance(text := start.get("text"), str) and text:
            self.grow(AnthropicTextDelta(text), out)
        citations = start.get("citations")
        for citation in citations if isinstance(citations, list) else ():
            self._cite(citation, out)

    def grow(self, delta: Delta, out: list[ev.Event]) -> bool:
        if isinstance(delta, AnthropicTextDelta):
            self._output.meter.count(delta.text)
            out.append(ev.TextDelta(id=self._id, delta=delta.text))
            return True
        if isinstance(delta, CitationsDelta):
            self._cite(delta.citation, out)
            return True
        return False

    def end(self, out: list[ev.Event]) -> bool:
        out.append(ev.TextEnd(id=self._id, provider_metadata=metadata(extras_of({"citations": self._citations}))))
        return True

    def _cite(self, citation: Json, out: list[ev.Event]) -> None:
        self._citations.append(citation)
        out.append(ev.TextDelta(id=self._id, delta="", provider_metadata=metadata({"citation": citation})))
        match citation:
            case {"url": str(url)} if url not in self._output.sources:
                id = self._output.sources[url] = f"source-{len(self._output.sources)}"
                title = citation.get("title")
                out.append(ev.SourceUrl(source_id=id, url=url, title=title if isinstance(title, str) else None))


class _JsonAnswerDecoder:
    def __init__(self, start: Json, id: str, *, output: AnthropicOutput, out: list[ev.Event]) -> None:
        self._id = id
        self._output = output
        self._input = start.get("input")
        self._is_empty = True
        out.append(ev.TextStart(id=id))

    def grow(self, delta: Delta, out: list[ev.Event]) -> bool:
        if not isinstance(delta, InputJsonDelta):
            return False
        if delta.partial_json:
            self._is_empty = False
            self._output.meter.count(delta.partial_json)
            out.append(ev.TextDelta(id=self._id, delta=delta.partial_json))
        return True

    def end(self, out: list[ev.Event]) -> bool:
        if self._is_empty:  # rule 3
            text = msgspec.json.encode(self._input if isinstance(self._input, dict) else {}).decode()
            out.append(ev.TextDelta(id=self._id, delta=text))
        out.append(ev.TextEnd(id=self._id))
        return True


class _ThinkingDecoder:
    def __init__(self, start: Json, id: str, *, output: AnthropicOutput, out: list[ev.Event]) -> None:
        self._id = id
        self._output = output
        extras = extras_of(start, "type", "thinking", "signature")
        out.append(ev.ReasoningStart(id=id, provider_metadata=metadata(extras)))
        if isinstance(text := start.get("thinking"), str) and text:
            self.grow(ThinkingDelta(text), out)
        if isinstance(signature := start.get("signature"), str) and signature:
            self.grow(SignatureDelta(signature), out)

    def grow(self, delta: Delta, out: list[ev.Event]) -> bool:
        if isinstance(delta, ThinkingDelta):
            self._output.meter.count(delta.thinking)
            out.append(ev.ReasoningDelta(id=self._id, delta=delta.thinking))
            return True
        if isinstance(delta, SignatureDelta):
            signed = metadata({"signature": delta.signature})
            out.append(ev.ReasoningDelta(id=self._id, delta="", provider_metadata=signed))
            return True
        return False

    def end(self, out: list[ev.Event]) -> bool:
        out.append(ev.ReasoningEnd(id=self._id))
        return True


class _RedactedDecoder:
    def __init__(self, data: str, id: str, *, out: list[ev.Event]) -> None:
        self._id = id
        out.append(ev.ReasoningStart(id=id, provider_metadata=metadata({"redactedData": data})))

    def grow(self, delta: Delta, out: list[ev.Event]) -> bool:
        return False

    def end(self, out: list[ev.Event]) -> bool:
        out.append(ev.ReasoningEnd(id=self._id))
        return True


class _ToolCallDecoder:
    """A call of a tool of ours (``tool_use``) or of the provider's (the other types)."""

    def __init__(self, start: Json, *, output: AnthropicOutput, out: list[ev.Event]) -> None:
        self._output = output
        self._fragments: list[str] = []
        self._input = start.get("input", {})
        extras = extras_of(start, "type", "id", "name", "input")
        if start["type"] == "mcp_tool_use":
            extras["blockType"] = start["type"]
        self._call: dict[str, Any] = {
            "tool_call_id": start["id"],
            "tool_name": start["name"],
            "provider_executed": None if start["type"] == "tool_use" else True,
            "dynamic": True if start["type"] == "mcp_tool_use" else None,
            "provider_metadata": metadata(extras),
        }
        out.append(ev.ToolInputStart(**self._call))

    def grow(self, delta: Delta, out: list[ev.Event]) -> bool:
        if not isinstance(delta, InputJsonDelta):
            return False
        self._output.meter.count(delta.partial_json)
        self._fragments.append(delta.partial_json)
        out.append(ev.ToolInputDelta(tool_call_id=self._call["tool_call_id"], input_text_delta=delta.partial_json))
        return True

    def end(self, out: list[ev.Event]) -> bool:
        out.append(tool_input(self._call, "".join(self._fragments), empty=self._input))
        return True


class _ToolResultDecoder:
    """The result of a tool that the provider ran: whole in its start."""

    def __init__(self, start: Json, *, out: list[ev.Event]) -> None:
        call: dict[str, Any] = {"tool_call_id": start["tool_use_id"], "provider_executed": True}
        error = _tool_error(start)
        if error is None:
            rest = {name: value for name, value in start.items() if name not in ("content", "tool_use_id")}
            extras = metadata({"toolResult": rest})
            out.append(ev.ToolOutputAvailable(**call, output=start["content"], provider_metadata=extras))
        else:
            extras = metadata({"toolResult": start})
            out.append(ev.ToolOutputError(**call, error_text=error, provider_metadata=extras))

    def grow(self, delta: Delta, out: list[ev.Event]) -> bool:
        return False

    def end(self, out: list[ev.Event]) -> bool:
        return True


def _tool_error(block: Json) -> str | None:
    """The error in a result block, for people; None: the tool succeeded."""
    match block:
        case {"content": {"type": str(type), **rest}} if type.endswith("_error"):
            return str(rest.get("error_code") or type)
        case {"is_error": True}:
            return "the tool reported an error"
        case _:
            return None
