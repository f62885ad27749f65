"""Responses decode: the calls in an answer, the caller's and the provider's."""

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from tests.dialects.decoding import the
from tests.dialects.openai_responses import responses_wire as wire
from tests.dialects.openai_responses.responses_streams import SEARCH, STREAMS
from tests.dialects.openai_responses.responses_wire import answer, call, created, provider_run, stream
from tests.dialects.openai_responses.test_openai_responses_decode import content, decode, passed


def finish_reason(raw: bytes) -> ev.FinishReason | None:
    finish = decode(raw)[-1]
    assert isinstance(finish, ev.Finish)
    return finish.finish_reason


def test_arguments_stream_as_text_and_are_parsed_when_whole():
    item = {"openai": {"itemId": "fc_1"}}
    assert content(STREAMS["function call"]) == [
        ev.ToolInputStart(tool_call_id="call_1", tool_name="get_weather", provider_metadata=item),
        *(
            ev.ToolInputDelta(tool_call_id="call_1", input_text_delta=fragment)
            for fragment in ('{"city": ', '"Pa', 'ris"}')
        ),
        ev.ToolInputAvailable(
            tool_call_id="call_1", tool_name="get_weather", input={"city": "Paris"}, provider_metadata=item
        ),
    ]


@pytest.mark.parametrize("fragments", [(), ("",), (" ",)])
def test_a_call_without_arguments_gets_the_empty_object(fragments: tuple[str, ...]):
    assert the(ev.ToolInputAvailable, content(stream(*answer(call("now", *fragments))))).input == {}


@pytest.mark.parametrize("text", ['{"text": "half', "{} {}", "[" * 5000])
def test_arguments_that_are_no_json_are_sent_with_their_text(text: str):
    error = the(ev.ToolInputError, content(stream(*answer(call("write", text)))))
    assert error.input == text
    assert "not valid JSON" in error.error_text


def test_arguments_that_come_as_an_object_are_taken_as_they_are():
    item = call("f").item | {"arguments": {"x": 1}}
    events = content(stream(created(), wire.done(item), wire.completed(item)))
    assert the(ev.ToolInputAvailable, events).input == {"x": 1}


def test_arguments_that_the_announced_call_holds_already_are_kept():
    item = call("f", '{"x":1}').item
    events = content(stream(created(), wire.added(item), wire.done(item), wire.completed(item)))
    assert [event.input_text_delta for event in events if isinstance(event, ev.ToolInputDelta)] == ['{"x":1}']
    assert the(ev.ToolInputAvailable, events).input == {"x": 1}


def test_the_whole_arguments_are_believed_where_they_are_others_than_their_deltas():
    events = answer(call("f", '{"x": 1}'))
    for event in events:
        if event["type"].endswith("arguments.done"):
            event["arguments"] = '{"x":1}'
    assert the(ev.ToolInputAvailable, content(stream(*events))).input == {"x": 1}


def test_a_call_that_was_never_finished_has_the_arguments_that_came():
    events = [created(), *call("f", '{"x":', "1}").events(0)[:3], wire.completed()]
    assert the(ev.ToolInputAvailable, content(stream(*events))).input == {"x": 1}


def test_a_field_that_the_provider_sends_with_a_call_is_kept():
    events = answer(call("f", "{}"))
    for event in events:
        if "item" in event:
            event["item"]["namespace"] = "crm"
    extras = {"openai": {"itemId": "fc_1", "namespace": "crm"}}
    assert the(ev.ToolInputStart, content(stream(*events))).provider_metadata == extras


def test_a_field_that_comes_after_the_arguments_of_a_call_is_passed_on():
    output = call("f", "{}", caller={"type": "direct"})
    assert content(stream(*answer(output)))[-1] == passed(wire.done(output.item), 5)


def test_a_delta_of_a_call_that_is_not_known_is_passed_on_and_the_finished_call_is_whole():
    output = call("f", '{"x":', "1}")
    events = content(stream(created(), *output.events(0)[1:], wire.completed(output.item)))
    assert [type(event) for event in events] == [
        ev.DataEvent,
        ev.DataEvent,
        ev.DataEvent,
        ev.ToolInputStart,
        ev.ToolInputDelta,
        ev.ToolInputAvailable,
    ]
    assert the(ev.ToolInputAvailable, events).input == {"x": 1}


def test_a_delta_after_the_whole_arguments_is_passed_on():
    late = {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 0, "delta": "x"}
    events = answer(call("f", "{}"))
    events.insert(5, late)
    assert content(stream(*events))[-1] == passed(late, 5)


def test_a_custom_tool_is_called_with_text():
    available = the(ev.ToolInputAvailable, content(STREAMS["custom tool"]))
    assert available.input == "print(1)"
    assert available.provider_executed is None
    assert available.provider_metadata == {"openai": {"itemId": "fc_1", "itemType": "custom_tool_call"}}


