"""The marks on parts by which a client controls the provider's prompt cache: each reaches the wire that has it."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.dialects.openai.own_fields import plain_messages, plain_system
from broadcaster.dialects.openai_chat.provider_request import chat_messages
from broadcaster.dialects.openai_chat.request import parse_chat_request
from broadcaster.dialects.openai_responses.provider_request import responses_input
from broadcaster.dialects.openai_responses.request import parse_responses_request
from worker.providers.base import ProviderRequest
from worker.providers.openai_arguments import responses_arguments

MARK = {"prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}
CONTROL = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
URL = "https://example.org/a.png"
CHAT_PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "a", **MARK},
    {"type": "image_url", "image_url": {"url": URL, "detail": "low"}, **MARK},
    {"type": "file", "file": {"file_id": "file_1"}, **MARK},
    {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}, **MARK},
]
RESPONSES_PARTS: list[dict[str, Any]] = [
    {"type": "input_text", "text": "a", **MARK},
    {"type": "input_image", "image_url": URL, "detail": "low", **MARK},
    {"type": "input_file", "file_id": "file_1", "detail": "high", **MARK},
]


def chat(messages: list[Any]) -> dict[str, Any]:
    return parse_chat_request({"model": "m", "messages": messages}).request


def responses(items: list[Any]) -> dict[str, Any]:
    return parse_responses_request({"model": "m", "input": items}).stored(model="m")


def test_a_breakpoint_of_chat_completions_reaches_that_wire_where_it_stood() -> None:
    result = {"role": "tool", "tool_call_id": "call_a", "content": [{"type": "text", "text": "sun", **MARK}]}
    call = {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    head = {"role": "system", "content": [{"type": "text", "text": "Be brief.", **MARK}]}
    messages = [head, {"role": "user", "content": CHAT_PARTS}, calling, result]
    request = chat(messages)
    assert chat_messages(request["messages"], system=request["system"]) == messages


def test_a_breakpoint_of_responses_reaches_that_wire_where_it_stood() -> None:
    result = {"type": "function_call_output", "call_id": "a", "output": [RESPONSES_PARTS[0]]}
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    message = {"type": "message", "role": "user", "content": RESPONSES_PARTS}
    assert responses_input(responses([message, call, result])["messages"]) == [message, call, result]


def test_a_marked_system_prompt_is_a_message_where_instructions_are_one_text() -> None:
    head = {"type": "message", "role": "developer", "content": [RESPONSES_PARTS[0]]}
    plain = {"type": "message", "role": "developer", "content": "b"}
    user = {"type": "message", "role": "user", "content": "Hi"}
    cases: list[Any] = [([head, plain], None), ([plain], "b")]
    for heads, expected in cases:
        stored = responses([*heads, user])
        request = ProviderRequest(model="m", messages=stored["messages"], system=stored["system"])
        arguments = responses_arguments(request, host="api.openai.com")
        assert arguments.get("instructions") == expected
        if expected is None:
            parts = [*head["content"], {"type": "input_text", "text": "b"}]
            assert arguments["input"] == [{**head, "content": parts}, user]


@pytest.mark.parametrize("surface", ["chat", "responses"])
def test_no_breakpoint_reaches_the_messages_wire(surface: str) -> None:
    text = {"type": "text" if surface == "chat" else "input_text", "text": "a", **MARK}
    messages: list[Any] = [{"role": "system", "content": [text]}, {"role": "user", "content": [text]}]
    request = chat(messages) if surface == "chat" else responses(messages)
    assert plain_system(request["system"]) == [{"type": "text", "text": "a"}]
    assert plain_messages(request["messages"])[0]["content"] == [{"type": "text", "text": "a"}]


def test_a_cache_control_of_chat_completions_reaches_the_messages_wire_alone() -> None:
    text = {"type": "text", "text": "a"}
    image = {"type": "image_url", "image_url": {"url": URL}}
    plain: list[Any] = [{"role": "system", "content": [text]}, {"role": "user", "content": [text, image]}]
    marked = [{**message, "content": [{**part, **CONTROL} for part in message["content"]]} for message in plain]
    request = chat(marked)
    assert plain_system(request["system"]) == [{**text, **CONTROL}]
    stored = {"type": "image", "source": {"type": "url", "url": URL}}
    assert plain_messages(request["messages"])[0]["content"] == [{**text, **CONTROL}, {**stored, **CONTROL}]
    sent = chat_messages(request["messages"], system=request["system"])
    assert sent == [{"role": "system", "content": "a"}, {"role": "user", "content": [text, image]}]
    assert chat([{"role": "user", "content": [{**text, "cache_control": "x"}]}])["messages"][0]["content"] == [text]
