"""Responses decode: laws that hold for every stream and every way the network cuts it."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.fold import Fold
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from tests.dialects.anthropic.test_anthropic_laws import chars, check_order, json_values, pieces
from tests.dialects.decoding import read_all
from tests.dialects.openai_responses import responses_wire as wire
from tests.dialects.openai_responses.responses_streams import GOOD_ENDINGS, STREAMS
from tests.dialects.openai_responses.responses_wire import Json, Output, answer, call, message, refusal, stream, text

Outcome = tuple[list[ev.Event], str | None, bool, ev.Usage]


def outcome(*chunks: bytes) -> Outcome:
    """What these chunks and the end of the body come to; on this wire an answer is whole when it has ended."""
    events, reason, is_whole, is_ended, usage = read_all(OpenAIResponsesDecoder(), *chunks)
    assert is_whole is is_ended or reason is not None
    return events, reason, is_ended, usage


@pytest.mark.parametrize("name", GOOD_ENDINGS)
def test_a_good_stream_obeys_the_order_and_ends_once(name: str):
    events, reason, is_whole, _ = outcome(STREAMS[name])
    assert (reason, is_whole) == (None, True)
    check_order(events)


# ------------------------------------------------------------------------------------------------ streams by hypothesis

annotations = st.lists(st.builds(wire.url_citation, chars, chars) | st.fixed_dictionaries({"type": chars}), max_size=2)
parts = st.builds(lambda sent, cited: text(*sent, annotations=cited), pieces, annotations) | st.builds(
    lambda sent: refusal(*sent), pieces
)


@st.composite
def calls(draw: st.DrawFn, number: int) -> tuple[Output, Any]:
    value = draw(st.dictionaries(chars, json_values, max_size=3))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    fragments = [text[begin:end] for begin, end in pairwise([0, *cuts, len(text)])]
    return call("a_tool", *fragments, id=f"fc_{number}", call_id=f"call_{number}"), value


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[Json], dict[str, Any]]:
    """A proper stream, with keepalives and strange events strewn in, and what a client must be able to read from it."""
    outputs: list[Output] = []
    made: dict[str, Any] = {"text": [], "reasoning": [], "inputs": [], "annotations": []}
    for number in range(draw(st.integers(0, 5))):
        match draw(st.sampled_from(["message", "reasoning", "call"])):
            case "message":
                drawn = draw(st.lists(parts, max_size=3))
                outputs.append(message(*drawn, id=f"msg_{number}"))
                made["text"] += [part.get("text", part.get("refusal")) for part, _ in drawn]
                made["annotations"] += [each for part, _ in drawn for each in part.get("annotations", [])]
            case "reasoning":
                summaries, texts = draw(st.lists(pieces, max_size=2)), draw(st.lists(pieces, max_size=2))
                outputs.append(wire.reasoning(*summaries, texts=texts, id=f"rs_{number}", encrypted="ZW5j"))
                made["reasoning"] += ["".join(each) for each in summaries + texts] or [""]
            case _:
                output, value = draw(calls(number))
                outputs.append(output)
                made["inputs"].append(value)
    events = answer(*outputs)
    for at in sorted(draw(st.lists(st.integers(2, len(events) - 1), max_size=3)), reverse=True):
        events.insert(at, {"type": draw(st.sampled_from(["keepalive", "response.mood"]))})
    return events, made


def read_back(events: list[ev.Event]) -> dict[str, Any]:
    made: dict[str, Any] = {"text": {}, "reasoning": {}, "inputs": [], "annotations": []}
    for event in events:
        extras = (getattr(event, "provider_metadata", None) or {}).get("openai", {})
        match event:
            case ev.TextStart(id=id):
                made["text"][id] = ""
            case ev.TextDelta(id=id, delta=delta):
                made["text"][id] += delta
                made["annotations"] += [extras["annotation"]] if "annotation" in extras else []
            case ev.ReasoningStart(id=id):
                made["reasoning"][id] = ""
            case ev.ReasoningDelta(id=id, delta=delta):
                made["reasoning"][id] += delta
            case ev.ToolInputAvailable(input=value):
                made["inputs"].append(value)
    return {
        **made,
        "text": [*made["text"].values()],
        "reasoning": [*made["reasoning"].values()],
    }


def cut(data: st.DataObject, raw: bytes) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6), label="cuts"))
    return [raw[begin:end] for begin, end in pairwise([0, *cuts, len(raw)])]


@settings(deadline=None)
@given(answers(), st.data())
def test_nothing_of_an_answer_is_lost_however_it_is_cut(answer: tuple[list[Json], dict[str, Any]], data: st.DataObject):
    wire_events, made = answer
    raw = data.draw(st.sampled_from([stream(*wire_events), wire.bare(*wire_events)]), label="raw")
    events, reason, is_whole, usage = outcome(*cut(data, raw))
    assert (reason, is_whole, usage.estimated) == (None, True, False)
    check_order(events)
    assert read_back(events) == made


@given(answers())
def test_an_answer_folds_to_the_text_that_was_sent(answer: tuple[list[Json], dict[str, Any]]):
    wire_events, made = answer
    fold = Fold()
    for event in outcome(stream(*wire_events))[0]:
        fold.apply(ev.encode_event(event))
    assert fold.state.text == "".join(made["text"])
    assert fold.state.reasoning == "".join(made["reasoning"])
    assert all(part.get("state") != "streaming" for part in fold.state.parts)


REPEATED = (
    "delta",
    "text.done",
    "refusal.done",
    "arguments.done",
    "part.added",
    "part.done",
    "item.added",
    "item.done",
)
"""What a stream tells more than once, so that a server may leave any of it out, though not all but a delta."""


@settings(deadline=None)
@given(answers(), st.sets(st.sampled_from(REPEATED)))
def test_nothing_is_lost_or_doubled_whatever_a_server_leaves_out(
    answer: tuple[list[Json], dict[str, Any]], left_out: set[str]
):
    wire_events, made = answer
    raw = stream(*[event for event in wire_events if not event["type"].endswith(tuple(left_out))])
    events, reason, is_whole, _ = outcome(raw)
    assert (reason, is_whole) == (None, True)
    check_order(events)
    sent = read_back(events)
    for what in ("text", "reasoning"):
        assert sorted(filter(None, sent[what])) == sorted(filter(None, made[what]))
    assert sent["inputs"] == made["inputs"]


@given(answers(), st.data())
def test_a_stream_that_breaks_off_is_never_whole_and_yields_nothing_that_was_not_sent(
    answer: tuple[list[Json], dict[str, Any]], data: st.DataObject
):
    wire_events, made = answer
    raw = stream(*wire_events)
    broken = raw[: data.draw(st.integers(0, len(raw) - 1), label="cut")]
    events, reason, is_whole, _ = outcome(broken)
    assert (reason, is_whole) == (None, False)
    assert not any(isinstance(event, ev.Finish) for event in events)
    assert "".join(made["text"]).startswith("".join(read_back(events)["text"]))


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_garbage_ends_in_silence_or_in_a_failure_and_never_in_an_answer(chunks: list[bytes]):
    events, reason, is_whole, _ = outcome(*chunks)
    assert not is_whole
    assert reason in (None, "provider_bad_data", "provider_error")
    assert not any(isinstance(event, ev.Finish) for event in events)


fields = st.sampled_from(
    ["type", "item", "part", "item_id", "output_index", "content_index", "delta", "text", "response", "sequence_number"]
)
kinds = st.sampled_from(["message", "response.created", "response.output_item.done", "response.content_part.added"])


@given(st.lists(st.dictionaries(fields, json_values | kinds, max_size=5), max_size=6))
def test_objects_of_the_wrong_shape_are_bad_data_and_never_a_crash(objects: list[Json]):
    raw = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in objects)
    events, reason, is_whole, _ = outcome(stream(wire.created()) + raw)
    assert reason in (None, "provider_bad_data", "provider_error")
    assert not is_whole
    assert isinstance(events[0], ev.Start)
