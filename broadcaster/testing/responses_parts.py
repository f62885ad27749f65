"""The parts of an answer on the Responses wire: parts of a message item, and separate items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Json: TypeAlias = dict[str, Any]

DEFAULT_INPUT_TOKENS: Final = 25


@dataclass(frozen=True)
class Content:
    """A part of a message item: its pieces are deltas."""

    type: Literal["output_text", "refusal"]
    pieces: Sequence[str]
    annotations: Sequence[Json] = ()


@dataclass(frozen=True)
class Item:
    """A separate output item: as it is added, the events of its growth, as it is done.

    The events get ``item_id`` and ``output_index``; an item without ``id`` gets one, a call without ``call_id`` too.
    """

    added: Json
    events: Sequence[Json]
    done: Json = field(default_factory=dict)


Part: TypeAlias = Content | Item


def text(*pieces: str, annotations: Sequence[Json] = ()) -> Content:
    """Text; every piece is a delta, and the annotations follow the text."""
    return Content("output_text", pieces, annotations)


def refusal(*pieces: str) -> Content:
    """A refusal; every piece is a delta."""
    return Content("refusal", pieces)


def url_citation(url: str, *, title: str = "A page", start_index: int = 0, end_index: int = 1) -> Json:
    """An annotation that names a web page."""
    return {"type": "url_citation", "url": url, "title": title, "start_index": start_index, "end_index": end_index}


def reasoning(*pieces: str, **extras: Any) -> Item:
    """A reasoning item with one summary; the extras are fields of the done item, as ``encrypted_content="…"``."""
    return reasoning_summaries(pieces, **extras)


def reasoning_summaries(*summaries: Sequence[str], **extras: Any) -> Item:
    """A reasoning item with several summaries, each given by its pieces."""
    events: list[Json] = []
    parts: list[Json] = []
    for index, pieces in enumerate(summaries):
        name, part = "response.reasoning_summary", {"type": "summary_text", "text": "".join(pieces)}
        events.append({"type": f"{name}_part.added", "summary_index": index, "part": {**part, "text": ""}})
        events += ({"type": f"{name}_text.delta", "summary_index": index, "delta": piece} for piece in pieces)
        events.append({"type": f"{name}_text.done", "summary_index": index, "text": part["text"]})
        events.append({"type": f"{name}_part.done", "summary_index": index, "part": part})
        parts.append(part)
    return Item({"type": "reasoning", "summary": []}, events, {"summary": parts, **extras})


def reasoning_text(*pieces: str, **extras: Any) -> Item:
    """A reasoning item with the reasoning itself, as open models give it."""
    part = {"type": "reasoning_text", "text": "".join(pieces)}
    events: list[Json] = [
        {"type": "response.content_part.added", "content_index": 0, "part": {**part, "text": ""}},
        *({"type": "response.reasoning_text.delta", "content_index": 0, "delta": piece} for piece in pieces),
        {"type": "response.reasoning_text.done", "content_index": 0, "text": part["text"]},
        {"type": "response.content_part.done", "content_index": 0, "part": part},
    ]
    return Item({"type": "reasoning", "summary": [], "content": []}, events, {"content": [part], **extras})


def tool_call(name: str, *fragments: str, id: str | None = None, **extras: Any) -> Item:
    """A function call; the fragments are pieces of its JSON arguments. Without an id, ``call_01`` and so on."""
    arguments = "".join(fragments)
    events: list[Json] = [
        *({"type": "response.function_call_arguments.delta", "delta": fragment} for fragment in fragments),
        {"type": "response.function_call_arguments.done", "arguments": arguments},
    ]
    added = {"type": "function_call", "status": "in_progress", "call_id": id, "name": name, "arguments": "", **extras}
    return Item(added, events, {"status": "completed", "arguments": arguments})


def custom_tool_call(name: str, *pieces: str, id: str | None = None) -> Item:
    """A call of a tool whose input is free text."""
    events: list[Json] = [
        *({"type": "response.custom_tool_call_input.delta", "delta": piece} for piece in pieces),
        {"type": "response.custom_tool_call_input.done", "input": "".join(pieces)},
    ]
    return Item(
        {"type": "custom_tool_call", "call_id": id, "name": name, "input": ""}, events, {"input": "".join(pieces)}
    )


def provider_call(type: str, *progress: str, **fields: Any) -> Item:
    """A tool that the provider runs itself, as ``provider_call("web_search_call", "searching", action={…})``.

    Its progress events are ``response.TYPE.in_progress``, the given ones, ``response.TYPE.completed``.
    """
    events: list[Json] = [{"type": f"response.{type}.{name}"} for name in ("in_progress", *progress, "completed")]
    return Item({"type": type, "status": "in_progress", **fields}, events, {"status": "completed"})


def counts(
    *,
    input_tokens: int = DEFAULT_INPUT_TOKENS,
    output_tokens: int = 12,
    cached_tokens: int = 0,
    cache_write_tokens: int = 0,
    reasoning_tokens: int = 0,
) -> Json:
    """The ``usage`` object: cached tokens are part of the input's, reasoning tokens of the output's."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached_tokens, "cache_write_tokens": cache_write_tokens},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": input_tokens + output_tokens,
    }
