"""The draft: what one attempt has written so far, part by part. ``core/fold.py`` keeps one and renders it.

Rules
1. A delta without its start opens its part: a log whose head was trimmed still folds. A start under an id that is
   open opens a new part (providers number their parts from 0 in every step).
2. Metadata merge per provider, key by key, the later value wins: a signature on a delta must not
   overwrite the redacted block of the start, nor the citations of the end the signature.
3. A tool call moves ``input-streaming`` → ``input-available`` → ``output-available`` or ``output-error``; a step
   without an event is left out.
4. ``data-*`` with an id replaces the part of the same type and id in place; a transient one leaves no part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.forking import Forkable, Pieces

Json: TypeAlias = dict[str, Any]
_Kind: TypeAlias = Literal["text", "reasoning"]


class DraftPart(Protocol):
    """One entry of ``FoldState.parts``."""

    def render(self) -> Json:
        """The part as a new JSON-able dict."""


@dataclass(slots=True)
class _TextPart(Forkable):
    """A text or reasoning part."""

    kind: _Kind
    pieces: Pieces = field(default_factory=Pieces)
    is_whole: bool = False
    provider_metadata: ev.ProviderMetadata = field(default_factory=dict)

    def render(self) -> Json:
        state = "done" if self.is_whole else "streaming"
        return _with_metadata({"type": self.kind, "text": self.pieces.text, "state": state}, self.provider_metadata)

    @property
    def is_fixed(self) -> bool:
        return self.is_whole


@dataclass(slots=True)
class _ToolPart(Forkable):
    """A tool call; ``outcome`` holds what its state adds (input, output, errorText, …)."""

    tool_call_id: str
    tool_name: str | None = None
    state: str = "input-streaming"
    input_text: Pieces = field(default_factory=Pieces)
    outcome: Json = field(default_factory=dict)
    provider_metadata: ev.ProviderMetadata = field(default_factory=dict)

    def render(self) -> Json:
        part: Json = {"type": "tool", "toolCallId": self.tool_call_id}
        if self.tool_name is not None:
            part["toolName"] = self.tool_name
        part["state"] = self.state
        if self.state == "input-streaming":
            part["inputText"] = self.input_text.text
        return _with_metadata(part | self.outcome, self.provider_metadata)


@dataclass(frozen=True, slots=True)
class _StoredPart:
    """A part that is rendered as it was stored: source, file, data, border of a step."""

    content: Json

    def render(self) -> Json:
        return dict(self.content)


def _with_metadata(part: Json, metadata: ev.ProviderMetadata) -> Json:
    if metadata:
        part["providerMetadata"] = dict(metadata)
    return part


def _merge(into: ev.ProviderMetadata, metadata: ev.ProviderMetadata | None) -> None:
    """Rule 2. A provider's extras are replaced and never changed: forks and rendered parts share them."""
    for provider, extras in (metadata or {}).items():
        into[provider] = {**into.get(provider, {}), **extras}


