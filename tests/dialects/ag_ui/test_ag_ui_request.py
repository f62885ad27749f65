"""What an AG-UI client requests → the request of the worker."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.dialects.ag_ui.request import UnsupportedInput, model_of, request_of
from broadcaster.dialects.openai_chat.provider_request import chat_messages
from tests.dialects.ag_ui import ag_ui_streams as streams
from tests.dialects.ag_ui.test_ag_ui import after

QUESTION = {"id": "u1", "role": "user", "content": "Weather?"}
CALL = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
RESULT = {"id": "t1", "role": "tool", "toolCallId": "a", "content": "18"}


def parsed(*messages: dict[str, Any], **run: Any) -> dict[str, Any]:
    return request_of({"threadId": "t", "runId": "r", "messages": list(messages), **run})


def test_a_question_stays_a_question():
    assert parsed(QUESTION) == {"messages": [{"role": "user", "content": "Weather?"}]}


def test_instructions_and_context_are_the_system_prompt():
    system = {"id": "s", "role": "system", "content": "Be brief."}
    developer = {"id": "d", "role": "developer", "content": "In German."}
    context = [{"description": "The page", "value": "weather.example"}]
    request = parsed(system, QUESTION, developer, context=context)
    assert request["system"] == "Be brief.\n\nIn German.\n\nThe page:\nweather.example"
    assert request["messages"] == [{"role": "user", "content": "Weather?"}]


def test_calls_and_results_stand_in_turns():
    answer = {"id": "a1", "role": "assistant", "content": "I look.", "toolCalls": [CALL]}
    assert parsed(QUESTION, answer, RESULT, {**QUESTION, "id": "u2", "content": "And?"})["messages"] == [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Paris"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "18"},
                {"type": "text", "text": "And?"},
            ],
        },
    ]


def test_a_failed_result_is_marked():
    answer = {"id": "a1", "role": "assistant", "toolCalls": [CALL]}
    failed = {**RESULT, "content": "", "error": "no network"}
    result = {"type": "tool_result", "tool_use_id": "a", "content": "no network", "is_error": True}
    assert parsed(QUESTION, answer, failed)["messages"][-1]["content"] == [result]


def test_a_call_without_a_result_is_left_out():
    torn = {**CALL, "function": {"name": "weather", "arguments": '{"ci'}}
    answer = {"id": "a1", "role": "assistant", "content": "I look.", "toolCalls": [torn]}
    bare = {"id": "a2", "role": "assistant", "toolCalls": [{**CALL, "id": "b"}]}
    assert parsed(QUESTION, answer, bare, QUESTION)["messages"] == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "I look."},
        {"role": "user", "content": "Weather?"},
    ]


@pytest.mark.parametrize(
    ("arguments", "input"),
    [("", {}), ("[1]", {"arguments": [1]}), ('{"ci', {"arguments": '{"ci'}), ('{"a":1}', {"a": 1})],
)
def test_arguments_are_an_object(arguments: str, input: object):
    call = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    _, answer, _ = parsed(QUESTION, {"id": "a1", "role": "assistant", "toolCalls": [call]}, RESULT)["messages"]
    assert answer["content"][0]["input"] == input


def test_images_and_documents_are_parts():
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}},
        {"type": "image", "source": {"type": "url", "value": "https://example.org/a.png"}},
        {"type": "document", "source": {"type": "file", "value": "file_1"}},
    ]
    (message,) = parsed({**QUESTION, "content": parts})["messages"]
    assert message["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
    ]


@pytest.mark.parametrize(
    ("part", "pointer"),
    [
        ({"type": "audio", "source": {}}, "/messages/0/content/0/type"),
        ({"type": "video"}, "/messages/0/content/0/type"),
        ({"type": "image"}, "/messages/0/content/0/type"),
        ({"type": "image", "source": {"type": "cloud"}}, "/messages/0/content/0/source"),
    ],
)
def test_a_part_that_no_model_takes_is_refused_where_it_stands(part: dict[str, Any], pointer: str):
    with pytest.raises(UnsupportedInput) as refused:
        parsed({**QUESTION, "content": [part]})
    assert refused.value.pointer == pointer


def test_an_interrupt_cannot_be_resumed():
    with pytest.raises(UnsupportedInput, match="interrupted"):
        parsed(QUESTION, resume=[{"interruptId": "i", "status": "resolved"}])


def test_tools_have_the_schema_of_their_input():
    tools = [
        {"name": "weather", "description": "Says it", "parameters": {"type": "object", "required": ["city"]}},
        {"name": "now", "description": "The time"},
    ]
    assert parsed(QUESTION, tools=tools)["tools"] == [
        {"name": "weather", "description": "Says it", "input_schema": {"type": "object", "required": ["city"]}},
        {"name": "now", "description": "The time", "input_schema": {"type": "object", "properties": {}}},
    ]


def test_forwarded_properties_have_the_model_and_its_parameters():
    forwarded = {"model": "claude-x", "max_tokens": 9, "temperature": 0, "top_p": None, "theme": "dark"}
    run = {"messages": [QUESTION], "forwardedProps": forwarded}
    assert model_of(run) == "claude-x"
    assert request_of(run) == {"messages": parsed(QUESTION)["messages"], "max_tokens": 9, "temperature": 0}
    assert model_of({"messages": []}) is None


def test_an_answer_of_ours_can_be_continued():
    """What our own stream left in the client goes back as the provider sent it: thinking with its signature."""
    messages = after(streams.entries_of(streams.LOOP)).messages
    turns = request_of({"messages": [*messages, {**QUESTION, "id": "u2"}]})["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user", "assistant", "user"]
    assert turns[1]["content"] == [
        {"type": "thinking", "thinking": "Let me look.", "signature": "c2ln"},
        {"type": "text", "text": "I ask two."},
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Paris"}},
    ]
    assert turns[5] == {"role": "assistant", "content": "Paris 18, Rome 22."}
    assert [message["role"] for message in chat_messages(turns, system=None)] == [
        *("user", "assistant", "tool", "assistant", "tool", "assistant", "user")
    ]


def test_redacted_thinking_goes_back_redacted_and_foreign_reasoning_does_not():
    ours = {"id": "r1", "role": "reasoning", "content": "", "encryptedValue": "anthropic:redacted:b3Bh"}
    foreign = {"id": "r2", "role": "reasoning", "content": "Hm.", "encryptedValue": "gAAAA"}
    answer = {"id": "a1", "role": "assistant", "content": "Yes."}
    turns = parsed(QUESTION, ours, foreign, answer)["messages"]
    assert turns[1]["content"] == [{"type": "redacted_thinking", "data": "b3Bh"}, {"type": "text", "text": "Yes."}]


def test_a_turn_that_only_thought_is_left_out():
    thought = {"id": "r1", "role": "reasoning", "content": "Hm.", "encryptedValue": "anthropic:signature:c2ln"}
    assert parsed(QUESTION, thought)["messages"] == [{"role": "user", "content": "Weather?"}]


def test_activity_is_not_for_models():
    activity = {"id": "x", "role": "activity", "activityType": "plan", "content": {}}
    assert parsed(activity, QUESTION)["messages"] == [{"role": "user", "content": "Weather?"}]
