"""Events of the OpenAI Responses wire, built the way the API sends them.

    answer(reasoning("Let me see."), text("Hello ", "world"), tool_call("get_weather", '{"city":', '"Paris"}'))

gives every event from ``response.created`` to ``response.completed``, numbered from 0. Text and refusals that follow
each other are parts of one message item. The single builders below are for streams that are wrong on purpose; their
numbers are 0 until ``numbered`` counts them. All of them return new dicts, which a test may change.

Source: ``openai.types.responses.ResponseStreamEvent``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final, TypeAlias

from broadcaster.testing.responses_parts import Content as Content
from broadcaster.testing.responses_parts import Item as Item
from broadcaster.testing.responses_parts import Json as Json
from broadcaster.testing.responses_parts import Part as Part
from broadcaster.testing.responses_parts import counts as counts
from broadcaster.testing.responses_parts import custom_tool_call as custom_tool_call
from broadcaster.testing.responses_parts import provider_call as provider_call
from broadcaster.testing.responses_parts import reasoning as reasoning
from broadcaster.testing.responses_parts import reasoning_summaries as reasoning_summaries
from broadcaster.testing.responses_parts import reasoning_text as reasoning_text
from broadcaster.testing.responses_parts import refusal as refusal
from broadcaster.testing.responses_parts import text as text
from broadcaster.testing.responses_parts import tool_call as tool_call
from broadcaster.testing.responses_parts import url_citation as url_citation

WireEvent: TypeAlias = Json

DEFAULT_MODEL: Final = "gpt-scripted"
CREATED_AT: Final = 1_763_683_200

COMPLETED: Final = "completed"
"""The finish reason of a good answer; every other one is the reason of ``response.incomplete``."""


def frame(event: WireEvent) -> bytes:
    """The event as one SSE block: ``event:`` is its type, ``data:`` its compact JSON in UTF-8."""
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def numbered(events: Iterable[WireEvent], first: int = 0) -> list[WireEvent]:
    """The events with dense sequence numbers from ``first``."""
    return [{**event, "sequence_number": number} for number, event in enumerate(events, first)]


def response(
    status: str = "in_progress", *, model: str = DEFAULT_MODEL, id: str = "resp_scripted", **fields: Any
) -> Json:
    """The response object. The fields replace or add to the usual ones, as ``output=[…]``."""
    return {
        "id": id,
        "object": "response",
        "created_at": CREATED_AT,
        "status": status,
        "background": False,
        "completed_at": CREATED_AT + 1 if status == COMPLETED else None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "service_tier": "default",
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
        **deepcopy(fields),
    }


def event(type: str, **fields: Any) -> WireEvent:
    """Any event of the wire: ``event("response.output_text.done", item_id="msg_0", …)``, its number 0 unless given."""
    # Copies of values that the caller may change later. Deltas, thousands a second in a load test, need no copy.
    own = (
        (name, deepcopy(value) if value and isinstance(value, dict | list) else value) for name, value in fields.items()
    )
    return {"type": type, "sequence_number": 0, **dict(own)}


def created(**fields: Any) -> WireEvent:
    """``response.created``; the fields are the response's."""
    return event("response.created", response=response(**fields))


def in_progress(**fields: Any) -> WireEvent:
    """``response.in_progress``; the fields are the response's."""
    return event("response.in_progress", response=response(**fields))


def completed(**fields: Any) -> WireEvent:
    """``response.completed``, a terminal event; the fields are the response's."""
    return event("response.completed", response=response(COMPLETED, **{"usage": counts(), **fields}))


def incomplete(reason: str = "max_output_tokens", **fields: Any) -> WireEvent:
    """``response.incomplete``, a terminal event; the fields are the response's."""
    fields = {"incomplete_details": {"reason": reason}, "usage": counts(), **fields}
    return event("response.incomplete", response=response("incomplete", **fields))


def failed(code: str = "server_error", message: str = "The model failed", **fields: Any) -> WireEvent:
    """``response.failed``, a terminal event; the fields are the response's."""
    return event("response.failed", response=response("failed", error={"code": code, "message": message}, **fields))


