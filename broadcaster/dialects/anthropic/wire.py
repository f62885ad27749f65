"""The Anthropic wire: its events as structs, and the tables from its names to ours.

A struct holds only the fields that the decoder branches on. Whole objects stay dicts, so that fields of a newer
API survive.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from broadcaster.core.events import FinishReason, ProviderMetadata
from broadcaster.dialects.errors import (
    AUTH,
    BAD_REQUEST,
    DENIED,
    ERROR,
    OVERLOADED,
    RATE_LIMITED,
    TIMEOUT,
    ProviderFault,
    by_name,
)
from broadcaster.dialects.reading import Json, json_in, member
from broadcaster.errors import ProviderFailed

PROVIDER: Final = "anthropic"
PASSED_TYPE: Final = "data-anthropic"
"""Type of the events that carry, untouched, a wire event that our events cannot express."""


# ---------------------------------------------------------------------------------------------------------- the deltas


class AnthropicTextDelta(msgspec.Struct, tag="text_delta"):
    text: str


class ThinkingDelta(msgspec.Struct, tag="thinking_delta"):
    thinking: str


class SignatureDelta(msgspec.Struct, tag="signature_delta"):
    signature: str


class InputJsonDelta(msgspec.Struct, tag="input_json_delta"):
    partial_json: str


class CitationsDelta(msgspec.Struct, tag="citations_delta"):
    citation: Json


Delta: TypeAlias = AnthropicTextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta | CitationsDelta


# ---------------------------------------------------------------------------------------------------------- the events


class MessageStart(msgspec.Struct, tag="message_start"):
    message: Json


class BlockStart(msgspec.Struct, tag="content_block_start"):
    index: int
    content_block: Json


class BlockDelta(msgspec.Struct, tag="content_block_delta"):
    index: int
    delta: Delta


class BlockStop(msgspec.Struct, tag="content_block_stop"):
    index: int


class MessageDelta(msgspec.Struct, tag="message_delta"):
    delta: Json
    usage: Json | None = None


class MessageStop(msgspec.Struct, tag="message_stop"):
    """The end."""


class Ping(msgspec.Struct, tag="ping"):
    """It keeps a quiet connection open."""


WireEvent: TypeAlias = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping

WIRE_TYPES: Final = frozenset(str(struct.__struct_config__.tag) for struct in WireEvent.__args__)
DELTA_TYPES: Final = frozenset(str(struct.__struct_config__.tag) for struct in Delta.__args__)


# ---------------------------------------------------------------------------------------------------------- the tables


FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool-calls",
    "refusal": "content-filter",
    # The turn is not over: the provider expects a request to continue it.
    "pause_turn": "other",
}
"""Stop reasons of the wire; one that is not here becomes ``other``. The raw one is always in the metadata."""


_FAULTS: Final = by_name(
    {
        OVERLOADED: ("overloaded_error",),
        RATE_LIMITED: ("rate_limit_error",),
        TIMEOUT: ("timeout_error",),
        ERROR: ("api_error", "conflict_error"),
        AUTH: ("authentication_error", "billing_error"),
        DENIED: ("permission_error",),
        BAD_REQUEST: ("invalid_request_error", "not_found_error", "request_too_large"),
    }
)


def keep_halves(delta: Delta, torn: Json) -> None:
    """Put the halves back into the text of a mended delta; ``torn`` is the same delta as it came (halves.py)."""
    match delta:
        case AnthropicTextDelta():
            delta.text = torn["text"]
        case ThinkingDelta():
            delta.thinking = torn["thinking"]
        case InputJsonDelta():
            delta.partial_json = torn["partial_json"]


def fault_of(error_type: str | None) -> ProviderFault | None:
    """The meaning of an error's ``type``; None when the type is not known."""
    return _FAULTS.get(error_type or "")


def is_known(event: Json) -> bool:
    """Whether the decoder knows events of this type, and deltas of the type that it has."""
    type, delta_type = event.get("type"), member(event.get("delta"), "type")
    is_known_delta = isinstance(delta_type, str) and delta_type in DELTA_TYPES
    return type in WIRE_TYPES and (type != "content_block_delta" or is_known_delta)


def reported_failure(data: str) -> ProviderFailed:
    """The failure for the data of an ``error`` event.

    Its text holds the type if it is known and nothing else of the wire: a provider's own message may quote the request.
    """
    error_type = member(member(json_in(data), "error"), "type")
    if isinstance(error_type, str) and (fault := fault_of(error_type)) is not None:
        return fault.failure(detail=error_type)
    return ERROR.failure()


def metadata(extras: Json) -> ProviderMetadata | None:
    """Extras as provider metadata; None when there are none."""
    return {PROVIDER: extras} if extras else None
