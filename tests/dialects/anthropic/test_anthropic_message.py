"""The message of a stream that was never watched."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic.answer import message_of
from broadcaster.dialects.anthropic.encode import AnthropicDialect
from broadcaster.testing import wire
from tests.dialects.anthropic.anthropic_reading import Sdk, decoded, encoded, entries_of
from tests.dialects.anthropic.anthropic_streams import stream

CUT: list[Any] = [
    ev.ToolInputStart(tool_call_id="a", tool_name="f"),
    ev.ToolInputDelta(tool_call_id="a", input_text_delta='{"x": 1, "y": "ha'),
]

COMPACTION = {"type": "compaction", "content": None, "encrypted_content": None}
SUMMARY = {"content": "What was said.", "encrypted_content": "c2VhbGVk"}
FALLBACK = {"type": "fallback", "from": {"model": "claude-a"}, "to": {"model": "claude-b"}}
BETA_BLOCKS: dict[str, wire.Block] = {
    "compaction": wire.Block(COMPACTION, [{"type": "compaction_delta", **SUMMARY}]),
    "compaction without a seal": wire.Block(COMPACTION, [{"type": "compaction_delta", "content": "What was said."}]),
    "compaction that failed": wire.Block(COMPACTION, [{"type": "compaction_delta", "content": None}]),
    "fallback to another model": wire.Block(FALLBACK),
}


@pytest.mark.parametrize("name", BETA_BLOCKS)
def test_a_message_holds_the_blocks_of_betas_as_the_sdk_accumulates_them(name):
    sdk = Sdk(beta=True)
    entries = decoded(stream(*wire.message(BETA_BLOCKS[name], wire.text("Hello"))))
    assert sdk.read_whole(message_of(entries, stream_id="gen_1")) == sdk.read(encoded(entries))


def test_a_message_has_the_last_attempt_only():
    events = [ev.TextDelta(id="0", delta="torn"), ev.Attempt(attempt=2), ev.TextDelta(id="0", delta="a"), ev.Finish()]
    assert message_of(entries_of(events), stream_id="gen_1")["content"] == [{"type": "text", "text": "a"}]


def test_arguments_that_were_cut_off_hold_what_was_whole_of_them():
    message = message_of(entries_of([*CUT, ev.Abort()]), stream_id="gen_1")
    assert message["content"] == [{"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}]
    assert message["stop_reason"] == "cancelled"


def test_arguments_that_are_no_json_are_no_arguments():
    events = [
        ev.ToolInputStart(tool_call_id="a", tool_name="f"),
        ev.ToolInputError(tool_call_id="a", tool_name="f", input="x y", error_text="no JSON"),
        ev.Finish(finish_reason="tool-calls"),
    ]
    assert message_of(entries_of(events), stream_id="gen_1")["content"][0]["input"] == {}


def test_a_stream_that_failed_is_its_error():
    message_text = message_of(entries_of([*CUT, ev.Error(error_text="no", code="worker_lost")]), stream_id="gen_1")
    assert message_text == {"type": "error", "error": {"type": "api_error", "message": "no (worker_lost)"}}


def test_a_stop_is_an_error_where_the_dialect_requests_it():
    message_text = message_of(entries_of([ev.Abort()]), stream_id="gen_1", dialect=AnthropicDialect(stop="error"))
    assert message_text["type"] == "error"


def test_a_stream_without_an_end_is_no_message():
    assert message_of(entries_of(CUT), stream_id="gen_1")["error"]["type"] == "api_error"
    assert message_of([], stream_id="gen_1")["error"]["type"] == "api_error"
