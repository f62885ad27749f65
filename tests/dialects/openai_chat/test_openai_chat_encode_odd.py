"""Chat completions encode: events that no provider would send, and what the wire cannot express."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broadcaster.core import events as ev
from tests.dialects.openai_chat.chat_clients import by_hand, chunks_of, helper_final
from tests.dialects.openai_chat.chat_streams import SIGNED, STREAMS
from tests.dialects.openai_chat.test_openai_chat_encode import encoded, from_chat, message_of, text_part


def test_deltas_without_a_start_open_their_part() -> None:
    events: list[ev.Event] = [
        ev.TextDelta(id="7", delta="tail"),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta='{"x":'),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta="1}"),
        ev.Finish(finish_reason="stop"),
    ]
    result = by_hand(encoded(events))

    assert result["content"] == "tail"
    assert result["calls"] == {0: {"id": "a", "name": "", "arguments": '{"x":1}'}}


def test_an_event_that_the_wire_cannot_express_is_left_out() -> None:
    odd: list[ev.Event] = [
        ev.DataEvent(type="data-progress", data=1),
        ev.File(url="data:,x", media_type="text/plain"),
        ev.SourceUrl(source_id="s", url="https://a.example"),
        ev.UnknownEvent(type="of-tomorrow"),
        ev.TextEnd(id="nobody"),
        ev.ToolOutputError(tool_call_id="nobody", error_text="…"),
    ]

    assert encoded([*odd, *text_part("Hi"), *odd, ev.Finish()]) == encoded([*text_part("Hi"), ev.Finish()])


def test_arguments_that_are_no_json_are_sent_as_they_came() -> None:
    call: dict[str, Any] = {"tool_call_id": "a", "tool_name": "f"}
    error = ev.ToolInputError(**call, input='{"half', error_text="…")

    assert by_hand(encoded([ev.ToolInputStart(**call), error, ev.Finish()]))["calls"][0]["arguments"] == '{"half'


def test_a_custom_tool_keeps_its_kind() -> None:
    extras = {"openai": {"toolType": "custom"}}
    call: dict[str, Any] = {"tool_call_id": "a", "tool_name": "run", "provider_metadata": extras}
    events: list[ev.Event] = [
        ev.ToolInputStart(**call),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta="ls"),
        ev.ToolInputAvailable(**call, input="ls"),
        ev.Finish(finish_reason="tool-calls"),
    ]

    assert message_of(events)["tool_calls"] == [{"id": "a", "type": "custom", "custom": {"name": "run", "input": "ls"}}]
    fragments = [
        call for chunk in chunks_of(encoded(events)) for call in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert json.dumps(fragments).count('"ls"') == 1


@pytest.mark.parametrize("name", ["signature behind a call", "signature alone behind a call"])
def test_a_call_has_the_signature_that_its_provider_sent_behind_it(name: str) -> None:
    events = from_chat(STREAMS[name])
    signed, other = message_of(events)["tool_calls"]
    streamed, _ = helper_final(encoded(events))["choices"][0]["message"]["tool_calls"]

    assert signed["extra_content"] == streamed["extra_content"] == SIGNED["extra_content"]
    assert "extra_content" not in other
