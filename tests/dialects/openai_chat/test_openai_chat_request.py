"""Chat completions requests in the format of the Messages API, and back: nothing that a provider can use is lost."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.dialects.openai.own_fields import plain_messages
from broadcaster.dialects.openai.parameters import BadParameter
from broadcaster.dialects.openai_chat.provider_request import chat_messages, chat_options, chat_tools
from broadcaster.dialects.openai_chat.request import ChatRequest, parse_chat_request
from broadcaster.dialects.openai_responses.provider_request import responses_input
from tests.dialects.openai_chat.chat_streams import Json

HELLO: Json = {"role": "user", "content": "Hi"}
OBJECT: Json = {"type": "object", "properties": {}}


def parsed(*messages: Json, **fields: Any) -> ChatRequest:
    return parse_chat_request({"model": "m", "messages": list(messages) or [HELLO], **fields}, max_tokens=64)


def stored(*messages: Json, **fields: Any) -> Json:
    return parsed(*messages, **fields).request


def back(request: Json) -> Json:
    """The stored request as a chat completions provider is sent it."""
    named = ("messages", "system", "max_tokens", "tools", "metadata")
    sent = chat_options({name: value for name, value in request.items() if name not in named})
    sent["messages"] = chat_messages(request["messages"], system=request.get("system"))
    if "tools" in request:
        sent["tools"] = chat_tools(request["tools"])
    return sent


def call(id: str, arguments: str, **fields: Any) -> Json:
    return {**fields, "id": id, "type": "function", "function": {"name": "f", "arguments": arguments}}


def function(name: str, **fields: Any) -> Json:
    return {"type": "function", "function": {"name": name, **fields}}


# -------------------------------------------------------------------------------------------------------- the messages


def test_the_first_messages_of_the_system_are_the_prompt_and_later_ones_stay() -> None:
    request = stored(
        {"role": "system", "content": "Be"},
        {"role": "developer", "content": [{"type": "text", "text": "brief."}]},
        HELLO,
        {"role": "developer", "content": "Now in French."},
        HELLO,
    )

    assert request["system"] == [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]
    assert request["messages"] == [HELLO, {"role": "system", "content": "Now in French."}, HELLO]
    assert stored({"role": "developer", "content": "Be brief."}, HELLO)["system"] == "Be brief."


def test_messages_of_the_system_alone_are_what_the_model_answers() -> None:
    alone = [{"role": "developer", "content": "Tell a joke."}, {"role": "system", "content": "Briefly."}]
    sent = [{"role": "system", "content": "Tell a joke."}, {"role": "system", "content": "Briefly."}]
    request = stored(*alone)

    assert "system" not in request
    assert back(request)["messages"] == sent
    assert [item["role"] for item in responses_input(request["messages"])] == ["system", "system"]


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (["system"], ["user"]),
        (["system", "system", "assistant", "user"], ["user", "user", "assistant", "user"]),
        (["system", "user", "system"], ["system", "user", "system"]),
        (["user", "system"], ["user", "system"]),
        ([], []),
    ],
)
def test_a_conversation_without_a_turn_of_the_user_begins_with_one_on_the_messages_wire(
    roles: list[str], expected: list[str]
) -> None:
    messages = [{"role": role, "content": str(at)} for at, role in enumerate(roles)]

    assert plain_messages(messages) == [
        {**message, "role": role} for message, role in zip(messages, expected, strict=True)
    ]


@pytest.mark.parametrize("url", ["https://a.example/b.png", "data:image/png;base64,eA=="])
def test_the_url_of_an_image_may_stand_alone(url: str) -> None:
    alone, wrapped = (
        stored({"role": "user", "content": [{"type": "image_url", "image_url": image}]})
        for image in (url, {"url": url})
    )
    assert alone == wrapped


def test_parts_take_the_shape_of_the_messages_api() -> None:
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA==", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,eA=="}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    png = {"type": "base64", "media_type": "image/png", "data": "eA=="}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "eA=="}

    (message,) = stored({"role": "user", "content": parts})["messages"]
    assert message["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image", "source": png, "openai": {"detail": "low"}},
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
        {"type": "document", "source": pdf, "title": "a.pdf"},
        {"type": "document", "source": {"type": "file", "file_id": "file-1"}},
    ]


def test_calls_and_their_results_are_parts_and_results_share_a_message() -> None:
    request = stored(
        HELLO,
        {"role": "assistant", "content": "Both.", "tool_calls": [call("a", '{"x":1}'), call("b", "{}")]},
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "warm"}]},
        HELLO,
    )

    assert request["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Both."},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "sunny"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "warm"}]},
            ],
        },
        HELLO,
    ]


def test_an_answer_can_be_sent_back_as_it_came() -> None:
    answer: Json = {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "reasoning_content": "Hm.",
        "parsed": None,
    }

    assert stored(HELLO, answer, HELLO)["messages"][1] == {"role": "assistant", "content": "Hi"}


def test_the_tools_loop_of_litellm_s_documentation_is_understood() -> None:
    """Its second request, as litellm 1.106 sends it after ``messages.append(response_message)``."""
    arguments = '{"location": "Paris"}'
    request = stored(
        {"role": "user", "content": "What's the weather like in Paris?"},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "function": {"arguments": arguments, "name": "get_current_weather"},
                    "id": "call_1",
                    "type": "function",
                }
            ],
            "provider_specific_fields": {"refusal": None},
            "annotations": [],
        },
        {"tool_call_id": "call_1", "role": "tool", "name": "get_current_weather", "content": "22 C"},
    )

    assert back(request)["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_current_weather", "arguments": '{"location":"Paris"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "22 C"},
    ]


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_fields_that_frameworks_leave_in_a_message_are_left_out(role: str) -> None:
    message = {"role": role, "content": "x", **({"tool_call_id": "a"} if role == "tool" else {})}
    left = {
        "provider_specific_fields": {"refusal": None},
        "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}],
        "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
        "images": [],
        "id": "msg_1",
        "metadata": {"a": 1},
        "cache_control": {"type": "ephemeral"},
        "annotations": [{"type": "url_citation"}],
        "openai": {"role": "system"},
        "tool_calls": [],
    }

    assert stored(HELLO, {**left, **message}) == stored(HELLO, message)


# --------------------------------------------------------------------------------------------------------- the options


def test_options_take_the_names_of_the_messages_api_and_the_rest_is_openais() -> None:
    request = stored(
        temperature=0.5,
        top_p=0.9,
        stop=["a", "b"],
        max_completion_tokens=9,
        metadata={"chat": "42"},
        seed=7,
        reasoning_effort="low",
        response_format={"type": "json_object"},
        n=1,
        store=False,
        modalities=["text"],
        stream_options=None,
    )

    assert request == {
        "messages": [HELLO],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["a", "b"],
        "metadata": {"chat": "42"},
        "openai": {"seed": 7, "reasoning_effort": "low", "response_format": {"type": "json_object"}},
    }
    assert stored()["max_tokens"] == 64


def test_store_is_understood_and_no_provider_is_sent_it() -> None:
    assert stored(store=True) == stored(store=False) == stored()


@pytest.mark.parametrize("bound", [0, -1])
def test_a_bound_that_is_none_is_refused_with_the_remedy(bound: int) -> None:
    with pytest.raises(BadParameter, match=r"max_tokens: must be between 1 and .*; leave it out"):
        stored(max_tokens=bound)


def test_stream_and_usage_are_read() -> None:
    request = parsed(stream=True, stream_options={"include_usage": True, "include_obfuscation": False})

    assert (request.stream, request.include_usage) == (True, True)
    assert (parsed().stream, parsed().include_usage) == (False, False)


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", True, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"type": "function", "function": {"name": "f"}}, None, {"type": "tool", "name": "f"}),
        (None, None, None),
    ],
)
def test_the_choice_of_tools_is_that_of_the_messages_api(choice: Any, parallel: bool | None, expected: Any) -> None:
    request = stored(tools=[function("f")], tool_choice=choice, parallel_tool_calls=parallel)

    assert request.get("tool_choice") == expected


def test_tools_are_sent_with_a_schema_and_those_named_alone_are_the_worker_s() -> None:
    custom = {"type": "custom", "custom": {"name": "run", "description": "Runs."}}
    request = parsed(tools=[function("f", description="Does.", strict=True), custom, {"name": "clock"}])

    assert request.request["tools"][0] == {
        "name": "f",
        "description": "Does.",
        "input_schema": OBJECT,
        "strict": True,
    }
    assert request.request["tools"][1]["openai"] == custom
    assert request.request["tools"][2] == {"name": "clock"}
    assert request.hidden_tools == {"clock"}


# -------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("fields", "param", "api_code"),
    [
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"n": True}, "n", "unsupported_parameter"),
        ({"store": "yes"}, "store", "invalid_type"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
        ({"audio": {}}, "audio", "unsupported_parameter"),
        ({"functions": []}, "functions", "unsupported_parameter"),
        ({"moderation": {}}, "moderation", "unsupported_parameter"),
        ({"sampler": 1}, "sampler", "unknown_parameter"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"sampler": 1}}, "stream_options.sampler", "unknown_parameter"),
        ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage", "invalid_type"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}, "cached": True}]},
            "tools[0].cached",
            "unknown_parameter",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "example": 1}}]},
            "tools[0].function.example",
            "unknown_parameter",
        ),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 3}, "model", "invalid_type"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": {}}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [3]}, "messages[0]", "invalid_type"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": [1]}]}, "messages[0].content[0]", "invalid_type"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0].type", "invalid_value"),
        ({"messages": [{**HELLO, "tool_calls": [call("a", "{}")]}]}, "messages[0].tool_calls", "invalid_value"),
        ({"messages": [{**HELLO, "tool_call_id": "a"}]}, "messages[0].tool_call_id", "invalid_value"),
        (
            {"messages": [HELLO, {"role": "tool", "content": "x"}]},
            "messages[1].tool_call_id",
            "missing_required_parameter",
        ),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0]", "invalid_value"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio", "unsupported_parameter"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 10**9}, "max_tokens", "invalid_value"),
        ({"max_tokens": True}, "max_tokens", "invalid_type"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"top_p": "x"}, "top_p", "invalid_type"),
        ({"stop": 1}, "stop", "invalid_type"),
        ({"stop": list("abcde")}, "stop", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools[0]", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tools": [function("f")], "tool_choice": "some"}, "tool_choice", "invalid_value"),
        (
            {"tools": [function("f")], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}},
            "tool_choice",
            "invalid_value",
        ),
        ({"tools": [function("f")], "parallel_tool_calls": 1}, "parallel_tool_calls", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"metadata": []}, "metadata", "invalid_type"),
    ],
    ids=str,
)
def test_a_parameter_that_cannot_be_served_is_refused_by_its_name(fields: Json, param: str, api_code: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse_chat_request({"model": "m", "messages": [HELLO], **fields}, max_tokens=1)
    assert (caught.value.param, caught.value.api_code) == (param, api_code)
