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
    """A content block: what ``content_block_start`` carries, and the deltas that follow."""

    start: Json
    deltas: Sequence[Json] = ()


def text(*pieces: str, citations: Sequence[Json] = ()) -> Block:
    """A text block; every piece is a delta, and the citations follow the text."""
    cited = ({"type": "citations_delta", "citation": citation} for citation in citations)
    return Block(
        {"type": "text", "text": "", "citations": [] if citations else None},
        (*({"type": "text_delta", "text": piece} for piece in pieces), *cited),
    )


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
    return Block({"type": "tool_use", "id": id, "name": name, "input": {}, **extras}, _fragments(fragments))


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
    """``ping``: may come anywhere, says nothing."""
    return {"type": "ping"}


def error(type: str = "overloaded_error", message: str = "Overloaded") -> WireEvent:
    """``error``: in the middle of a stream it is an event, and as the body of a status answer the whole body."""
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": None}
