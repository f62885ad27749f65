"""Events of the Anthropic Messages wire, built the way the API sends them.

    message(text("Hello ", "world"), tool_use("get_weather", "", '{"city": ', '"Paris"}'), stop_reason="tool_use")

gives every event from ``message_start`` to ``message_stop``, blocks numbered from 0. The single builders below are
for streams that are wrong on purpose. All of them return new dicts, which a test may change.

Source: the event and block types of the anthropic package, ``anthropic.types.RawMessageStreamEvent``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]
WireEvent: TypeAlias = Json

DEFAULT_MODEL: Final = "claude-scripted"
DEFAULT_INPUT_TOKENS: Final = 25

ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def frame(event: WireEvent) -> bytes:
    """The event as one SSE block: ``event:`` is its type, ``data:`` its compact JSON in UTF-8."""
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


# ---------------------------------------------------------------------------------------------------------- the blocks


@dataclass(frozen=True)
class Block:
    """A content block: what ``content_block_start`` carries, and the deltas that follow.

    ``stop_reason`` is why a message stops after it, unless the test sets another reason.
    """

    start: Json
    deltas: Sequence[Json] = ()
    stop_reason: str = "end_turn"


def text(*pieces: str, citations: Sequence[Json] = ()) -> Block:
    """A text block; every piece is a delta, and the citations follow the text."""
    cited = ({"type": "citations_delta", "citation": citation} for citation in citations)
    return Block(
        {"type": "text", "text": "", "citations": [] if citations else None},
        (*({"type": "text_delta", "text": piece} for piece in pieces), *cited),
    )


def refusal(*pieces: str) -> Block:
    """A refusal: text like any other on this wire, and a message that stops for it."""
    return Block({"type": "text", "text": "", "citations": None}, text(*pieces).deltas, stop_reason="refusal")


def thinking(*pieces: str, signature: str = "c2lnbmF0dXJl") -> Block:
    """A thinking block; its signature is the last delta, as on the wire."""
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    deltas.append({"type": "signature_delta", "signature": signature})
    return Block({"type": "thinking", "thinking": "", "signature": ""}, deltas)


def redacted_thinking(data: str = "cmVkYWN0ZWQ=") -> Block:
    """A redacted thinking block: whole in its start, no deltas."""
    return Block({"type": "redacted_thinking", "data": data})


def tool_use(name: str, *fragments: str, id: str = "toolu_01", **extras: Any) -> Block:
    """A tool call; the fragments are pieces of its JSON arguments (the API's first one is empty)."""
    start = {"type": "tool_use", "id": id, "name": name, "input": {}, **extras}
    return Block(start, _fragments(fragments), stop_reason="tool_use")


def server_tool_use(name: str, *fragments: str, id: str = "srvtoolu_01", **extras: Any) -> Block:
    """A tool call that the provider runs itself."""
    return Block({"type": "server_tool_use", "id": id, "name": name, "input": {}, **extras}, _fragments(fragments))


def tool_result(type: str, content: Any, *, tool_use_id: str = "srvtoolu_01", **extras: Any) -> Block:
    """A result block such as ``web_search_tool_result``: whole in its start, no deltas."""
    return Block({"type": type, "tool_use_id": tool_use_id, "content": content, **extras})


def web_citation(url: str, *, title: str = "A page", cited_text: str = "…") -> Json:
    """A citation of a web search result."""
    return {
        "type": "web_search_result_location",
        "url": url,
        "title": title,
        "cited_text": cited_text,
        "encrypted_index": "ZW5jcnlwdGVk",
    }


def _fragments(fragments: Sequence[str]) -> list[Json]:
    return [{"type": "input_json_delta", "partial_json": fragment} for fragment in fragments]


# ---------------------------------------------------------------------------------------------------------- the events


def message(
    *blocks: Block,
    stop_reason: str | None = "end_turn",
    stop_sequence: str | None = None,
    output_tokens: int = 12,
    model: str = DEFAULT_MODEL,
    **usage: Any,
) -> list[WireEvent]:
    """A whole answer. Further keywords are usage counts of ``message_start``, as ``cache_read_input_tokens=7``."""
    events = [message_start(model=model, **usage)]
    for index, block in enumerate(blocks):
        events += block_events(index, block)
    events += [message_delta(stop_reason, stop_sequence=stop_sequence, output_tokens=output_tokens), message_stop()]
    return events


def message_start(
    *,
    model: str = DEFAULT_MODEL,
    id: str = "msg_scripted",
    input_tokens: int = DEFAULT_INPUT_TOKENS,
    output_tokens: int = 1,
    **usage: Any,
) -> WireEvent:
    """The first event: input counts are exact in it, the output count is only a beginning."""
    return {
        "type": "message_start",
        "message": {
            "id": id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens, **usage},
        },
    }


