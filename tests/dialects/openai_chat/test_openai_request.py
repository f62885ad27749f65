"""Requests in the format of the Messages API, as chat completions."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.dialects.openai_chat.provider_request import chat_messages, chat_tools
from tests.dialects.openai_chat.chat_streams import Json
from tests.dialects.openai_chat.test_openai_chat_laws import chars, json_values


def user(*parts: Any) -> Json:
    return {"role": "user", "content": list(parts)}


def assistant(*parts: Any) -> Json:
    return {"role": "assistant", "content": list(parts)}


def text(as_text: str, **fields: Any) -> Json:
    return {"type": "text", "text": as_text, **fields}


def tool_use(id: str, name: str, **input: Any) -> Json:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def tool_result(id: str, content: Any, **fields: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **fields}


def as_chat(*messages: Json) -> list[Json]:
    return chat_messages(messages, system=None)


PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}
PNG_URL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}}


@pytest.mark.parametrize("role", ["user", "assistant", "system", "developer"])
def test_strings_stay_strings(role: str):
    message = {"role": role, "content": "Hi", "name": "ada"}
    assert as_chat(message) == [message]


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("Be brief.", {"role": "system", "content": "Be brief."}),
        ([text("Be brief.", cache_control={"type": "ephemeral"})], {"role": "system", "content": "Be brief."}),
        ([text("Be"), text("brief.")], {"role": "system", "content": [text("Be"), text("brief.")]}),
    ],
)
def test_the_system_prompt_is_the_first_message(system: Any, message: Json):
    hello = {"role": "user", "content": "Hi"}
    assert chat_messages([hello], system=system) == [message, hello]


@pytest.mark.parametrize("system", [None, "", []])
def test_no_system_prompt_is_no_message(system: Any):
    assert chat_messages([], system=system) == []


def test_tools_called_stand_beside_the_text_with_their_arguments_as_json():
    message = assistant(text("Let me see."), tool_use("a", "f", city="Genève"), tool_use("b", "g"))
    assert as_chat(message) == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"city":"Genève"}'}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        }
    ]


def test_an_answer_of_calls_alone_has_no_content():
    assert as_chat(assistant(tool_use("a", "f")))[0]["content"] is None


def test_arguments_that_were_no_json_go_back_as_they_came():
    (message,) = as_chat(assistant({"type": "tool_use", "id": "a", "name": "f", "input": '{"half'}))
    assert message["tool_calls"][0]["function"]["arguments"] == '{"half'


def test_parts_that_another_provider_recorded_for_itself_are_left_out():
    message = assistant(
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3A="},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        text("It is ", citations=[{"type": "page_location"}]),
        text("so.", cache_control={"type": "ephemeral"}),
    )
    assert as_chat(message) == [{"role": "assistant", "content": "It is so."}]


def test_a_refusal_keeps_its_place_in_the_answer():
    parts = [text("Well."), {"type": "refusal", "refusal": "No."}]
    assert as_chat(assistant(*parts)) == [{"role": "assistant", "content": parts}]


def test_results_of_tools_stand_before_the_rest_of_their_message():
    message = user(text("And now?"), tool_result("a", "42"), tool_result("b", [text("4"), text("2")], is_error=True))
    assert as_chat(message) == [
        {"role": "tool", "tool_call_id": "a", "content": "42"},
        {"role": "tool", "tool_call_id": "b", "content": [text("4"), text("2")]},
        {"role": "user", "content": "And now?"},
    ]


@pytest.mark.parametrize(
    ("content", "as_text"),
    [
        (None, ""),
        ("", ""),
        ([], ""),
        ([text("42")], "42"),
        ([{"type": "search_result", "title": "A"}], '{"type":"search_result","title":"A"}'),
        ({"answer": 42}, '{"answer":42}'),
    ],
)
def test_a_result_is_text(content: Any, as_text: str):
    assert as_chat(user(tool_result("a", content))) == [{"role": "tool", "tool_call_id": "a", "content": as_text}]


@pytest.mark.parametrize(
    ("content", "as_text"), [(None, "error"), ("", "error"), ([], "error"), ("No disk.", "No disk.")]
)
def test_a_result_that_failed_reports_it_in_its_text(content: Any, as_text: str):
    message = user(tool_result("a", content, is_error=True))
    assert as_chat(message) == [{"role": "tool", "tool_call_id": "a", "content": as_text}]


def test_images_of_a_result_open_the_rest_of_their_message():
    message = user(tool_result("a", [text("See:"), PNG]), text("What is it?"))
    assert as_chat(message) == [
        {"role": "tool", "tool_call_id": "a", "content": "See:"},
        {"role": "user", "content": [PNG_URL, text("What is it?")]},
    ]


@pytest.mark.parametrize(
    ("part", "encoded"),
    [
        (PNG, [PNG_URL]),
        (
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}],
        ),
        (
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            [{"type": "file", "file": {"file_id": "file_1"}}],
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "eA=="}},
            [
                {
                    "type": "file",
                    "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,eA=="},
                }
            ],
        ),
        (
            {"type": "document", "title": "A", "source": {"type": "text", "media_type": "text/plain", "data": "Once."}},
            [text("A"), text("Once.")],
        ),
        (
            {"type": "document", "source": {"type": "content", "content": [text("Once."), PNG]}},
            [text("Once."), PNG_URL],
        ),
    ],
)
def test_images_and_documents_have_a_form_of_their_own(part: Json, encoded: list[Json]):
    assert as_chat(user(part, text("?"))) == [user(*encoded, text("?"))]


@pytest.mark.parametrize(
    "message",
    [
        user({"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}),
        user({"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}}, text("?")),
        user({"type": "file", "file": {"file_id": "file_1"}}, text("?")),
        user({"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}),
        user({"type": "a newer part"}, {"no": "type"}),
        {"role": "tool", "tool_call_id": "a", "content": "42"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": {}}]},
        {"role": "user"},
    ],
)
def test_a_message_in_the_wires_own_shape_or_without_a_form_there_passes_untouched(message: Json):
    assert as_chat(message) == [message]


def test_a_tool_is_sent_as_a_function():
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"name": "f", "description": "d", "input_schema": schema, "cache_control": {"type": "ephemeral"}}
    assert chat_tools([tool, {**tool, "type": "custom", "strict": True}]) == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}},
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": True}},
    ]


def test_a_tool_of_the_responses_wire_is_sent_as_a_function_too():
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    assert chat_tools([tool]) == [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "function": {"name": "f", "parameters": {}}},
        {"type": "custom", "custom": {"name": "f"}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
    ],
)
def test_a_tool_in_the_wires_own_shape_or_without_a_form_there_passes_untouched(tool: Json):
    assert chat_tools([tool]) == [tool]


# --------------------------------------------------------------------------------------------------------------- laws

any_part = (
    st.builds(text, chars)
    | st.builds(lambda id, name, value: tool_use(id, name, x=value), chars, chars, json_values)
    | st.builds(lambda id, inner: tool_result(id, inner), chars, chars | st.lists(st.builds(text, chars), max_size=2))
    | st.just(PNG)
    | json_values
)
any_message = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant", "system"]),
    chars | st.none() | st.lists(any_part, max_size=4),
)


@given(st.lists(any_message, max_size=4), st.none() | chars)
def test_encoding_a_request_twice_gives_the_same_and_leaves_it_alone(messages: list[Json], system: str | None):
    before = copy.deepcopy(messages)
    encoded = chat_messages(messages, system=system)
    assert messages == before
    assert chat_messages(encoded, system=None) == encoded
    assert json.loads(json.dumps(encoded)) == encoded


@given(st.lists(st.builds(text, chars) | st.builds(tool_use, chars, chars), max_size=5))
def test_no_text_and_no_call_of_an_answer_is_lost(parts: list[Json]):
    (message,) = as_chat(assistant(*parts))
    assert (message["content"] or "") == "".join(part["text"] for part in parts if part["type"] == "text")
    called = [(call["id"], call["function"]["name"]) for call in message.get("tool_calls", ())]
    assert called == [(part["id"], part["name"]) for part in parts if part["type"] == "tool_use"]
