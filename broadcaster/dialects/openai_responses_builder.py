"""The output of one Response as it grows: which item an event of ours belongs to.

Rules
1. A delta without its start opens its part (a log whose head was trimmed). A start under an id that is open begins a
   new part: providers number their parts from 0 in every step.
2. A part, and an item, that is open when its step ends is closed, but a tool that its provider runs: its result may
   come in a later step.
3. Items stand on a ``Shelf``; what the decoder passed on goes there directly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic_wire import PROVIDER as ANTHROPIC
from broadcaster.dialects.openai_responses_calls import input_fields, input_text, output_text, result_fields, shape_of
from broadcaster.dialects.openai_responses_citations import annotation_of
from broadcaster.dialects.openai_responses_output import COMPLETED, INCOMPLETE, INPUTS, Call, Item, Part, Written
from broadcaster.dialects.openai_responses_passed import pass_on
from broadcaster.dialects.openai_responses_sealed import seal
from broadcaster.dialects.openai_responses_shelf import Shelf
from broadcaster.dialects.openai_responses_voice import Voice
from broadcaster.dialects.openai_responses_words import PROVIDER
from broadcaster.dialects.reading import Json

_OF_PART: Final = frozenset({"annotations", "annotation", "refusal", "logprobs", "citation", "citations"})


@dataclass(slots=True)
class Builder:
    """The output so far, and what of it is open."""

    shelf: Shelf
    _texts: dict[str, tuple[Written, Part]] = field(default_factory=dict)
    _reasonings: dict[str, tuple[Written, Part]] = field(default_factory=dict)
    _calls: dict[str, Call] = field(default_factory=dict)

    def shown(self) -> list[Json]:
        """The items as they stand."""
        return [item.shown() for item in self.shelf.items]

    def fork(self) -> Builder:
        """Another one that stands where this one stands."""
        open_ids = {id(item) for item, _ in (*self._texts.values(), *self._reasonings.values())}
        open_ids |= {id(call) for call in self._calls.values() if not call.is_whole}
        shelf = self.shelf.fork(open_ids)
        twin = {id(item): forked for item, forked in zip(self.shelf.items, shelf.items, strict=True)}
        calls = {key: call for key, item in self._calls.items() if isinstance(call := twin[id(item)], Call)}
        return Builder(shelf, _twins(self._texts, twin), _twins(self._reasonings, twin), calls)

    # ------------------------------------------------------------------------------------------------ text, reasoning

    def open_text(self, event: ev.TextStart, voice: Voice) -> None:
        """A text opens, in its message."""
        told = (event.provider_metadata or {}).get(PROVIDER, {})
        _end_part(self._texts.pop(event.id, None), voice)
        kind = "refusal" if told.get("refusal") is True else "output_text"
        key = _name(told)
        extras = {name: told[name] for name in told if name != "itemId" and name not in _OF_PART} if key else {}
        message = self.shelf.written("message", key, voice, extras=extras)
        self._texts[event.id] = message, message.begin(kind, voice)

    def is_refusal(self, id: str) -> bool:
        """Whether the text that is open under this id is a refusal."""
        return id in self._texts and self._texts[id][1].kind == "refusal"

    def grow_text(self, event: ev.TextDelta, voice: Voice) -> None:
        """The next piece of a text, or a source of it."""
        if event.id not in self._texts:
            self.open_text(ev.TextStart(id=event.id), voice)
        message, part = self._texts[event.id]
        if event.provider_metadata is None:
            message.grow(part, event.delta, voice)
            return
        told = event.provider_metadata.get(PROVIDER, {})
        logprobs, annotation = told.get("logprobs"), told.get("annotation")
        if event.delta or not isinstance(annotation, dict):
            message.grow(part, event.delta, voice, logprobs=logprobs if isinstance(logprobs, list) else None)
        if isinstance(annotation, dict) and part.kind == "output_text":
            message.cite(part, annotation_of(annotation, text=part.text.text), voice)

    def end_text(self, event: ev.TextEnd, voice: Voice) -> None:
        """A text is whole."""
        if event.id not in self._texts:
            return
        message, part = self._texts.pop(event.id)
        told = (event.provider_metadata or {}).get(PROVIDER, {})
        if isinstance(logprobs := told.get("logprobs"), list) and not part.logprobs:
            part.logprobs = [*logprobs]
        if message.key is not None:
            part.extras = {name: told[name] for name in told if name not in _OF_PART and name != "itemId"}
        citations = (event.provider_metadata or {}).get(ANTHROPIC, {}).get("citations")
        for citation in citations if isinstance(citations, list) else ():
            if isinstance(citation, dict) and part.kind == "output_text":
                message.cite(part, annotation_of(citation, text=part.text.text), voice)
        message.end(part, voice)

    def open_reasoning(self, event: ev.ReasoningStart, voice: Voice) -> None:
        """A thought opens, in its item. One that is redacted, or has no text, gets no part until it is written."""
        told = (event.provider_metadata or {}).get(PROVIDER, {})
        _end_part(self._reasonings.pop(event.id, None), voice)
        key = _name(told)
        extras = {name: told[name] for name in told if name not in ("itemId", "summaryIndex", "encryptedContent")}
        item = self.shelf.written("reasoning", key, voice, extras=extras if key else {})
        kind = "summary_text" if "summaryIndex" in told else "reasoning_text"
        part = item.begin(kind, voice) if kind == "summary_text" else Part(kind, 0)
        self._reasonings[event.id] = item, part
        _seal(item, event.provider_metadata)

    def grow_reasoning(self, event: ev.ReasoningDelta, voice: Voice) -> None:
        """The next piece of a thought, or its signature."""
        if event.id not in self._reasonings:
            self.open_reasoning(ev.ReasoningStart(id=event.id), voice)
        item, part = self._reasonings[event.id]
        _seal(item, event.provider_metadata)
        if not event.delta:
            return
        if not any(part is known for known in item.parts):
            part = item.begin(part.kind, voice)
            self._reasonings[event.id] = item, part
        item.grow(part, event.delta, voice)

    def end_reasoning(self, event: ev.ReasoningEnd, voice: Voice) -> None:
        """A thought is whole."""
        if event.id not in self._reasonings:
            return
        item, part = self._reasonings.pop(event.id)
        _seal(item, event.provider_metadata)
        told = (event.provider_metadata or {}).get(PROVIDER, {})
        if item.key is not None:
            item.extras |= {name: told[name] for name in told if name not in ("itemId", "encryptedContent")}
        if any(part is known for known in item.parts):
            item.end(part, voice)

    # ---------------------------------------------------------------------------------------------------------- calls

    def open_call(self, event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError, voice: Voice) -> None:
        """A call opens; one that is open already stays."""
        known = self._calls.get(event.tool_call_id)
        if known is not None and not known.is_closed and not known.is_whole:
            return
        shape = shape_of(event)
        self.shelf.make_room(voice)
        call_id = self.shelf.unused(event.tool_call_id, of=shape.type) if shape.has_call_id else None
        own = shape.item_id or (event.tool_call_id if not shape.has_call_id and shape.is_told else None)
        call = Call(
            shape.type,
            self.shelf.id(shape.type, own),
            self.shelf.index(),
            event.tool_call_id,
            call_id,
            shape.fields,
            awaits_result=shape.awaits_result,
            is_told=shape.is_told,
        )
        self._calls[event.tool_call_id] = call
        self.shelf.put(call, voice)
        call.tell("in_progress", voice)

    def grow_call(self, event: ev.ToolInputDelta, voice: Voice) -> None:
        """The next piece of an input. A call whose start was trimmed has no name yet: it waits for its whole input."""
        call = self._calls.get(event.tool_call_id)
        if call is not None and not call.is_whole and event.input_text_delta:
            call.grow(event.input_text_delta, voice)

    def settle_call(self, event: ev.ToolInputAvailable | ev.ToolInputError, voice: Voice) -> None:
        """An input is whole."""
        call = self._calls.get(event.tool_call_id)
        if call is None or call.is_closed:
            self.open_call(ev.ToolInputStart(**_call_of(event)), voice)
            call = self._calls[event.tool_call_id]
        if call.is_whole:
            return
        told = shape_of(event)
        call.fields = call.fields | (told.fields if told.is_told else {}) | input_fields(call.type, event.input)
        if call.type in INPUTS and not call.text.text.strip():
            empty = call.type in ("function_call", "mcp_call")
            text = input_text(call.type, event.input) or ("{}" if empty else "")
            if text:
                call.grow(text, voice)
        call.settle(voice)

    def answer_call(self, event: ev.ToolOutputAvailable | ev.ToolOutputError, voice: Voice) -> None:
        """A tool answered: in its own item if its provider ran it, else in an item of the output's own."""
        if isinstance(event, ev.ToolOutputAvailable) and event.preliminary:
            return
        call = self._calls.get(event.tool_call_id)
        if call is not None and call.awaits_result and not call.is_closed:
            call.awaits_result, call.is_whole = False, True
            call.adopted = result_fields(event, is_native=call.is_told)
            call.tell("failed" if isinstance(event, ev.ToolOutputError) else "completed", voice)
            return
        if event.provider_executed:
            return
        self.shelf.make_room(voice)
        failed = isinstance(event, ev.ToolOutputError)
        told: Json = {
            "id": self.shelf.id("function_call_output", None),
            "type": "function_call_output",
            "call_id": event.tool_call_id if call is None else call.call_id or call.tool_call_id,
            "output": event.error_text if isinstance(event, ev.ToolOutputError) else output_text(event.output),
            "status": INCOMPLETE if failed else COMPLETED,
        }
        self.shelf.plain(told, voice)

    def show_file(self, event: ev.File, voice: Voice) -> None:
        """A picture that the model made is an item; the wire has no word for another file."""
        head, _, data = event.url.partition(",")
        if not event.media_type.startswith("image/") or not head.endswith(";base64"):
            return
        self.shelf.make_room(voice)
        kind = "image_generation_call"
        self.shelf.plain({"id": self.shelf.id(kind, None), "type": kind, "status": COMPLETED, "result": data}, voice)

    def pass_on(self, event: ev.DataEvent, voice: Voice) -> None:
        """An event of the wire that our vocabulary has no word for."""
        pass_on(event.data, self.shelf, voice)

    # ----------------------------------------------------------------------------------------------------------- ends

    def end_step(self, voice: Voice, *, is_cut: bool) -> None:
        """The provider call is over (rule 2)."""
        self._texts, self._reasonings = {}, {}
        owed = [item for item in self.shelf.items if isinstance(item, Call) and item.awaits_result]
        ended = [item for item in self.shelf.items if not any(item is each for each in owed)]
        self.shelf.close(ended, voice, is_cut=is_cut)

    def end(self, voice: Voice, *, is_cut: bool) -> None:
        """The answer is over."""
        self._texts, self._reasonings = {}, {}
        self.shelf.close(self.shelf.items, voice, is_cut=is_cut)

    def drop(self, voice: Voice) -> list[Json]:
        """A new attempt: everything is void. Returns the items as they stood."""
        self._texts, self._reasonings, self._calls = {}, {}, {}
        return [item.shown() for item in self.shelf.drop(voice)]


