"""The whole ``Message`` of a stream, for a request without ``stream: true``.

Rules
1. The message is put together from the same wire events, as an SDK would do it.
2. A stream that ends with an error has no message, but the body and the status of a failed request.
3. If the arguments of a call were cut off, its input is as much of the object as came, so that the block stays valid.
   Without JSON, or with more values than fit (arguments.py), it is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pydantic_core

from broadcaster.core.entry import Entry
from broadcaster.core.events import ATTEMPT_PREFIX
from broadcaster.dialects.anthropic.blocks import CALL_TYPES
from broadcaster.dialects.anthropic.encode import AnthropicDialect
from broadcaster.dialects.anthropic.encode_tables import error
from broadcaster.dialects.arguments import ArgumentsReader
from broadcaster.dialects.reading import Json

STATUS_OF_TYPE: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The API's own table of error types."""

_COUNTED: Final = "usage"


def message_of(entries: Sequence[Entry], *, stream_id: str, dialect: AnthropicDialect | None = None) -> Json:
    """The message of a stream that is over, or its ``error`` event; ``type`` distinguishes them."""
    transcript = (dialect or AnthropicDialect()).open(stream_id)
    events = [event for entry in _last_attempt(entries) for event in transcript.encode_entry(entry)]
    if not events or events[-1]["type"] != "message_stop":
        return events[-1] if events and events[-1]["type"] == "error" else _NOT_WHOLE
    return _Accumulated(events).message


_NOT_WHOLE: Final = error("api_error", "the answer did not end")


def _last_attempt(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries of the last attempt: those before it are void."""
    for at in range(len(entries) - 1, -1, -1):
        if entries[at].event.startswith(ATTEMPT_PREFIX):
            return entries[at + 1 :]
    return entries


class _Accumulated:
    """Wire events → the message, as the SDKs do it."""

    def __init__(self, events: Sequence[Json]) -> None:
        self.message: Json = {}
        self._blocks: list[Json] = []
        self._texts: dict[tuple[int, str], list[str]] = {}
        self._reader = ArgumentsReader()
        for event in events:
            self._add(event)
        for (index, field), pieces in self._texts.items():
            self._join(self._blocks[index], field, "".join(pieces))
        self.message["content"] = self._blocks

    def _add(self, event: Json) -> None:
        match event["type"]:
            case "message_start":
                self.message = {**event["message"], _COUNTED: dict(event["message"][_COUNTED])}
            case "content_block_start":
                self._open(dict(event["content_block"]))
            case "content_block_delta":
                self._grow(event["index"], event["delta"])
            case "message_delta":
                beside = {name: value for name, value in event.items() if name not in ("type", "delta", _COUNTED)}
                self.message |= {**event["delta"], **beside}
                self.message[_COUNTED] |= event[_COUNTED]

    def _open(self, block: Json) -> None:
        self._blocks.append(block)
        match block:
            case {"type": "fallback", "to": {"model": str(model)}}:
                self.message["model"] = model

    def _grow(self, index: int, delta: Json) -> None:
        block = self._blocks[index]
        match block["type"], delta:
            case "text", {"type": "text_delta", "text": str(piece)}:
                self._texts.setdefault((index, "text"), []).append(piece)
            case "thinking", {"type": "thinking_delta", "thinking": str(piece)}:
                self._texts.setdefault((index, "thinking"), []).append(piece)
            case str(type), {"type": "input_json_delta", "partial_json": str(piece)} if type in CALL_TYPES:
                self._texts.setdefault((index, "input"), []).append(piece)
            case "thinking", {"type": "signature_delta", "signature": str(signature)}:
                block["signature"] = signature
            case "text", {"type": "citations_delta", "citation": citation}:
                block["citations"] = [*(block.get("citations") or ()), citation]
            case "compaction", {"type": "compaction_delta", **fields}:
                block.update(fields)

    def _join(self, block: Json, field: str, text: str) -> None:
        if field != "input":
            block[field] = block.get(field, "") + text
        elif text.strip():
            block[field] = _arguments(text) if self._reader.admit(text) else {}


def _arguments(text: str) -> Any:
    """Rule 3."""
    try:
        return pydantic_core.from_json(text, allow_partial=True)
    except ValueError:
        return {}
