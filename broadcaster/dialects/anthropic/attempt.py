"""One attempt, event by event, as events of the Messages wire.

Rules
1. ``message_start`` is sent together with the first event that follows it: after an attempt that sent nothing, the next
   one needs no error.
2. All steps of an answer are one message: their blocks follow one another. Results of the worker's tools do not belong
   to an assistant's message and are left out, as are sources (they are citations), files, and other applications' data.
3. A delta of a part that is not open opens it. A delta of a call does not, because the call has no name yet: its input
   is sent when it is whole.
4. Wire events that the decoder passed on (``data-anthropic``) are sent in their place, under our indexes. None of them
   can end the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.core.forking import Forkable
from broadcaster.dialects.anthropic import encode_tables as tables
from broadcaster.dialects.anthropic.block_sequence import BlockSequence, EncodedBlock, framed
from broadcaster.dialects.anthropic.wire import PASSED_TYPE, WIRE_TYPES
from broadcaster.dialects.reading import Json

CANCELLED: Final = "cancelled"
"""The stop reason of a stopped answer: the API has no reason that would be true. SDKs pass it on unchanged."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]+", re.ASCII)


class AnthropicAttempt(Forkable):
    """One attempt. ``take`` every event but ``attempt`` and the terminal ones; ``finish`` or ``stop`` once."""

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._start: ev.Start | None = None
        self._opening: Json | None = None
        self._blocks = BlockSequence()
        self._calls: dict[str, Json] = {}
        self._usage: Json = {}
        self._step: tuple[str | None, Json] = (None, {})

    @property
    def has_begun(self) -> bool:
        """Whether anything of it was sent."""
        return self._opening is not None

    def take(self, event: ev.Event) -> list[Json]:
        """The wire events for the next event."""
        take = _TAKE.get(type(event))
        if take is None:
            return []
        out: list[Json] = []
        take(self, event, out)
        return self._begun(out) if out else out

    def finish(self, event: ev.Finish) -> list[Json]:
        """The end of a whole answer."""
        reported = tables.extras(event.provider_metadata)
        if event.finish_reason is None and not reported:
            reason, reported = self._step
            return self._ended(tables.stop_reason(reason, reported), reported)
        return self._ended(tables.stop_reason(event.finish_reason, reported), reported)

    def stop(self) -> list[Json]:
        """The end of an answer that was stopped: its open blocks are closed."""
        return self._ended(CANCELLED, {})

    def snapshot(self) -> bytes:
        """Everything sent so far, for a late joiner."""
        return framed(self._opening) + self._blocks.opening() if self._opening is not None else b""

    def _begun(self, out: list[Json]) -> list[Json]:
        if self._opening is not None:
            return out
        self._opening = tables.message_start(self._start, stream_id=self._stream_id)
        return [self._opening, *out]

    def _ended(self, reason: str | None, reported: Json) -> list[Json]:
        out: list[Json] = []
        self._blocks.end_all(out)
        out += [tables.message_delta(reason, reported, usage=self._usage), {"type": "message_stop"}]
        return self._begun(out)

    # ----------------------------------------------------------------------------------------------- the single events

    def _begin(self, event: ev.Start, out: list[Json]) -> None:
        self._start = self._start or event

    def _begin_step(self, event: ev.StartStep, out: list[Json]) -> None:
        self._blocks.end_all(out)
        self._calls.clear()

    def _end_step(self, event: ev.FinishStep, out: list[Json]) -> None:
        self._blocks.end_all(out)
        self._step = event.finish_reason, tables.extras(event.provider_metadata)

    def _count(self, event: ev.Usage, out: list[Json]) -> None:
        self._usage |= tables.counts(event)

    def _open_text(self, event: ev.TextStart, out: list[Json]) -> None:
        self._blocks.open(EncodedBlock(("text", event.id), tables.text_start(event.provider_metadata)), out)

    def _grow_text(self, event: ev.TextDelta, out: list[Json]) -> None:
        key = ("text", event.id)
        part = self._blocks.find(key) or self._blocks.open(EncodedBlock(key, tables.text_start(None)), out)
        if event.delta or event.provider_metadata is None:
            self._blocks.grow(part, {"type": "text_delta", "text": event.delta}, out)
        if event.provider_metadata is not None:
            for citation in tables.citations(event.provider_metadata):
                self._blocks.grow(part, {"type": "citations_delta", "citation": citation}, out)

    def _end_text(self, event: ev.TextEnd, out: list[Json]) -> None:
        key = ("text", event.id)
        if (part := self._blocks.find(key)) is not None:
            cited = tables.citations(event.provider_metadata, all_of_text=True)
            for citation in cited[part.count("citations_delta") :]:
                self._blocks.grow(part, {"type": "citations_delta", "citation": citation}, out)
        self._blocks.end(key, out)

    def _open_reasoning(self, event: ev.ReasoningStart, out: list[Json]) -> None:
        self._blocks.open(EncodedBlock(("reasoning", event.id), tables.thinking_start(event.provider_metadata)), out)

    def _grow_reasoning(self, event: ev.ReasoningDelta, out: list[Json]) -> None:
        key = ("reasoning", event.id)
        part = self._blocks.find(key) or self._blocks.open(EncodedBlock(key, tables.thinking_start(None)), out)
        if part.start["type"] != "thinking":
            return  # redacted: it has no readable text
        if event.delta or event.provider_metadata is None:
            self._blocks.grow(part, {"type": "thinking_delta", "thinking": event.delta}, out)
        signature = tables.extras(event.provider_metadata).get("signature")
        if isinstance(signature, str):
            self._blocks.grow(part, {"type": "signature_delta", "signature": signature}, out)

    def _end_reasoning(self, event: ev.ReasoningEnd, out: list[Json]) -> None:
        self._blocks.end(("reasoning", event.id), out)

    def _open_tool(
        self, event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError, out: list[Json]
    ) -> EncodedBlock:
        start = self._calls[event.tool_call_id] = tables.tool_start(event)
        holds_text = tables.streams_text(event.provider_metadata)
        return self._blocks.open(EncodedBlock(("tool", event.tool_call_id), start, holds_text=holds_text), out)

    def _grow_tool(self, event: ev.ToolInputDelta, out: list[Json]) -> None:
        part = self._blocks.find(("tool", event.tool_call_id))
        if part is not None and not part.holds_text:
            self._blocks.grow(part, {"type": "input_json_delta", "partial_json": event.input_text_delta}, out)

    def _end_tool(self, event: ev.ToolInputAvailable | ev.ToolInputError, out: list[Json]) -> None:
        key = ("tool", event.tool_call_id)
        part = self._blocks.find(key)
        if part is None:
            if event.tool_call_id in self._calls:
                return
            part = self._open_tool(event, out)
        is_error = isinstance(event, ev.ToolInputError) and isinstance(event.input, str)
        if not part.has_text and (is_error or event.input != {}):
            # Input that is not JSON is sent as the provider sent it, as its own clients receive it.
            text = event.input if is_error else tables.input_text(event.input)
            self._blocks.grow(part, {"type": "input_json_delta", "partial_json": text}, out)
        self._blocks.end(key, out)

    def _add_result(self, event: ev.ToolOutputAvailable | ev.ToolOutputError, out: list[Json]) -> None:
        call = self._calls.get(event.tool_call_id)
        is_run_there = event.provider_executed or (call is not None and call["type"] != "tool_use")
        if not is_run_there or (isinstance(event, ev.ToolOutputAvailable) and event.preliminary):
            return
        key = ("result", event.tool_call_id)
        self._blocks.open(EncodedBlock(key, tables.tool_result(event, call)), out)
        self._blocks.end(key, out)

    def _pass_on(self, event: ev.DataEvent, out: list[Json]) -> None:
        if event.type != PASSED_TYPE:
            return
        match event.data:
            case {"type": "content_block_start", "index": int(index), "content_block": {"type": str()} as start}:
                self._blocks.open(EncodedBlock(("passed", str(index)), dict(start)), out)
            case {"type": "content_block_delta", "index": int(index), "delta": {"type": str()} as delta}:
                part = self._blocks.find(("passed", str(index)))
                if part is None:
                    self._blocks.grow_last(delta, out)
                else:
                    self._blocks.grow(part, delta, out)
            case {"type": "content_block_stop", "index": int(index)}:
                self._blocks.end(("passed", str(index)), out)
            case {"type": str(type)} if type not in WIRE_TYPES and type != "error" and _NAME.fullmatch(type):
                out.append(event.data)
                if not event.transient:
                    self._blocks.put_in(event.data)


_TAKE: Final[dict[type, Callable[[AnthropicAttempt, Any, list[Json]], object]]] = {
    ev.Start: AnthropicAttempt._begin,
    ev.StartStep: AnthropicAttempt._begin_step,
    ev.FinishStep: AnthropicAttempt._end_step,
    ev.Usage: AnthropicAttempt._count,
    ev.TextStart: AnthropicAttempt._open_text,
    ev.TextDelta: AnthropicAttempt._grow_text,
    ev.TextEnd: AnthropicAttempt._end_text,
    ev.ReasoningStart: AnthropicAttempt._open_reasoning,
    ev.ReasoningDelta: AnthropicAttempt._grow_reasoning,
    ev.ReasoningEnd: AnthropicAttempt._end_reasoning,
    ev.ToolInputStart: AnthropicAttempt._open_tool,
    ev.ToolInputDelta: AnthropicAttempt._grow_tool,
    ev.ToolInputAvailable: AnthropicAttempt._end_tool,
    ev.ToolInputError: AnthropicAttempt._end_tool,
    ev.ToolOutputAvailable: AnthropicAttempt._add_result,
    ev.ToolOutputError: AnthropicAttempt._add_result,
    ev.DataEvent: AnthropicAttempt._pass_on,
}
