"""What the Messages API refuses, and OpenAI accepts: texts without content, and thinking that ends an answer."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.dialects.openai.own_fields import plain_messages, plain_system

EMPTY = {"type": "text", "text": ""}
BLANK = {"type": "text", "text": "\n"}
TEXT = {"type": "text", "text": "Hi"}
CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "eA=="}
QUESTION = {"role": "user", "content": "Hi"}


def kept(role: str, *content: Any) -> list[Any]:
    """The contents that are left of a message between two of the user's."""
    messages = plain_messages([QUESTION, {"role": role, "content": list(content)}, QUESTION])
    assert messages[0] == messages[-1] == QUESTION
    return [part for message in messages[1:-1] for part in message["content"]]


def test_an_empty_text_is_left_out_and_a_blank_one_stays_only_beside_a_text():
    assert kept("assistant", EMPTY, TEXT, BLANK) == [TEXT, BLANK]
    assert kept("assistant", EMPTY, BLANK, CALL) == [CALL]
    assert kept("user", EMPTY, TEXT) == [TEXT]
    assert kept("user", {"type": "tool_result", "tool_use_id": "a", "content": [EMPTY]}) == [
        {"type": "tool_result", "tool_use_id": "a", "content": []}
    ]


def test_a_message_of_the_user_without_any_text_stays_for_the_provider_to_refuse():
    assert plain_messages([{"role": "user", "content": [EMPTY]}]) == [{"role": "user", "content": []}]
    assert plain_messages([{"role": "user", "content": ""}]) == [{"role": "user", "content": ""}]


@pytest.mark.parametrize("content", ["", "\n", [EMPTY, BLANK], []])
def test_an_answer_and_a_later_message_of_the_system_without_any_text_are_left_out(content: Any):
    messages = [QUESTION, *({"role": role, "content": content} for role in ("assistant", "system")), QUESTION]
    assert plain_messages(messages) == [QUESTION, QUESTION]


def test_a_system_prompt_has_no_empty_text():
    assert plain_system([EMPTY, TEXT]) == [TEXT]
    assert plain_system([EMPTY]) == []


def test_an_answer_does_not_end_in_thinking():
    assert kept("assistant", THOUGHT, TEXT, THOUGHT, REDACTED) == [THOUGHT, TEXT]
    assert kept("assistant", THOUGHT, CALL, THOUGHT, EMPTY) == [THOUGHT, CALL]
    assert kept("assistant", REDACTED, THOUGHT) == []
