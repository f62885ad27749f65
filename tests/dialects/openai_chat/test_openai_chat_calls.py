"""Chat completions tool calls: put together from fragments, however a server cuts and numbers them."""

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic.encode import AnthropicDialect
from tests.dialects.anthropic.anthropic_reading import entries_of
from tests.dialects.decoding import the
from tests.dialects.openai_chat.chat_streams import (
    DONE,
    STREAMS,
    Json,
    answer,
    delta,
    first,
    fragment,
    last,
    stream,
    wrote,
)
from tests.dialects.openai_chat.test_openai_chat_decode import content, decode, metadata


def calls(*chunks: list[Json]) -> list[ev.Event]:
    return content(answer(*(delta(tool_calls=fragments) for fragments in chunks), finish_reason="tool_calls"))


def inputs(*chunks: list[Json]) -> list[tuple[str, str, object]]:
    found = (event for event in calls(*chunks) if isinstance(event, ev.ToolInputAvailable))
    return [(event.tool_call_id, event.tool_name, event.input) for event in found]


def test_arguments_stream_as_text_and_are_parsed_when_whole():
    events = decode(STREAMS["tool with an empty first fragment"])
    assert events[2:-3] == [
        ev.ToolInputStart(tool_call_id="call_a", tool_name="get_weather"),
        *(ev.ToolInputDelta(tool_call_id="call_a", input_text_delta=text) for text in ('{"city": ', '"Pa', 'ris"}')),
        ev.ToolInputAvailable(tool_call_id="call_a", tool_name="get_weather", input={"city": "Paris"}),
    ]
    assert the(ev.Finish, events).finish_reason == "tool-calls"


def test_calls_that_interleave_are_distinguished_by_their_index():
    events = content(STREAMS["tools that interleave"])
    assert [event.input for event in events if isinstance(event, ev.ToolInputAvailable)] == [{"x": 1}, {"y": 2}]


def test_a_call_closes_the_text_and_text_after_it_is_another_part():
    events = content(STREAMS["text, tool, text"])
    assert events == [
        ev.TextStart(id="0"),
        ev.TextDelta(id="0", delta="a"),
        ev.TextEnd(id="0"),
        ev.ToolInputStart(tool_call_id="a", tool_name="f"),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta="{}"),
        ev.TextStart(id="2"),
        ev.TextDelta(id="2", delta="b"),
        ev.TextEnd(id="2"),
        ev.ToolInputAvailable(tool_call_id="a", tool_name="f", input={}),
    ]


def test_reasoning_closes_when_a_call_begins():
    raw = answer(delta(reasoning="Hm."), delta(tool_calls=[fragment("{}", index=0, id="a", name="f")]))
    assert [type(event) for event in content(raw)][2:4] == [ev.ReasoningEnd, ev.ToolInputStart]


def test_a_whole_call_in_one_chunk_is_a_call():
    assert inputs([fragment('{"x":1}', index=0, id="a", type="function", name="f")]) == [("a", "f", {"x": 1})]


@pytest.mark.parametrize("arguments", [None, "", " "])
def test_a_call_without_arguments_gets_the_empty_object(arguments: str | None):
    assert inputs([fragment(arguments, index=0, id="a", name="f")]) == [("a", "f", {})]


def test_arguments_that_come_as_an_object_are_taken_as_they_are():
    whole = {"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": [1, "é"]}}}
    assert inputs([whole]) == [("a", "f", {"x": [1, "é"]})]


@pytest.mark.parametrize("text", ['{"text": "half', "{} {}", '{"x": \\ud800}', "[" * 5000])
def test_arguments_that_are_no_json_are_sent_with_their_text(text: str):
    error = the(ev.ToolInputError, calls([fragment(text, index=0, id="a", name="write")]))
    assert (error.tool_call_id, error.tool_name, error.input) == ("a", "write", text)
    assert "not valid JSON" in error.error_text


def test_an_id_and_a_name_that_every_fragment_repeats_begin_no_new_call():
    repeated = {"index": 0, "id": "a", "name": "f"}
    assert inputs([fragment('{"x"', **repeated)], [fragment(":1}", **repeated)]) == [("a", "f", {"x": 1})]


def test_a_call_without_an_id_is_named_by_its_index():
    assert inputs([fragment('{"x":', index=3, name="f")], [fragment("1}", index=3)]) == [("call_3", "f", {"x": 1})]


