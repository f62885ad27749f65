"""What the events of a provider call amount to: its calls, its messages, what a take-over may rely on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.events import Event, encode_event
from broadcaster.core.fold import Fold
from broadcaster.core.providers.metering import total_usage
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.testing import wire
from tests.worker.providers.provider_support import ANTHROPIC, CHAT, MODEL, RESPONSES, Wire
from tests.worker.tools.test_tools import JSON
from worker.tools.step_messages import content_of, messages_of
from worker.tools.step_relay import StepRelay
from worker.tools.steps import BEGUN_TYPE, AgentStep, begun, compacted, recorded_steps

DECODERS: dict[str, Any] = {
    "anthropic": AnthropicDecoder,
    "chat": OpenAIChatDecoder,
    "responses": OpenAIResponsesDecoder,
}
OBJECTS = st.dictionaries(st.text(max_size=8), JSON, max_size=3)


def decoded(on: Wire, wire_events: list[Any]) -> list[Event]:
    decoder = DECODERS[on.name]()
    events = [event for each in wire_events for event in decoder.decode(on.scripted.frame(each))]
    return [*events, *decoder.flush()]


def step_of(events: list[Event], number: int = 1) -> AgentStep:
    step = AgentStep(number)
    for event in events:
        step.add(event)
    return step


@pytest.mark.parametrize("on", [ANTHROPIC, CHAT, RESPONSES], ids=str)
@given(data=st.data())
def test_calls_come_whole_out_of_fragments_however_they_are_cut(on: Wire, data: st.DataObject):
    inputs = data.draw(st.lists(OBJECTS, min_size=1, max_size=3))
    composer = on.scripted.compose(MODEL)
    events: list[Any] = []
    for number, input in enumerate(inputs):
        text = msgspec.json.encode(input).decode()
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=4)))
        fragments = [text[begin:end] for begin, end in pairwise([0, *cuts, len(text)])]
        events += composer.part(on.scripted.tool_call(f"tool_{number}", *fragments, id=f"call_{number}"))
    whole = decoded(on, [*events, *composer.finish()])
    for end in range(len(whole) + 1):
        seen = step_of(whole[:end]).calls
        assert [call.input for call in seen] == inputs[: len(seen)]
    calls = step_of(whole).calls
    assert [(call.index, call.name, call.fault) for call in calls] == [
        (number, f"tool_{number}", None) for number in range(len(inputs))
    ]


@given(st.text(max_size=20).filter(lambda text: text.strip() != ""))
def test_arguments_that_are_no_json_are_a_fault_and_no_input(text: str):
    composer = ANTHROPIC.scripted.compose(MODEL)
    block = ANTHROPIC.scripted.tool_call("made", "{!", text, id="call_1")
    (call,) = step_of(decoded(ANTHROPIC, [*composer.part(block), *composer.finish()])).calls
    assert call.fault is not None
    assert call.input == "{!" + text


def test_the_calls_that_the_provider_runs_itself_are_none_of_ours():
    blocks = (
        wire.server_tool_use("web_search", '{"query":"x"}'),
        wire.tool_result("web_search_tool_result", [{"type": "web_search_result", "url": "https://x.test"}]),
        wire.tool_use("weather", "{}"),
    )
    step = step_of(decoded(ANTHROPIC, wire.message(*blocks)))
    assert [(call.name, call.index) for call in step.calls] == [("weather", 0)]
    assert step.outputs == {}
    assert content_of(step.events) == [
        {"type": "server_tool_use", "id": "srvtoolu_01", "name": "web_search", "input": {"query": "x"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_01",
            "content": [{"type": "web_search_result", "url": "https://x.test"}],
        },
        {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {}},
    ]


def test_citations_go_back_with_their_text():
    citation = wire.web_citation("https://x.test")
    content = content_of(decoded(ANTHROPIC, wire.message(wire.text("It is so.", citations=[citation]))))
    assert content == [{"type": "text", "text": "It is so.", "citations": [citation]}]


def test_empty_text_and_thinking_without_a_signature_do_not_go_back():
    events: list[Event] = [
        *(ev.TextStart(id="0"), ev.TextEnd(id="0")),
        *(ev.ReasoningStart(id="1"), ev.ReasoningDelta(id="1", delta="hm"), ev.ReasoningEnd(id="1")),
    ]
    assert content_of(events) == []


@pytest.mark.parametrize("input", [[1], "text", 7, None])
def test_an_input_that_is_no_object_goes_back_in_one(input: Any):
    called = ev.ToolInputAvailable(tool_call_id="c", tool_name="t", input=input)
    assert content_of([called])[0]["input"] == {"raw_input": input}


def test_results_follow_in_the_order_of_the_calls_with_their_failures():
    step = step_of(
        [
            ev.ToolInputAvailable(tool_call_id="a", tool_name="t", input={}),
            ev.ToolInputAvailable(tool_call_id="b", tool_name="t", input={}),
            ev.ToolOutputError(tool_call_id="b", error_text="no"),
            ev.ToolOutputAvailable(tool_call_id="a", output="text stays text"),
        ]
    )
    assert messages_of(step)[1]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "text stays text"},
        {"type": "tool_result", "tool_use_id": "b", "content": "no", "is_error": True},
    ]


# --------------------------------------------------------------------------------------------------------- repeated

IDS = st.sampled_from(["0", "1"])
METADATA = st.none() | st.just({"anthropic": {"signature": "c2ln"}})
EVENTS = st.lists(
    st.one_of(
        st.builds(ev.TextStart, id=IDS),
        st.builds(ev.TextDelta, id=IDS, delta=st.text(max_size=3), provider_metadata=METADATA),
        st.builds(ev.TextEnd, id=IDS),
        st.builds(ev.ReasoningStart, id=IDS),
        st.builds(ev.ReasoningDelta, id=IDS, delta=st.text(max_size=3), provider_metadata=METADATA),
        st.builds(ev.ReasoningEnd, id=IDS),
        st.builds(ev.ToolInputStart, tool_call_id=IDS, tool_name=st.just("t")),
        st.builds(ev.ToolInputDelta, tool_call_id=IDS, input_text_delta=st.text(max_size=3)),
        st.builds(ev.ToolInputAvailable, tool_call_id=IDS, tool_name=st.just("t"), input=st.just({})),
        st.builds(ev.DataEvent, type=st.just("data-progress"), id=IDS, data=st.integers()),
        st.builds(ev.DataEvent, type=st.just("data-other"), data=st.integers()),
        st.builds(ev.Usage, output_tokens=st.integers(0, 9)),
        st.just(ev.StartStep()),
        st.just(ev.FinishStep()),
    ),
    max_size=40,
)


def state_of(events: list[Event]) -> Any:
    fold = Fold()
    for event in events:
        fold.apply(encode_event(event))
    return fold.state


@given(EVENTS)
def test_compacted_events_amount_to_the_same(events: list[Event]):
    fewer = compacted(events)
    assert len(fewer) <= len(events)
    assert state_of(fewer) == state_of(events)
    assert content_of(fewer) == content_of(events)
    assert compacted(fewer) == fewer


def events_of(
    *, number: int = 1, is_begun: bool = False, is_answered: bool = False, is_over: bool = False
) -> list[Event]:
    """A step with one call, as far as it came."""
    id = f"call_{number}"
    called = ev.ToolInputAvailable(tool_call_id=id, tool_name="t", input={})
    events: list[Event] = [ev.StartStep(), called]
    (call,) = step_of(events, number).calls
    if is_begun:
        events.append(begun(call, f"gen_1:{number}:0"))
    if is_answered:
        events.append(ev.ToolOutputAvailable(tool_call_id=id, output=1))
    if is_over:
        events.append(ev.FinishStep(finish_reason="tool-calls"))
    return events


WHOLE = events_of(is_begun=True, is_answered=True, is_over=True)


@pytest.mark.parametrize(
    ("events", "overs"),
    [
        ([], []),
        ([ev.Start(), *events_of()], []),
        ([ev.Start(), *events_of(is_begun=True)], [False]),
        ([ev.Start(), *events_of(is_answered=True)], [False]),
        ([ev.Start(), *WHOLE, *events_of(number=2)], [True]),
        ([ev.Start(), *WHOLE, *events_of(number=2, is_begun=True)], [True, False]),
    ],
    ids=["nothing", "not begun", "begun", "refused", "a second that is not begun", "a second that is begun"],
)
def test_a_take_over_relies_on_steps_that_are_over_and_on_one_whose_calls_were_begun(
    events: list[Event], overs: list[bool]
):
    steps = recorded_steps(events)
    assert [step.is_over for step in steps] == overs
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))


@given(st.permutations([events_of(), events_of(is_begun=True), WHOLE, [*WHOLE, *events_of(number=2, is_begun=True)]]))
def test_of_several_attempts_the_one_that_came_furthest_counts(attempts: list[list[Event]]):
    events: list[Event] = []
    for number, events_of_attempt in enumerate(attempts, start=1):
        events += [*([ev.Attempt(attempt=number)] if number > 1 else []), ev.Start(), *events_of_attempt]
    steps = recorded_steps(events)
    assert [(step.is_over, len(step.begun)) for step in steps] == [(True, 1), (False, 1)]


def test_the_begin_of_a_call_is_no_part_of_the_answer():
    parts = state_of(events_of(is_begun=True)).parts
    assert [part["type"] for part in parts] == ["step-start", "tool"]
    assert step_of(events_of(is_begun=True)).begun == {"call_1"}
    assert any(isinstance(each, ev.DataEvent) and each.type == BEGUN_TYPE for each in events_of(is_begun=True))


# ---------------------------------------------------------------------------------------------------- within an answer


def test_counts_are_added_where_they_are_known():
    one = ev.Usage(input_tokens=1, output_tokens=2, estimated=True)
    two = ev.Usage(input_tokens=3, cached_input_tokens=4, provider_metadata={"p": {"x": 1}})
    assert total_usage([one, two]) == ev.Usage(
        input_tokens=4, output_tokens=2, cached_input_tokens=4, estimated=True, provider_metadata={"p": {"x": 1}}
    )


def test_a_later_step_has_no_start_and_its_metadata_is_on_the_step_border():
    step = AgentStep(2)
    relay = StepRelay(step, is_first=False, taken=set(), counted=None)
    start = ev.Start(message_id="m2", provider_metadata={"anthropic": {"requestId": "r2"}})
    assert relay.take([start, ev.StartStep()]) == [ev.StartStep(provider_metadata={"anthropic": {"requestId": "r2"}})]


def test_the_end_of_a_step_names_its_provider():
    step = AgentStep(1)
    relay = StepRelay(step, is_first=True, taken=set(), counted=None)
    who = {"provider": "openai", "model": "gpt", "tries": 2}
    end = ev.Finish(finish_reason="tool-calls", provider_metadata={ev.ANSWERED_BY: who})
    assert relay.take([ev.FinishStep(finish_reason="tool-calls"), end]) == []
    (events_of_attempt,) = step.step_ending()
    assert events_of_attempt == ev.FinishStep(finish_reason="tool-calls", provider_metadata={ev.ANSWERED_BY: who})
    assert step.ending()[-1] == end


@given(st.lists(st.lists(st.sampled_from(["call_0", "call_0-2", "call_1"]), max_size=3, unique=True), max_size=4))
def test_ids_of_calls_stay_apart_whatever_the_steps_call_them(steps: list[list[str]]):
    taken: set[str] = set()
    for number, ids in enumerate(steps, start=1):
        step = AgentStep(number)
        relay = StepRelay(step, is_first=number == 1, taken=taken, counted=None)
        for id in ids:
            relay.take([ev.ToolInputStart(tool_call_id=id, tool_name="t")])
            relay.take([ev.ToolInputAvailable(tool_call_id=id, tool_name="t", input={})])
        named = [call.id for call in step.calls]
        assert len({*named}) == len(ids)
        assert taken.isdisjoint(named)
        taken |= {*named}
