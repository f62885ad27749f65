"""Chat completions decode: laws that hold for every stream and every way the network cuts it."""

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.fold import Fold
from broadcaster.core.status import Status
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from tests.dialects.anthropic.test_anthropic_laws import check_order
from tests.dialects.decoding import Outcome, read_all
from tests.dialects.openai_chat.chat_streams import (
    DONE,
    GOOD_ENDINGS,
    STREAMS,
    Json,
    choice,
    chunk,
    counted,
    delta,
    first,
    fragment,
    last,
    stream,
    wrote,
)


def outcome(*chunks: bytes) -> Outcome:
    """What these chunks and the end of the body come to."""
    return read_all(OpenAIChatDecoder(), *chunks)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_ends_at_any_byte_ends_once_if_it_is_whole_and_else_never(name: str):
    raw = STREAMS[name]
    for cut in range(len(raw) + 1):
        check_ending(outcome(raw[:cut]))


@pytest.mark.parametrize("name", GOOD_ENDINGS)
def test_a_good_stream_obeys_the_order_and_ends_once(name: str):
    events, reason, is_whole, is_ended, _ = outcome(STREAMS[name])
    assert (reason, is_whole, is_ended) == (None, True, True)
    check_order(events)


def check_ending(made: Outcome) -> None:
    """Exactly one terminal event, and it is the last, if and only if the answer is whole."""
    events, reason, is_whole, is_ended, _ = made
    terminals = [event for event in events if isinstance(event, ev.Finish | ev.Error | ev.Abort)]
    assert is_whole == is_ended == bool(terminals)
    if terminals:
        assert reason is None
        assert terminals == events[-1:]


def folded(events: list[ev.Event]) -> Fold:
    fold = Fold()
    for event in events:
        fold.apply(ev.encode_event(event))
    return fold


# ------------------------------------------------------------------------------------------------ streams by hypothesis

chars = st.text(max_size=12).filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | chars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(chars, inner, max_size=3),
    max_leaves=6,
)
beside = st.fixed_dictionaries(
    {},
    optional={
        "logprobs": st.just({"content": [{"token": "a", "logprob": -1.5}]}),
        "content_filter_results": st.sampled_from([{"hate": 0}, {"hate": 1}]),
    },
)


