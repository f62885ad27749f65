"""The output items of a Response as they are written: each appends its own events.

Rules
1. An item is announced empty, grows by its parts or its input, and is done when it is closed; only then is it sent
   whole. The transcript decides when to close it.
2. A part that is closed sends its whole text first, then itself. A call sends its whole input only if the model
   finished it: a client must not run a tool with half its arguments. A torn call is done with status ``incomplete``.
3. Reasoning has no status, as on the wire of OpenAI.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from broadcaster.core.forking import Forkable, Pieces
from broadcaster.dialects.openai_responses.encoding.event_log import EventLog
from broadcaster.dialects.reading import Json

IN_PROGRESS: Final = "in_progress"
COMPLETED: Final = "completed"
INCOMPLETE: Final = "incomplete"


class _Family(NamedTuple):
    """The events of one kind of part: its text's and its own, the field of its text, the field of its index."""

    event: str
    text: str
    part: str
    place: str


FAMILIES: Final = {
    "output_text": _Family("response.output_text", "text", "response.content_part", "content_index"),
    "refusal": _Family("response.refusal", "refusal", "response.content_part", "content_index"),
    "reasoning_text": _Family("response.reasoning_text", "text", "response.content_part", "content_index"),
    "summary_text": _Family(
        "response.reasoning_summary_text", "text", "response.reasoning_summary_part", "summary_index"
    ),
}

INPUTS: Final = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
    "mcp_call": ("response.mcp_call_arguments", "arguments"),
    "code_interpreter_call": ("response.code_interpreter_call_code", "code"),
}
"""The calls whose input streams: its events, and its field."""

_WITH_STATUS: Final = frozenset({"message", "function_call", "custom_tool_call"})


def announce(item: Item, log: EventLog) -> None:
    """``response.output_item.added``."""
    log.append("response.output_item.added", {"output_index": item.index, "item": item.as_json(IN_PROGRESS)})


@dataclass(slots=True)
class OutputPart(Forkable):
    """One text of a message or of reasoning; a ``strange`` one is of a type that our events cannot express."""

    kind: str
    index: int
    text: Pieces = field(default_factory=Pieces)
    annotations: list[Json] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    extras: Json = field(default_factory=dict)
    strange: Json | None = None
    is_open: bool = True

    @property
    def is_fixed(self) -> bool:
        """See Forkable."""
        return not self.is_open

    def as_json(self) -> Json:
        """The part as it stands."""
        if self.strange is not None:
            return self.strange
        as_json: Json = {"type": self.kind, FAMILIES[self.kind].text: self.text.text}
        if self.kind == "output_text":
            as_json |= {"annotations": [*self.annotations], "logprobs": [*self.logprobs]}
        return as_json | self.extras


@dataclass(slots=True)
class _ProgressingItem(Forkable):
    """What items of ours have in common; ``adopted`` are the fields that its provider reported at its end."""

    type: str
    id: str
    index: int
    adopted: Json = field(default_factory=dict, kw_only=True)
    status: str = field(default=IN_PROGRESS, kw_only=True)

    @property
    def is_closed(self) -> bool:
        """Whether it is done."""
        return self.status != IN_PROGRESS

    @property
    def place(self) -> Json:
        """The fields by which its events name it."""
        return {"item_id": self.id, "output_index": self.index}


