"""The wires of the scripted provider, as a table by path: a row contains everything in which a wire differs.

Steps and conversations are written once and use the row of their request. A new wire is a module of builders, a fold,
and a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from broadcaster.testing import chat_wire, completion_wire, folds, responses_wire, wire
from broadcaster.testing.wire import Json, WireEvent


class WireComposer(Protocol):
    """An answer written piece by piece: each call gives the events to send now, after the missing ones."""

    def start(self) -> list[WireEvent]:
        """The events before all content; empty the second time."""

    def text(self, piece: str) -> list[WireEvent]:
        """A piece of text."""

    def part(self, part: Any) -> list[WireEvent]:
        """A whole part, built with the wire's module. Raises TypeError for a part of another wire."""

    def finish(self, reason: str | None = None) -> list[WireEvent]:
        """The good end; without a reason, the one that fits the events."""

    def fail(self, type: str, message: str) -> list[WireEvent]:
        """The wire's error in the middle of a stream."""


def _anthropic_error(status: int, message: str) -> Json:
    return wire.error(wire.ERROR_TYPES.get(status, "api_error"), message)


def _openai_error(status: int, message: str) -> Json:
    type, code = chat_wire.ERROR_TYPES.get(status, ("server_error", None))
    return chat_wire.error(type, message, code=code)


@dataclass(frozen=True, kw_only=True)
class Wire:
    """One wire; the defaults are OpenAI's.

    ``request_id_header`` names the request in every answer; ``bad_json`` is a frame whose data does not parse;
    ``overloaded`` is the default type of the error with which a conversation fails;
    ``for_request`` gives an event as the request with this body gets it, None if it is not sent;
    ``fold`` makes the whole object of an answer from its events, for requests without ``stream``.
    """

    bad_json: bytes
    frame: Callable[[WireEvent], bytes]
    compose: Callable[[str], WireComposer]
    tool_call: Callable[..., Any]
    reasoning: Callable[..., Any]
    refusal: Callable[..., Any]
    fold: Callable[[Sequence[WireEvent]], folds.Whole]
    for_request: Callable[[WireEvent, Any], WireEvent | None] = lambda event, body: event
    request_id_header: str = "x-request-id"
    overloaded: str = "server_overloaded"
    error_body: Callable[[int, str], Json] = _openai_error


MESSAGES: Final = Wire(
    request_id_header="request-id",
    bad_json=b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n',
    overloaded="overloaded_error",
    frame=wire.frame,
    error_body=_anthropic_error,
    compose=wire.MessageComposer,
    tool_call=wire.tool_use,
    reasoning=wire.thinking,
    refusal=wire.refusal,
    fold=folds.message_of,
)
CHAT: Final = Wire(
    bad_json=b'data: {"id":"chatcmpl-scripted","object":"chat.completion.chunk","cho\n\n',
    frame=chat_wire.frame,
    compose=chat_wire.ChatComposer,
    tool_call=chat_wire.tool_call,
    reasoning=chat_wire.reasoning,
    refusal=chat_wire.refusal,
    fold=folds.completion_of,
    for_request=chat_wire.for_request,
)
RESPONSES: Final = Wire(
    bad_json=b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","del\n\n',
    frame=responses_wire.frame,
    compose=responses_wire.Composer,
    tool_call=responses_wire.tool_call,
    reasoning=responses_wire.reasoning,
    refusal=responses_wire.refusal,
    fold=folds.response_of,
)
COMPLETIONS: Final = Wire(
    bad_json=b'data: {"id":"cmpl-scripted","object":"text_completion","cho\n\n',
    frame=chat_wire.frame,
    compose=completion_wire.CompletionComposer,
    tool_call=completion_wire.part,
    reasoning=completion_wire.part,
    refusal=completion_wire.part,
    fold=completion_wire.completion_of,
    for_request=chat_wire.for_request,
)

WIRES: Final[Mapping[str, Wire]] = {
    "messages": MESSAGES,
    "chat/completions": CHAT,
    "responses": RESPONSES,
    "completions": COMPLETIONS,
}
"""By path, without ``/v1/`` or ``/``."""
