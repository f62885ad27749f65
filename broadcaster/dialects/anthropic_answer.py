"""What one attempt says, event by event, as events of the Messages wire.

Rules
1. ``message_start`` is said with the first that follows it, not before: an attempt that said nothing may be followed by
   another without a word.
2. All steps of an answer are one message: their blocks follow one another. What our own tools answered is no part of
   an assistant's message and is left out, as are sources (they are citations), files, and data of other applications.
3. A delta of a part that is not open opens it, but for a call's, which has no name yet: its input is told when it is
   whole.
4. What our vocabulary had no word for (``data-anthropic``) is said again in its place, under our indexes; nothing of it
   can end the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.dialects import anthropic_words as words
from broadcaster.dialects.anthropic_line import Line, Written, framed
from broadcaster.dialects.anthropic_wire import PASSED_TYPE, WIRE_TYPES
from broadcaster.dialects.reading import Json

CANCELLED: Final = "cancelled"
"""The stop reason of an answer that was stopped: none of the API's own would be true. SDKs pass it on unchanged."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]+", re.ASCII)


class Answer:
    """One attempt. ``take`` every event but ``attempt`` and the terminal ones; ``finish`` or ``stop`` once."""

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._start: ev.Start | None = None
        self._opening: Json | None = None
        self._line = Line()
        self._calls: dict[str, Json] = {}
        self._usage: Json = {}
        self._step: tuple[str | None, Json] = (None, {})

    @property
    def has_begun(self) -> bool:
        """Whether anything of it was said."""
        return self._opening is not None

    def take(self, event: ev.Event) -> list[Json]:
        """What is to be said of an event."""
        take = _TAKE.get(type(event))
        if take is None:
            return []
        out: list[Json] = []
        take(self, event, out)
        return self._begun(out) if out else out

    def finish(self, event: ev.Finish) -> list[Json]:
        """The end of a whole answer."""
        told = words.extras(event.provider_metadata)
        if event.finish_reason is None and not told:
            reason, told = self._step
            return self._ended(words.stop_reason(reason, told), told)
        return self._ended(words.stop_reason(event.finish_reason, told), told)

    def stop(self) -> list[Json]:
        """The end of an answer that was stopped: what there is of it is whole blocks."""
        return self._ended(CANCELLED, {})

    def prelude(self) -> bytes:
        """All that was said, for who has heard nothing."""
        return framed(self._opening) + self._line.opening() if self._opening is not None else b""

    def fork(self) -> Answer:
        """Another one that stands where this one stands."""
        other = Answer(self._stream_id)
        other._start, other._opening, other._step = self._start, self._opening, self._step
        other._line = self._line.fork()
        other._calls, other._usage = dict(self._calls), dict(self._usage)
        return other

    def _begun(self, out: list[Json]) -> list[Json]:
        if self._opening is not None:
            return out
        self._opening = words.message_start(self._start, stream_id=self._stream_id)
        return [self._opening, *out]

    def _ended(self, reason: str | None, told: Json) -> list[Json]:
        out: list[Json] = []
        self._line.end_all(out)
        out += [words.message_delta(reason, told, usage=self._usage), {"type": "message_stop"}]
        return self._begun(out)

    # ----------------------------------------------------------------------------------------------- the single events

    def _begin(self, event: ev.Start, out: list[Json]) -> None:
        self._start = self._start or event

    def _begin_step(self, event: ev.StartStep, out: list[Json]) -> None:
        self._line.end_all(out)
        self._calls.clear()

    def _end_step(self, event: ev.FinishStep, out: list[Json]) -> None:
        self._line.end_all(out)
        self._step = event.finish_reason, words.extras(event.provider_metadata)

    def _count(self, event: ev.Usage, out: list[Json]) -> None:
        self._usage |= words.counts(event)

    def _open_text(self, event: ev.TextStart, out: list[Json]) -> None:
        self._line.open(Written(("text", event.id), words.text_start(event.provider_metadata)), out)

    def _grow_text(self, event: ev.TextDelta, out: list[Json]) -> None:
        key = ("text", event.id)
        part = self._line.find(key) or self._line.open(Written(key, words.text_start(None)), out)
        if event.delta or event.provider_metadata is None:
            self._line.grow(part, {"type": "text_delta", "text": event.delta}, out)
        if event.provider_metadata is not None:
            for citation in words.citations(event.provider_metadata):
                self._line.grow(part, {"type": "citations_delta", "citation": citation}, out)

    def _end_text(self, event: ev.TextEnd, out: list[Json]) -> None:
        key = ("text", event.id)
        if (part := self._line.find(key)) is not None:
            cited = words.citations(event.provider_metadata, all_of_text=True)
            for citation in cited[part.count("citations_delta") :]:
                self._line.grow(part, {"type": "citations_delta", "citation": citation}, out)
        self._line.end(key, out)

    def _open_reasoning(self, event: ev.ReasoningStart, out: list[Json]) -> None:
        self._line.open(Written(("reasoning", event.id), words.thinking_start(event.provider_metadata)), out)

    def _grow_reasoning(self, event: ev.ReasoningDelta, out: list[Json]) -> None:
        key = ("reasoning", event.id)
        part = self._line.find(key) or self._line.open(Written(key, words.thinking_start(None)), out)
        if part.start["type"] != "thinking":
            return  # redacted: there is nothing to read in it
        if event.delta or event.provider_metadata is None:
            self._line.grow(part, {"type": "thinking_delta", "thinking": event.delta}, out)
        signature = words.extras(event.provider_metadata).get("signature")
        if isinstance(signature, str):
            self._line.grow(part, {"type": "signature_delta", "signature": signature}, out)

    def _end_reasoning(self, event: ev.ReasoningEnd, out: list[Json]) -> None:
        self._line.end(("reasoning", event.id), out)

    def _open_tool(
        self, event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError, out: list[Json]
    ) -> Written:
        start = self._calls[event.tool_call_id] = words.tool_start(event)
        holds_text = words.streams_text(event.provider_metadata)
        return self._line.open(Written(("tool", event.tool_call_id), start, holds_text=holds_text), out)

    def _grow_tool(self, event: ev.ToolInputDelta, out: list[Json]) -> None:
        part = self._line.find(("tool", event.tool_call_id))
        if part is not None and not part.holds_text:
            self._line.grow(part, {"type": "input_json_delta", "partial_json": event.input_text_delta}, out)

    def _end_tool(self, event: ev.ToolInputAvailable | ev.ToolInputError, out: list[Json]) -> None:
        key = ("tool", event.tool_call_id)
        part = self._line.find(key)
        if part is None:
            if event.tool_call_id in self._calls:
                return
            part = self._open_tool(event, out)
        is_error = isinstance(event, ev.ToolInputError) and isinstance(event.input, str)
        if not part.has_text and (is_error or event.input != {}):
            # What was no JSON goes out as the provider sent it: its own clients are told so too.
            text = event.input if is_error else words.input_text(event.input)
            self._line.grow(part, {"type": "input_json_delta", "partial_json": text}, out)
        self._line.end(key, out)

    def _tell_result(self, event: ev.ToolOutputAvailable | ev.ToolOutputError, out: list[Json]) -> None:
        call = self._calls.get(event.tool_call_id)
        is_run_there = event.provider_executed or (call is not None and call["type"] != "tool_use")
        if not is_run_there or (isinstance(event, ev.ToolOutputAvailable) and event.preliminary):
            return
        key = ("result", event.tool_call_id)
        self._line.open(Written(key, words.tool_result(event, call)), out)
        self._line.end(key, out)

    def _pass_on(self, event: ev.DataEvent, out: list[Json]) -> None:
        if event.type != PASSED_TYPE:
            return
        match event.data:
            case {"type": "content_block_start", "index": int(index), "content_block": {"type": str()} as start}:
                self._line.open(Written(("passed", str(index)), dict(start)), out)
            case {"type": "content_block_delta", "index": int(index), "delta": {"type": str()} as delta}:
                part = self._line.find(("passed", str(index)))
                if part is None:
                    self._line.grow_last(delta, out)
                else:
                    self._line.grow(part, delta, out)
            case {"type": "content_block_stop", "index": int(index)}:
                self._line.end(("passed", str(index)), out)
            case {"type": str(type)} if type not in WIRE_TYPES and type != "error" and _NAME.fullmatch(type):
                out.append(event.data)
                if not event.transient:
                    self._line.put_in(event.data)


_TAKE: Final[dict[type, Callable[[Answer, Any, list[Json]], object]]] = {
    ev.Start: Answer._begin,
    ev.StartStep: Answer._begin_step,
    ev.FinishStep: Answer._end_step,
    ev.Usage: Answer._count,
    ev.TextStart: Answer._open_text,
    ev.TextDelta: Answer._grow_text,
    ev.TextEnd: Answer._end_text,
    ev.ReasoningStart: Answer._open_reasoning,
    ev.ReasoningDelta: Answer._grow_reasoning,
    ev.ReasoningEnd: Answer._end_reasoning,
    ev.ToolInputStart: Answer._open_tool,
    ev.ToolInputDelta: Answer._grow_tool,
    ev.ToolInputAvailable: Answer._end_tool,
    ev.ToolInputError: Answer._end_tool,
    ev.ToolOutputAvailable: Answer._tell_result,
    ev.ToolOutputError: Answer._tell_result,
    ev.DataEvent: Answer._pass_on,
}
