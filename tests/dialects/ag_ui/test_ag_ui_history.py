"""The conversation that a joining client of a run receives: sent in a new run, it makes the same request."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.dialects.ag_ui.history import history_of
from broadcaster.dialects.ag_ui.request import request_of

CALL = {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris"}}
CONVERSATIONS: dict[str, dict[str, Any]] = {
    "a question": {"messages": [{"role": "user", "content": "Hi"}]},
    "with a system prompt": {
        "system": "Be brief.\n\nThe city:\nParis",
        "messages": [{"role": "user", "content": "Hi"}],
    },
    "pictures": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                    {"type": "image", "source": {"type": "url", "url": "https://a.example/a.png"}},
                    {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
                ],
            }
        ]
    },
    "tools and thoughts": {
        "messages": [
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Let me look.", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "eA=="},
                    {"type": "text", "text": "I look."},
                    CALL,
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "18"},
                    {"type": "text", "text": "And?"},
                ],
            },
            {"role": "assistant", "content": [{**CALL, "id": "c2", "input": {}}]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c2", "content": "gone", "is_error": True}],
            },
        ]
    },
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_history_makes_the_same_request(name: str) -> None:
    request = CONVERSATIONS[name]
    history = history_of(request)
    assert request_of({"messages": history}) == request
    assert len({message["id"] for message in history}) == len(history)
    assert history_of(request) == history