@dataclass
class Answer:
    """Chunks of the middle of a stream, and what a client must be able to read from them."""

    chunks: list[Json] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    passed: list[Json] = field(default_factory=list)
    logprobs: int = 0


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Text, reasoning, refusals, interleaved tool calls, other choices and strangers in any order."""
    made = Answer()
    calls = [json.dumps(draw(st.dictionaries(chars, json_values, max_size=3))) for _ in range(draw(st.integers(0, 2)))]
    made.inputs = {f"id-{index}": json.loads(text) for index, text in enumerate(calls)}
    waiting = [fragments(draw, index, text) for index, text in enumerate(calls)]
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(
            st.sampled_from(["content", "reasoning_content", "reasoning", "refusal", "choice", "object", "call"])
        )
        piece = draw(chars)
        match kind:
            case "call":
                if waiting:
                    take(made, waiting, draw(st.integers(0, len(waiting) - 1)))
            case "choice":
                other = choice({"content": piece}, index=1)
                made.chunks.append(chunk(other))
                made.passed.append(chunk(other))
            case "object":
                stranger = {"mood": piece}
                made.chunks.append(stranger)
                made.passed.append(stranger)
            case _:
                extras = draw(beside) if piece else {}
                made.chunks.append(chunk(choice({kind: piece}, **extras)))
                made.logprobs += "logprobs" in extras
                if kind in ("content", "refusal"):
                    made.text += piece
                else:
                    made.reasoning += piece
    while waiting:
        take(made, waiting, 0)
    return made


def fragments(draw: st.DrawFn, index: int, text: str) -> list[Json]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    pieces = [text[begin:end] for begin, end in pairwise([0, *cuts, len(text)])]
    opening = fragment(pieces[0], index=index, id=f"id-{index}", type="function", name="f")
    return [opening, *(fragment(piece, index=index) for piece in pieces[1:])]


def take(made: Answer, waiting: list[list[Json]], at: int) -> None:
    made.chunks.append(delta(tool_calls=[waiting[at].pop(0)]))
    if not waiting[at]:
        del waiting[at]


endings = st.sampled_from(
    [
        [last("stop"), counted(), DONE],
        [last("length"), DONE],
        [last("tool_calls") | {"usage": counted()["usage"]}, DONE],
        [last("a newer one"), counted()],
        [last("stop")],
    ]
)


@given(answers(), endings, st.data())
def test_nothing_of_an_answer_is_lost_however_it_is_cut(made: Answer, ending: list[Any], data: st.DataObject):
    raw = stream(first(), *made.chunks, *ending)
    if data.draw(st.booleans(), label="CRLF"):
        raw = raw.replace(b"\n", b"\r\n")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6), label="cuts"))
    events, reason, is_whole, is_ended, _ = outcome(*(raw[begin:end] for begin, end in pairwise([0, *cuts, len(raw)])))
    assert (reason, is_whole, is_ended) == (None, True, True)
    check_order(events)
    state = folded(events).state
    assert (state.status, state.text, state.reasoning) == (Status.FINISHED, made.text, made.reasoning)
    assert {part["toolCallId"]: part["input"] for part in state.parts if part["type"] == "tool"} == made.inputs
    assert [part["data"] for part in state.parts if part["type"] == "data-openai"] == [
        {name: value for name, value in each.items() if name != "usage"} for each in made.passed
    ]
    carried = [getattr(event, "provider_metadata", None) or {} for event in events]
    assert sum("logprobs" in extras.get("openai", {}) for extras in carried) == made.logprobs


@given(answers(), st.data())
def test_an_answer_that_fails_anywhere_never_finishes_and_keeps_what_came_before(made: Answer, data: st.DataObject):
    error: Any = data.draw(st.sampled_from([{"error": {"code": "server_error"}}, '{"choices": [', DONE]), label="error")
    at = data.draw(st.integers(0, len(made.chunks)), label="at")
    before = stream(first(), *made.chunks[:at])
    events, reason, is_whole, is_ended, _ = outcome(before + stream(error, *made.chunks[at:], last(), DONE))
    assert reason in ("provider_error", "provider_bad_data")
    assert (is_whole, is_ended) == (False, False)
    assert events == outcome(before)[0]
    assert folded(events).state.status is Status.RUNNING


json_chunks = st.builds(
    lambda delta, finish, index, usage: {
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
        "usage": usage,
    },
    st.none()
    | json_values
    | st.dictionaries(
        st.sampled_from(["content", "refusal", "reasoning", "tool_calls", "function_call", "annotations", "audio"]),
        json_values,
        max_size=3,
    ),
    st.none() | st.sampled_from(["stop", "error", "odd"]) | json_values,
    st.none() | st.integers(-1, 2),
    json_values,
)


@given(st.lists(json_chunks | json_values, max_size=5))
def test_any_json_gives_an_answer_a_failure_or_nothing_and_nothing_else(chunks: list[Any]):
    raw = stream(*(json.dumps(each) for each in chunks), DONE)
    made = outcome(raw)
    check_ending(made)
    events = made[0]
    assert [ev.decode_event(ev.encode_event(event)) for event in events] == events


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_garbage_ends_in_silence_or_in_a_failure_and_never_in_an_answer(chunks: list[bytes]):
    events, reason, is_whole, is_ended, _ = outcome(*chunks)
    assert (is_whole, is_ended) == (False, False)
    assert reason in (None, "provider_bad_data", "provider_error")
    assert not any(isinstance(event, ev.Finish) for event in events)


def test_the_opening_of_an_answer_comes_before_everything_that_is_sent():
    events = outcome(stream(wrote("a"), last(), DONE))[0]
    assert [type(event) for event in events[:3]] == [ev.Start, ev.StartStep, ev.TextStart]
