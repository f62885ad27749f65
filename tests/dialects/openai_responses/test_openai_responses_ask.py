"""Responses requests: what the SDK sends, in the format in which requests are stored, and back."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.dialects.openai.parameters import BadParameter
from broadcaster.dialects.openai_responses.input import NO_TURNS, EarlierTurns, answer_of, messages_of
from broadcaster.dialects.openai_responses.provider_request import responses_input, responses_options, responses_tools
from broadcaster.dialects.openai_responses.request import ResponsesRequest, parse_responses_request
from tests.dialects.anthropic.test_anthropic_laws import chars
from tests.dialects.openai_responses.responses_reading import entries_from, response_of
from tests.dialects.openai_responses.responses_streams import STREAMS
from tests.dialects.openai_responses.responses_wire import Json

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}


def sent(**fields: Any) -> Json:
    """The body that the SDK sends for these arguments."""
    bodies: list[Json] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(json.loads(request.content))
        return httpx2.Response(200, json={"id": "resp_1", "object": "response", "output": []})

    with openai.OpenAI(
        api_key="any", http_client=openai.DefaultHttpxClient(transport=httpx2.MockTransport(answer)), max_retries=0
    ) as client:
        client.responses.create(**{"model": "m", "input": "Hi", **fields})
    return bodies[0]


def parsed(**fields: Any) -> ResponsesRequest:
    return parse_responses_request(sent(**fields))


def stored(*, earlier: EarlierTurns = NO_TURNS, **fields: Any) -> Json:
    request = parsed(**fields).stored(earlier=earlier, max_tokens=512, model="m")
    del request["surface"]
    return request


def test_a_text_is_one_message_and_the_rest_has_its_place():
    assert stored(instructions="Be brief.", temperature=0.5, top_p=0.9, max_output_tokens=7, metadata={"a": "b"}) == {
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "metadata": {"a": "b"},
    }
    assert stored() == {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 512}


def test_the_surface_repeats_the_fields_that_were_requested():
    parsed_request = parsed(instructions="Be brief.", tools=[WEATHER], background=True, stream=True)
    surface = parsed_request.stored(max_tokens=1, model="served")["surface"]
    assert surface["name"] == "openai-responses"
    assert surface["shown"] == {
        "model": "m",
        "instructions": "Be brief.",
        "tools": [WEATHER],
        "background": True,
    }
    assert (parsed_request.background, parsed_request.stream, parsed_request.model) == (True, True, "m")


def test_system_and_developer_messages_before_all_others_are_the_system_prompt():
    items: Any = [
        {"role": "developer", "content": "Speak French."},
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Now German."},
    ]
    request = stored(instructions="Be brief.", input=items)
    assert [part["text"] for part in request["system"]] == ["Be brief.", "Speak French."]
    assert [message["role"] for message in request["messages"]] == ["user", "system"]


def test_images_and_files_become_blocks():
    content: Any = [
        {"type": "input_text", "text": "Look:"},
        {"type": "input_image", "image_url": "data:image/png;base64,eA==", "detail": "auto"},
        {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
        {"type": "input_image", "file_id": "file_1", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,eA=="},
        {"type": "input_file", "file_url": "https://example.org/a.pdf"},
    ]
    (message,) = stored(input=[{"role": "user", "content": content}])["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "image", "image", "image", "document", "document"]
    assert message["content"][1]["source"] == {"type": "base64", "media_type": "image/png", "data": "eA=="}
    assert message["content"][2]["openai"] == {"detail": "low"}
    assert message["content"][4]["title"] == "a.pdf"
    assert responses_input([message]) == [{"type": "message", "role": "user", "content": content}]


def test_a_turn_of_calls_and_results_is_one_message_each():
    items: Any = [
        {"role": "user", "content": "What?"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x":1}', "id": "fc_1"},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": ""},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "2"}]},
        {"role": "user", "content": "So?"},
    ]
    assert stored(input=items)["messages"] == [
        {"role": "user", "content": "What?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "2"}]},
            ],
        },
        {"role": "user", "content": "So?"},
    ]


def test_functions_become_tools_and_the_providers_own_pass():
    request = stored(tools=[WEATHER, {"type": "web_search"}, {"type": "function", "name": "now", "parameters": None}])
    first, second, third = request["tools"]
    assert first == {
        "name": "get_weather",
        "description": "The weather",
        "input_schema": WEATHER["parameters"],
        "strict": True,
    }
    assert second == {"type": "web_search"}
    assert third == {"name": "now", "input_schema": {"type": "object", "properties": {}}}
    assert responses_tools([first, second]) == [WEATHER, second]


def test_a_custom_tool_and_its_calls_come_back_as_they_were():
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}
    tool: Any = {"type": "custom", "name": "run", "description": "Runs", "format": grammar}
    items: Any = [
        {"role": "user", "content": "Run."},
        {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "a"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
    ]
    request = stored(tools=[tool], input=items, tool_choice={"type": "custom", "name": "run"})
    assert request["tools"][0]["input_schema"]["required"] == ["input"]
    assert request["messages"][1]["content"][0]["input"] == {"input": "a"}
    assert request["tool_choice"] == {"type": "tool", "name": "run"}
    assert responses_tools(request["tools"]) == [tool]
    assert responses_input(request["messages"])[1:] == items[1:]
    assert responses_options({name: request[name] for name in ("tool_choice", "openai")})["tool_choice"] == {
        "type": "custom",
        "name": "run",
    }


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": {"type": "function", "name": "f"}}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, None),
        ({"tool_choice": {"type": "web_search"}}, {"type": "web_search"}),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
            {"type": "auto"},
        ),
    ],
)
def test_the_choice_of_tools_is_kept_and_comes_back(fields: Json, choice: Json | None):
    request = stored(tools=[WEATHER], **fields)
    assert request.get("tool_choice") == choice
    back = responses_options({name: request[name] for name in ("tool_choice", "openai") if name in request})
    if fields.get("tool_choice") != "none" and fields.get("parallel_tool_calls") is not True:
        assert {"tool_choice": "auto", **fields} | back == {"tool_choice": "auto", **fields}


def test_fields_that_only_openai_knows_come_back_in_its_format():
    fields: Any = {
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "service_tier": "flex",
        "truncation": "auto",
        "max_tool_calls": 3,
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "top_logprobs": 2,
    }
    request = stored(**fields)
    assert request["openai"]["reasoning_effort"] == "low"
    assert request["openai"]["response_format"]["json_schema"]["name"] == "n"
    assert responses_options({"openai": request["openai"]}) == fields


@pytest.mark.parametrize(
    ("fields", "param", "api_code"),
    [
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice", "invalid_value"),
        ({"parallel_tool_calls": 3}, "parallel_tool_calls", "invalid_type"),
        ({"max_output_tokens": 10**20}, "max_output_tokens", "invalid_value"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"extra_body": {"mood": 1}}, "mood", "unknown_parameter"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"top_p": 2}, "top_p", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"max_output_tokens": True}, "max_output_tokens", "invalid_value"),
        ({"stream": 1}, "stream", "invalid_type"),
        ({"input": []}, "input", "missing_required_parameter"),
        ({"input": ["Hi"]}, "input[0]", "invalid_type"),
        ({"input": [{"type": "hologram"}]}, "input[0]", "invalid_value"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "invalid_value"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input[0].content[0]",
            "unsupported_parameter",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0]",
            "missing_required_parameter",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": {}}]},
            "input[0].arguments",
            "invalid_type",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{"name": "f"}]}, "tools[0].type", "missing_required_parameter"),
        ({"tools": [{**WEATHER, "mood": 1}]}, "tools[0].mood", "unsupported_parameter"),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, "tool_choice", "invalid_value"),
        ({"text": {"format": {"type": "poem"}}}, "text.format", "invalid_value"),
        ({"text": {"mood": 1}}, "text.mood", "unknown_parameter"),
        ({"include": [1]}, "include", "invalid_type"),
    ],
)
def test_a_field_that_cannot_be_stored_is_refused_by_its_name(fields: Json, param: str, api_code: str):
    with pytest.raises(BadParameter) as refused:
        stored(**fields)
    assert (refused.value.param, refused.value.api_code) == (param, api_code)


# ------------------------------------------------------------------------------------------------- answers sent back


def test_a_thought_of_claude_becomes_what_it_was():
    items: list[Json] = [
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "anthropic.redacted.eA=="},
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
            "encrypted_content": "anthropic.signature.c2ln",
        },
    ]
    (message,) = answer_of(items)
    assert message["content"] == [
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
    ]


def test_a_thought_of_openai_is_kept_and_one_that_cannot_be_read_back_is_not():
    sealed: Json = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "ZW5j"}
    (message,) = answer_of([sealed, {"type": "reasoning", "id": "rs_2", "summary": []}])
    assert message["content"] == [sealed]
    assert responses_input([message]) == [sealed]


@pytest.mark.parametrize("name", ["text", "two calls", "custom tool", "refusal", "reasoning with summaries, then text"])
def test_an_answer_that_is_sent_back_means_the_same_to_openai(name: str):
    output = response_of(entries_from(STREAMS[name]))["output"]
    back = responses_input(answer_of(output))
    assert [item["type"] for item in back] == [item["type"] for item in output]
    for item, sent_back in zip(output, back, strict=True):
        for field in ("call_id", "name", "input", "encrypted_content"):
            assert sent_back.get(field) == item.get(field)
        if "arguments" in item:
            assert json.loads(sent_back["arguments"]) == json.loads(item["arguments"])


def test_a_call_that_another_provider_ran_is_left_out():
    ran: Json = {
        "type": "mcp_call",
        "id": "mcp_1",
        "name": "web_search",
        "server_label": "anthropic",
        "arguments": "{}",
    }
    assert answer_of([ran]) == []


texts = st.builds(lambda text: {"type": "input_text", "text": text}, chars)
images = st.builds(
    lambda name: {"type": "input_image", "image_url": f"https://example.org/{name}", "detail": "auto"}, chars
)
arguments = st.dictionaries(chars, st.integers() | chars, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
)


@st.composite
def items(draw: st.DrawFn) -> list[Json]:
    """Items as the API takes them, in the one form that is sent back: parts as lists, answers as texts."""
    drawn: list[Json] = [{"type": "message", "role": "user", "content": "Hi"}]
    for number in range(draw(st.integers(0, 6))):
        match draw(st.sampled_from(["user", "call", "result", "sealed"])):
            case "user":
                content = draw(chars | st.lists(texts | images, min_size=1, max_size=3))
                drawn.append({"type": "message", "role": "user", "content": content})
            case "call":
                call_id = f"call_{number}"
                drawn.append({"type": "function_call", "call_id": call_id, "name": "f", "arguments": draw(arguments)})
            case "result":
                drawn.append({"type": "function_call_output", "call_id": f"call_{number}", "output": draw(chars)})
            case _:
                drawn.append({"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": "ZW5j"})
    return drawn


@given(items())
def test_items_come_back_as_they_were_sent(input_items: list[Json]):
    messages, heads = messages_of(input_items)
    assert heads == []
    assert responses_input(messages) == input_items


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | chars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "role",
                        "content",
                        "input",
                        "tools",
                        "name",
                        "call_id",
                        "output",
                        "text",
                        "tool_choice",
                        "reasoning",
                        "model",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_body_is_understood_or_refused(body: Any):
    if not isinstance(body, dict):
        return
    with suppress(BadParameter):
        parse_responses_request(body).stored(max_tokens=1, model="m")