def error(
    type: str = "server_error", message: str = "The server had an error", *, param: str | None = None
) -> WireEvent:
    """``error``: the stream failed; ``type`` is what the wire calls its code."""
    return event("error", code=type, message=message, param=param)


def item_added(output_index: int, item: Json) -> WireEvent:
    """``response.output_item.added``."""
    return event("response.output_item.added", output_index=output_index, item=item)


def item_done(output_index: int, item: Json) -> WireEvent:
    """``response.output_item.done``."""
    return event("response.output_item.done", output_index=output_index, item=item)


def text_delta(output_index: int, piece: str, *, content_index: int = 0, item_id: str | None = None) -> WireEvent:
    """``response.output_text.delta``; without an item id, the one that the answer's message at this place has."""
    place = {"item_id": item_id or item_id_of("message", output_index), "output_index": output_index}
    return event("response.output_text.delta", **place, content_index=content_index, delta=piece, logprobs=[])


def item_id_of(type: str, output_index: int) -> str:
    """The id of an item without its own."""
    prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}.get(type, type)
    return f"{prefix}_scripted_{output_index}"


# -------------------------------------------------------------------------------------------------------- whole answers


def answer(
    *parts: Part,
    finish_reason: str = COMPLETED,
    usage: Json | None = None,
    model: str = DEFAULT_MODEL,
    id: str = "resp_scripted",
) -> list[WireEvent]:
    """A whole answer. A finish reason other than ``completed``, as ``max_output_tokens``, makes it incomplete."""
    composer = ResponsesComposer(model, id=id)
    events = [event for part in parts for event in composer.part(part)]
    return events + composer.finish(finish_reason, usage=usage or counts())


def failed_answer(
    *parts: Part, code: str = "server_error", message: str = "The model failed", model: str = DEFAULT_MODEL
) -> list[WireEvent]:
    """The parts, and then ``response.failed``."""
    composer = ResponsesComposer(model)
    events = [event for part in parts for event in composer.part(part)]
    return events + composer.finish_failed(code, message)


# ------------------------------------------------------------------------------------------------------- piece by piece


class ResponsesComposer:
    """An answer written piece by piece: each call gives the events to send now, after the missing ones.

    At most one message item is open, and in it at most one part; a separate item closes both first.
    """

    def __init__(self, model: str = DEFAULT_MODEL, *, id: str = "resp_scripted") -> None:
        self._fields: Json = {"model": model, "id": id}
        self._next_number = 0
        self._output: list[Json] = []
        self._message: _Message | None = None
        self._calls = 0
        self._pieces = 0

    def start(self) -> list[WireEvent]:
        """``response.created`` and ``response.in_progress``, once."""
        return self._numbered([])

    def text(self, piece: str) -> list[WireEvent]:
        """A piece of text."""
        self._pieces += 1
        message, opening = self._opened_message()
        if message.open_type != "output_text":
            opening += message.open_part("output_text")
        return self._numbered([*opening, message.delta(piece)])

    def part(self, part: Any) -> list[WireEvent]:
        """A whole part. Raises TypeError for a part of another wire."""
        if isinstance(part, Content):
            message, opening = self._opened_message()
            return self._numbered([*opening, *message.whole_part(part)])
        if isinstance(part, Item):
            return self._numbered([*self._close_message(COMPLETED), *self._item(part)])
        raise TypeError(f"not a part of the Responses wire: {part!r}")

    def finish(self, reason: str | None = None, *, usage: Json | None = None) -> list[WireEvent]:
        """The end: what is open closes, then the terminal event with the counts (one token for every piece of text)."""
        reason = reason or COMPLETED
        closing = self._close_message(COMPLETED if reason == COMPLETED else "incomplete")
        fields = {**self._fields, "output": self._output, "usage": usage or counts(output_tokens=self._pieces)}
        terminal = completed(**fields) if reason == COMPLETED else incomplete(reason, **fields)
        return self._numbered([*closing, terminal])

    def finish_failed(self, code: str, message: str) -> list[WireEvent]:
        """The bad end: ``response.failed`` with the items that are done."""
        return self._numbered([failed(code, message, **self._fields, output=self._output)])

    def fail(self, type: str, message: str) -> list[WireEvent]:
        """An ``error`` event."""
        first, self._next_number = self._next_number, self._next_number + 1
        return numbered([error(type, message)], first)

    def _numbered(self, events: list[WireEvent]) -> list[WireEvent]:
        if self._next_number == 0:
            events = [created(**self._fields), in_progress(**self._fields), *events]
        first, self._next_number = self._next_number, self._next_number + len(events)
        return numbered(events, first)

    def _opened_message(self) -> tuple[_Message, list[WireEvent]]:
        """The open message item, and the event of its beginning if it begins now."""
        if self._message is not None:
            return self._message, []
        self._message = message = _Message(len(self._output))
        return message, [item_added(message.output_index, message.as_item("in_progress"))]

    def _close_message(self, status: str) -> list[WireEvent]:
        if self._message is None:
            return []
        message, self._message = self._message, None
        closing = message.close_part()
        self._output.append(message.as_item(status))
        return [*closing, item_done(message.output_index, self._output[-1])]

    def _item(self, item: Item) -> list[WireEvent]:
        index = len(self._output)
        added = {"id": item_id_of(item.added["type"], index), **item.added}
        if "call_id" in added:
            self._calls += 1
            added["call_id"] = added["call_id"] or f"call_{self._calls:02}"
        place = {"item_id": added["id"], "output_index": index}
        self._output.append({**added, **item.done})
        growing = [event(**{**grown, **place}) for grown in item.events]
        return [item_added(index, added), *growing, item_done(index, self._output[-1])]


