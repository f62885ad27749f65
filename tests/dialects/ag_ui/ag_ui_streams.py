"""Streams of ours by name: what providers sent, and what agent loops and new attempts make of it; and random ones.

Shared by the tests of the dialects ``ag-ui``, ``delta``, ``named`` and ``parts``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.dialects.reading import ProviderDecoder
from tests.dialects.anthropic import anthropic_streams
from tests.dialects.decoding import read_all
from tests.dialects.openai_chat import chat_streams
from tests.dialects.openai_responses import responses_streams

STREAM_ID: Final = "gen_01"
EPOCH: Final = 1_795_230_000_000

_WIRES: Final[list[tuple[str, Callable[[], ProviderDecoder], dict[str, bytes]]]] = [
    ("anthropic", AnthropicDecoder, anthropic_streams.STREAMS),
    ("chat", OpenAIChatDecoder, chat_streams.STREAMS),
    ("responses", OpenAIResponsesDecoder, responses_streams.STREAMS),
]


def entries_of(events: Sequence[ev.Event]) -> list[Entry]:
    """The events as the log holds them: a new attempt writes under a new epoch."""
    entries, epoch = [], EPOCH
    for seq, event in enumerate(events, start=1):
        epoch += isinstance(event, ev.Attempt)
        entries.append(Entry(epoch, seq, ev.encode_event(event)))
    return entries


def _provided() -> dict[str, list[ev.Event]]:
    streams: dict[str, list[ev.Event]] = {}
    for wire, create, raws in _WIRES:
        for name, raw in raws.items():
            outcome = read_all(create(), raw)
            events = list(outcome.events)
            if not outcome.is_ended:
                events.append(ev.Error(error_text="it broke off", code=outcome.reason or "worker_lost"))
            streams[f"{wire}: {name}"] = events
    return streams


def wrote(*pieces: str, id: str = "0") -> list[ev.Event]:
    """A text part."""
    return [ev.TextStart(id=id), *(ev.TextDelta(id=id, delta=piece) for piece in pieces), ev.TextEnd(id=id)]


def thought(*pieces: str, id: str = "0", signature: str | None = None) -> list[ev.Event]:
    """A part of reasoning, signed where a signature is given."""
    signed = {"anthropic": {"signature": signature}} if signature else None
    deltas: list[ev.Event] = [ev.ReasoningDelta(id=id, delta=piece) for piece in pieces]
    if signed:
        deltas.append(ev.ReasoningDelta(id=id, delta="", provider_metadata=signed))
    return [ev.ReasoningStart(id=id), *deltas, ev.ReasoningEnd(id=id)]


def called(id: str, *fragments: str, name: str = "weather", value: object = None) -> list[ev.Event]:
    """A call of a tool."""
    return [
        ev.ToolInputStart(tool_call_id=id, tool_name=name),
        *(ev.ToolInputDelta(tool_call_id=id, input_text_delta=fragment) for fragment in fragments),
        ev.ToolInputAvailable(tool_call_id=id, tool_name=name, input={} if value is None else value),
    ]


def step(*parts: list[ev.Event], reason: ev.FinishReason = "stop") -> list[ev.Event]:
    """A call of the provider."""
    return [ev.StartStep(), *(event for part in parts for event in part), ev.FinishStep(finish_reason=reason)]


START: Final = ev.Start(message_id="msg_1", message_metadata={"model": "claude-x"})
USAGE: Final = ev.Usage(input_tokens=7, output_tokens=3, cached_input_tokens=2)
LOOP: Final[list[ev.Event]] = [
    START,
    *step(thought("Let me ", "look.", signature="c2ln"), wrote("I ask ", "two."), called("a", '{"city":', '"Paris"}')),
    *called("b", value={"city": "Rome"}),
    ev.ToolOutputAvailable(tool_call_id="a", output="18 degrees"),
    ev.ToolOutputAvailable(tool_call_id="b", output={"degrees": 21}, preliminary=True),
    ev.ToolOutputAvailable(tool_call_id="b", output={"degrees": 22}),
    *step(
        thought("Now ", "I know."),
        wrote("Paris 18, "),
        wrote("Rome 22.", id="1"),
        [ev.SourceUrl(source_id="s", url="https://example.org/a", title="A")],
    ),
    USAGE,
    ev.Finish(finish_reason="stop"),
]
"""Two steps with the same part ids, thinking, calls, results, and texts that follow each other."""

_TORN: Final[list[ev.Event]] = [
    START,
    ev.StartStep(),
    *thought("Hm. "),
    ev.TextStart(id="0"),
    ev.TextDelta(id="0", delta="Hi, I "),
    ev.ToolInputStart(tool_call_id="torn", tool_name="weather"),
    ev.ToolInputDelta(tool_call_id="torn", input_text_delta='{"ci'),
]

STREAMS: Final[dict[str, list[ev.Event]]] = {
    **_provided(),
    "agent loop": LOOP,
    "new attempt": [*_TORN, ev.Attempt(attempt=2), *LOOP],
    "two new attempts": [
        *(*_TORN, ev.Attempt(attempt=2), *_TORN, ev.Attempt(attempt=3)),
        *(START, *step(wrote("Hi.")), ev.Finish(finish_reason="stop")),
    ],
    "new attempt before anything was said": [START, ev.Attempt(attempt=2), START, *step(wrote("Hi.")), ev.Finish()],
    "new attempt that fails": [*_TORN, ev.Attempt(attempt=2), ev.Error(error_text="no more", code="worker_lost")],
    "stopped": [*_TORN, ev.Abort(reason="stopped")],
    "failed": [*_TORN, USAGE, ev.Error(error_text="the worker died", code="worker_lost")],
    "calls that nobody answers": [
        START,
        *step(called("a", "{}"), called("b", "{}"), reason="tool-calls"),
        ev.Finish(finish_reason="tool-calls"),
    ],
    "trimmed head": [
        ev.TextDelta(id="7", delta="the rest"),
        ev.ReasoningDelta(id="8", delta="of it"),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta='{"a":'),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta="1}"),
        ev.ToolInputAvailable(tool_call_id="a", tool_name="weather", input={"a": 1}),
        ev.ToolInputDelta(tool_call_id="never named", input_text_delta="1}"),
        ev.TextEnd(id="7"),
        ev.Finish(finish_reason="stop"),
    ],
    "a job": [
        ev.DataEvent(type="data-progress", data={"percent": 10}, id="p"),
        ev.DataEvent(type="data-note", data="half"),
        ev.DataEvent(type="data-progress", data={"percent": 90}, id="p"),
        ev.DataEvent(type="data-noise", data=1, transient=True),
        ev.UnknownEvent(type="hologram"),
        ev.File(url="data:text/plain,a", media_type="text/plain"),
        ev.Finish(),
    ],
}
"""Every stream, whole: it ends with its one terminal event."""

_IDS: Final = st.sampled_from(["0", "1"])
_CALLS: Final = st.sampled_from(["a", "b", "c"])
_TEXT: Final = st.sampled_from(["", "a", "é ", "line\nbreak", "\u2028", '{"x":1}'])


ANY_EVENT: Final[st.SearchStrategy[ev.Event]] = st.one_of(
    st.just(START),
    st.just(USAGE),
    st.just(ev.StartStep()),
    st.just(ev.FinishStep()),
    st.builds(ev.TextStart, id=_IDS),
    st.builds(ev.TextDelta, id=_IDS, delta=_TEXT),
    st.builds(ev.TextEnd, id=_IDS),
    st.builds(ev.ReasoningStart, id=_IDS),
    st.builds(ev.ReasoningDelta, id=_IDS, delta=_TEXT),
    st.just(ev.ReasoningDelta(id="0", delta="", provider_metadata={"anthropic": {"signature": "c2ln"}})),
    st.builds(ev.ReasoningEnd, id=_IDS),
    st.builds(ev.ToolInputStart, tool_call_id=_CALLS, tool_name=st.just("t")),
    st.builds(ev.ToolInputDelta, tool_call_id=_CALLS, input_text_delta=_TEXT),
    st.builds(ev.ToolInputAvailable, tool_call_id=_CALLS, tool_name=st.just("t"), input=st.just({"x": 1})),
    st.builds(ev.ToolInputError, tool_call_id=_CALLS, tool_name=st.just("t"), input=_TEXT, error_text=st.just("bad")),
    st.builds(ev.ToolOutputAvailable, tool_call_id=_CALLS, output=_TEXT, preliminary=st.sampled_from([None, True])),
    st.builds(ev.ToolOutputError, tool_call_id=_CALLS, error_text=st.just("failed")),
    st.builds(ev.DataEvent, type=st.just("data-x"), data=_TEXT, id=st.sampled_from([None, "d"])),
    st.just(ev.UnknownEvent(type="hologram")),
)
"""Any event that is neither terminal nor a new attempt, in any order: also in one that no provider would choose."""

ANY_END: Final[st.SearchStrategy[ev.TerminalEvent]] = st.sampled_from(
    [ev.Finish(finish_reason="stop"), ev.Error(error_text="it broke", code="worker_lost"), ev.Abort(reason="stopped")]
)


@st.composite
def any_stream(draw: st.DrawFn, *, max_attempts: int = 3) -> list[ev.Event]:
    """A stream of up to so many attempts, with its terminal event."""
    events: list[ev.Event] = draw(st.lists(ANY_EVENT, max_size=25))
    for attempt in range(2, draw(st.integers(1, max_attempts)) + 1):
        events += [ev.Attempt(attempt=attempt), *draw(st.lists(ANY_EVENT, max_size=25))]
    end: ev.TerminalEvent = draw(ANY_END)
    return [*events, end]


def last_attempt(events: Sequence[ev.Event]) -> list[ev.Event]:
    """What is left of a stream when its torn attempts are forgotten."""
    at = max((at for at, event in enumerate(events) if isinstance(event, ev.Attempt)), default=-1)
    return list(events[at + 1 :])
