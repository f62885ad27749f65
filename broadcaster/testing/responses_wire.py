"""Events of the OpenAI Responses wire, built the way the API sends them.

    answer(reasoning("Let me see."), text("Hello ", "world"), tool_call("get_weather", '{"city":', '"Paris"}'))

gives every event from ``response.created`` to ``response.completed``, numbered from 0. Text and refusals that follow
each other are parts of one message item. The single builders below are for streams that are wrong on purpose; their
numbers are 0 until ``numbered`` counts them. All of them return new dicts, which a test may change.

Source: ``openai.types.responses.ResponseStreamEvent``.
"""

from __future__ import annotations

from broadcaster.testing.responses.composer import ResponsesComposer as Composer
from broadcaster.testing.responses.events import (
    COMPLETED,
    CREATED_AT,
    DEFAULT_MODEL,
    WireEvent,
    completed,
    created,
    error,
    event,
    failed,
    frame,
    in_progress,
    incomplete,
    item_added,
    item_done,
    item_id_of,
    numbered,
    response,
    text_delta,
)
from broadcaster.testing.responses.parts import (
    Content,
    Item,
    Json,
    Part,
    counts,
    custom_tool_call,
    provider_call,
    reasoning,
    reasoning_summaries,
    reasoning_text,
    refusal,
    text,
    tool_call,
    url_citation,
)

__all__ = [
    "COMPLETED",
    "CREATED_AT",
    "DEFAULT_MODEL",
    "Composer",
    "Content",
    "Item",
    "Json",
    "Part",
    "WireEvent",
    "answer",
    "completed",
    "counts",
    "created",
    "custom_tool_call",
    "error",
    "event",
    "failed",
    "failed_answer",
    "frame",
    "in_progress",
    "incomplete",
    "item_added",
    "item_done",
    "item_id_of",
    "numbered",
    "provider_call",
    "reasoning",
    "reasoning_summaries",
    "reasoning_text",
    "refusal",
    "response",
    "text",
    "text_delta",
    "tool_call",
    "url_citation",
]


def answer(
    *parts: Part,
    finish_reason: str = COMPLETED,
    usage: Json | None = None,
    model: str = DEFAULT_MODEL,
    id: str = "resp_scripted",
) -> list[WireEvent]:
    """A whole answer. A finish reason other than ``completed``, as ``max_output_tokens``, makes it incomplete."""
    composer = Composer(model, id=id)
    events = [event for part in parts for event in composer.part(part)]
    return events + composer.finish(finish_reason, usage=usage or counts())


def failed_answer(
    *parts: Part, code: str = "server_error", message: str = "The model failed", model: str = DEFAULT_MODEL
) -> list[WireEvent]:
    """The parts, and then ``response.failed``."""
    composer = Composer(model)
    events = [event for part in parts for event in composer.part(part)]
    return events + composer.finish_failed(code, message)
