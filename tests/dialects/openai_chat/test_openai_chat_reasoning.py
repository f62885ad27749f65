"""Reasoning of earlier answers: stored where a server takes it back, and sent to such a server alone."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.dialects.openai.own_fields import plain_messages
from broadcaster.dialects.openai_chat.provider_request import chat_messages
from broadcaster.dialects.openai_chat.request import parse_chat_request
from broadcaster.dialects.openai_responses.provider_request import responses_input

Json = dict[str, Any]

HELLO: Json = {"role": "user", "content": "Hi"}
CALL: Json = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT: Json = {"role": "tool", "tool_call_id": "a", "content": "x"}


def stored(answer: Json, *, keeps_reasoning: bool = True) -> list[Json]:
    """The stored messages of a chat in which the model called a tool."""
    body = {"model": "m", "messages": [HELLO, {"role": "assistant", **answer}, RESULT]}
    messages: list[Json] = parse_chat_request(body, keeps_reasoning=keeps_reasoning).request["messages"]
    return messages


def sent(messages: list[Json], field: str | None) -> Json:
    """The answer in a chat completions request to a server that takes reasoning in this field."""
    answer: Json = chat_messages(messages, system=None, reasoning_field=field)[1]
    return answer


@pytest.mark.parametrize("called", [{"content": None, "tool_calls": [CALL]}, {"content": "Yes."}])
@pytest.mark.parametrize("given", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_comes_back_under_the_name_that_the_server_knows(called: Json, given: str, field: str) -> None:
    messages = stored({**called, given: "Hm."})
    assert sent(messages, field) == {"role": "assistant", **called, field: "Hm."}


def test_no_other_server_is_sent_it_on_any_wire() -> None:
    messages = stored({"content": None, "tool_calls": [CALL], "reasoning_content": "Hm."})
    assert sent(messages, None) == {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert "Hm." not in str([plain_messages(messages), responses_input(messages)])


def test_it_is_stored_only_where_a_server_takes_it_back() -> None:
    answer = {"content": "Yes.", "reasoning": "Hm.", "reasoning_content": "Hm."}
    assert stored(answer, keeps_reasoning=False)[1] == {"role": "assistant", "content": "Yes."}
    assert stored({**answer, "name": "ada"})[1]["openai"] == {"name": "ada", "reasoning": "Hm."}
    assert "openai" not in stored({"content": "Yes.", "reasoning": {"effort": "low"}})[1]


def test_a_call_without_reasoning_has_the_field_too_and_an_answer_without_a_call_has_not() -> None:
    assert sent(stored({"content": None, "tool_calls": [CALL]}), "reasoning_content")["reasoning_content"] == ""
    assert "reasoning_content" not in sent(stored({"content": "Yes."}), "reasoning_content")


def test_a_message_in_the_wires_own_shape_keeps_what_it_has() -> None:
    answer = {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Hm."}
    assert sent([HELLO, answer, RESULT], "reasoning_content") == answer