@pytest.mark.parametrize("type", ["computer_call", "local_shell_call", "apply_patch_call"])
def test_a_tool_that_the_caller_runs_is_called_with_its_fields(type: str):
    raw = stream(*answer(provider_run(type, id="x_1", call_id="call_1", action={"type": "wait"})))
    start, available = content(raw)
    assert isinstance(start, ev.ToolInputStart)
    assert isinstance(available, ev.ToolInputAvailable)
    assert available.tool_name == type.removesuffix("_call")
    assert available.input == {"action": {"type": "wait"}}
    assert available.provider_executed is None
    assert finish_reason(raw) == "tool-calls"


def test_a_call_that_the_provider_runs_has_its_input_and_output_and_is_not_for_the_caller():
    raw = stream(*answer(SEARCH))
    start, *progress, available, output = content(raw)
    item = {"openai": {"itemId": "tool_1", "itemType": "web_search_call"}}
    call: dict[str, Any] = {"tool_call_id": "tool_1", "provider_executed": True}
    assert start == ev.ToolInputStart(**call, tool_name="web_search", provider_metadata=item)
    assert available == ev.ToolInputAvailable(
        **call, tool_name="web_search", input={"action": {"type": "search", "query": "a"}}, provider_metadata=item
    )
    assert output == ev.ToolOutputAvailable(**call, output={"status": "completed"})
    assert [event.transient for event in progress if isinstance(event, ev.DataEvent)] == [True] * 3
    assert finish_reason(raw) == "stop"


@pytest.mark.parametrize(
    ("type", "fields", "input", "output"),
    [
        ("file_search_call", {"queries": ["a"]}, {"queries": ["a"]}, {"results": [{"file_id": "f"}]}),
        ("image_generation_call", {"revised_prompt": "p"}, {"revised_prompt": "p"}, {"result": "aGk="}),
        (
            "code_interpreter_call",
            {"code": "1", "container_id": "c"},
            {"code": "1", "container_id": "c"},
            {"outputs": []},
        ),
    ],
)
def test_results_are_the_output_and_the_rest_is_the_input(
    type: str, fields: dict[str, Any], input: dict[str, Any], output: dict[str, Any]
):
    events = content(stream(*answer(provider_run(type, **fields, **output))))
    assert the(ev.ToolInputAvailable, events).input == input
    assert the(ev.ToolOutputAvailable, events).output == {"status": "completed", **output}


def test_code_streams_as_the_input_of_its_tool():
    events = content(STREAMS["code interpreter"])
    assert [event.input_text_delta for event in events if isinstance(event, ev.ToolInputDelta)] == ["1+", "1"]
    assert the(ev.ToolInputAvailable, events).input == {"code": "1+1", "container_id": "c_1"}
    assert the(ev.ToolOutputAvailable, events).output == {"status": "completed", "outputs": [{"logs": "2"}]}


def test_an_mcp_call_is_dynamic_and_named_by_its_tool():
    events = content(STREAMS["MCP call"])
    start = the(ev.ToolInputStart, events)
    assert (start.tool_call_id, start.tool_name, start.dynamic, start.provider_executed) == (
        "mcp_1",
        "roll",
        True,
        True,
    )
    assert the(ev.ToolInputAvailable, events).input == {"n": 1}
    output = the(ev.ToolOutputAvailable, events)
    assert output.output == {"status": "completed", "output": "4"}
    assert output.provider_metadata == {"openai": {"server_label": "dice"}}


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ({"error": {"type": "http_error", "message": "no dice"}}, "no dice"),
        ({"error": "no dice"}, "no dice"),
        ({"status": "failed"}, "the tool did not complete"),
        ({"status": "incomplete"}, "the tool did not complete"),
    ],
)
def test_a_tool_that_failed_is_a_tool_error(end: dict[str, Any], text: str):
    events = content(stream(*answer(call("roll", "{}", type="mcp_call", **end))))
    error = the(ev.ToolOutputError, events)
    assert error.error_text == text
    assert error.provider_metadata == {"openai": {"toolResult": {"status": "completed", **end}}}


@pytest.mark.parametrize("status", [None, 3, ["failed"], {"state": "failed"}])
def test_a_status_that_is_no_text_is_part_of_the_tools_output(status: object):
    events = content(stream(*answer(call("roll", "{}", type="mcp_call", status=status))))
    assert the(ev.ToolOutputAvailable, events).output["status"] == status


def test_an_answer_that_was_cut_is_incomplete_even_with_a_call():
    assert finish_reason(STREAMS["call cut by max_output_tokens"]) == "length"


def test_a_stream_that_breaks_off_leaves_its_call_open():
    decoder = OpenAIResponsesDecoder()
    events = decoder.decode(stream(created(), *call("f", '{"x":', "1}").events(0)[:3])) + decoder.flush()
    assert isinstance(events[-1], ev.ToolInputDelta)