class Draft(Forkable):
    """Everything that one attempt has written so far."""

    def __init__(self) -> None:
        self.parts: list[DraftPart] = []
        self.usage: Json | None = None
        self.finish_reason: ev.FinishReason | None = None
        self.message_id: str | None = None
        self.metadata: Json = {}
        self.provider_metadata: ev.ProviderMetadata = {}
        self._written: list[_TextPart] = []
        self._open: dict[tuple[str, str], _TextPart] = {}
        self._tools: dict[str, _ToolPart] = {}
        self._data: dict[tuple[str, str], int] = {}  # the place of each part that may be replaced

    def joined(self, kind: _Kind) -> str:
        """The texts of all parts of this kind, in order."""
        return "".join(part.pieces.text for part in self._written if part.kind == kind)

    def add(self, event: ev.Event) -> None:
        """Take any event but ``attempt`` and the terminal ones; an event of a newer version changes nothing."""
        apply = _APPLY.get(type(event))
        if apply is not None:
            apply(self, event)

    def end(self, event: ev.TerminalEvent) -> None:
        """Take what the terminal event states about the whole answer."""
        if isinstance(event, ev.Finish):
            self.finish_reason = event.finish_reason or self.finish_reason
            self.metadata |= event.message_metadata or {}
        if not isinstance(event, ev.Abort):
            _merge(self.provider_metadata, event.provider_metadata)

    def _start(self, event: ev.Start) -> None:
        self.message_id = event.message_id or self.message_id
        self.metadata |= event.message_metadata or {}
        _merge(self.provider_metadata, event.provider_metadata)

    def _start_step(self, event: ev.StartStep) -> None:
        _merge(self.provider_metadata, event.provider_metadata)
        self.parts.append(_StoredPart({"type": "step-start"}))

    def _finish_step(self, event: ev.FinishStep) -> None:
        self.finish_reason = event.finish_reason or self.finish_reason
        _merge(self.provider_metadata, event.provider_metadata)

    def _open_part(self, event: ev.TextStart | ev.ReasoningStart, kind: _Kind) -> None:
        _merge(self._opened(kind, event.id).provider_metadata, event.provider_metadata)

    def _grow(self, event: ev.TextDelta | ev.ReasoningDelta, kind: _Kind) -> None:
        part = self._open.get((kind, event.id)) or self._opened(kind, event.id)
        part.pieces.append(event.delta)
        _merge(part.provider_metadata, event.provider_metadata)

    def _close(self, event: ev.TextEnd | ev.ReasoningEnd, kind: _Kind) -> None:
        part = self._open.pop((kind, event.id), None)
        if part is not None:
            part.is_whole = True
            _merge(part.provider_metadata, event.provider_metadata)

    def _opened(self, kind: _Kind, id: str) -> _TextPart:
        part = self._open[kind, id] = _TextPart(kind)
        self._written.append(part)
        self.parts.append(part)
        return part

    def _open_tool(self, event: ev.ToolInputStart) -> None:
        tool = self._tool(event)
        tool.tool_name = event.tool_name

    def _grow_tool_input(self, event: ev.ToolInputDelta) -> None:
        tool = self._tools.get(event.tool_call_id) or self._new_tool(event.tool_call_id)
        tool.input_text.append(event.input_text_delta)
        _merge(tool.provider_metadata, event.provider_metadata)

    def _set_tool_input(self, event: ev.ToolInputAvailable) -> None:
        tool = self._tool(event)
        tool.tool_name = event.tool_name
        tool.state = "input-available"
        tool.outcome["input"] = event.input

    def _refuse_tool_input(self, event: ev.ToolInputError) -> None:
        tool = self._tool(event)
        tool.tool_name = event.tool_name
        tool.state = "output-error"
        tool.outcome |= {"rawInput": event.input, "errorText": event.error_text}

    def _set_tool_output(self, event: ev.ToolOutputAvailable) -> None:
        tool = self._tool(event)
        tool.state = "output-available"
        tool.outcome.pop("preliminary", None)
        tool.outcome["output"] = event.output
        if event.preliminary:
            tool.outcome["preliminary"] = True

    def _fail_tool(self, event: ev.ToolOutputError) -> None:
        tool = self._tool(event)
        tool.state = "output-error"
        tool.outcome.pop("preliminary", None)
        tool.outcome["errorText"] = event.error_text

    def _tool(self, event: _ToolEvent) -> _ToolPart:
        tool = self._tools.get(event.tool_call_id) or self._new_tool(event.tool_call_id)
        if event.provider_executed is not None:
            tool.outcome["providerExecuted"] = event.provider_executed
        if event.dynamic is not None:
            tool.outcome["dynamic"] = event.dynamic
        _merge(tool.provider_metadata, event.provider_metadata)
        return tool

    def _new_tool(self, tool_call_id: str) -> _ToolPart:
        tool = self._tools[tool_call_id] = _ToolPart(tool_call_id)
        self.parts.append(tool)
        return tool

    def _add_stored(self, event: ev.SourceUrl | ev.SourceDocument | ev.File) -> None:
        self.parts.append(_StoredPart(msgspec.to_builtins(event)))

    def _add_data(self, event: ev.DataEvent) -> None:
        if event.transient:
            return
        at = len(self.parts)
        if event.id is not None:
            at = self._data.setdefault((event.type, event.id), at)
        self.parts[at : at + 1] = [_StoredPart(msgspec.to_builtins(event))]

    def _count(self, event: ev.Usage) -> None:
        counts: Json = msgspec.to_builtins(event)
        del counts["type"]
        # `estimated` concerns the latest counts only: its absence takes an earlier one back.
        self.usage = {name: value for name, value in (self.usage or {}).items() if name != "estimated"} | counts


_ToolEvent: TypeAlias = (
    ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError | ev.ToolOutputAvailable | ev.ToolOutputError
)

_APPLY: Final[dict[type, Callable[[Draft, Any], None]]] = {
    ev.Start: Draft._start,
    ev.StartStep: Draft._start_step,
    ev.FinishStep: Draft._finish_step,
    # Not `partial`: binding its keyword costs more than the call.
    ev.TextStart: lambda draft, event: draft._open_part(event, "text"),
    ev.TextDelta: lambda draft, event: draft._grow(event, "text"),
    ev.TextEnd: lambda draft, event: draft._close(event, "text"),
    ev.ReasoningStart: lambda draft, event: draft._open_part(event, "reasoning"),
    ev.ReasoningDelta: lambda draft, event: draft._grow(event, "reasoning"),
    ev.ReasoningEnd: lambda draft, event: draft._close(event, "reasoning"),
    ev.ToolInputStart: Draft._open_tool,
    ev.ToolInputDelta: Draft._grow_tool_input,
    ev.ToolInputAvailable: Draft._set_tool_input,
    ev.ToolInputError: Draft._refuse_tool_input,
    ev.ToolOutputAvailable: Draft._set_tool_output,
    ev.ToolOutputError: Draft._fail_tool,
    ev.SourceUrl: Draft._add_stored,
    ev.SourceDocument: Draft._add_stored,
    ev.File: Draft._add_stored,
    ev.DataEvent: Draft._add_data,
    ev.Usage: Draft._count,
}