class _Message:
    """A message item that grows: its parts, of which the last may be open."""

    def __init__(self, output_index: int) -> None:
        self.output_index = output_index
        self.open_type: str | None = None
        self._id = item_id_of("message", output_index)
        self._content: list[Json] = []

    def as_item(self, status: str) -> Json:
        """The item as it is now."""
        return {
            "id": self._id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": deepcopy(self._content),
        }

    def open_part(self, type: str) -> list[WireEvent]:
        """Close the open part and open one of this type, ``output_text`` or ``refusal``."""
        closing = self.close_part()
        empty = {"text": "", "annotations": [], "logprobs": []} if type == "output_text" else {"refusal": ""}
        self._content.append({"type": type, **empty})
        self.open_type = type
        return [*closing, self._event("response.content_part.added", part=self._content[-1])]

    def delta(self, piece: str) -> WireEvent:
        """A piece of the open part."""
        self._content[-1][self._field] += piece
        return self._event(f"response.{self.open_type}.delta", delta=piece, **self._logprobs)

    def whole_part(self, content: Content) -> list[WireEvent]:
        """A part from its beginning to its end."""
        events = self.open_part(content.type)
        events += [self.delta(piece) for piece in content.pieces]
        for index, annotation in enumerate(content.annotations):
            self._content[-1]["annotations"].append(annotation)
            name = "response.output_text.annotation.added"
            events.append(self._event(name, annotation_index=index, annotation=annotation))
        return events + self.close_part()

    def close_part(self) -> list[WireEvent]:
        """The end of the open part, if one is open."""
        if self.open_type is None:
            return []
        whole = {self._field: self._content[-1][self._field], **self._logprobs}
        done = self._event(f"response.{self.open_type}.done", **whole)
        self.open_type = None
        return [done, self._event("response.content_part.done", part=self._content[-1])]

    @property
    def _field(self) -> str:
        return "text" if self.open_type == "output_text" else "refusal"

    @property
    def _logprobs(self) -> Json:
        return {"logprobs": []} if self.open_type == "output_text" else {}

    def _event(self, type: str, **fields: Any) -> WireEvent:
        place = {"item_id": self._id, "output_index": self.output_index, "content_index": len(self._content) - 1}
        return event(type, **place, **fields)


Composer = ResponsesComposer
