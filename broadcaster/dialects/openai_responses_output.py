"""The output items of a Response, as they are written: each says its own events.

Rules
1. An item is announced empty, grows by its parts or its input, and is done when it is closed; only then is it told
   whole. Who closes it and when is the transcript's business.
2. A part that is closed says its whole text first, then itself; a call says its whole input, but only when the model
   gave all of it: nobody shall run a tool with half its arguments. A torn call is done with status ``incomplete``.
3. Reasoning has no status, as on the wire of OpenAI.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeAlias

from broadcaster.dialects.openai_responses_voice import Voice
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import Pieces

IN_PROGRESS: Final = "in_progress"
COMPLETED: Final = "completed"
INCOMPLETE: Final = "incomplete"


class _Family(NamedTuple):
    """The events of one kind of part: its text's, its own, where its text stands, how it is counted."""

    told: str
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
"""The calls whose input streams: its events, and the field it stands in."""

_WITH_STATUS: Final = frozenset({"message", "function_call", "custom_tool_call"})


def announce(item: Item, voice: Voice) -> None:
    """``response.output_item.added``."""
    voice.say("response.output_item.added", {"output_index": item.index, "item": item.shown(IN_PROGRESS)})


@dataclass(slots=True)
class Part:
    """One text of a message or of reasoning; a ``strange`` one is of a type that we have no word for."""

    kind: str
    index: int
    text: Pieces = field(default_factory=Pieces)
    annotations: list[Json] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    extras: Json = field(default_factory=dict)
    strange: Json | None = None
    is_open: bool = True

    def shown(self) -> Json:
        """The part as it stands."""
        if self.strange is not None:
            return self.strange
        shown: Json = {"type": self.kind, FAMILIES[self.kind].text: self.text.text}
        if self.kind == "output_text":
            shown |= {"annotations": [*self.annotations], "logprobs": [*self.logprobs]}
        return shown | self.extras

    def fork(self) -> Part:
        """Another one of the same text."""
        return replace(self, text=self.text.fork(), annotations=[*self.annotations], logprobs=[*self.logprobs])


@dataclass(slots=True)
class Written:
    """A message, or an item of reasoning. ``key`` is the provider's name for it, if it has one."""

    type: str
    id: str
    index: int
    key: str | None
    extras: Json
    parts: list[Part] = field(default_factory=list)
    adopted: Json = field(default_factory=dict)
    status: str = IN_PROGRESS

    @property
    def is_closed(self) -> bool:
        """Whether it is done."""
        return self.status != IN_PROGRESS

    @property
    def is_busy(self) -> bool:
        """Whether something of it is still being written."""
        return any(part.is_open for part in self.parts)

    def begin(self, kind: str, voice: Voice, *, strange: Json | None = None) -> Part:
        """A part opens."""
        is_summary = kind == "summary_text"
        at = sum((part.kind == "summary_text") is is_summary for part in self.parts)
        part = Part(kind, at, strange=strange)
        self.parts.append(part)
        family = FAMILIES["summary_text" if is_summary else "output_text"]
        voice.say(f"{family.part}.added", {**self._at(part), "part": part.shown()})
        return part

    def grow(self, part: Part, delta: str, voice: Voice, *, logprobs: list[Any] | None = None) -> None:
        """The next piece of a part."""
        part.text.append(delta)
        if logprobs:
            part.logprobs += logprobs
        told = (logprobs or []) if part.kind == "output_text" else None
        key = (self.index, part.kind, part.index)
        voice.grow(key, f"{FAMILIES[part.kind].told}.delta", self._at(part), delta=delta, logprobs=told)

    def cite(self, part: Part, annotation: Json, voice: Voice) -> None:
        """A source of what has been written."""
        at = {**self._at(part), "annotation_index": len(part.annotations)}
        part.annotations.append(annotation)
        voice.say("response.output_text.annotation.added", {**at, "annotation": annotation})

    def end(self, part: Part, voice: Voice) -> None:
        """The part is whole, or will not become so."""
        if not part.is_open:
            return
        part.is_open = False
        at = self._at(part)
        if part.strange is None:
            family = FAMILIES[part.kind]
            told = {"logprobs": [*part.logprobs]} if part.kind == "output_text" else {}
            voice.say(f"{family.told}.done", {**at, family.text: part.text.text, **told})
        family = FAMILIES.get(part.kind, FAMILIES["output_text"])
        voice.say(f"{family.part}.done", {**at, "part": part.shown()})

    def close(self, voice: Voice, *, status: str) -> None:
        """Nothing more comes."""
        for part in self.parts:
            self.end(part, voice)
        self.status = status
        voice.say("response.output_item.done", {"output_index": self.index, "item": self.shown(status)})

    def shown(self, status: str | None = None) -> Json:
        """The item as it stands."""
        content = [part.shown() for part in self.parts if part.kind != "summary_text"]
        if self.type == "message":
            told = {"role": "assistant", "content": content, "status": status or self.status}
        else:
            told = {"summary": [part.shown() for part in self.parts if part.kind == "summary_text"]}
            if content:
                told["content"] = content
        return {"id": self.id, "type": self.type, **told, **self.extras, **self.adopted}

    def fork(self) -> Written:
        """Another one that stands where this one stands."""
        return replace(self, extras={**self.extras}, parts=[part.fork() for part in self.parts])

    def _at(self, part: Part) -> Json:
        place = FAMILIES.get(part.kind, FAMILIES["output_text"]).place
        return {"item_id": self.id, "output_index": self.index, place: part.index}


