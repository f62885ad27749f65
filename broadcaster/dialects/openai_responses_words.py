"""The tables from the words of the Responses wire to ours, and what of it is told at all."""

from __future__ import annotations

from typing import Final

from broadcaster.core.events import DataEvent, FinishReason, ProviderMetadata
from broadcaster.dialects.faults import Fault
from broadcaster.dialects.reading import Json, extras_of

PROVIDER: Final = "openai"
PASSED_TYPE: Final = "data-openai"
"""Type of the events that carry, untouched, a wire event that our vocabulary has no word for."""

SILENT_TYPES: Final = frozenset({"keepalive", "response.keep_alive", "ping"})
"""Events that only keep a quiet connection open. ``keepalive`` is in no documentation, is sent, and is numbered."""

PROGRESS_PREFIXES: Final = (
    "response.web_search_call.",
    "response.file_search_call.",
    "response.code_interpreter_call.",
    "response.image_generation_call.",
    "response.mcp_call.",
    "response.mcp_list_tools.",
    "response.shell_call_command.",
    "response.shell_call_output_content.",
)
"""Events on how a tool's run gets on. They are passed on as transient: the item itself tells how it ended."""

INCOMPLETE_REASONS: Final[dict[str, FinishReason]] = {
    "max_output_tokens": "length",
    "content_filter": "content-filter",
}
"""Why a response is incomplete; a reason that is not here becomes ``other``. The raw one rides in the metadata."""

CANCELLED: Final = Fault("provider_error", "the answer was cancelled at the provider", False)
"""Somebody cancelled the response over there. It is not whole, and another attempt would be against their will."""

_ASKED: Final = frozenset(
    {
        "input",
        "instructions",
        "metadata",
        "prompt",
        "prompt_cache_key",
        "safety_identifier",
        "text",
        "tool_choice",
        "tools",
        "user",
    }
)
"""What a response object repeats of its request. It stays out of the events: who may watch an answer need not be shown
the system prompt it was asked with."""


def told_of(response: Json, *known: str) -> Json:
    """What a response object tells that has no place of its own in our events, without what it was asked."""
    return extras_of(response, *_ASKED, *known)


def passed(wire_event: Json) -> DataEvent:
    """A wire event that our vocabulary has no word for, as an event of ours; without what the answer was asked."""
    response = wire_event.get("response")
    if isinstance(response, dict):
        kept = {name: value for name, value in response.items() if name not in _ASKED}
        wire_event = wire_event | {"response": kept}
    is_progress = str(wire_event.get("type")).startswith(PROGRESS_PREFIXES)
    return DataEvent(type=PASSED_TYPE, data=wire_event, transient=is_progress or None)


def metadata(extras: Json) -> ProviderMetadata | None:
    """Extras as provider metadata; None when there are none."""
    return {PROVIDER: extras} if extras else None
