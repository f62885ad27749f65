"""One attempt in AG-UI: our events → its events, and those that a late joiner needs.

Rules
1. Message ids are counted through the attempt, since providers number their parts from 0 in every step.
2. Consecutive text parts make one message: an answer with citations comes in dozens of parts. A part that has ended
   leaves its message resting; the message ends when something else begins.
3. Calls belong to the message before them (``parentMessageId``), or share one of their own. After a result a new
   message begins, and so it does in every step.
4. A delta without its start opens its part (a trimmed log); a call waits for its name and its whole input.
5. The end of a step closes what is open, and so does ``closed``: the client refuses an end with anything open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.forking import Forkable
from broadcaster.dialects.ag_ui import wire
from broadcaster.dialects.ag_ui.parts import RunPart, RunReasoning, RunToolCall, SingleEvent, TextMessage
from broadcaster.dialects.reading import Json, as_text


class Run(Forkable):
    """One attempt. ``take`` each event in order and send what it returns to the client."""

    def __init__(self, prefix: str) -> None:
        """``prefix`` begins the ids of its messages."""
        self._prefix = prefix
        self._ids = 0
        self._parts: list[RunPart] = []
        self._turn: str | None = None
        self._resting: TextMessage | None = None
        self._texts: dict[str, TextMessage] = {}
        self._spans: dict[str, str] = {}
        self._reasonings: dict[str, RunReasoning] = {}
        self._calls: dict[str, RunToolCall] = {}
        self._data: dict[tuple[str, str], int] = {}
        self._steps = 0
        self._open_step: str | None = None
        self._counts: dict[str, int] = {}
        self._model: str | None = None

    @property
    def has_reasoned(self) -> bool:
        """Whether it has messages of reasoning."""
        return any(isinstance(part, RunReasoning) for part in self._parts)

    @property
    def usage(self) -> Json | None:
        """The counts so far as an item of ``usage``."""
        return wire.usage_item(self._counts, model=self._model) if self._counts else None

    @property
    def pending(self) -> list[str]:
        """The calls without a result."""
        return [call.id for call in self._calls.values() if call.name is not None and not call.is_answered]

    @property
    def has_open_call(self) -> bool:
        """Whether the client has a call whose arguments have not ended."""
        return any(call.is_open and call.name is not None for call in self._calls.values())

    def snapshot(self) -> list[Json]:
        """The events for a late joiner."""
        return [event for part in self._parts for event in part.snapshot()]

    def take(self, event: ev.Event) -> list[Json]:
        """Take any event but ``attempt`` and the terminal ones; an event without a place is left out."""
        take = _HANDLERS.get(type(event))
        return [] if take is None else take(self, event)

    def closed(self) -> list[Json]:
        """The ends of everything open (rule 5)."""
        events = self._end_resting() + [message.end() for message in self._texts.values()]
        self._texts.clear()
        for id in list(self._spans):
            events += self._ended(id)
        for call in self._calls.values():
            if call.is_open:
                events += call.end()
        if self._open_step is not None:
            events.append(self._add({"type": "STEP_FINISHED", "stepName": self._open_step}))
            self._open_step = None
        self._turn = None
        return events

    # ------------------------------------------------------------------------------------------------ start and steps

    def _start(self, event: ev.Start) -> list[Json]:
        model = (event.message_metadata or {}).get("model")
        self._model = model if isinstance(model, str) else self._model
        return []

    def _start_step(self, _: ev.StartStep) -> list[Json]:
        events = self.closed()
        self._steps += 1
        self._open_step = f"step-{self._steps}"
        return [*events, self._add({"type": "STEP_STARTED", "stepName": self._open_step})]

    def _finish_step(self, _: ev.FinishStep) -> list[Json]:
        return self.closed()

    def _count(self, event: ev.Usage) -> list[Json]:
        self._counts |= {name: count for name, count in msgspec.to_builtins(event).items() if name in wire.COUNTS}
        return []

    # ---------------------------------------------------------------------------------------------- text and reasoning

    def _open_text(self, event: ev.TextStart) -> list[Json]:
        return self._end_text(event) + self._opened(event.id)

    def _opened(self, id: str) -> list[Json]:
        if self._resting is not None:
            self._texts[id], self._resting = self._resting, None
            return []
        message = TextMessage(self._next_id())
        self._texts[id] = message
        self._parts.append(message)
        self._turn = message.id
        return [message.start()]

    def _grow_text(self, event: ev.TextDelta) -> list[Json]:
        events = [] if event.id in self._texts else self._opened(event.id)
        return [*events, self._texts[event.id].grow(event.delta)] if event.delta else events

    def _end_text(self, event: ev.TextStart | ev.TextEnd) -> list[Json]:
        message = self._texts.pop(event.id, None)
        if message is None:
            return []
        events = self._end_resting()
        self._resting = message
        return events

    def _end_resting(self) -> list[Json]:
        """The end of the resting message (rule 2)."""
        message, self._resting = self._resting, None
        return [] if message is None else [message.end()]

    def _open_reasoning(self, event: ev.ReasoningStart) -> list[Json]:
        events = self._end_reasoning(event) + self._end_resting()
        id = self._spans[event.id] = self._next_id()
        events.append(self._add({"type": "REASONING_START", "messageId": id}))
        return events + self._grown(event.id, "", event.provider_metadata)

    def _grow_reasoning(self, event: ev.ReasoningDelta) -> list[Json]:
        events = [] if event.id in self._spans else self._open_reasoning(ev.ReasoningStart(id=event.id))
        return events + self._grown(event.id, event.delta, event.provider_metadata)

    def _grown(self, id: str, delta: str, metadata: ev.ProviderMetadata | None) -> list[Json]:
        """What this adds to the span's message, which takes its place among the parts with its first text."""
        encrypted = wire.encrypted_value(metadata)
        if not delta and not encrypted:
            return []
        events: list[Json] = []
        if (message := self._reasonings.get(id)) is None:
            message = self._reasonings[id] = RunReasoning(self._spans[id])
            self._parts.append(message)
            events.append(message.start())
        if delta:
            events.append(message.grow(delta))
        return events + message.encrypt(encrypted) if encrypted else events

    def _end_reasoning(self, event: ev.ReasoningStart | ev.ReasoningEnd) -> list[Json]:
        """The end of a span that is open; a start under its id ends it too."""
        if event.id not in self._spans:
            return []
        events = self._grown(event.id, "", event.provider_metadata) if isinstance(event, ev.ReasoningEnd) else []
        return events + self._ended(event.id)

    def _ended(self, id: str) -> list[Json]:
        message, span = self._reasonings.pop(id, None), self._spans.pop(id)
        events = [] if message is None else [message.end()]
        return [*events, self._add({"type": "REASONING_END", "messageId": span})]

    # ----------------------------------------------------------------------------------------------------------- tools

    def _open_call(self, event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError) -> list[Json]:
        call = self._call(event.tool_call_id)
        if call.name is not None or call.is_answered:
            return []
        events = self._end_resting()
        self._turn = self._turn or self._next_id()
        call.name, call.parent = event.tool_name, self._turn
        self._parts.append(call)
        return events + call.snapshot()

    def _call(self, id: str) -> RunToolCall:
        """The call, which takes its place among the parts when it has a name (rule 4)."""
        return self._calls.setdefault(id, RunToolCall(id))

    def _grow_call(self, event: ev.ToolInputDelta) -> list[Json]:
        call = self._call(event.tool_call_id)
        return call.grow(event.input_text_delta) if call.is_open else []

    def _end_call(self, event: ev.ToolInputAvailable | ev.ToolInputError) -> list[Json]:
        events = self._open_call(event)
        call = self._calls[event.tool_call_id]
        if call.is_open:
            if not call.pieces.text:
                events += call.grow(as_text(event.input))
            events += call.end()
        return events

    def _fail_call(self, event: ev.ToolInputError) -> list[Json]:
        return self._end_call(event) + self._result(event.tool_call_id, event.error_text)

    def _answer_call(self, event: ev.ToolOutputAvailable) -> list[Json]:
        # A preliminary answer would be a message of its own that the real one cannot replace.
        return [] if event.preliminary else self._result(event.tool_call_id, as_text(event.output))

    def _refuse_call(self, event: ev.ToolOutputError) -> list[Json]:
        return self._result(event.tool_call_id, event.error_text)

    def _result(self, id: str, content: str) -> list[Json]:
        call = self._call(id)
        if call.is_answered:
            return []
        events = call.end() if call.is_open else []
        call.is_answered = True
        events += self._end_resting()
        self._turn = None
        event = {"type": "TOOL_CALL_RESULT", "messageId": self._next_id(), "toolCallId": id}
        return [*events, self._add({**event, "content": content, "role": "tool"})]

    # ------------------------------------------------------------------------------------------- what else there may be

    def _show(self, event: ev.SourceUrl | ev.SourceDocument | ev.File) -> list[Json]:
        return [self._add(wire.as_custom(event))]

    def _show_data(self, event: ev.DataEvent) -> list[Json]:
        custom = wire.custom(event.type, event.data, id=event.id)
        if event.transient:
            return [custom]
        if event.id is None:
            return [self._add(custom)]
        at = self._data.setdefault((event.type, event.id), len(self._parts))
        self._parts[at : at + 1] = [SingleEvent(custom)]
        return [custom]

    def _add(self, event: Json) -> Json:
        self._parts.append(SingleEvent(event))
        return event

    def _next_id(self) -> str:
        self._ids += 1
        return f"{self._prefix}-{self._ids}"


_HANDLERS: Final[dict[type, Callable[[Run, Any], list[Json]]]] = {
    ev.Start: Run._start,
    ev.StartStep: Run._start_step,
    ev.FinishStep: Run._finish_step,
    ev.TextStart: Run._open_text,
    ev.TextDelta: Run._grow_text,
    ev.TextEnd: Run._end_text,
    ev.ReasoningStart: Run._open_reasoning,
    ev.ReasoningDelta: Run._grow_reasoning,
    ev.ReasoningEnd: Run._end_reasoning,
    ev.ToolInputStart: Run._open_call,
    ev.ToolInputDelta: Run._grow_call,
    ev.ToolInputAvailable: Run._end_call,
    ev.ToolInputError: Run._fail_call,
    ev.ToolOutputAvailable: Run._answer_call,
    ev.ToolOutputError: Run._refuse_call,
    ev.SourceUrl: Run._show,
    ev.SourceDocument: Run._show,
    ev.File: Run._show,
    ev.DataEvent: Run._show_data,
    ev.Usage: Run._count,
}