def test_a_call_without_an_index_is_the_first_one():
    assert inputs([fragment('{"x":', id="a", name="f")], [fragment("1}")]) == [("a", "f", {"x": 1})]


def test_calls_without_index_or_id_are_distinguished_by_their_place_in_the_list():
    assert inputs([fragment("{}", name="f"), fragment('{"y":2}', name="g")]) == [
        ("call_0", "f", {}),
        ("call_1", "g", {"y": 2}),
    ]


def test_a_fragment_without_an_index_belongs_to_the_call_of_its_id():
    opening = [fragment("{", id="a", name="f"), fragment("{", id="b", name="f")]
    assert inputs(opening, [fragment("}", id="b")], [fragment("}", id="a")]) == [("a", "f", {}), ("b", "f", {})]


def test_another_id_at_the_same_index_is_another_call():
    chunks = ([fragment(f'{{"n":{n}}}', index=0, id=id, name="f")] for n, id in enumerate("ab"))
    assert inputs(*chunks) == [("a", "f", {"n": 0}), ("b", "f", {"n": 1})]


def test_another_name_at_the_same_index_without_an_id_is_another_call():
    assert inputs([fragment("{}", index=0, name="f")], [fragment("{}", index=0, name="g")]) == [
        ("call_0", "f", {}),
        ("call_0-2", "g", {}),
    ]


def test_two_calls_with_the_same_id_stay_two_calls():
    assert inputs([fragment("{}", index=0, id="a", name="f"), fragment("{}", index=1, id="a", name="g")]) == [
        ("a", "f", {}),
        ("a-2", "g", {}),
    ]


def test_fragments_before_the_name_wait_until_it_comes():
    assert calls([fragment('{"x"', index=0, id="a")], [fragment(":1}", index=0, name="f")]) == [
        ev.ToolInputStart(tool_call_id="a", tool_name="f"),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta='{"x"'),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta=":1}"),
        ev.ToolInputAvailable(tool_call_id="a", tool_name="f", input={"x": 1}),
    ]


def test_a_call_whose_name_never_came_is_still_sent():
    assert inputs([fragment("{}", index=0, id="a")]) == [("a", "", {})]


def test_a_vendors_extras_ride_on_the_call():
    signed = {"google": {"thought_signature": "c2ln"}}
    events = calls([fragment("{}", index=0, id="a", name="f", extra_content=signed)])
    carried = metadata(extra_content=signed)
    assert the(ev.ToolInputStart, events).provider_metadata == carried
    assert the(ev.ToolInputAvailable, events).provider_metadata == carried


def test_the_input_of_a_custom_tool_is_text():
    opening = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": "SELECT "}}
    events = calls([opening], [{"index": 0, "custom": {"input": "1"}}])
    assert the(ev.ToolInputAvailable, events) == ev.ToolInputAvailable(
        tool_call_id="a", tool_name="sql", input="SELECT 1", provider_metadata=metadata(toolType="custom")
    )


def test_the_function_call_of_the_older_wire_is_a_call():
    events = decode(STREAMS["function call of the older wire"])
    assert the(ev.ToolInputAvailable, events) == ev.ToolInputAvailable(
        tool_call_id="call_0", tool_name="f", input={"x": 1}, provider_metadata=metadata(toolType="function_call")
    )
    assert the(ev.Finish, events) == ev.Finish(
        finish_reason="tool-calls", provider_metadata=metadata(finishReason="function_call")
    )


@pytest.mark.parametrize("name", ["tool with an empty first fragment", "function call of the older wire"])
def test_an_answer_that_ends_normally_with_calls_ends_with_calls(name: str):
    raw = STREAMS[name].replace(b'"finish_reason":"tool_calls"', b'"finish_reason":"stop"')
    raw = raw.replace(b'"finish_reason":"function_call"', b'"finish_reason":"stop"')
    events = decode(raw)
    ended: Json = {"finish_reason": "tool-calls", "provider_metadata": metadata(finishReason="stop")}
    assert events[-2:] == [ev.FinishStep(**ended), ev.Finish(**ended)]
    assert b'"stop_reason":"tool_use"' in AnthropicDialect().open("gen_1").encode(entries_of(events))


def test_an_empty_list_of_calls_is_none():
    assert content(stream(first(), delta(content="a", tool_calls=[]), wrote("b"), last(), DONE))[1:3] == [
        ev.TextDelta(id="0", delta="a"),
        ev.TextDelta(id="0", delta="b"),
    ]
