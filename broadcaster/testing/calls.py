"""Calls that are one request and one object: embeddings, and counts of tokens.

A script plays for them as for an answer (``Answer``, ``Wait``, ``Cut`` …). Its events are ignored, because the object
depends on the request alone: an embedding has ``DIMENSIONS`` numbers, and a count is one for each 4 bytes.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from broadcaster.testing.folds import Whole
from broadcaster.testing.wire import Json
from broadcaster.testing.wires import CHAT, MESSAGES, WIRES, Wire

DIMENSIONS: Final = 4


def embeddings_of(body: Json) -> Json:
    """The ``list`` of embeddings, as base64 if the request sets that format."""
    given = body.get("input")
    inputs = given if isinstance(given, list) and not all(isinstance(each, int) for each in given) else [given]
    vectors = [[len(str(each)) / (place + 1) for place in range(DIMENSIONS)] for each in inputs]
    is_packed = body.get("encoding_format") == "base64"
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if is_packed else vector}
            for index, vector in enumerate(vectors)
        ],
        "model": body["model"],
        "usage": {"prompt_tokens": count_of(inputs), "total_tokens": count_of(inputs)},
    }


def count_of(value: Any) -> int:
    """Tokens of a JSON value: one for each 4 bytes."""
    return -(-len(json.dumps(value)) // 4)


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _message_count(body: Json) -> Json:
    return {"input_tokens": count_of([body.get("system"), body.get("messages"), body.get("tools")])}


def _response_count(body: Json) -> Json:
    return {"object": "response.input_tokens", "input_tokens": count_of(body.get("input"))}


_CALLS: Final[Mapping[str, tuple[Wire, Callable[[Json], Json]]]] = {
    "embeddings": (CHAT, embeddings_of),
    "messages/count_tokens": (MESSAGES, _message_count),
    "responses/input_tokens": (CHAT, _response_count),
}
"""By path, as ``WIRES``: the wire of their errors, and the response to a body."""

PATHS: Final = (*WIRES, *_CALLS)
"""All paths that are served."""


def wire_of(path: str, body: Any) -> Wire:
    """The wire of a path; for a call, with the response to this body."""
    if path not in _CALLS:
        # The error body of the Messages wire also has what OpenAI's SDK reads: it serves unknown paths.
        return WIRES.get(path, MESSAGES)
    wire, respond = _CALLS[path]
    return replace(wire, fold=lambda events: Whole(200, respond(body), True))
