"""The tables from the names of the Responses wire to ours, and the fields that are left out of the events."""

from __future__ import annotations

from typing import Final

from broadcaster.core.events import DataEvent, FinishReason
from broadcaster.dialects.errors import ProviderFault
from broadcaster.dialects.openai.wire import PASSED_TYPE
from broadcaster.dialects.reading import Json, extras_of

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
"""Events of a tool's progress. They are passed on as transient: the item itself holds the outcome."""

INCOMPLETE_REASONS: Final[dict[str, FinishReason]] = {
    "max_output_tokens": "length",
    "content_filter": "content-filter",
}
"""Why a response is incomplete; a reason that is not here becomes ``other``. The raw one is in the metadata."""

CANCELLED: Final = ProviderFault("provider_error", "the answer was cancelled at the provider", False)
"""The response was cancelled at the provider. It is not whole, and another attempt would defy the cancellation."""

_OF_REQUEST: Final = frozenset(
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
"""Fields of its request that a response object repeats. They stay out of the events: a viewer of an answer must not see
the system prompt."""


def reported_fields(response: Json, *known: str) -> Json:
    """The fields of a response object without a place of their own in our events, and without those of its request."""
    return extras_of(response, *_OF_REQUEST, *known)


def passed(wire_event: Json) -> DataEvent:
    """A wire event that our events cannot express, as a ``data-openai`` event; without the fields of the request."""
    response = wire_event.get("response")
    if isinstance(response, dict):
        kept = {name: value for name, value in response.items() if name not in _OF_REQUEST}
        wire_event = wire_event | {"response": kept}
    is_progress = str(wire_event.get("type")).startswith(PROGRESS_PREFIXES)
    return DataEvent(type=PASSED_TYPE, data=wire_event, transient=is_progress or None)
