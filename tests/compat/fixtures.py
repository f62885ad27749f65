"""Generations as the log holds them: what the clients are shown from every entry on.

All but the attempts come from a provider's wire bytes through its decoder, so that signatures, citations, cache counts
and the provider's own ids are where a worker puts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.dialects.reading import ProviderDecoder
from broadcaster.testing import chat_wire, responses_wire, wire

EPOCH: Final = 1_795_000_000_100
QUESTION: Final = "What is the weather in Paris?"
REPORT: Final = {"temperature_c": 21, "sky": "clear"}
SEARCH_RESULT: Final = {
    "type": "web_search_result",
    "url": "https://example.org/paris",
    "title": "Paris",
    "encrypted_content": "eA==",
}


@dataclass(frozen=True)
class Fixture:
    """A generation: its entries, and how they would stand had only the last attempt been."""

    name: str
    entries: tuple[Entry, ...]
    last_attempt: tuple[Entry, ...]

    @property
    def stream_id(self) -> str:
        """An id of the form that the product gives."""
        return f"gen_{self.name.replace(' ', '_')}"

    @property
    def last_attempt_at(self) -> int:
        """How many entries come before the last attempt's own; 0 when there was one attempt."""
        return len(self.entries) - len(self.last_attempt)

    def __str__(self) -> str:
        return self.name


def entries(events: Iterable[ev.Event], *, epoch: int = EPOCH, first_seq: int = 1) -> tuple[Entry, ...]:
    """The events as one worker writes them."""
    return tuple(Entry(epoch, seq, ev.encode_event(event)) for seq, event in enumerate(events, first_seq))


def decoded(decoder: ProviderDecoder, frames: Iterable[bytes]) -> list[ev.Event]:
    """What a worker reads from these bytes."""
    return [*decoder.decode(b"".join(frames)), *decoder.flush()]


def of_anthropic(*blocks: wire.Block, stop_reason: str = "end_turn", **usage: Any) -> list[ev.Event]:
    """One call of the Messages wire."""
    events = wire.message(*blocks, stop_reason=stop_reason, model="claude-scripted", **usage)
    return decoded(AnthropicDecoder(request_id="req_1"), map(wire.frame, events))


def _tool_loop() -> list[ev.Event]:
    """Two steps: thinking and a tool call, which the application answers; a search, and text that cites it."""
    first = of_anthropic(
        wire.thinking("They ask ", "for the weather.", signature="c2lnLTE="),
        wire.text("Let me ", "look."),
        wire.tool_use("get_weather", "", '{"city": ', '"Pa', 'ris"}', id="toolu_01"),
        stop_reason="tool_use",
        cache_read_input_tokens=7,
        cache_creation_input_tokens=3,
    )
    second = of_anthropic(
        wire.redacted_thinking("b3BhcXVl"),
        wire.server_tool_use("web_search", '{"query":', '"Paris"}', id="srvtoolu_01"),
        wire.tool_result("web_search_tool_result", [SEARCH_RESULT], tool_use_id="srvtoolu_01"),
        wire.text("It is ", "21 °C", " and clear.", citations=[wire.web_citation("https://example.org/paris")]),
        cache_read_input_tokens=11,
    )
    answered = ev.ToolOutputAvailable(tool_call_id="toolu_01", output=REPORT)
    return [
        *(event for event in first if not isinstance(event, ev.Finish)),
        answered,
        *(event for event in second if not isinstance(event, ev.Start)),
    ]


def _plain() -> list[ev.Event]:
    return of_anthropic(wire.text("The sea ", "is ", "salty: ", "das Meer, ", "海, ", "🌊", "\u2028", ".\n\n", "End"))


def _of_chat() -> list[ev.Event]:
    events = chat_wire.answer(
        chat_wire.reasoning("They ask ", "for the weather."),
        chat_wire.text("Let me ", "look."),
        chat_wire.tool_call("get_weather", '{"city": ', '"Paris"}', id="call_01"),
    )
    return decoded(OpenAIChatDecoder(), map(chat_wire.frame, events))


def _of_responses() -> list[ev.Event]:
    events = responses_wire.answer(
        responses_wire.reasoning("They ask ", "for the weather.", encrypted_content="ZW5j"),
        responses_wire.text("Let me ", "look.", annotations=[responses_wire.url_citation("https://example.org/paris")]),
        responses_wire.tool_call("get_weather", '{"city": ', '"Paris"}', id="call_01"),
    )
    return decoded(OpenAIResponsesDecoder(), map(responses_wire.frame, events))


def _one_attempt(name: str, events: Sequence[ev.Event]) -> Fixture:
    sent = entries(events)
    return Fixture(name, sent, sent)


def _two_attempts() -> Fixture:
    """A worker that died in mid-tool, and one that restarted: nothing of the first may be in the answer."""
    torn = of_anthropic(
        wire.thinking("A first ", "thought."),
        wire.text("A first ", "answer"),
        wire.tool_use("get_weather", '{"city": ', '"Lon', id="toolu_torn"),
    )
    torn = torn[: next(n for n, event in enumerate(torn) if isinstance(event, ev.ToolInputError))]
    first = entries(torn)
    events = of_anthropic(wire.thinking("A second ", "thought."), wire.text("The second ", "answer", "."))
    # Within the same second: the answer's `created` is that of the first entry.
    second = entries([ev.Attempt(attempt=2), *events], epoch=EPOCH + 500, first_seq=len(first) + 1)
    return Fixture("two attempts", first + second, entries(events, epoch=EPOCH + 500))


PLAIN: Final = _one_attempt("plain text", _plain())
TOOL_LOOP: Final = _one_attempt("thinking and tools", _tool_loop())
TWO_ATTEMPTS: Final = _two_attempts()
FROM_CHAT: Final = _one_attempt("from chat", _of_chat())
FROM_RESPONSES: Final = _one_attempt("from responses", _of_responses())
STOPPED: Final = _one_attempt("stopped", [*_tool_loop()[:14], ev.Abort(reason="stopped")])
"""Stopped in the middle of the tool call's arguments."""
WORKER_LOST: Final = _one_attempt(
    "worker lost", [*_plain()[:6], ev.Error(code="worker_lost", error_text="the worker was lost")]
)

WHOLE: Final = (PLAIN, TOOL_LOOP, FROM_CHAT, FROM_RESPONSES, TWO_ATTEMPTS)
FIXTURES: Final = {each.stream_id: each for each in (*WHOLE, STOPPED, WORKER_LOST)}
