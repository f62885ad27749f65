"""A step as messages of the Messages API, which return the model's output and the tools' results to the provider.

Rules
1. The model's output returns as it came: text with its citations, thinking with its signature, calls, and tools that
   Anthropic ran with their results. Thinking without a signature is omitted from the parts. Its text stands beside
   them, for servers of chat completions that take it back.
2. An empty part is omitted: Anthropic refuses an empty text.
3. Arguments that are not a JSON object return as ``{"raw_input": …}``, because an input must be an object.
4. Every call has its result, in the order of the calls.
5. What an OpenAI wire attached to a text (``phase``) or to a call (a signature) returns with it, under ``openai``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.events import Event
from broadcaster.dialects.openai.own_fields import OPENAI, REASONING, attached_to_call
from broadcaster.dialects.openai_responses.provider_request import PHASE
from worker.tools.steps import AgentStep, Output

Json: TypeAlias = dict[str, Any]

_ANTHROPIC: Final = "anthropic"


def messages_of(step: AgentStep) -> list[Json]:
    """The model's message and the tools' results for the next request; every call of the step must have its output."""
    results = [_result(step.outputs[call.id]) for call in step.calls]
    reasoning = "".join(event.delta for event in step.events if isinstance(event, ev.ReasoningDelta))
    own = {OPENAI: {REASONING: reasoning}} if reasoning else {}
    answer = {"role": "assistant", "content": content_of(step.events), **own}
    return [answer, {"role": "user", "content": results}]


def content_of(events: Sequence[Event]) -> list[Json]:
    """The parts of the assistant's message."""
    content = _Content()
    for event in events:
        content.add(event)
    whole = [{name: _joined(value) for name, value in part.items()} for part in content.parts]
    return [part for part in whole if not _is_empty(part)]


def _result(output: Output) -> Json:
    result = {"type": "tool_result", "tool_use_id": output.tool_call_id}
    if isinstance(output, ev.ToolOutputError):
        return {**result, "content": output.error_text, "is_error": True}
    content = output.output if isinstance(output.output, str) else msgspec.json.encode(output.output).decode()
    return {**result, "content": content}


def _is_empty(part: Json) -> bool:
    return (part["type"] == "text" and not part["text"]) or (part["type"] == "thinking" and not part.get("signature"))


def _joined(value: Any) -> Any:
    return "".join(value) if isinstance(value, _Pieces) else value


class _Pieces(list[str]):
    """A text as it grows."""


class _Content:
    def __init__(self) -> None:
        self.parts: list[Json] = []
        self._open: dict[tuple[str, str], Json] = {}

    def add(self, event: Event) -> None:
        match event:
            case ev.TextStart():
                self._begin("text", event.id, {"type": "text", "text": _Pieces(), **_phase(event.provider_metadata)})
            case ev.TextDelta():
                part = self._grown("text", event.id, {"type": "text", "text": _Pieces()})
                part["text"].append(event.delta)
            case ev.TextEnd():
                part = self._open.pop(("text", event.id), {})
                if citations := _anthropic_metadata(event.provider_metadata).get("citations"):
                    part["citations"] = citations
            case ev.ReasoningStart():
                self._begin_reasoning(event)
            case ev.ReasoningDelta():
                part = self._grown("reasoning", event.id, {"type": "thinking", "thinking": _Pieces()})
                if part["type"] == "thinking":
                    part["thinking"].append(event.delta)
                self._sign(part, event.provider_metadata)
            case ev.ReasoningEnd():
                self._sign(self._open.pop(("reasoning", event.id), {}), event.provider_metadata)
            case ev.ToolInputAvailable() | ev.ToolInputError():
                self._add_call(event)
            case ev.ToolOutputAvailable(provider_executed=True) | ev.ToolOutputError(provider_executed=True):
                self._add_own_result(event)

    def _begin(self, kind: str, id: str, part: Json) -> Json:
        self._open[kind, id] = part
        self.parts.append(part)
        return part

    def _grown(self, kind: str, id: str, part: Json) -> Json:
        return self._open.get((kind, id)) or self._begin(kind, id, part)

    def _begin_reasoning(self, event: ev.ReasoningStart) -> None:
        redacted = _anthropic_metadata(event.provider_metadata).get("redactedData")
        if redacted is None:
            part: Json = {"type": "thinking", "thinking": _Pieces()}
        else:
            part = {"type": "redacted_thinking", "data": redacted}
        self._begin("reasoning", event.id, part)
        self._sign(part, event.provider_metadata)

    def _sign(self, part: Json, metadata: ev.ProviderMetadata | None) -> None:
        if part.get("type") == "thinking" and (signature := _anthropic_metadata(metadata).get("signature")):
            part["signature"] = signature

    def _add_call(self, event: ev.ToolInputAvailable | ev.ToolInputError) -> None:
        metadata = event.provider_metadata or {}
        if event.provider_executed and OPENAI in metadata:
            return  # OpenAI accepts no calls back that it has run itself
        extras = dict(_anthropic_metadata(event.provider_metadata))
        type = extras.pop("blockType", "server_tool_use" if event.provider_executed else "tool_use")
        is_object = isinstance(event, ev.ToolInputAvailable) and isinstance(event.input, Mapping)
        input = event.input if is_object else {"raw_input": event.input}
        call = {"type": type, "id": event.tool_call_id, "name": event.tool_name, "input": input}
        self.parts.append({**call, **extras, **_attached(metadata)})

    def _add_own_result(self, event: Output) -> None:
        block = _anthropic_metadata(event.provider_metadata).get("toolResult")
        if not isinstance(block, Mapping):
            return
        content = {"content": event.output} if isinstance(event, ev.ToolOutputAvailable) else {}
        self.parts.append({**block, "tool_use_id": event.tool_call_id, **content})


def _phase(metadata: ev.ProviderMetadata | None) -> Json:
    """Rule 5, of a text."""
    phase = (metadata or {}).get(OPENAI, {}).get(PHASE)
    return {} if phase is None else {OPENAI: {PHASE: phase}}


def _attached(metadata: ev.ProviderMetadata) -> Json:
    """Rule 5, of a call."""
    own = attached_to_call(metadata)
    return {OPENAI: own} if own else {}


def _anthropic_metadata(metadata: ev.ProviderMetadata | None) -> Mapping[str, Any]:
    return (metadata or {}).get(_ANTHROPIC, {})
