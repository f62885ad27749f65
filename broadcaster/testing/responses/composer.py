"""An answer on the Responses wire, written piece by piece."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from broadcaster.testing.responses.events import (
    COMPLETED,
    DEFAULT_MODEL,
    WireEvent,
    completed,
    created,
    error,
    event,
    failed,
    in_progress,
    incomplete,
    item_added,
    item_done,
    item_id_of,
    numbered,
)
from broadcaster.testing.responses.parts import Content, Item, Json, counts


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
        opening = self._open_message()
        message = self._open
        if message.open_type != "output_text":
            opening += message.open_part("output_text")
        return self._numbered([*opening, message.delta(piece)])

    def part(self, part: Any) -> list[WireEvent]:
        """A whole part. Raises TypeError for a part of another wire."""
        if isinstance(part, Content):
            return self._numbered([*self._open_message(), *self._open.whole_part(part)])
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

    @property
    def _open(self) -> _Message:
        assert self._message is not None
        return self._message

    def _numbered(self, events: list[WireEvent]) -> list[WireEvent]:
        if self._next_number == 0:
            events = [created(**self._fields), in_progress(**self._fields), *events]
        first, self._next_number = self._next_number, self._next_number + len(events)
        return numbered(events, first)

    def _open_message(self) -> list[WireEvent]:
        if self._message is not None:
            return []
        self._message = _Message(len(self._output))
        return [item_added(self._message.output_index, self._message.as_item("in_progress"))]

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
