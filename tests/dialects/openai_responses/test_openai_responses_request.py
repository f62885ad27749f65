"""Responses requests: what a stored request becomes."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseInputItemParam, ToolParam
from pydantic import TypeAdapter

from broadcaster.dialects.openai_responses.provider_request import responses_input, responses_tools
from tests.dialects.anthropic.test_anthropic_laws import chars, json_values

CALL = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}


def content_of(*parts: Any, role: str = "user") -> list[Any]:
    (item,) = responses_input([{"role": role, "content": list(parts)}])
    content: list[Any] = item["content"]
    return content


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer"])
def test_texts_stay_strings_and_every_message_has_its_type(role: str):
    assert responses_input([{"role": role, "content": "Hi"}]) == [{"type": "message", "role": role, "content": "Hi"}]


def test_the_assistants_text_is_output_and_all_else_is_input():
    text = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}, "citations": []}
    assert content_of(text) == [{"type": "input_text", "text": "Hi"}]
    assert content_of(text, role="assistant") == [{"type": "output_text", "text": "Hi"}]


def test_calls_and_results_are_items_in_their_place():
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, CALL, {"type": "text", "text": "So:"}]},
        {"role": "user", "content": [RESULT, {"type": "text", "text": "Thanks."}]},
    ]
    assert responses_input(messages) == [
        {"type": "message", "role": "user", "content": "weather?"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "toolu_1", "name": "get_weather", "arguments": '{"city":"Paris"}'},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So:"}]},
        {"type": "function_call_output", "call_id": "toolu_1", "output": "sunny"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Thanks."}]},
    ]


def test_arguments_that_were_no_json_are_sent_as_they_came():
    (call,) = responses_input([{"role": "assistant", "content": [{**CALL, "input": '{"city'}]}])
    assert call["arguments"] == '{"city'


@pytest.mark.parametrize(
    ("result", "output"),
    [
        ({"content": "sunny"}, "sunny"),
        ({"content": [{"type": "text", "text": "sunny"}]}, "sunny"),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        ),
        (
            {"content": [{"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}]},
            [{"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"}],
        ),
        ({}, ""),
        ({"content": []}, ""),
        ({"is_error": True}, "error"),
        ({"is_error": True, "content": "no such city"}, "no such city"),
    ],
)
def test_a_result_is_its_text_or_its_parts(result: dict[str, Any], output: Any):
    part = {"type": "tool_result", "tool_use_id": "toolu_1", **result}
    (item,) = responses_input([{"role": "user", "content": [part]}])
    assert item == {"type": "function_call_output", "call_id": "toolu_1", "output": output}


@pytest.mark.parametrize(
    ("part", "turned"),
    [
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            [{"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"}],
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            [{"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"}],
        ),
        (
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            [{"type": "input_image", "file_id": "file_1", "detail": "auto"}],
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
            [{"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,aGk="}],
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
            [{"type": "input_file", "file_url": "https://example.org/a.pdf"}],
        ),
        (
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
            [{"type": "input_file", "file_id": "file_1"}],
        ),
        (
            {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "body"}},
            [{"type": "input_text", "text": "T"}, {"type": "input_text", "text": "body"}],
        ),
        (
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}]}},
            [{"type": "input_text", "text": "a"}],
        ),
        ({"type": "document", "source": {"type": "content", "content": "a"}}, [{"type": "input_text", "text": "a"}]),
        (
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
            [{"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"}],
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "aGk="}},
            [{"type": "input_file", "filename": "a.pdf", "file_data": "aGk="}],
        ),
    ],
)
def test_images_and_documents_take_the_shape_of_responses(part: dict[str, Any], turned: list[Any]):
    assert content_of(part) == turned


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3A="},
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
    ],
)
def test_a_part_that_only_its_provider_can_read_is_left_out(part: dict[str, Any]):
    assert content_of(part, {"type": "text", "text": "a"}, role="assistant") == [{"type": "output_text", "text": "a"}]
    assert responses_input([{"role": "assistant", "content": [part]}]) == []


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "x"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "ZW5j"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "a", "annotations": []}, {"type": "refusal", "refusal": "no"}],
        },
        {"type": "something_newer", "x": 1},
    ],
)
def test_an_item_in_the_shape_of_responses_passes_untouched(item: dict[str, Any]):
    assert responses_input([item]) == [item]


def test_reasoning_that_stands_in_a_message_is_an_item():
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "ZW5j"}
    assert responses_input([{"role": "assistant", "content": [reasoning, CALL]}])[0] == reasoning


def test_messages_in_the_shape_of_chat_completions_are_turned_too():
    messages: list[dict[str, Any]] = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "4"},
    ]
    assert responses_input(messages) == [
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "4"},
    ]


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("tool", "turned"),
    [
        (
            {"name": "f", "description": "d", "input_schema": SCHEMA},
            {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": False},
        ),
        (
            {"type": "custom", "name": "f", "input_schema": SCHEMA, "strict": True, "cache_control": {}},
            {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True},
        ),
        (
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}},
            {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": False},
        ),
        (
            {"type": "custom", "custom": {"name": "f", "description": "d"}},
            {"type": "custom", "name": "f", "description": "d"},
        ),
    ],
)
def test_tools_of_the_other_wires_take_the_shape_of_responses(tool: dict[str, Any], turned: dict[str, Any]):
    assert responses_tools([tool]) == [turned]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True},
        {"type": "custom", "name": "f", "format": {"type": "text"}},
        {"type": "web_search"},
        {"type": "mcp", "server_label": "dice", "server_url": "https://example.org"},
    ],
)
def test_tools_in_the_shape_of_responses_pass_untouched(tool: dict[str, Any]):
    assert responses_tools([tool]) == [tool]


parts = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, chars),
    st.builds(lambda id, input: {"type": "tool_use", "id": id, "name": "f", "input": input}, chars, json_values),
    st.builds(lambda id, text: {"type": "tool_result", "tool_use_id": id, "content": text}, chars, chars),
    st.just({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}),
    st.just({"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}),
    st.just({"type": "thinking", "thinking": "hm", "signature": "c2ln"}),
)
messages = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant"]),
    chars | st.lists(parts, max_size=5),
)


@given(st.lists(messages, max_size=5))
def test_the_callers_messages_are_never_changed_and_no_text_call_or_result_is_lost(given_: list[dict[str, Any]]):
    before = copy.deepcopy(given_)
    items = responses_input(given_)
    assert given_ == before
    assert _texts(items, "output_text", "input_text") == _texts(given_, "text")
    for ours, theirs in (("function_call", "tool_use"), ("function_call_output", "tool_result")):
        extras = [part for message in given_ for part in message["content"] if isinstance(part, dict)]
        request = [part for part in extras if part["type"] == theirs]
        assert sum(item["type"] == ours for item in items) == len(request)


def _texts(messages_: list[dict[str, Any]], *types: str) -> list[str]:
    texts: list[str] = []
    for content in (message.get("content", []) for message in messages_):
        if isinstance(content, str):
            texts.append(content)
        else:
            texts += [part["text"] for part in content if part["type"] in types]
    return texts


def test_the_sent_input_and_tools_are_valid_for_the_openai_package():
    messages_: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]},
        {"role": "assistant", "content": [CALL]},
        {"role": "user", "content": [RESULT]},
    ]
    for item in responses_input(messages_):
        TypeAdapter(ResponseInputItemParam).validate_python(item)
    for tool in responses_tools([{"name": "f", "input_schema": SCHEMA}]):
        TypeAdapter(ToolParam).validate_python(tool)
