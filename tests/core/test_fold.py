"""The fold: what a stream's events amount to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.events import encode_event
from broadcaster.core.fold import Fold, FoldState
from broadcaster.core.status import Status


def folded(*events: Any) -> FoldState:
    fold = Fold()
    for event in events:
        fold.apply(event if isinstance(event, bytes) else encode_event(event))
    return fold.state


def part_of(*events: Any) -> dict[str, Any]:
    [part] = folded(*events).parts
    return part


# --------------------------------------------------------------------------------------------------------------- status


def test_a_stream_without_events_is_queued():
    state = folded()
    assert (state.status, state.attempt, state.text, state.parts, state.usage) == (Status.QUEUED, 1, "", [], None)


def test_any_event_means_running():
    assert folded(ev.Attempt(attempt=2)).status is Status.RUNNING
    assert folded(ev.Start()).status is Status.RUNNING
    assert folded(b'{"type":"newer"}').status is Status.RUNNING


@pytest.mark.parametrize(
    ("terminal", "status"),
    [
        (ev.Finish(finish_reason="stop"), Status.FINISHED),
        (ev.Error(code="provider_overloaded", error_text="later"), Status.FAILED),
        (ev.Abort(reason="stopped"), Status.ABORTED),
    ],
)
def test_the_terminal_event_decides_and_nothing_after_it_counts(terminal, status):
    text = ev.TextDelta(id="0", delta="a")
    state = folded(text, terminal)
    assert state.status is status
    assert folded(text, terminal, text, ev.Attempt(attempt=2), ev.Finish()) == state


def test_the_end_of_a_step_leaves_it_running_and_has_the_reason():
    state = folded(ev.StartStep(), ev.FinishStep(finish_reason="tool-calls"))
    assert (state.status, state.finish_reason) == (Status.RUNNING, "tool-calls")
    assert folded(ev.FinishStep(finish_reason="tool-calls"), ev.Finish()).finish_reason == "tool-calls"
    assert folded(ev.FinishStep(finish_reason="tool-calls"), ev.Finish(finish_reason="stop")).finish_reason == "stop"


def test_an_error_keeps_its_code_and_its_text():
    assert folded(ev.Error(code="worker_lost", error_text="gone")).error == {"code": "worker_lost", "message": "gone"}
    assert folded(ev.Abort(reason="abandoned")).abort_reason == "abandoned"


# --------------------------------------------------------------------------------------------------- text and reasoning


def test_text_is_streaming_until_its_end_and_done_after_it():
    begun = (ev.TextStart(id="0"), ev.TextDelta(id="0", delta="Hel"), ev.TextDelta(id="0", delta="lo"))
    assert part_of(*begun) == {"type": "text", "text": "Hello", "state": "streaming"}
    assert part_of(*begun, ev.TextEnd(id="0")) == {"type": "text", "text": "Hello", "state": "done"}


@pytest.mark.parametrize("terminal", [ev.Error(error_text="x"), ev.Abort()])
def test_a_part_that_was_cut_off_stays_streaming(terminal):
    assert part_of(ev.TextDelta(id="0", delta="Hel"), terminal)["state"] == "streaming"


def test_text_and_reasoning_do_not_mix_even_under_one_id():
    state = folded(
        ev.ReasoningStart(id="0"), ev.ReasoningDelta(id="0", delta="hm"), ev.ReasoningEnd(id="0"),
        ev.TextStart(id="0"), ev.TextDelta(id="0", delta="yes"),
    )  # fmt: skip
    assert (state.text, state.reasoning) == ("yes", "hm")
    assert [part["type"] for part in state.parts] == ["reasoning", "text"]


def test_an_id_reused_in_the_next_step_is_another_part():
    step = (ev.StartStep(), ev.TextStart(id="0"), ev.TextDelta(id="0", delta="a"), ev.TextEnd(id="0"), ev.FinishStep())
    state = folded(*step, *step)
    assert [part["type"] for part in state.parts] == ["step-start", "text", "step-start", "text"]
    assert state.text == "aa"


def test_a_log_whose_head_was_trimmed_still_folds():
    state = folded(
        ev.TextDelta(id="0", delta="lo"), ev.TextEnd(id="0"), ev.TextEnd(id="9"),
        ev.ToolInputDelta(tool_call_id="c", input_text_delta='{"a'),
        ev.ToolOutputAvailable(tool_call_id="d", output=1),
    )  # fmt: skip
    assert state.parts == [
        {"type": "text", "text": "lo", "state": "done"},
        {"type": "tool", "toolCallId": "c", "state": "input-streaming", "inputText": '{"a'},
        {"type": "tool", "toolCallId": "d", "state": "output-available", "output": 1},
    ]


def test_no_metadata_of_a_part_is_lost():
    assert part_of(
        ev.ReasoningStart(id="0", provider_metadata={"anthropic": {"redactedData": "r"}}),
        ev.ReasoningDelta(id="0", delta="", provider_metadata={"anthropic": {"signature": "s"}}),
        ev.ReasoningEnd(id="0", provider_metadata={"other": {"x": 1}}),
    )["providerMetadata"] == {"anthropic": {"redactedData": "r", "signature": "s"}, "other": {"x": 1}}


# ---------------------------------------------------------------------------------------------------------------- tools

_CALL: Any = {"tool_call_id": "call_1", "tool_name": "weather"}


def test_a_tool_call_goes_from_streaming_arguments_to_its_output():
    events: list[Any] = []
    seen = []
    for event in (
        ev.ToolInputStart(**_CALL),
        ev.ToolInputDelta(tool_call_id="call_1", input_text_delta='{"city":'),
        ev.ToolInputDelta(tool_call_id="call_1", input_text_delta='"Bonn"}'),
        ev.ToolInputAvailable(**_CALL, input={"city": "Bonn"}),
        ev.ToolOutputAvailable(tool_call_id="call_1", output="…", preliminary=True),
        ev.ToolOutputAvailable(tool_call_id="call_1", output="sun"),
    ):
        events.append(event)
        part = part_of(*events)
        assert (part.pop("type"), part.pop("toolCallId"), part.pop("toolName")) == ("tool", "call_1", "weather")
        seen.append(part)
    assert seen == [
        {"state": "input-streaming", "inputText": ""},
        {"state": "input-streaming", "inputText": '{"city":'},
        {"state": "input-streaming", "inputText": '{"city":"Bonn"}'},
        {"state": "input-available", "input": {"city": "Bonn"}},
        {"state": "output-available", "input": {"city": "Bonn"}, "output": "…", "preliminary": True},
        {"state": "output-available", "input": {"city": "Bonn"}, "output": "sun"},
    ]


def test_a_tool_that_fails_has_its_error_text():
    failed = part_of(
        ev.ToolInputAvailable(**_CALL, input={}, provider_executed=True),
        ev.ToolOutputError(tool_call_id="call_1", error_text="no network"),
    )
    assert (failed["state"], failed["errorText"], failed["input"]) == ("output-error", "no network", {})
    assert failed["providerExecuted"] is True


def test_arguments_that_are_no_json_are_kept_as_they_came():
    part = part_of(ev.ToolInputError(**_CALL, input='{"a', error_text="not JSON"))
    assert part == {
        "type": "tool", "toolCallId": "call_1", "toolName": "weather", "state": "output-error",
        "rawInput": '{"a', "errorText": "not JSON",
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------- other parts


@pytest.mark.parametrize(
    "event",
    [
        ev.SourceUrl(source_id="s", url="https://example.org", title="t"),
        ev.SourceDocument(source_id="s", media_type="application/pdf", title="t"),
        ev.File(url="data:,x", media_type="text/plain"),
        ev.DataEvent(type="data-progress", data={"done": 1}),
    ],
)
def test_sources_files_and_data_are_parts_as_they_were_stored(event):
    assert part_of(event) == json.loads(encode_event(event))


def test_data_with_an_id_is_replaced_where_it_stands():
    state = folded(
        ev.DataEvent(type="data-progress", id="p", data=1),
        ev.DataEvent(type="data-note", id="p", data="other type"),
        ev.DataEvent(type="data-progress", data="no id"),
        ev.DataEvent(type="data-progress", id="p", data=2),
    )
    assert [part["data"] for part in state.parts] == [2, "other type", "no id"]


def test_transient_data_leaves_no_trace():
    assert folded(ev.DataEvent(type="data-ping", data=1, transient=True)).parts == []


def test_the_latest_counts_are_the_usage_and_an_estimate_is_taken_back():
    estimated = ev.Usage(input_tokens=5, output_tokens=2, estimated=True)
    assert folded(estimated).usage == {"inputTokens": 5, "outputTokens": 2, "estimated": True}
    assert folded(estimated, ev.Usage(output_tokens=9)).usage == {"inputTokens": 5, "outputTokens": 9}


def test_metadata_of_start_steps_and_end_are_one():
    state = folded(
        ev.Start(message_id="m", message_metadata={"model": "x"}, provider_metadata={"p": {"requestId": "r"}}),
        ev.FinishStep(provider_metadata={"p": {"stop": "end_turn"}}),
        ev.Finish(message_metadata={"cost": 1}),
    )
    assert state.message_id == "m"
    assert state.metadata == {"model": "x", "cost": 1}
    assert state.provider_metadata == {"p": {"requestId": "r", "stop": "end_turn"}}


def test_a_new_attempt_drops_everything_of_the_last_one():
    first = (
        ev.Start(message_id="m", message_metadata={"a": 1}, provider_metadata={"p": {"q": 1}}),
        ev.ReasoningDelta(id="0", delta="hm"), ev.TextDelta(id="0", delta="half an ans"), ev.ToolInputStart(**_CALL),
        ev.DataEvent(type="data-x", id="1", data=1), ev.Usage(input_tokens=1), ev.FinishStep(finish_reason="stop"),
    )  # fmt: skip
    refolded = (
        ev.Attempt(attempt=2),
        ev.TextDelta(id="0", delta="an answer"),
        ev.DataEvent(type="data-x", id="1", data=2),
    )
    assert folded(*first, *refolded) == folded(*refolded)
    assert folded(*first, *refolded).attempt == 2


def test_a_state_that_was_read_is_the_readers_own():
    fold = Fold()
    fold.apply(encode_event(ev.Start(message_metadata={"a": 1}, provider_metadata={"p": {"q": 1}})))
    fold.apply(encode_event(ev.TextDelta(id="0", delta="x", provider_metadata={"p": {"q": 1}})))
    fold.apply(encode_event(ev.DataEvent(type="data-x", data=1)))
    fold.apply(encode_event(ev.Usage(input_tokens=1)))
    before = fold.state
    spoiled = fold.state
    spoiled.metadata.clear()
    spoiled.provider_metadata["p"].clear()
    spoiled.parts[0]["providerMetadata"]["p"].clear()
    spoiled.parts[1].clear()
    spoiled.parts.clear()
    assert spoiled.usage is not None
    spoiled.usage.clear()
    assert fold.state == before


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"type":"text-delta"}'])
def test_an_event_in_the_shape_of_another_version_changes_nothing_of_an_answer(raw):
    answer: list[ev.Event] = [ev.TextStart(id="0"), ev.TextDelta(id="0", delta="x")]
    fold = Fold()
    for event in answer:
        fold.apply(encode_event(event))
        fold.apply(raw)
    assert fold.state == folded(*answer)


def test_an_end_that_cannot_be_read_is_no_clean_end():
    fold = Fold()
    fold.apply(b'{"type":"finish","finishReason":{"of":"a newer version"}}')
    assert fold.state.status == "failed"
    assert fold.state.error is not None
    assert fold.state.error["code"] == "unreadable"


# ----------------------------------------------------------------------------------------------------------- properties

_ids = st.sampled_from(["0", "1"])
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_metadata = st.none() | st.dictionaries(_ids, st.dictionaries(_ids, st.integers(0, 3), max_size=2), max_size=2)
_ordinary = st.one_of(
    st.builds(ev.Start, message_id=st.none() | _ids, provider_metadata=_metadata),
    st.builds(ev.StartStep),
    st.builds(ev.TextStart, id=_ids, provider_metadata=_metadata),
    st.builds(ev.TextDelta, id=_ids, delta=_texts, provider_metadata=_metadata),
    st.builds(ev.TextEnd, id=_ids),
    st.builds(ev.ReasoningStart, id=_ids),
    st.builds(ev.ReasoningDelta, id=_ids, delta=_texts),
    st.builds(ev.ReasoningEnd, id=_ids, provider_metadata=_metadata),
    st.builds(ev.ToolInputStart, tool_call_id=_ids, tool_name=_texts),
    st.builds(ev.ToolInputDelta, tool_call_id=_ids, input_text_delta=_texts),
    st.builds(ev.ToolInputAvailable, tool_call_id=_ids, tool_name=_texts, input=_texts),
    st.builds(ev.ToolOutputAvailable, tool_call_id=_ids, output=_texts),
    st.builds(ev.ToolOutputError, tool_call_id=_ids, error_text=_texts),
    st.builds(ev.DataEvent, type=st.just("data-x"), data=_texts, id=st.none() | _ids),
    st.builds(ev.Usage, input_tokens=st.integers(0, 9), estimated=st.booleans()),
    st.builds(ev.FinishStep, finish_reason=st.sampled_from([None, "stop", "length"])),
    st.builds(ev.Attempt, attempt=st.integers(2, 4)),
)
_terminal = st.sampled_from([ev.Finish(), ev.Error(error_text="x"), ev.Abort()])
_streams = st.builds(lambda body, end: [*body, *end], st.lists(_ordinary, max_size=20), st.lists(_terminal, max_size=1))


@given(_streams, st.data())
def test_reading_half_way_changes_nothing_of_the_end(stream, data):
    whole = folded(*stream)
    fold = Fold()
    at = data.draw(st.integers(0, len(stream)))
    for event in stream[:at]:
        fold.apply(encode_event(event))
    assert fold.state == folded(*stream[:at])
    for event in stream[at:]:
        fold.apply(encode_event(event))
        assert fold.state == fold.state
    assert fold.state == whole


@given(_streams)
def test_the_state_is_json_and_its_parts_have_the_same_text(stream):
    state = folded(*stream)
    assert json.loads(json.dumps(state.parts)) == state.parts
    for kind, text in (("text", state.text), ("reasoning", state.reasoning)):
        assert "".join(part["text"] for part in state.parts if part["type"] == kind) == text


@given(st.lists(st.builds(ev.TextDelta, id=st.just("0"), delta=_texts) | st.builds(ev.Attempt, attempt=st.just(2))))
def test_the_text_is_that_of_the_last_attempt(stream):
    deltas: list[str] = []
    for event in stream:
        if isinstance(event, ev.Attempt):
            deltas.clear()
        else:
            deltas.append(event.delta)
    assert folded(*stream).text == "".join(deltas)


@given(_streams)
def test_no_letter_of_the_last_attempt_is_lost_or_doubled_however_parts_interleave(stream):
    last_attempt = [at for at, event in enumerate(stream) if isinstance(event, ev.Attempt)]
    rest = stream[last_attempt[-1] :] if last_attempt else stream
    rest_text = "".join(event.delta for event in rest if isinstance(event, ev.TextDelta))
    assert sorted(folded(*stream).text) == sorted(rest_text)


@pytest.mark.timeout(20)
def test_a_long_answer_in_small_deltas_folds_without_copying_itself_over_and_over():
    raw = encode_event(ev.TextDelta(id="0", delta="x" * 400))
    fold = Fold()
    for _ in range(50_000):
        fold.apply(raw)
    assert len(fold.state.text) == 20_000_000
