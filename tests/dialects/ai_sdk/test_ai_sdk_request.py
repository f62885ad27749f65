"""UI messages and settings of the AI SDK in the format of the Messages API."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.dialects.ai_sdk.request import (
    BadUiMessage,
    continued_message,
    conversation_of,
    tool_choice_of,
    tools_of,
)
from broadcaster.dialects.openai.own_fields import plain_messages
from broadcaster.dialects.openai_chat.provider_request import chat_messages
from broadcaster.dialects.openai_responses.provider_request import responses_input
from broadcaster.dialects.reading import as_text

Json = dict[str, Any]

STEP = {"type": "step-start"}


def text(content: str) -> Json:
    return {"type": "text", "text": content}


def user(*parts: Json) -> Json:
    return {"id": "u", "role": "user", "parts": list(parts)}


def assistant(*parts: Json) -> Json:
    return {"id": "a", "role": "assistant", "parts": list(parts)}


def tool(name: str, id: str, state: str = "output-available", **fields: Any) -> Json:
    return {"type": f"tool-{name}", "toolCallId": id, "state": state, "input": {"q": 1}, **fields}


def messages_of(*messages: Json) -> list[Json]:
    return conversation_of(messages).messages


def content_of(*parts: Json) -> list[Json]:
    ((message),) = messages_of(assistant(*parts))
    return list(message["content"])


def test_system_messages_are_the_system_prompt() -> None:
    system = {"role": "system", "parts": [text("a"), text(""), text("b")]}
    assert conversation_of([system, user(text("Hi"))]) == (
        "a\n\nb",
        [{"role": "user", "content": [text("Hi")]}],
    )


@pytest.mark.parametrize(
    ("file", "part"),
    [
        (
            {"mediaType": "image/png", "url": "data:image/png;base64,AAAA"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        ),
        (
            {"mediaType": "image/*", "url": "https://example.org/a.png", "filename": "a.png"},
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        ),
        (
            {"mediaType": "application/pdf", "url": "data:application/pdf;base64,AAAA", "filename": "a.pdf"},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
                "title": "a.pdf",
            },
        ),
        (
            {"mediaType": "text/csv", "url": "data:text/csv;charset=utf-8;base64,w7w7MQ=="},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "ü;1"}},
        ),
        (
            {"mediaType": "text/plain", "url": "data:text/plain,a%20b"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a b"}},
        ),
    ],
)
def test_files_are_images_and_documents(file: Json, part: Json) -> None:
    assert messages_of(user({"type": "file", **file})) == [{"role": "user", "content": [part]}]


def test_an_answer_is_cut_at_its_steps_and_the_tools_answers_stand_between() -> None:
    answer = assistant(
        STEP,
        text("Let me see."),
        tool("search", "1", output={"hits": 2}),
        {"type": "dynamic-tool", "toolName": "mcp", "toolCallId": "2", "state": "output-error", "errorText": "no"},
        STEP,
        text("Two."),
    )
    assert messages_of(user(text("How many?")), answer, user(text("Thanks"))) == [
        {"role": "user", "content": [text("How many?")]},
        {
            "role": "assistant",
            "content": [
                text("Let me see."),
                {"type": "tool_use", "id": "1", "name": "search", "input": {"q": 1}},
                {"type": "tool_use", "id": "2", "name": "mcp", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": '{"hits":2}'},
                {"type": "tool_result", "tool_use_id": "2", "content": "no", "is_error": True},
            ],
        },
        {"role": "assistant", "content": [text("Two.")]},
        {"role": "user", "content": [text("Thanks")]},
    ]


def test_the_users_next_message_joins_the_results_of_tools() -> None:
    *_, last = messages_of(assistant(STEP, tool("now", "1", output="noon")), user(text("And?")))
    assert last == {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "1", "content": "noon"}, text("And?")],
    }


def test_a_denied_call_is_one_that_failed() -> None:
    _, result = messages_of(assistant(tool("rm", "1", "output-denied")))
    assert result["content"][0]["is_error"] is True


@pytest.mark.parametrize("field", ["rawInput", "input"])
def test_a_call_whose_arguments_are_no_object_has_them_as_text_for_openai_alone(field: str) -> None:
    torn = {name: value for name, value in tool("now", "1", "output-error").items() if name != "input"}
    torn |= {field: '{"ci', "errorText": "x"}
    call, result = messages_of(assistant(STEP, torn))
    own = {"arguments": '{"ci'}
    assert call["content"] == [{"type": "tool_use", "id": "1", "name": "now", "input": {}, "openai": own}]
    assert plain_messages([user(text("Hi")), call])[1]["content"][0]["input"] == {}
    assert chat_messages([call], system=None)[0]["tool_calls"][0]["function"]["arguments"] == '{"ci'
    assert responses_input([call])[0]["arguments"] == '{"ci'
    assert result["content"][0]["is_error"] is True


@pytest.mark.parametrize("input", [{"q": 1}, '{"ci'])
def test_a_call_comes_back_with_what_a_chat_server_attached_to_it(input: Any) -> None:
    signed = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    called = tool("now", "1", output=1) | {"input": input}
    called |= {"callProviderMetadata": {"openai": {**signed, "toolType": "function"}}}
    conversation = messages_of(assistant(STEP, called))
    (call,) = chat_messages(conversation, system=None)[0]["tool_calls"]
    assert call["extra_content"] == signed["extra_content"]
    assert call["function"]["arguments"] == as_text(input)
    assert sorted(call) == ["extra_content", "function", "id", "type"]
    assert "extra_content" not in str(responses_input(conversation)) + str(plain_messages(conversation))


@pytest.mark.parametrize("metadata", [{"openai": {"itemId": "fc_1", "caller": "x"}}, {"openai": 3}, "odd", None])
def test_a_call_of_another_wire_comes_back_plain(metadata: Any) -> None:
    call, _ = messages_of(assistant(tool("now", "1", output=1) | {"callProviderMetadata": metadata}))
    assert call["content"] == [{"type": "tool_use", "id": "1", "name": "now", "input": {"q": 1}}]


@pytest.mark.parametrize(
    "state", ["input-streaming", "input-available", "approval-requested", "approval-responded", None, 3, ["odd"], {}]
)
def test_a_call_without_an_answer_is_left_out(state: Any) -> None:
    assert content_of(text("I"), tool("search", "1", state)) == [text("I")]


def test_signed_and_redacted_thinking_is_kept_and_other_thinking_is_not() -> None:
    parts: list[Json] = [
        {"type": "reasoning", "text": "hm", "providerMetadata": {"anthropic": {"signature": "s"}}},
        {"type": "reasoning", "text": "", "providerMetadata": {"anthropic": {"redactedData": "r"}}},
        {"type": "reasoning", "text": "unsigned"},
        {"type": "reasoning", "text": "other", "providerMetadata": {"openai": {"itemId": "rs_1"}}},
    ]
    assert content_of(*parts, text("I")) == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "r"},
        text("I"),
    ]


def test_a_tool_that_the_provider_ran_comes_back_as_its_own_blocks() -> None:
    result = {"type": "web_search_tool_result", "caller": {"type": "direct"}}
    run = tool("web_search", "1", output=[{"url": "u"}], providerExecuted=True)
    run |= {"resultProviderMetadata": {"anthropic": {"toolResult": result}}}
    assert content_of(run, text("So.")) == [
        {"type": "server_tool_use", "id": "1", "name": "web_search", "input": {"q": 1}},
        {"content": [{"url": "u"}], **result, "tool_use_id": "1"},
        text("So."),
    ]
    assert content_of(tool("code", "2", output=1, providerExecuted=True), text("So.")) == [text("So.")]


def test_parts_that_no_model_reads_are_left_out() -> None:
    parts: list[Json] = [
        {"type": "data-progress", "data": 1},
        {"type": "source-url", "sourceId": "s", "url": "u"},
        {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="},
        {"type": "hologram"},
    ]
    assert content_of(*parts, text("I")) == [text("I")]
    assert messages_of(assistant(STEP, parts[0]), user(parts[0])) == []


@pytest.mark.parametrize(
    ("message", "pointer"),
    [
        ({"role": "user"}, "/0/parts"),
        ({"role": "user", "parts": [1]}, "/0/parts/0"),
        ({"role": "user", "parts": [{"type": 1}]}, "/0/parts/0"),
        (user({"type": "text"}), "/0/parts/0"),
        (user(text("a"), {"type": "file", "mediaType": "image/png", "url": "blob:1"}), "/0/parts/1"),
        (user({"type": "file", "mediaType": "text/plain", "url": "data:text/plain;base64,?"}), "/0/parts/0"),
        (user({"type": "file", "mediaType": "image/png"}), "/0/parts/0"),
        (assistant({"type": "dynamic-tool", "toolCallId": "1", "state": "output-available"}), "/0/parts/0"),
        ({"role": "tool", "parts": []}, "/0/role"),
    ],
)
def test_a_part_that_a_model_should_have_read_and_cannot_is_refused_with_its_place(message: Json, pointer: str) -> None:
    with pytest.raises(BadUiMessage) as refused:
        conversation_of([message])
    assert refused.value.pointer == pointer


def test_an_answer_goes_on_with_a_message_only_if_it_is_the_last() -> None:
    assert continued_message([user(text("Hi"))]) is None
    assert continued_message([assistant(text("I")), user(text("Hi"))]) is None
    assert continued_message([user(text("Hi")), assistant(tool("now", "1", output=1))]) == "a"
    assert continued_message([{"role": "assistant", "parts": []}]) is None
    assert continued_message([]) is None


def test_tools_are_a_list_or_a_map_of_names() -> None:
    schema = {"type": "object"}
    mine = {"name": "now", "description": "d", "input_schema": schema}
    assert tools_of([mine]) == [mine]
    assert tools_of({"now": {"description": "d", "inputSchema": {"jsonSchema": schema}}}) == [mine]
    assert tools_of({"now": {"description": "d", "parameters": schema}}) == [mine]


def test_choices_of_tools_are_translated() -> None:
    assert [tool_choice_of(choice)["type"] for choice in ("auto", "required", "none")] == ["auto", "any", "none"]
    assert tool_choice_of({"type": "tool", "toolName": "now"}) == {"type": "tool", "name": "now"}
    assert tool_choice_of({"type": "any"}) == {"type": "any"}
    with pytest.raises(BadUiMessage):
        tool_choice_of("maybe")


def test_any_provider_can_be_sent_the_conversation() -> None:
    conversation = conversation_of([user(text("Hi")), assistant(STEP, tool("now", "1", output={"at": 12}))])
    assert chat_messages(conversation.messages, system=None)[1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "now", "arguments": '{"q":1}'}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": '{"at":12}'},
    ]
