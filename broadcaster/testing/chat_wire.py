"""Events of the OpenAI chat completions wire, built the way the API sends them.

    answer(reasoning("Let me see."), text("Hello ", "world"), tool_call("get_weather", '{"city":', '"Paris"}'))

gives every chunk from the one with the role to ``[DONE]``, with the counts: what a request with
``stream_options.include_usage`` gets. The scripted provider takes the counts out for other requests (``for_request``).
The single builders below are for streams that are wrong on purpose. All of them return new dicts, which a test may
change.

Source: ``openai.types.chat.ChatCompletionChunk``. ``reasoning_content`` is a field of compatible servers only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]
WireEvent: TypeAlias = Json

DEFAULT_MODEL: Final = "gpt-scripted"
DEFAULT_PROMPT_TOKENS: Final = 25
CREATED: Final = 1_763_683_200

DONE: Final[WireEvent] = {"object": "[DONE]"}
"""The end of the body; its frame is ``data: [DONE]``."""

ERROR_TYPES: Final[dict[int, tuple[str, str | None]]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "model_not_allowed"),
    404: ("invalid_request_error", "model_not_found"),
    408: ("timeout", None),
    409: ("invalid_request_error", "conflict"),
    413: ("invalid_request_error", "request_too_large"),
    422: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    502: ("server_error", None),
    503: ("server_error", "server_overloaded"),
    504: ("timeout", None),
    529: ("server_error", "overloaded"),
}
"""``type`` and ``code`` of the error body that a status gets."""


def frame(event: WireEvent) -> bytes:
    """The event as one SSE block: ``data:`` is its compact JSON in UTF-8."""
    if event == DONE:
        return b"data: [DONE]\n\n"
    return f"data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def error(
    type: str = "server_error",
    message: str = "The server had an error",
    *,
    code: str | None = None,
    param: str | None = None,
) -> WireEvent:
    """The error object: the whole body of a status answer, and in the middle of a stream an event."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def for_request(event: WireEvent, body: Any) -> WireEvent | None:
    """The event as a request with this body gets it: counts only if the request includes them. None: not sent."""
    options = body.get("stream_options") if isinstance(body, dict) else None
    if isinstance(options, dict) and options.get("include_usage"):
        return event
    if event.get("choices") == [] and event.get("usage"):
        return None
    return {name: value for name, value in event.items() if (name, value) != ("usage", None)}


# ----------------------------------------------------------------------------------------------------------- the parts


@dataclass(frozen=True)
class ChatPart:
    """Deltas that belong together. Those of a tool call are entries of ``tool_calls`` without their index."""

    deltas: Sequence[Json]
    is_tool_call: bool = False


Part: TypeAlias = ChatPart


def text(*pieces: str) -> ChatPart:
    """Text; every piece is a delta."""
    return ChatPart([{"content": piece} for piece in pieces])


def refusal(*pieces: str) -> ChatPart:
    """A refusal; every piece is a delta."""
    return ChatPart([{"refusal": piece} for piece in pieces])


def reasoning(*pieces: str, field: str = "reasoning_content") -> ChatPart:
    """Reasoning as compatible servers send it; some call the field ``reasoning``."""
    return ChatPart([{field: piece} for piece in pieces])


def tool_call(name: str, *fragments: str, id: str | None = None) -> ChatPart:
    """A function call; the fragments are pieces of its JSON arguments. Without an id, ``call_01`` and so on."""
    start = {"id": id, "type": "function", "function": {"name": name, "arguments": ""}}
    return ChatPart([start, *({"function": {"arguments": fragment}} for fragment in fragments)], is_tool_call=True)