def _end_part(known: tuple[Written, Part] | None, voice: Voice) -> None:
    if known is not None and not known[0].is_closed and any(known[1] is part for part in known[0].parts):
        known[0].end(known[1], voice)


def _name(told: Json) -> str | None:
    name = told.get("itemId")
    return name if isinstance(name, str) and name else None


def _call_of(event: ev.ToolInputAvailable | ev.ToolInputError) -> Json:
    return {
        "tool_call_id": event.tool_call_id,
        "tool_name": event.tool_name,
        "provider_executed": event.provider_executed,
        "dynamic": event.dynamic,
        "provider_metadata": event.provider_metadata,
    }


def _seal(item: Written, metadata: ev.ProviderMetadata | None) -> None:
    """What of a thought only its provider can read."""
    if (sealed := seal(metadata)) is not None:
        item.extras |= {"encrypted_content": sealed}


def _twins(known: dict[str, tuple[Written, Part]], twin: dict[int, Item]) -> dict[str, tuple[Written, Part]]:
    twins: dict[str, tuple[Written, Part]] = {}
    for id_, (item, part) in known.items():
        forked = twin[id(item)]
        assert isinstance(forked, Written)
        at = next((at for at, each in enumerate(item.parts) if each is part), None)
        twins[id_] = forked, part.fork() if at is None else forked.parts[at]
    return twins
