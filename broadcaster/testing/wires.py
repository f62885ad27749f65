"""The three wires of the scripted provider, as a table by path: everything in which they differ is one row.

Steps and conversations are written once; they ask the row of the request that they serve. A new wire is a module of
builders, a fold, and a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from broadcaster.testing import chat_wire, folds, responses_wire, wire
from broadcaster.testing.wire import Json, WireEvent


class Composer(Protocol):
    """An answer written piece by piece: each call gives the events to send now, and before them whatever is missing."""

    def start(self) -> list[WireEvent]:
        """What comes before all content; nothing the second time."""

    def text(self, piece: str) -> list[WireEvent]:
        """A piece of text."""

    def part(self, part: Any) -> list[WireEvent]:
        """A whole part, built with the wire's module. Raises TypeError for a part of another wire."""

    def finish(self, reason: str | None = None) -> list[WireEvent]:
        """The good end; without a reason the one that fits what was sent."""

    def fail(self, type: str, message: str) -> list[WireEvent]:
        """The error that the wire tells in the middle of a stream."""


@dataclass(frozen=True)
class Wire:
    """One wire.

    ``request_id_header`` names the request in every answer; ``bad_json`` is a frame whose data does not parse;
    ``overloaded`` is the type of the error that a conversation fails with when the test names none;
    ``as_asked`` gives an event as the request with this body gets it, None when it does not;
    ``fold`` makes the whole object of an answer out of its events, for requests without ``stream``.
    """

    request_id_header: str
    bad_json: bytes
    overloaded: str
    frame: Callable[[WireEvent], bytes]
    error_body: Callable[[int, str], Json]
    compose: Callable[[str], Composer]
    tool_call: Callable[..., Any]
    reasoning: Callable[..., Any]
    refusal: Callable[..., Any]
    fold: Callable[[Sequence[WireEvent]], folds.Whole]
    as_asked: Callable[[WireEvent, Any], WireEvent | None] = lambda event, body: event


def _anthropic_error(status: int, message: str) -> Json:
    return wire.error(wire.ERROR_TYPES.get(status, "api_error"), message)


def _openai_error(status: int, message: str) -> Json:
    type, code = chat_wire.ERROR_TYPES.get(status, ("server_error", None))
    return chat_wire.error(type, message, code=code)


MESSAGES: Final = Wire(
    request_id_header="request-id",
    bad_json=b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n',
    overloaded="overloaded_error",
    frame=wire.frame,
    error_body=_anthropic_error,
    compose=wire.Composer,
    tool_call=wire.tool_use,
    reasoning=wire.thinking,
    refusal=wire.refusal,
    fold=folds.message_of,
)
CHAT: Final = Wire(
    request_id_header="x-request-id",
    bad_json=b'data: {"id":"chatcmpl-scripted","object":"chat.completion.chunk","cho\n\n',
    overloaded="server_overloaded",
    frame=chat_wire.frame,
    error_body=_openai_error,
    compose=chat_wire.Composer,
    tool_call=chat_wire.tool_call,
    reasoning=chat_wire.reasoning,
    refusal=chat_wire.refusal,
    fold=folds.completion_of,
    as_asked=chat_wire.as_asked,
)
RESPONSES: Final = Wire(
    request_id_header="x-request-id",
    bad_json=b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","del\n\n',
    overloaded="server_overloaded",
    frame=responses_wire.frame,
    error_body=_openai_error,
    compose=responses_wire.Composer,
    tool_call=responses_wire.tool_call,
    reasoning=responses_wire.reasoning,
    refusal=responses_wire.refusal,
    fold=folds.response_of,
)

WIRES: Final[Mapping[str, Wire]] = {"messages": MESSAGES, "chat/completions": CHAT, "responses": RESPONSES}
"""By path, without ``/v1/`` or ``/``."""