def counts(
    *,
    prompt_tokens: int = DEFAULT_PROMPT_TOKENS,
    completion_tokens: int = 12,
    cached_tokens: int = 0,
    cache_write_tokens: int = 0,
    reasoning_tokens: int = 0,
) -> Json:
    """The ``usage`` object: cached tokens are part of the prompt's, reasoning tokens of the completion's."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": cached_tokens,
            "cache_write_tokens": cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


# ---------------------------------------------------------------------------------------------------------- the events


def answer(
    *parts: ChatPart,
    finish_reason: str | None = None,
    usage: Json | None = None,
    model: str = DEFAULT_MODEL,
    id: str = "chatcmpl-scripted",
) -> list[WireEvent]:
    """A whole answer. Without a finish reason: ``tool_calls`` if there is a tool call, else ``stop``."""
    composer = ChatComposer(model, id=id)
    events = [event for part in parts for event in composer.part(part)]
    return events + composer.finish(finish_reason, usage=usage or counts())


def chunk(
    delta: Json,
    *,
    finish_reason: str | None = None,
    index: int = 0,
    model: str = DEFAULT_MODEL,
    id: str = "chatcmpl-scripted",
    **extras: Any,
) -> WireEvent:
    """One chunk with one choice. The extras replace or add fields of the chunk, as ``usage=counts()``."""
    own = {name: deepcopy(value) if isinstance(value, dict | list) else value for name, value in delta.items()}
    choice = {"index": index, "delta": own, "logprobs": None, "finish_reason": finish_reason}
    return _chunk_of([choice], model=model, id=id, **extras)


def role_chunk(*, content: str | None = "", **fields: Any) -> WireEvent:
    """The first chunk: the role and no content yet (null before a tool call)."""
    return chunk({"role": "assistant", "content": content, "refusal": None}, **fields)


def text_delta(piece: str, **fields: Any) -> WireEvent:
    """A chunk with a piece of text."""
    return chunk({"content": piece}, **fields)


def refusal_delta(piece: str, **fields: Any) -> WireEvent:
    """A chunk with a piece of a refusal."""
    return chunk({"refusal": piece}, **fields)


def reasoning_delta(piece: str, **fields: Any) -> WireEvent:
    """A chunk with a piece of reasoning."""
    return chunk({"reasoning_content": piece}, **fields)


def tool_start(
    tool_index: int, name: str, *, call_id: str = "call_01", arguments: str = "", **fields: Any
) -> WireEvent:
    """The first chunk of a tool call: its id, its name, mostly no arguments yet."""
    function = {"name": name, "arguments": arguments}
    call = {"index": tool_index, "id": call_id, "type": "function", "function": function}
    return chunk({"tool_calls": [call]}, **fields)


def tool_delta(tool_index: int, fragment: str, **fields: Any) -> WireEvent:
    """A chunk with a fragment of a tool call's arguments."""
    return chunk({"tool_calls": [{"index": tool_index, "function": {"arguments": fragment}}]}, **fields)


def finish_chunk(finish_reason: str = "stop", **fields: Any) -> WireEvent:
    """The chunk with the finish reason and an empty delta."""
    return chunk({}, finish_reason=finish_reason, **fields)


def usage_chunk(usage: Json | None = None, *, model: str = DEFAULT_MODEL, id: str = "chatcmpl-scripted") -> WireEvent:
    """The chunk with the counts and no choices, after the finish reason."""
    return _chunk_of([], model=model, id=id, usage=deepcopy(usage or counts()))


def _chunk_of(choices: list[Json], *, model: str, id: str, **extras: Any) -> WireEvent:
    return {
        "id": id,
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
        "choices": choices,
        "usage": None,
        **extras,
    }


# ------------------------------------------------------------------------------------------------------ piece by piece


class ChatComposer:
    """An answer written piece by piece: each call gives the chunks to send now, the role's first."""

    def __init__(self, model: str = DEFAULT_MODEL, *, id: str = "chatcmpl-scripted") -> None:
        self._fields: Json = {"model": model, "id": id}
        self._is_started = False
        self._tools = 0
        self._pieces = 0

    def start(self, *, content: str | None = "") -> list[WireEvent]:
        """The chunk with the role, once."""
        if self._is_started:
            return []
        self._is_started = True
        return [role_chunk(content=content, **self._fields)]

    def text(self, piece: str) -> list[WireEvent]:
        """A piece of text."""
        self._pieces += 1
        return [*self.start(), text_delta(piece, **self._fields)]

    def part(self, part: Any) -> list[WireEvent]:
        """A whole part. Raises TypeError for a part of another wire."""
        if not isinstance(part, ChatPart):
            raise TypeError(f"not a part of the chat completions wire: {part!r}")
        start = self.start(content=None if part.is_tool_call else "")
        if not part.is_tool_call:
            return [*start, *(chunk(delta, **self._fields) for delta in part.deltas)]
        index, self._tools = self._tools, self._tools + 1
        first, *rest = ({"index": index, **delta} for delta in part.deltas)
        first["id"] = first["id"] or f"call_{index + 1:02}"
        return [*start, *(chunk({"tool_calls": [delta]}, **self._fields) for delta in (first, *rest))]

    def finish(self, reason: str | None = None, *, usage: Json | None = None) -> list[WireEvent]:
        """The end: finish reason, counts (one token for every piece of text), ``[DONE]``."""
        reason = reason or ("tool_calls" if self._tools else "stop")
        usage = usage or counts(completion_tokens=self._pieces)
        end = [finish_chunk(reason, **self._fields), usage_chunk(usage, **self._fields), dict(DONE)]
        return [*self.start(), *end]

    def fail(self, type: str, message: str) -> list[WireEvent]:
        """An error object in the stream."""
        return [error(type, message)]


Composer = ChatComposer