@dataclass(slots=True)
class TextItem(_ProgressingItem):
    """A message, or an item of reasoning. ``key`` is the provider's name for it, if it has one.

    ``thoughts`` is how many thoughts of it are open: one may get its first text, and its part, after the item is done.
    """

    key: str | None
    extras: Json
    parts: list[OutputPart] = field(default_factory=list)
    thoughts: int = 0

    @property
    def is_fixed(self) -> bool:
        """See Forkable."""
        return self.is_closed and not self.thoughts

    @property
    def is_busy(self) -> bool:
        """Whether something of it is still being written."""
        return any(part.is_open for part in self.parts)

    def begin(self, kind: str, log: EventLog, *, strange: Json | None = None) -> OutputPart:
        """A part opens."""
        is_summary = kind == "summary_text"
        at = sum((part.kind == "summary_text") is is_summary for part in self.parts)
        part = OutputPart(kind, at, strange=strange)
        self.parts.append(part)
        family = FAMILIES["summary_text" if is_summary else "output_text"]
        log.append(f"{family.part}.added", {**self._at(part), "part": part.as_json()})
        return part

    def grow(self, part: OutputPart, delta: str, log: EventLog, *, logprobs: list[Any] | None = None) -> None:
        """The next piece of a part."""
        part.text.append(delta)
        if logprobs:
            part.logprobs += logprobs
        tokens = (logprobs or []) if part.kind == "output_text" else None
        key = (self.index, part.kind, part.index)
        log.grow(
            key, f"{FAMILIES[part.kind].event}.delta", self._at(part), delta=delta, text=part.text, logprobs=tokens
        )

    def cite(self, part: OutputPart, annotation: Json, log: EventLog) -> None:
        """A source of what has been written."""
        at = {**self._at(part), "annotation_index": len(part.annotations)}
        part.annotations.append(annotation)
        log.append("response.output_text.annotation.added", {**at, "annotation": annotation})

    def end(self, part: OutputPart, log: EventLog) -> None:
        """The part is whole, or will not become so."""
        if not part.is_open:
            return
        part.is_open = False
        at = self._at(part)
        if part.strange is None:
            family = FAMILIES[part.kind]
            fields = {"logprobs": [*part.logprobs]} if part.kind == "output_text" else {}
            log.append(f"{family.event}.done", {**at, family.text: part.text.text, **fields})
        family = FAMILIES.get(part.kind, FAMILIES["output_text"])
        log.append(f"{family.part}.done", {**at, "part": part.as_json()})

    def close(self, log: EventLog, *, status: str) -> None:
        """Nothing more comes."""
        for part in self.parts:
            self.end(part, log)
        self.status = status
        log.append("response.output_item.done", {"output_index": self.index, "item": self.as_json(status)})

    def as_json(self, status: str | None = None) -> Json:
        """The item as it stands."""
        content = [part.as_json() for part in self.parts if part.kind != "summary_text"]
        if self.type == "message":
            fields = {"role": "assistant", "content": content, "status": status or self.status}
        else:
            fields = {"summary": [part.as_json() for part in self.parts if part.kind == "summary_text"]}
            if content:
                fields["content"] = content
        return {"id": self.id, "type": self.type, **fields, **self.extras, **self.adopted}

    def _at(self, part: OutputPart) -> Json:
        place = FAMILIES.get(part.kind, FAMILIES["output_text"]).place
        return {**self.place, place: part.index}


@dataclass(slots=True)
class CallItem(_ProgressingItem):
    """A call of a tool. ``tool_call_id`` is our name for it, ``call_id`` the wire's; None: it has no such name.

    ``has_progress_events``: the progress events of its provider are passed on, so it sends none of its own.
    ``is_wrapped``: its text stands in an object, so its fragments are not those of the text.
    """

    tool_call_id: str
    call_id: str | None
    fields: Json
    awaits_result: bool = False
    has_progress_events: bool = True
    is_wrapped: bool = False
    text: Pieces = field(default_factory=Pieces)
    is_whole: bool = False

    @property
    def is_fixed(self) -> bool:
        """See Forkable. A torn call is done, although more of its input may come."""
        return self.is_closed and self.is_whole

    @property
    def is_busy(self) -> bool:
        """Whether its input or its result is still to come."""
        return not self.is_whole or self.awaits_result

    def grow(self, delta: str, log: EventLog) -> None:
        """The next piece of its input."""
        self.text.append(delta)
        if (family := INPUTS.get(self.type)) is not None:
            log.grow((self.index, self.type, 0), f"{family[0]}.delta", self.place, delta=delta, text=self.text)

    def complete(self, log: EventLog) -> None:
        """Its input is whole."""
        self.is_whole = True
        if (family := INPUTS.get(self.type)) is not None:
            log.append(f"{family[0]}.done", {**self.place, family[1]: self.text.text})

    def report_progress(self, step: str, log: EventLog) -> None:
        """Send its progress, unless its provider's events do."""
        if not self.has_progress_events:
            log.append(f"response.{self.type}.{step}", self.place)

    def close(self, log: EventLog, *, status: str) -> None:
        """Nothing more comes."""
        self.status = status if self.is_whole and not self.awaits_result else INCOMPLETE
        log.append("response.output_item.done", {"output_index": self.index, "item": self.as_json()})

    def as_json(self, status: str | None = None) -> Json:
        """The item as it stands."""
        as_json: Json = {"id": self.id, "type": self.type}
        if self.call_id is not None:
            as_json["call_id"] = self.call_id
        if (family := INPUTS.get(self.type)) is not None:
            as_json[family[1]] = self.text.text
        return {**as_json, "status": status or self.status, **self.fields, **self.adopted}


@dataclass(slots=True)
class OpaqueItem(Forkable):
    """An item that comes as it is: one that our events cannot express, or the output of a tool."""

    type: str
    id: str
    index: int
    fields: Json
    keys: frozenset[str] = frozenset()
    is_busy: bool = False
    is_closed: bool = False

    def close(self, log: EventLog, *, status: str) -> None:
        """Nothing more comes."""
        self.is_closed = True
        log.append("response.output_item.done", {"output_index": self.index, "item": self.as_json()})

    def as_json(self, status: str | None = None) -> Json:
        """The item as it stands."""
        return {**self.fields}


Item: TypeAlias = TextItem | CallItem | OpaqueItem


def status_of(item: Item, *, is_cut: bool) -> str:
    """The status an item is closed with; ``is_cut``: the answer ended in it."""
    return INCOMPLETE if is_cut and item.type in _WITH_STATUS else COMPLETED