@dataclass(slots=True)
class Call:
    """A call of a tool. ``tool_call_id`` is our name for it, ``call_id`` the wire's, None where it has none.

    ``is_told`` says that its progress is told by others: the events of its provider are passed on.
    """

    type: str
    id: str
    index: int
    tool_call_id: str
    call_id: str | None
    fields: Json
    awaits_result: bool = False
    is_told: bool = True
    text: Pieces = field(default_factory=Pieces)
    adopted: Json = field(default_factory=dict)
    is_whole: bool = False
    status: str = IN_PROGRESS

    @property
    def is_closed(self) -> bool:
        """Whether it is done."""
        return self.status != IN_PROGRESS

    @property
    def is_busy(self) -> bool:
        """Whether its input or its result is still to come."""
        return not self.is_whole or self.awaits_result

    def grow(self, delta: str, voice: Voice) -> None:
        """The next piece of its input."""
        self.text.append(delta)
        if (family := INPUTS.get(self.type)) is not None:
            voice.grow((self.index, self.type, 0), f"{family[0]}.delta", self._at(), delta=delta)

    def settle(self, voice: Voice) -> None:
        """Its input is whole."""
        self.is_whole = True
        if (family := INPUTS.get(self.type)) is not None:
            voice.say(f"{family[0]}.done", {**self._at(), family[1]: self.text.text})

    def tell(self, step: str, voice: Voice) -> None:
        """How its run gets on, where nobody else tells it."""
        if not self.is_told:
            voice.say(f"response.{self.type}.{step}", self._at())

    def close(self, voice: Voice, *, status: str) -> None:
        """Nothing more comes."""
        self.status = status if self.is_whole and not self.awaits_result else INCOMPLETE
        voice.say("response.output_item.done", {"output_index": self.index, "item": self.shown()})

    def shown(self, status: str | None = None) -> Json:
        """The item as it stands."""
        shown: Json = {"id": self.id, "type": self.type}
        if self.call_id is not None:
            shown["call_id"] = self.call_id
        if (family := INPUTS.get(self.type)) is not None:
            shown[family[1]] = self.text.text
        return {**shown, "status": status or self.status, **self.fields, **self.adopted}

    def fork(self) -> Call:
        """Another one that stands where this one stands."""
        return replace(self, text=self.text.fork(), fields={**self.fields})

    def _at(self) -> Json:
        return {"item_id": self.id, "output_index": self.index}


@dataclass(slots=True)
class Plain:
    """An item that comes as it is: one that we have no word for, or the output of a tool."""

    type: str
    id: str
    index: int
    fields: Json
    keys: frozenset[str] = frozenset()
    is_busy: bool = False
    is_closed: bool = False
    call_id: str | None = None

    def close(self, voice: Voice, *, status: str) -> None:
        """Nothing more comes."""
        self.is_closed = True
        voice.say("response.output_item.done", {"output_index": self.index, "item": self.shown()})

    def shown(self, status: str | None = None) -> Json:
        """The item as it stands."""
        return {**self.fields}

    def fork(self) -> Plain:
        """Another one that stands where this one stands."""
        return replace(self)


Item: TypeAlias = Written | Call | Plain


def status_of(item: Item, *, is_cut: bool) -> str:
    """The status an item is closed with; ``is_cut``: the answer ended in it."""
    return INCOMPLETE if is_cut and item.type in _WITH_STATUS else COMPLETED
