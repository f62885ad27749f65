"""Responses requests: what is accepted although this server has no use for it, or only one wire has."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.dialects.openai.own_fields import plain_messages, plain_tools
from broadcaster.dialects.openai.parameters import BadParameter
from broadcaster.dialects.openai_chat.provider_request import chat_messages, chat_tools
from broadcaster.dialects.openai_responses.input import EarlierTurns, answer_of
from broadcaster.dialects.openai_responses.provider_request import responses_input, responses_tools
from tests.dialects.openai_chat.chat_clients import entries_of
from tests.dialects.openai_chat.chat_streams import SIGNED, STREAMS
from tests.dialects.openai_chat.test_openai_chat_encode import from_chat
from tests.dialects.openai_responses.responses_reading import response_of
from tests.dialects.openai_responses.test_openai_responses_ask import WEATHER, stored


def test_messages_of_the_system_alone_are_what_the_model_answers():
    request = stored(instructions="Be brief.", input=[{"role": "developer", "content": "Tell a joke."}])
    (message,) = request["messages"]
    assert request["system"] == "Be brief."
    assert message == {"role": "system", "content": [{"type": "text", "text": "Tell a joke."}]}
    later = stored(earlier=EarlierTurns([message]), input="Another.")
    assert later["messages"] == [message, {"role": "user", "content": "Another."}]


def test_metadata_of_the_client_itself_is_left_out():
    assert stored(extra_body={"client_metadata": {"installation": "1"}}) == stored()


def test_a_deferred_function_is_one_on_this_wire_alone():
    deferred: Any = {**WEATHER, "defer_loading": True}
    plain, fields = (stored(tools=[tool, {"type": "tool_search"}])["tools"] for tool in (WEATHER, deferred))
    assert responses_tools(fields) == [deferred, {"type": "tool_search"}]
    assert plain_tools(fields) == plain_tools(plain)
    assert chat_tools(fields) == chat_tools(plain)
    assert stored(tools=[{**WEATHER, "defer_loading": False}])["tools"] == plain[:1]


def test_a_bound_that_is_none_is_refused_with_the_remedy():
    with pytest.raises(BadParameter, match=r"max_output_tokens: must be .*; leave it out"):
        stored(max_output_tokens=0)


def test_a_bound_of_the_providers_own_background_is_refused_with_the_reason():
    with pytest.raises(BadParameter, match="background_options: a Response in the background begins at once here"):
        stored(extra_body={"background_options": {"completion_window": "8h"}})


def test_the_caller_of_a_call_comes_back_to_this_wire_and_no_other():
    caller = {"caller": {"type": "program", "caller_id": "call_p"}}
    items: Any = [
        {"type": "program", "id": "prog_1", "call_id": "call_p", "code": "f()", "fingerprint": "x"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}", "async": True, **caller},
        {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": "x", "namespace": "n", **caller},
        {"type": "function_call_output", "call_id": "a", "output": "1", **caller},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "2", **caller},
        {"type": "program_output", "id": "po_1", "call_id": "call_p", "result": "1", "status": "completed"},
    ]
    messages = stored(input=items)["messages"]
    assert responses_input(messages) == items
    calls = [call for message in chat_messages(messages, system=None) for call in message.get("tool_calls", ())]
    assert [sorted(call) for call in calls] == [["function", "id", "type"], ["custom", "id", "type"]]
    assert "caller" not in str(plain_messages(messages))


def test_a_signature_that_a_chat_server_attached_to_a_call_comes_back_to_its_wire_and_no_other():
    output = response_of(entries_of(from_chat(STREAMS["signature alone behind a call"])))["output"]
    for messages in (answer_of(output), stored(input=output)["messages"]):
        ((signed, other),) = [message["tool_calls"] for message in chat_messages(messages, system=None)]
        assert signed["extra_content"] == SIGNED["extra_content"]
        assert sorted(other) == ["function", "id", "type"]
        assert "extra_content" not in str(responses_input(messages)) + str(plain_messages(messages))


def test_fields_of_this_wire_do_not_reach_a_chat_server_with_a_call():
    known: Any = {"id": "fc_1", "status": "completed", "created_by": "x", "parsed_arguments": {}, "responses": {"a": 1}}
    known |= {"toolType": "function_call", "note": None}
    (message,) = answer_of([{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}", **known}])
    assert message["content"] == [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]


def test_what_a_program_of_the_provider_ran_can_be_built_on():
    program = {"type": "program", "id": "prog_1", "call_id": "call_p", "code": "f()", "fingerprint": "x"}
    assert answer_of([program]) == [{"role": "assistant", "content": [program]}]


@pytest.mark.parametrize(
    "type", ["web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call"]
)
def test_a_tool_that_openai_ran_comes_back_to_its_wire_and_no_other(type: str):
    ran: Any = {"type": type, "id": "ran_1", "status": "completed"}
    text: Any = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Found."}]}
    messages = answer_of([ran, text])
    assert responses_input(messages)[0] == ran
    assert chat_messages(messages, system=None) == [{"role": "assistant", "content": "Found."}]
    assert plain_messages(messages) == [{"role": "assistant", "content": [{"type": "text", "text": "Found."}]}]
    assert chat_messages(answer_of([ran]), system=None) == plain_messages(answer_of([ran])) == []


def test_a_summary_of_the_conversation_is_not_left_out_in_silence():
    messages = answer_of([{"type": "compaction", "id": "cmp_1", "encrypted_content": "ZW5j"}])
    assert [message["content"][0]["type"] for message in chat_messages(messages, system=None)] == ["compaction"]
    assert [message["content"][0]["type"] for message in plain_messages(messages)] == ["compaction"]