def block_events(index: int, block: Block) -> list[WireEvent]:
    """Start, deltas and stop of one block."""
    deltas = [block_delta(index, delta) for delta in block.deltas]
    return [block_start(index, block.start), *deltas, block_stop(index)]


def block_start(index: int, content_block: Json) -> WireEvent:
    """``content_block_start``."""
    return {"type": "content_block_start", "index": index, "content_block": dict(content_block)}


def block_delta(index: int, delta: Json) -> WireEvent:
    """``content_block_delta``."""
    return {"type": "content_block_delta", "index": index, "delta": dict(delta)}


def text_delta(index: int, piece: str) -> WireEvent:
    """``content_block_delta`` with a piece of text."""
    return block_delta(index, {"type": "text_delta", "text": piece})


def block_stop(index: int) -> WireEvent:
    """``content_block_stop``."""
    return {"type": "content_block_stop", "index": index}


def message_delta(
    stop_reason: str | None = "end_turn", *, stop_sequence: str | None = None, output_tokens: int = 12, **usage: Any
) -> WireEvent:
    """``message_delta``: the stop reason, and the usage counts so far (cumulative)."""
    return {
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, "stop_sequence": stop_sequence},
        "usage": {"output_tokens": output_tokens, **usage},
    }


def message_stop() -> WireEvent:
    """``message_stop``: the terminal event of the wire."""
    return {"type": "message_stop"}


def ping() -> WireEvent:
    """``ping``: may come anywhere, has no content."""
    return {"type": "ping"}


def error(type: str = "overloaded_error", message: str = "Overloaded") -> WireEvent:
    """``error``: in the middle of a stream it is an event, and as the body of a status answer the whole body."""
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": None}


# ------------------------------------------------------------------------------------------------------ piece by piece


class MessageComposer:
    """An answer written piece by piece: each call gives the events to send now, after the missing ones."""

    def __init__(self, model: str = DEFAULT_MODEL) -> None:
        self._model = model
        self._is_started = False
        self._is_text_open = False
        self._blocks = 0
        self._pieces = 0
        self._stop_reason = "end_turn"

    def start(self) -> list[WireEvent]:
        """``message_start``, once."""
        if self._is_started:
            return []
        self._is_started = True
        return [message_start(model=self._model)]

    def text(self, piece: str) -> list[WireEvent]:
        """A piece of text."""
        self._pieces += 1
        self._stop_reason = "end_turn"
        opening = [] if self._is_text_open else [block_start(self._blocks, text().start)]
        self._is_text_open = True
        return [*self.start(), *opening, text_delta(self._blocks, piece)]

    def part(self, part: Any) -> list[WireEvent]:
        """A whole block. Raises TypeError for a part of another wire."""
        if not isinstance(part, Block):
            raise TypeError(f"not a block of the Messages wire: {part!r}")
        events = [*self.start(), *self._close_text(), *block_events(self._blocks, part)]
        self._blocks += 1
        self._stop_reason = part.stop_reason
        return events

    def finish(self, reason: str | None = None) -> list[WireEvent]:
        """The end: the text closes, ``message_delta`` (one token for every piece of text), ``message_stop``."""
        delta = message_delta(reason or self._stop_reason, output_tokens=self._pieces)
        return [*self.start(), *self._close_text(), delta, message_stop()]

    def fail(self, type: str, message: str) -> list[WireEvent]:
        """An ``error`` event."""
        return [error(type, message)]

    def _close_text(self) -> list[WireEvent]:
        if not self._is_text_open:
            return []
        self._is_text_open = False
        self._blocks += 1
        return [block_stop(self._blocks - 1)]


Composer = MessageComposer
