"""The chat completions wire: the plain chunk as a struct, and the tables from its names to ours.

Nine chunks of ten hold a piece of text or reasoning and nothing new: ``PlainChunk`` accepts only these. Any other chunk
takes the slow way, which loses nothing.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from broadcaster.core.events import FinishReason
from broadcaster.dialects.errors import ERROR, OVERLOADED, ProviderFault

DONE: Final = "[DONE]"


# ----------------------------------------------------------------------------------------------------- the plain chunk


class PlainDelta(msgspec.Struct, forbid_unknown_fields=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    role: str | None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None


class PlainChoice(msgspec.Struct, forbid_unknown_fields=True):
    delta: PlainDelta
    index: Literal[0] = 0
    logprobs: None = None
    finish_reason: None = None


class PlainChunk(msgspec.Struct, forbid_unknown_fields=True):
    choices: tuple[PlainChoice]
    id: str | None = None
    object: str | None = None
    created: float | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    usage: None = None
    obfuscation: str | None = None


CHUNK_FIELDS: Final = ("id", "object", "created", "model", "choices", "usage", "obfuscation", "error", "type")
"""Fields of a chunk that have a place of their own. ``obfuscation`` is padding; a gateway's event name is ``type``."""

CHOICE_FIELDS: Final = ("index", "delta", "message", "finish_reason", "logprobs", "usage")

DELTA_FIELDS: Final = (*PlainDelta.__struct_fields__, "annotations")

REASONING_FIELDS: Final = ("reasoning_content", "reasoning")
"""The names that servers give the reasoning; the wire has none."""

CALL_FIELDS: Final = ("index", "id", "type", "function", "custom")


# ---------------------------------------------------------------------------------------------------------- the tables


FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "content_filter": "content-filter",
}
"""Finish reasons of the wire."""

SERVER_REASONS: Final[dict[str, FinishReason]] = {
    "eos": "stop",  # Together
    # Gateways before Claude, which leave its own reasons as they are.
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool-calls",
    "max_tokens": "length",
}
"""Reasons that some servers send for these; no client is sent one. One that is in neither table becomes ``other``. The
raw one is always in the metadata."""

FAILED_REASONS: Final[dict[str, ProviderFault]] = {
    "error": ERROR,  # OpenRouter, vLLM
    "abort": ERROR,  # vLLM, SGLang: the engine gave the request up
    "network_error": ERROR,  # Zhipu
    "insufficient_system_resource": OVERLOADED,  # DeepSeek
}
"""Finish reasons of an answer that broke off at the server: they end it as a failure."""
