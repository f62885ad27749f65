"""One attempt in the words of AG-UI: our events → its events, and what of them a late joiner must hear.

Rules
1. Message ids are counted through the attempt, since providers number their parts from 0 in every step.
2. Text parts that follow each other without anything between make one message: an answer with citations comes in
   dozens of parts. A part that has ended leaves its message resting, which ends when something else begins.
3. Calls belong to the message before them (``parentMessageId``), or share one of their own. After a result a new
   message begins, and so in every step.
4. A delta without its start opens its part (a trimmed log); a call waits for its name.
5. The end of a step closes what is open, and so does ``closed``: the client refuses an end with anything open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.dialects import ag_ui_words as words
from broadcaster.dialects.ag_ui_parts import Part, Reasoning, TextMessage, Told, ToolCall
from broadcaster.dialects.reading import Json

_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
)


class Run:
    """What one attempt says. ``tell`` each event in order; whatever it returns goes to the client."""

    def __init__(self, prefix: str) -> None:
        """``prefix`` begins the ids of its messages."""
        self._prefix = prefix
        self._ids = 0
        self._parts: list[Part] = []
        self._turn: str | None = None
        self._resting: TextMessage | None = None
        self._texts: dict[str, TextMessage] = {}
        self._spans: dict[str, str] = {}
        self._reasonings: dict[str, Reasoning] = {}
        self._calls: dict[str, ToolCall] = {}
        self._data: dict[tuple[str, str], int] = {}
        self._steps = 0
        self._open_step: str | None = None
        self._counts: dict[str, int] = {}
        self._model: str | None = None

    @property
    def reasoning_ids(self) -> list[str]:
        """The ids of its messages of reasoning."""
        return [part.id for part in self._parts if isinstance(part, Reasoning)]

    @property
    def usage(self) -> Json | None:
        """The counts so far as an item of ``usage``."""
        return words.usage_item(self._counts, model=self._model) if self._counts else None

    @property
    def pending(self) -> list[str]:
        """The calls that nobody has answered."""
        return [call.id for call in self._calls.values() if call.name is not None and not call.is_answered]

    def again(self) -> list[Json]:
        """The events for who has heard nothing."""
        return [event for part in self._parts for event in part.again()]

    def fork(self) -> Run:
        """Another one that stands where this one stands."""
        fork = Run(self._prefix)
        fork._ids, fork._turn, fork._steps, fork._open_step = self._ids, self._turn, self._steps, self._open_step
        fork._model, fork._counts, fork._data = self._model, dict(self._counts), dict(self._data)
        fork._spans = dict(self._spans)
        forked: dict[int, Part] = {id(part): part.fork() for part in (*self._parts, *self._calls.values())}
        fork._parts = [forked[id(part)] for part in self._parts]
        fork._resting = self._resting and _same(forked, self._resting)
        fork._texts = {id: _same(forked, part) for id, part in self._texts.items()}
        fork._reasonings = {id: _same(forked, part) for id, part in self._reasonings.items()}
        fork._calls = {id: _same(forked, part) for id, part in self._calls.items()}
        return fork

    def tell(self, event: ev.Event) -> list[Json]:
        """Take any event but ``attempt`` and the terminal ones; what has no place is left out."""
        tell = _TELL.get(type(event))
        return [] if tell is None else tell(self, event)

    def closed(self) -> list[Json]:
        """The ends of all that is open (rule 5)."""
        said = self._settled() + [message.end() for message in self._texts.values()]
        self._texts.clear()
        for id in list(self._spans):
            said += self._ended(id)
        for call in self._calls.values():
            if call.is_open:
                said += call.end()
        if self._open_step is not None:
            said.append(self._told({"type": "STEP_FINISHED", "stepName": self._open_step}))
            self._open_step = None
        self._turn = None
        return said

    # ------------------------------------------------------------------------------------------------ start and steps

    def _start(self, event: ev.Start) -> list[Json]:
        model = (event.message_metadata or {}).get("model")
        self._model = model if isinstance(model, str) else self._model
        return []

    def _start_step(self, _: ev.StartStep) -> list[Json]:
        said = self.closed()
        self._steps += 1
        self._open_step = f"step-{self._steps}"
        return [*said, self._told({"type": "STEP_STARTED", "stepName": self._open_step})]

    def _finish_step(self, _: ev.FinishStep) -> list[Json]:
        return self.closed()

    def _count(self, event: ev.Usage) -> list[Json]:
        counts = ((name, getattr(event, name)) for name in _COUNTS)
        self._counts |= {name: count for name, count in counts if count is not None}
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
        said = [] if event.id in self._texts else self._opened(event.id)
        return [*said, self._texts[event.id].grow(event.delta)] if event.delta else said

    def _end_text(self, event: ev.TextStart | ev.TextEnd) -> list[Json]:
        message = self._texts.pop(event.id, None)
        if message is None:
            return []
        said = self._settled()
        self._resting = message
        return said

    def _settled(self) -> list[Json]:
        """The end of the message that rests (rule 2)."""
        message, self._resting = self._resting, None
        return [] if message is None else [message.end()]

    def _open_reasoning(self, event: ev.ReasoningStart) -> list[Json]:
        said = self._end_reasoning(event) + self._settled()
        id = self._spans[event.id] = self._next_id()
        said.append(self._told({"type": "REASONING_START", "messageId": id}))
        return said + self._grown(event.id, "", event.provider_metadata)

    def _grow_reasoning(self, event: ev.ReasoningDelta) -> list[Json]:
        said = [] if event.id in self._spans else self._open_reasoning(ev.ReasoningStart(id=event.id))
        return said + self._grown(event.id, event.delta, event.provider_metadata)

    def _grown(self, id: str, delta: str, metadata: ev.ProviderMetadata | None) -> list[Json]:
        """What this adds to the span's message, which takes its place among the parts with its first words."""
        encrypted = words.encrypted_value(metadata)
        if not delta and not encrypted:
            return []
        if (message := self._reasonings.get(id)) is not None:
            return message.grow(delta, encrypted)
        message = self._reasonings[id] = Reasoning(self._spans[id])
        self._parts.append(message)
        return [message.start(), *message.grow(delta, encrypted)]

    def _end_reasoning(self, event: ev.ReasoningStart | ev.ReasoningEnd) -> list[Json]:
        """The end of a span that is open; a start under its id ends it too."""
        if event.id not in self._spans:
            return []
        said = self._grown(event.id, "", event.provider_metadata) if isinstance(event, ev.ReasoningEnd) else []
        return said + self._ended(event.id)

    def _ended(self, id: str) -> list[Json]:
        message, span = self._reasonings.pop(id, None), self._spans.pop(id)
        said = [] if message is None else [message.end()]
        return [*said, self._told({"type": "REASONING_END", "messageId": span})]

    # ----------------------------------------------------------------------------------------------------------- tools

    def _open_call(self, event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError) -> list[Json]:
        call = self._call(event.tool_call_id)
        if call.name is not None or call.is_answered:
            return []
        said = self._settled()
        self._turn = self._turn or self._next_id()
        call.name, call.parent = event.tool_name, self._turn
        self._parts.append(call)
        return said + call.again()

    def _call(self, id: str) -> ToolCall:
        """The call, which takes its place among the parts when it has a name (rule 4)."""
        return self._calls.setdefault(id, ToolCall(id))

    def _grow_call(self, event: ev.ToolInputDelta) -> list[Json]:
        call = self._call(event.tool_call_id)
        return call.grow(event.input_text_delta) if call.is_open else []

    def _end_call(self, event: ev.ToolInputAvailable | ev.ToolInputError) -> list[Json]:
        said = self._open_call(event)
        call = self._calls[event.tool_call_id]
        if call.is_open:
            if not call.pieces.text:
                said += call.grow(words.text_of(event.input))
            said += call.end()
        return said

    def _fail_call(self, event: ev.ToolInputError) -> list[Json]:
        return self._end_call(event) + self._result(event.tool_call_id, event.error_text)

    def _answer_call(self, event: ev.ToolOutputAvailable) -> list[Json]:
        # A preliminary answer would be a message of its own that the real one cannot replace.
        return [] if event.preliminary else self._result(event.tool_call_id, words.text_of(event.output))

    def _refuse_call(self, event: ev.ToolOutputError) -> list[Json]:
        return self._result(event.tool_call_id, event.error_text)

    def _result(self, id: str, content: str) -> list[Json]:
        call = self._call(id)
        if call.is_answered:
            return []
        said = call.end() if call.is_open else []
        call.is_answered = True
        said += self._settled()
        self._turn = None
        told = {"type": "TOOL_CALL_RESULT", "messageId": self._next_id(), "toolCallId": id}
        return [*said, self._told({**told, "content": content, "role": "tool"})]

    # ------------------------------------------------------------------------------------------- what else there may be

    def _show(self, event: ev.SourceUrl | ev.SourceDocument | ev.File) -> list[Json]:
        return [self._told(words.shown(event))]

    def _show_data(self, event: ev.DataEvent) -> list[Json]:
        told = words.custom(event.type, event.data, id=event.id)
        if event.transient:
            return [told]
        if event.id is None:
            return [self._told(told)]
        at = self._data.setdefault((event.type, event.id), len(self._parts))
        self._parts[at : at + 1] = [Told(told)]
        return [told]

    def _told(self, event: Json) -> Json:
        self._parts.append(Told(event))
        return event

    def _next_id(self) -> str:
        self._ids += 1
        return f"{self._prefix}-{self._ids}"


def _same(forked: dict[int, Part], part: Any) -> Any:
    """What became of this part in a fork."""
    return forked[id(part)]


_TELL: Final[dict[type, Callable[[Run, Any], list[Json]]]] = {
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
