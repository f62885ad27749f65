"""The events of the Responses wire, one builder each; for any other event: ``event(type, …)``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final, TypeAlias

from broadcaster.testing.responses.parts import Json, counts

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
