"""The body of a Messages request: what is stored of it, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.dialects.anthropic.request import MessagesRequest, read_request
from broadcaster.errors import InvalidInput

REQUEST: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "why?"}]}


def test_a_request_is_stored_in_its_own_format():
    body = REQUEST | {"system": [{"type": "text", "text": "be brief"}], "thinking": {"type": "adaptive"}, "top_k": 4}
    stored = {name: value for name, value in body.items() if name != "model"}
    assert read_request(body) == MessagesRequest("m", stored, stream=False)


def test_whether_it_is_streamed_is_no_part_of_what_is_requested():
    whole, streamed = read_request(REQUEST | {"stream": False}), read_request(REQUEST | {"stream": True})
    assert (whole.stream, streamed.stream, whole.request == streamed.request) == (False, True, True)


def test_null_is_nothing():
    assert read_request(REQUEST | {"system": None, "service_tier": None}) == read_request(REQUEST)


def test_thinking_of_another_provider_is_left_out_and_its_own_stays():
    own = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    text = {"type": "text", "text": "so"}
    content = [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "thinking", "thinking": "x"},
        own,
        text,
    ]
    messages = [*REQUEST["messages"], {"role": "assistant", "content": content}]
    assert read_request(REQUEST | {"messages": messages}).request["messages"][1]["content"] == [own, text]
    assert len(content) == 4


def test_fields_that_frameworks_leave_in_a_message_are_left_out():
    left = {"id": "msg_1", "name": "x", "metadata": {"a": 1}, "openai": {"role": "system"}, "tool_calls": []}
    messages = [left | message for message in REQUEST["messages"]]
    assert read_request(REQUEST | {"messages": messages}) == read_request(REQUEST)


@pytest.mark.parametrize("config", [None, {"effort": "low"}, {"effort": "low", "format": {"type": "json_schema"}}])
def test_the_betas_name_of_the_output_format_is_read_as_its_name_in_the_api(config: Any):
    formats = {"output_format": {"type": "json_schema"}, "output_config": config}
    stored = {"output_config": {**(config or {}), "format": {"type": "json_schema"}}}
    assert read_request(REQUEST | formats) == read_request(REQUEST | stored)


@pytest.mark.parametrize(
    ("changes", "block"),
    [
        ({"model": ""}, "model: "),
        ({"model": None}, "model: "),
        ({"max_tokens": -1}, "max_tokens: "),
        ({"max_tokens": True}, "max_tokens: "),
        ({"max_tokens": 1.5}, "max_tokens: "),
        ({"messages": None}, "messages: "),
        ({"messages": "why?"}, "messages: "),
        ({"messages": []}, "messages: "),
        ({"messages": ["why?"]}, "messages.0: "),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{"content": "?"}]}, "messages.0.role: Field required"),
        ({"messages": [{"role": "tool", "content": "?"}]}, "messages.0.role: "),
        ({"messages": [{"role": "user", "content": "?", "tool_calls": [{}]}]}, "messages.0.tool_calls: Calls and"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}, "?"]}]}, "messages.0.content.1: "),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content: "),
        ({"system": 3}, "system: "),
        ({"stream": "yes"}, "stream: "),
        ({"temperature": "hot"}, "temperature: "),
        ({"temperature": -0.5}, "temperature: "),
        ({"top_p": "0.5"}, "top_p: "),
        ({"stop_sequences": "###"}, "stop_sequences: "),
        ({"stop_sequences": ["a", 3]}, "stop_sequences.1: "),
        ({"tools": {}}, "tools: "),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema: Field required"),
        ({"tools": [{}] * 257}, "tools: "),
        ({"tool_choice": "auto"}, "tool_choice: "),
        ({"thinking": {"budget_tokens": 3}}, "thinking: "),
        ({"metadata": "x"}, "metadata: "),
        ({"output_format": "json"}, "output_format: "),
        ({"output_format": {"type": "a"}, "output_config": {"format": {"type": "b"}}}, "output_format: it differs"),
        ({"thread": {"type": "create"}}, "thread: this server keeps no threads"),
        ({"n": 2}, "n: Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_a_refused_field_is_named(changes: dict[str, Any], block: str):
    with pytest.raises(InvalidInput) as caught:
        read_request(REQUEST | changes)
    assert caught.value.detail.startswith(block)


@pytest.mark.parametrize("name", REQUEST)
def test_a_missing_field_is_named(name: str):
    with pytest.raises(InvalidInput) as caught:
        read_request({field: value for field, value in REQUEST.items() if field != name})
    assert caught.value.detail == f"{name}: Field required"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "role", "content", "x"]), inner)
    ),
    max_leaves=6,
)
fields = st.sampled_from(
    ["model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "stop_sequences", "metadata", "x"]
)


@given(st.one_of(json_values, st.dictionaries(fields, json_values).map(lambda changes: REQUEST | changes)))
def test_every_body_is_read_or_refused(body: Any):
    with suppress(InvalidInput):
        assert read_request(body).request["messages"]
