"""Events of the legacy completions wire, built the way the API sends them: only text.

    answer("Hello ", "world")

gives every chunk to ``[DONE]``, with the counts; the scripted provider removes them for requests that do not include
them. Source: ``openai.types.Completion``, the type of both a chunk and a whole answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NoReturn

from broadcaster.testing import chat_wire
from broadcaster.testing.folds import Whole, openai_failure
from broadcaster.testing.wire import Json, WireEvent

DEFAULT_MODEL: Final = "gpt-instruct-scripted"


def answer(*pieces: str, model: str = DEFAULT_MODEL) -> list[WireEvent]:
    """A whole answer, a chunk for each piece."""
    composer = CompletionComposer(model)
    return [*(event for piece in pieces for event in composer.text(piece)), *composer.finish()]


def chunk(text: str, *, finish_reason: str | None = None, model: str = DEFAULT_MODEL, **extras: Any) -> WireEvent:
    """One chunk. The extras replace or add fields of it."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return {**_head(model), "choices": [choice], "usage": None, **extras}


def part(*given: Any, **named: Any) -> NoReturn:
    """Raises TypeError: the wire has neither calls nor reasoning."""
    raise TypeError("legacy completions are text alone")


class CompletionComposer:
    """An answer written piece by piece; see ``wires.Composer``."""

    def __init__(self, model: str = DEFAULT_MODEL) -> None:
        self._model = model
        self._pieces = 0

    def start(self) -> list[WireEvent]:
        """Empty: the wire begins with the text."""
        return []

    def text(self, piece: str) -> list[WireEvent]:
        """A piece of text."""
        self._pieces += 1
        return [chunk(piece, model=self._model)]

    def part(self, part: Any) -> list[WireEvent]:
        """Raises TypeError."""
        raise TypeError(f"legacy completions are text alone: {part!r}")

    def finish(self, reason: str | None = None) -> list[WireEvent]:
        """The end: finish reason, counts (one token for every piece of text), ``[DONE]``."""
        usage = chat_wire.counts(completion_tokens=self._pieces)
        counted = {**_head(self._model), "choices": [], "usage": usage}
        return [chunk("", finish_reason=reason or "stop", model=self._model), counted, dict(chat_wire.DONE)]

    def fail(self, type: str, message: str) -> list[WireEvent]:
        """An error object in the stream."""
        return [chat_wire.error(type, message)]


Composer = CompletionComposer


def completion_of(events: Sequence[WireEvent]) -> Whole:
    """The ``text_completion``."""
    completion: Json = {}
    text, reason = "", None
    for event in events:
        if "error" in event:
            return openai_failure(event)
        completion |= {name: value for name, value in event.items() if name != "choices" and value is not None}
        for each in event.get("choices", []):
            text, reason = text + each["text"], each["finish_reason"] or reason
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    return Whole(200, {**completion, "object": "text_completion", "choices": [choice]}, reason is not None)


def _head(model: str) -> Json:
    return {"id": "cmpl-scripted", "object": "text_completion", "created": chat_wire.CREATED, "model": model}
