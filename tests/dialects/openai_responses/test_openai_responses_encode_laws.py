"""Responses encode: laws that hold for every stream, cut at every entry."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.openai_responses.encode import RESPONSES
from broadcaster.dialects.openai_responses.encoding.event_log import frames_after
from tests.dialects.anthropic import anthropic_streams
from tests.dialects.decoding import read_all
from tests.dialects.openai_responses.responses_reading import (
    STREAM,
    entries_from,
    entries_of,
    final,
    folded,
    raw_events,
    seen,
)
from tests.dialects.openai_responses.responses_streams import GOOD_ENDINGS, STREAMS
from tests.dialects.openai_responses.responses_wire import Json, stream
from tests.dialects.openai_responses.test_openai_responses_laws import answers

# The SDK warns of what it has no model for.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

MAX_PRELUDE_SHARE = 0.03


@cache
def recorded() -> dict[str, list[Entry]]:
    """Streams by name: of both providers, with a torn attempt before the good one, and with each ending."""
    good = {f"openai: {name}": entries_from(STREAMS[name]) for name in GOOD_ENDINGS}
    good |= {
        f"claude: {name}": entries_of(read_all(AnthropicDecoder(), anthropic_streams.STREAMS[name]).events)
        for name in anthropic_streams.GOOD_ENDINGS
    }
    known = dict(good)
    for name in ("openai: two calls", "openai: reasoning with summaries, then text", "claude: thinking then text"):
        events = [ev.decode_event(entry.event) for entry in good[name]]
        torn = events[: len(events) // 2]
        known[f"{name}, again"] = entries_of([*torn, ev.Attempt(attempt=2), *events])
        known[f"{name}, three times"] = entries_of(
            [*torn, ev.Attempt(attempt=2), *torn, ev.Attempt(attempt=3), *events]
        )
        known[f"{name}, stopped"] = entries_of([*torn, ev.Abort(reason="stopped")])
        known[f"{name}, lost"] = entries_of([*torn, ev.Error(code="worker_lost", error_text="lost")])
    return known


NAMES = sorted(recorded())


def whole(entries: list[Entry]) -> bytes:
    return RESPONSES.open(STREAM).encode(entries)


def blocks(raw: bytes) -> list[bytes]:
    return [block + b"\n\n" for block in raw.split(b"\n\n")[:-1]]


def final_state(events: list[Json]) -> tuple[Any, Json]:
    """What a client has in the end: its texts of the newest attempt put together, and the response."""
    state = folded(events)
    return state["texts"], seen(state["ended"])


@pytest.mark.parametrize("name", NAMES)
def test_a_late_joiner_ends_with_what_all_viewers_have(name: str):
    entries = recorded()[name]
    everything = final_state(raw_events(whole(entries)))

    def received_after(k: int) -> bytes:
        transcript = RESPONSES.open(STREAM)
        transcript.encode(entries[:k])
        return transcript.snapshot() + transcript.encode(entries[k:])

    # Many joiners receive the same bytes, and read the same.
    for received in {received_after(k) for k in range(1, len(entries))}:
        events = raw_events(received)
        assert final_state(events) == everything
        numbers = [event["sequence_number"] for event in events]
        assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_is_the_same_however_it_is_cut_forked_or_joined(name: str):
    entries = recorded()[name]
    everything = whole(entries)
    for k in range(len(entries) + 1):
        transcript = RESPONSES.open(STREAM)
        first = transcript.encode(entries[:k])
        twin = transcript.fork()
        if k < len(entries):
            assert twin.snapshot() == transcript.snapshot()
        rest = transcript.encode(entries[k:])
        assert first + rest == everything
        assert twin.encode(entries[k:]) == rest
        assert twin.response() == transcript.response()


@pytest.mark.parametrize("name", NAMES)
def test_the_events_after_a_number_are_those_with_higher_ones(name: str):
    sent = whole(recorded()[name])
    everything = blocks(sent)
    numbers = [event["sequence_number"] for event in raw_events(sent)]
    for after in {-1, *numbers, *(number + 1 for number in numbers)}:
        newer = [block for number, block in zip(numbers, everything, strict=True) if number > after]
        assert blocks(frames_after(sent, after)) == newer


@pytest.mark.parametrize("name", NAMES)
def test_the_framing_is_what_every_client_bears(name: str):
    raw = whole(recorded()[name])
    assert b"\r" not in raw
    for block in blocks(raw):
        event, data = block.decode().removesuffix("\n\n").split("\n")
        assert event.startswith("event: ")
        assert data.startswith(f'data: {{"type":"{event.removeprefix("event: ")}","sequence_number":')


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_never_ends_without_an_outcome(name: str):
    entries = recorded()[name]
    terminal = ("response.completed", "response.incomplete", "response.failed")
    assert raw_events(whole(entries))[-1]["type"] in terminal
    assert not any(event["type"] in terminal for event in raw_events(whole(entries[:-1])))


def test_the_snapshot_of_a_long_text_is_short():
    deltas = [ev.TextDelta(id="0", delta="word ") for _ in range(10_000)]
    transcript = RESPONSES.open("gen_0123456789abcdef0123456789abcdef")
    replay = transcript.encode(entries_of([ev.Start(), ev.StartStep(), ev.TextStart(id="0"), *deltas]))
    assert len(transcript.snapshot()) <= MAX_PRELUDE_SHARE * len(replay)


@settings(deadline=None, max_examples=40)
@given(answers(), st.data())
def test_any_answer_comes_back_as_it_was_sent(answer: tuple[list[Json], dict[str, Any]], data: st.DataObject):
    wire_events, _ = answer
    raw = stream(*wire_events)
    entries = entries_from(raw)
    everything = final_state(raw_events(whole(entries)))
    assert everything[1] == seen(folded(raw_events(raw))["ended"])
    k = data.draw(st.integers(1, len(entries) - 1), label="joined at")
    transcript = RESPONSES.open(STREAM)
    transcript.encode(entries[:k])
    assert final_state(raw_events(transcript.snapshot() + transcript.encode(entries[k:]))) == everything


odd = st.one_of(
    st.builds(ev.TextStart, id=st.sampled_from("01")),
    st.builds(ev.TextDelta, id=st.sampled_from("01"), delta=st.text(max_size=3)),
    st.builds(ev.TextEnd, id=st.sampled_from("01")),
    st.builds(ev.ReasoningStart, id=st.sampled_from("01")),
    st.builds(ev.ReasoningDelta, id=st.sampled_from("01"), delta=st.text(max_size=3)),
    st.builds(ev.ReasoningEnd, id=st.sampled_from("01")),
    st.builds(ev.ToolInputStart, tool_call_id=st.sampled_from("ab"), tool_name=st.just("f")),
    st.builds(ev.ToolInputDelta, tool_call_id=st.sampled_from("ab"), input_text_delta=st.sampled_from(["", "{", "}"])),
    st.builds(
        ev.ToolInputAvailable,
        tool_call_id=st.sampled_from("ab"),
        tool_name=st.just("f"),
        input=st.just({}),
        provider_executed=st.sampled_from([None, True]),
    ),
    st.builds(
        ev.ToolOutputAvailable,
        tool_call_id=st.sampled_from("ab"),
        output=st.just("x"),
        provider_executed=st.sampled_from([None, True]),
    ),
    st.just(ev.StartStep()),
    st.just(ev.FinishStep(finish_reason="stop")),
    st.builds(ev.Attempt, attempt=st.integers(2, 4)),
    st.builds(ev.DataEvent, type=st.sampled_from(["data-x", "data-openai"]), data=st.just({"type": "response.mood"})),
)


@settings(deadline=None, max_examples=80)
@given(st.lists(odd, max_size=14), st.data())
def test_events_in_any_order_make_a_response_that_the_helper_takes(events: list[ev.Event], data: st.DataObject):
    entries = entries_of([*events, ev.Finish(finish_reason="stop")])
    raw = whole(entries)
    assert final(raw)["status"] == "completed"
    k = data.draw(st.integers(1, len(entries) - 1), label="joined at") if len(entries) > 1 else 0
    transcript = RESPONSES.open(STREAM)
    transcript.encode(entries[:k])
    joined = raw_events(transcript.snapshot() + transcript.encode(entries[k:]))
    assert final_state(joined) == final_state(raw_events(raw))
