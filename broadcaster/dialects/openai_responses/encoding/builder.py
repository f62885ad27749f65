"""The output of one Response as it grows: the item that each event belongs to.

Rules
1. A delta without its start opens its part (a log whose head was trimmed). A start under an id that is open begins a
   new part: providers number their parts from 0 in every step.
2. A part, and an item, that is open when its step ends is closed, except a tool that its provider runs: its result may
   come in a later step.
3. Items are held in an ``ItemList``; what the decoder passed on goes there directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.core.forking import Forkable
from broadcaster.dialects.anthropic.wire import PROVIDER as ANTHROPIC
from broadcaster.dialects.openai.namespaces import Namespaced
from broadcaster.dialects.openai.wire import extras_in
from broadcaster.dialects.openai_responses.encoding.citations import annotation_of
from broadcaster.dialects.openai_responses.encoding.event_log import EventLog
from broadcaster.dialects.openai_responses.encoding.item_list import ItemList
from broadcaster.dialects.openai_responses.encoding.items import (
    COMPLETED,
    INCOMPLETE,
    INPUTS,
    CallItem,
    OutputPart,
    TextItem,
)
from broadcaster.dialects.openai_responses.encoding.passed import pass_on
from broadcaster.dialects.openai_responses.encoding.tool_items import (
    CallShape,
    input_fields,
    input_text,
    result_fields,
    shape_of,
)
from broadcaster.dialects.openai_responses.sealed import seal
from broadcaster.dialects.reading import Json, as_text

_OF_PART: Final = frozenset({"annotations", "annotation", "refusal", "logprobs", "citation", "citations"})


@dataclass(slots=True)
class Builder(Forkable):
    """The output so far, and what of it is open."""

    output: ItemList
    _texts: dict[str, tuple[TextItem, OutputPart]] = field(default_factory=dict)
    _reasonings: dict[str, tuple[TextItem, OutputPart]] = field(default_factory=dict)
    _calls: dict[str, CallItem] = field(default_factory=dict)
    namespaced: Mapping[str, Namespaced] = field(default_factory=dict)
    """The functions of namespaces, by the names that other wires call them by."""
    custom_tools: frozenset[str] = frozenset()
    """The names of the caller's custom tools, which other wires call as functions."""
    is_refused: bool = False
    """Whether the model has refused in this attempt."""

    def as_json(self) -> list[Json]:
        """The items as they stand."""
        return [item.as_json() for item in self.output.items]

    # ------------------------------------------------------------------------------------------------ text, reasoning

    def open_text(self, event: ev.TextStart, log: EventLog) -> None:
        """A text opens, in its message."""
        reported = extras_in(event)
        _end_part(self._texts.pop(event.id, None), log)
        kind = "refusal" if reported.get("refusal") is True else "output_text"
        self.is_refused |= kind == "refusal"
        key = _name(reported)
        extras = {name: reported[name] for name in reported if name != "itemId" and name not in _OF_PART} if key else {}
        message = self.output.written("message", key, log, extras=extras)
        self._texts[event.id] = message, message.begin(kind, log)

    def grow_text(self, event: ev.TextDelta, log: EventLog) -> None:
        """The next piece of a text, or a source of it."""
        if event.id not in self._texts:
            self.open_text(ev.TextStart(id=event.id), log)
        message, part = self._texts[event.id]
        if event.provider_metadata is None:
            message.grow(part, event.delta, log)
            return
        reported = extras_in(event)
        annotation = reported.get("annotation")
        if event.delta or not isinstance(annotation, dict):
            message.grow(part, event.delta, log, logprobs=_logprobs(reported))
        if isinstance(annotation, dict) and part.kind == "output_text":
            message.cite(part, annotation_of(annotation, text=part.text.text), log)

    def end_text(self, event: ev.TextEnd, log: EventLog) -> None:
        """A text is whole."""
        if event.id not in self._texts:
            return
        message, part = self._texts.pop(event.id)
        reported = extras_in(event)
        if (logprobs := _logprobs(reported)) is not None and not part.logprobs:
            part.logprobs = [*logprobs]
        if message.key is not None:
            part.extras = {name: reported[name] for name in reported if name not in _OF_PART and name != "itemId"}
        citations = (event.provider_metadata or {}).get(ANTHROPIC, {}).get("citations")
        for citation in citations if isinstance(citations, list) else ():
            if isinstance(citation, dict) and part.kind == "output_text":
                message.cite(part, annotation_of(citation, text=part.text.text), log)
        message.end(part, log)

    def open_reasoning(self, event: ev.ReasoningStart, log: EventLog) -> None:
        """A thought opens, in its item. One that is redacted, or has no text, gets no part until it is written."""
        reported = extras_in(event)
        _end_part(self._reasonings.pop(event.id, None), log)
        key = _name(reported)
        extras = {
            name: reported[name] for name in reported if name not in ("itemId", "summaryIndex", "encryptedContent")
        }
        item = self.output.written("reasoning", key, log, extras=extras if key else {})
        kind = "summary_text" if "summaryIndex" in reported else "reasoning_text"
        part = item.begin(kind, log) if kind == "summary_text" else OutputPart(kind, 0)
        self._reasonings[event.id] = item, part
        item.thoughts += 1
        _seal(item, event.provider_metadata)

    def grow_reasoning(self, event: ev.ReasoningDelta, log: EventLog) -> None:
        """The next piece of a thought, or its signature."""
        if event.id not in self._reasonings:
            self.open_reasoning(ev.ReasoningStart(id=event.id), log)
        item, part = self._reasonings[event.id]
        _seal(item, event.provider_metadata)
        if not event.delta:
            return
        if not any(part is known for known in item.parts):
            part = item.begin(part.kind, log)
            self._reasonings[event.id] = item, part
        item.grow(part, event.delta, log)

    def end_reasoning(self, event: ev.ReasoningEnd, log: EventLog) -> None:
        """A thought is whole."""
        if event.id not in self._reasonings:
            return
        item, part = self._reasonings.pop(event.id)
        _seal(item, event.provider_metadata)
        reported = extras_in(event)
        if item.key is not None:
            item.extras |= {name: reported[name] for name in reported if name not in ("itemId", "encryptedContent")}
        if any(part is known for known in item.parts):
            item.end(part, log)
        item.thoughts -= 1

    # ---------------------------------------------------------------------------------------------------------- calls

    def open_call(self, event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError, log: EventLog) -> None:
        """A call opens; one that is open already stays."""
        known = self._calls.get(event.tool_call_id)
        if known is not None and not known.is_closed and not known.is_whole:
            return
        shape = self._shape_of(event)
        self.output.make_room(log)
        call_id = self.output.unused(event.tool_call_id, of=shape.type) if shape.has_call_id else None
        own = shape.item_id or (event.tool_call_id if not shape.has_call_id and shape.has_progress_events else None)
        call = CallItem(
            shape.type,
            self.output.id(shape.type, own),
            self.output.index(),
            event.tool_call_id,
            call_id,
            shape.fields,
            awaits_result=shape.awaits_result,
            has_progress_events=shape.has_progress_events,
            is_wrapped=shape.is_wrapped,
        )
        self._calls[event.tool_call_id] = call
        self.output.put(call, log)
        call.report_progress("in_progress", log)

    def _shape_of(self, event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError) -> CallShape:
        """Its item, under the name that the caller's own tool has."""
        shape = shape_of(event, custom_tools=self.custom_tools)
        place = self.namespaced.get(event.tool_name)
        return shape if place is None else shape._replace(fields=shape.fields | place.fields())

    def grow_call(self, event: ev.ToolInputDelta, log: EventLog) -> None:
        """The next piece of an input. It waits for the whole one if the call is wrapped, or has no name yet.

        A call has no name when its start was trimmed.
        """
        call = self._calls.get(event.tool_call_id)
        if call is not None and not call.is_wrapped and not call.is_whole and event.input_text_delta:
            call.grow(event.input_text_delta, log)

    def complete_call(self, event: ev.ToolInputAvailable | ev.ToolInputError, log: EventLog) -> None:
        """An input is whole."""
        call = self._calls.get(event.tool_call_id)
        if call is None or call.is_closed:
            self.open_call(event, log)
            call = self._calls[event.tool_call_id]
        if call.is_whole:
            return
        shape = self._shape_of(event)
        call.fields = (
            call.fields | (shape.fields if shape.has_progress_events else {}) | input_fields(call.type, event.input)
        )
        if call.type in INPUTS and not call.text.text.strip():
            empty = call.type in ("function_call", "mcp_call")
            text = input_text(call.type, event.input) or ("{}" if empty else "")
            if text:
                call.grow(text, log)
        call.complete(log)

    def answer_call(self, event: ev.ToolOutputAvailable | ev.ToolOutputError, log: EventLog) -> None:
        """A tool's result: in its call's item if its provider ran it, else in an item of its own."""
        if isinstance(event, ev.ToolOutputAvailable) and event.preliminary:
            return
        call = self._calls.get(event.tool_call_id)
        if call is not None and call.awaits_result and not call.is_closed:
            call.awaits_result, call.is_whole = False, True
            call.adopted = result_fields(event, is_native=call.has_progress_events)
            call.report_progress("failed" if isinstance(event, ev.ToolOutputError) else "completed", log)
            return
        if event.provider_executed:
            return
        self.output.make_room(log)
        failed = isinstance(event, ev.ToolOutputError)
        item: Json = {
            "id": self.output.id("function_call_output", None),
            "type": "function_call_output",
            "call_id": event.tool_call_id if call is None else call.call_id or call.tool_call_id,
            "output": event.error_text if isinstance(event, ev.ToolOutputError) else as_text(event.output),
            "status": INCOMPLETE if failed else COMPLETED,
        }
        self.output.plain(item, log)

    def show_file(self, event: ev.File, log: EventLog) -> None:
        """A picture that the model made is an item; the wire has no item for other files."""
        head, _, data = event.url.partition(",")
        if not event.media_type.startswith("image/") or not head.endswith(";base64"):
            return
        self.output.make_room(log)
        kind = "image_generation_call"
        self.output.plain({"id": self.output.id(kind, None), "type": kind, "status": COMPLETED, "result": data}, log)

    def pass_on(self, event: ev.DataEvent, log: EventLog) -> None:
        """A wire event that the decoder passed on."""
        pass_on(event.data, self.output, log)

    # ----------------------------------------------------------------------------------------------------------- ends

    def end_step(self, log: EventLog, *, is_cut: bool) -> None:
        """The provider call is over (rule 2)."""
        self._texts, self._reasonings = {}, {}
        ended = [item for item in self.output.items if not (isinstance(item, CallItem) and item.awaits_result)]
        self.output.close(ended, log, is_cut=is_cut)

    def end(self, log: EventLog, *, is_cut: bool) -> None:
        """The answer is over."""
        self._texts, self._reasonings = {}, {}
        self.output.close(self.output.items, log, is_cut=is_cut)

    def drop(self, log: EventLog) -> list[Json]:
        """A new attempt: everything is void. Returns the items as they stood."""
        self._texts, self._reasonings, self._calls, self.is_refused = {}, {}, {}, False
        return [item.as_json() for item in self.output.drop(log)]


def _end_part(known: tuple[TextItem, OutputPart] | None, log: EventLog) -> None:
    if known is not None and not known[0].is_closed and any(known[1] is part for part in known[0].parts):
        known[0].end(known[1], log)


def _logprobs(reported: Json) -> list[Any] | None:
    """The log probabilities of a text; chat completions have them beside those of a refusal."""
    logprobs = reported.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else logprobs
    return tokens if isinstance(tokens, list) else None


def _name(reported: Json) -> str | None:
    name = reported.get("itemId")
    return name if isinstance(name, str) and name else None


def _seal(item: TextItem, metadata: ev.ProviderMetadata | None) -> None:
    """Add to the item what only its provider can read of a thought."""
    if (sealed := seal(metadata)) is not None:
        item.extras |= {"encrypted_content": sealed}
