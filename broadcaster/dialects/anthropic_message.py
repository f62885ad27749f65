"""The whole ``Message`` of a stream, for who asked without ``stream: true``.

Rules
1. It is what the stream comes to in the hands of an SDK: one message is put together from the same wire events.
2. A stream that ends with an error has no message; what it has is the body and the status of a failed request.
3. Neither has a stream whose beginning is kept no longer: its end alone would be an empty message.
4. Arguments of a call that are cut off are as much of an object as they hold, so that the block stays valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pydantic_core

from broadcaster.core.entry import Entry
from broadcaster.core.events import ATTEMPT_PREFIX
from broadcaster.dialects.anthropic_blocks import CALL_TYPES
from broadcaster.dialects.anthropic_encode import AnthropicDialect
from broadcaster.dialects.anthropic_words import error
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
    """The message of a stream that is over, or its ``error`` event (``type`` tells them apart)."""
    if entries and entries[0].seq > 1 and not entries[-1].event.startswith(b'{"type":"error"'):
        return error("not_found_error", "the answer is kept no longer")
    transcript = (dialect or AnthropicDialect()).open(stream_id)
    said = [event for entry in _last_attempt(entries) for event in transcript.say(entry)]
    if not said or said[-1]["type"] != "message_stop":
        return said[-1] if said and said[-1]["type"] == "error" else _NOT_WHOLE
    return _Accumulated(said).message


_NOT_WHOLE: Final = error("api_error", "the answer did not end")


def _last_attempt(entries: Sequence[Entry]) -> Sequence[Entry]:
    """What came before the last attempt is void."""
    for at in range(len(entries) - 1, -1, -1):
        if entries[at].event.startswith(ATTEMPT_PREFIX):
            return entries[at + 1 :]
    return entries


class _Accumulated:
    """Wire events → the message, as the SDKs do it."""

    def __init__(self, said: Sequence[Json]) -> None:
        self.message: Json = {}
        self._blocks: list[Json] = []
        self._texts: dict[tuple[int, str], list[str]] = {}
        for event in said:
            self._add(event)
        for (index, field), pieces in self._texts.items():
            self._settle(self._blocks[index], field, "".join(pieces))
        self.message["content"] = self._blocks

    def _add(self, event: Json) -> None:
        match event["type"]:
            case "message_start":
                self.message = {**event["message"], _COUNTED: dict(event["message"][_COUNTED])}
            case "content_block_start":
                self._blocks.append(dict(event["content_block"]))
            case "content_block_delta":
                self._grow(event["index"], event["delta"])
            case "message_delta":
                beside = {name: value for name, value in event.items() if name not in ("type", "delta", _COUNTED)}
                self.message |= {**event["delta"], **beside}
                self.message[_COUNTED] |= event[_COUNTED]

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

    def _settle(self, block: Json, field: str, text: str) -> None:
        if field != "input":
            block[field] = block.get(field, "") + text
        elif text.strip():
            block[field] = _arguments(text)


def _arguments(text: str) -> Any:
    """Rule 4."""
    try:
        return pydantic_core.from_json(text, allow_partial=True)
    except ValueError:
        return {}
