"""Anthropic encode: what each of our events becomes on the wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.core.sse import SseDecoder
from broadcaster.dialects import Dialect
from broadcaster.dialects.anthropic.encode import AnthropicDialect
from broadcaster.testing import wire
from tests.dialects.anthropic.anthropic_reading import Sdk, entries_of

Json = dict[str, Any]

FINISH = ev.Finish(finish_reason="stop")
USAGE = ev.Usage(input_tokens=3, output_tokens=4, reasoning_tokens=1, cached_input_tokens=5, cache_write_input_tokens=6)


def wire_events(*events: ev.Event, dialect: Dialect | None = None) -> list[Json]:
    """The wire events."""
    return read((dialect or AnthropicDialect()).open("gen_1").encode(entries_of(events)))


def read(sent: bytes) -> list[Json]:
    return [json.loads(message.data) for message in SseDecoder().decode(sent)]


def message(*events: ev.Event) -> Any:
    """What the SDK makes of it."""
    return Sdk().read(AnthropicDialect().open("gen_1").encode(entries_of(events)))


def blocks(*events: ev.Event) -> list[Json]:
    """The blocks, without what stands round them."""
    return [event for event in wire_events(*events) if event["type"].startswith("content_block")]


def types(sent: Sequence[Json]) -> list[str]:
    return [event["type"] for event in sent]


# ------------------------------------------------------------------------------------------------------ begin and end


def test_nothing_is_sent_before_the_first_content():
    transcript = AnthropicDialect().open("gen_1")
    assert transcript.encode(entries_of([ev.Start(message_id="msg_1"), ev.StartStep(), USAGE])) == b""
    assert transcript.snapshot() == b""


def test_a_whole_answer_frame_by_frame():
    start = ev.Start(message_id="msg_1", message_metadata={"model": "claude-x"})
    transcript = AnthropicDialect().open("gen_1")
    sent = transcript.encode(entries_of([start, ev.TextStart(id="0"), ev.TextDelta(id="0", delta="é\n"), FINISH]))
    opening = (
        '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x",'
        '"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}'
    )
    assert sent.decode().split("\n\n") == [
        f"event: message_start\ndata: {opening}",
        "event: content_block_start\n"
        'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        "event: content_block_delta\n"
        'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"é\\n"}}',
        'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}',
        "event: message_delta\n"
        'data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        '"usage":{"output_tokens":0}}',
        'event: message_stop\ndata: {"type":"message_stop"}',
        "",
    ]


def test_an_id_of_another_api_is_not_this_ones():
    (start, *_) = wire_events(ev.Start(message_id="chatcmpl-1", message_metadata={"model": "gpt-x"}), FINISH)
    assert (start["message"]["id"], start["message"]["model"]) == ("msg_gen_1", "gpt-x")


def test_an_answer_whose_beginning_is_not_known_still_has_an_id():
    (start, *_) = wire_events(ev.TextDelta(id="0", delta="a"))
    assert (start["message"]["id"], start["message"]["model"]) == ("msg_gen_1", "unknown")


@pytest.mark.parametrize(
    ("reason", "result"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool-calls", "tool_use"),
        ("content-filter", "refusal"),
        ("other", "end_turn"),
        ("error", None),
        (None, None),
    ],
)
def test_every_reason_of_ours_has_one_over_there(reason: ev.FinishReason | None, result: str | None):
    assert wire_events(ev.Finish(finish_reason=reason))[-2]["delta"]["stop_reason"] == result


def test_the_providers_own_reason_comes_back_with_its_details():
    result = {
        "stopReason": "stop_sequence",
        "stopSequence": "#",
        "container": {"id": "c"},
        "context_management": {"a": 1},
    }
    end = wire_events(ev.Finish(finish_reason="stop", provider_metadata={"anthropic": result}))[-2]
    assert end["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "#", "container": {"id": "c"}}
    assert end["context_management"] == {"a": 1}


def test_a_finish_without_a_reason_takes_that_of_the_last_step():
    assert wire_events(ev.FinishStep(finish_reason="length"), ev.Finish())[-2]["delta"]["stop_reason"] == "max_tokens"


def test_the_counts_come_with_the_end():
    assert wire_events(USAGE, FINISH)[-2]["usage"] == {
        "input_tokens": 3,
        "output_tokens": 4,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 6,
        "output_tokens_details": {"thinking_tokens": 1},
    }


def test_an_answer_that_was_stopped_closes_what_is_open_and_is_marked_as_stopped():
    sent = wire_events(ev.TextDelta(id="0", delta="half"), USAGE, ev.Abort(reason="stopped"), FINISH)
    assert types(sent)[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert sent[-2]["delta"] == {"stop_reason": "cancelled", "stop_sequence": None}
    assert sent[-2]["usage"]["output_tokens"] == 4


def test_an_answer_that_was_stopped_can_be_an_error_instead():
    result = ev.TextDelta(id="0", delta="half"), ev.Abort(reason="abandoned")
    stopped = {"type": "api_error", "message": "the answer was stopped (abandoned)"}
    assert wire_events(*result, dialect=AnthropicDialect(stop="error"))[-1] == {"type": "error", "error": stopped}


@pytest.mark.parametrize(
    ("code", "type"),
    [
        ("provider_overloaded", "overloaded_error"),
        ("provider_rate_limited", "rate_limit_error"),
        ("provider_bad_request", "invalid_request_error"),
        ("provider_timeout", "timeout_error"),
        ("generation_timeout", "timeout_error"),
        ("queue_timeout", "overloaded_error"),
        ("provider_auth", "api_error"),
        ("worker_lost", "api_error"),
        ("anything", "api_error"),
    ],
)
def test_an_error_is_an_error_of_its_kind_and_nothing_follows(code: str, type: str):
    sent = wire_events(ev.TextDelta(id="0", delta="a"), ev.Error(error_text="it broke", code=code), FINISH)
    assert sent[-1] == {"type": "error", "error": {"type": type, "message": f"it broke ({code})"}}


# ---------------------------------------------------------------------------------------------------------- the blocks


def test_parts_that_interleave_leave_one_after_another():
    sent = blocks(
        ev.TextDelta(id="0", delta="a"),
        ev.ReasoningDelta(id="1", delta="x"),
        ev.TextDelta(id="0", delta="b"),
        ev.ReasoningDelta(id="1", delta="y"),
        ev.TextEnd(id="0"),
        ev.ReasoningDelta(id="1", delta="z"),
        ev.ReasoningEnd(id="1"),
    )
    assert [event.get("delta") for event in sent if event["type"] == "content_block_delta"] == [
        {"type": "text_delta", "text": "a"},
        {"type": "text_delta", "text": "b"},
        {"type": "thinking_delta", "thinking": "xy"},
        {"type": "thinking_delta", "thinking": "z"},
    ]
    assert [event["index"] for event in sent] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_call_whose_arguments_are_whole_gives_way_before_its_end():
    sent = blocks(
        ev.ToolInputStart(tool_call_id="a", tool_name="f"),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta='{"x":{}}'),
        ev.TextDelta(id="0", delta="meanwhile"),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta=" "),
        ev.ToolInputAvailable(tool_call_id="a", tool_name="f", input={"x": {}}),
    )
    assert types(sent) == [f"content_block_{word}" for word in ("start", "delta", "stop", "start", "delta")]


def test_the_steps_of_a_tool_loop_are_one_message_without_our_own_tools_answers():
    step: list[Any] = [
        ev.StartStep(),
        ev.TextStart(id="0"),
        ev.TextDelta(id="0", delta="a"),
        ev.TextEnd(id="0"),
        ev.ToolInputStart(tool_call_id="call_0", tool_name="f"),
        ev.ToolInputAvailable(tool_call_id="call_0", tool_name="f", input={"x": 1}),
        ev.FinishStep(finish_reason="tool-calls"),
        ev.ToolOutputAvailable(tool_call_id="call_0", output="sunny"),
    ]
    result = message(ev.Start(message_id="msg_1"), *step, *step, ev.TextDelta(id="0", delta="end"), FINISH)
    assert [(block["type"], block.get("text", block.get("input"))) for block in result["content"]] == [
        ("text", "a"),
        ("tool_use", {"x": 1}),
        ("text", "a"),
        ("tool_use", {"x": 1}),
        ("text", "end"),
    ]
    assert result["stop_reason"] == "end_turn"


def test_arguments_that_came_without_fragments_are_sent_as_one():
    sent = blocks(ev.ToolInputAvailable(tool_call_id="a", tool_name="f", input={"x": 1}))
    assert sent[1]["delta"] == {"type": "input_json_delta", "partial_json": '{"x":1}'}


def test_a_fragment_without_a_start_waits_for_the_name_of_its_call():
    fragment = ev.ToolInputDelta(tool_call_id="a", input_text_delta="}")
    assert blocks(fragment) == []
    sent = blocks(fragment, ev.ToolInputAvailable(tool_call_id="a", tool_name="f", input={}))
    assert [event.get("content_block", {}).get("name") for event in sent] == ["f", None]


@pytest.mark.parametrize("kind", [{"toolType": "custom"}, {"itemType": "custom_tool_call"}])
def test_the_text_of_a_custom_tool_stands_in_an_object(kind: Json):
    call: Any = {"tool_call_id": "a", "tool_name": "grep", "provider_metadata": {"openai": kind}}
    result = message(
        ev.ToolInputStart(**call),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta="foo b"),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta="ar"),
        ev.ToolInputAvailable(**call, input="foo bar"),
        FINISH,
    )
    assert result["content"][0]["input"] == {"input": "foo bar"}


def test_a_call_that_openai_ran_itself_has_its_result_behind_it():
    search: Any = {"tool_call_id": "ws_1", "provider_executed": True}
    extras = {"openai": {"itemType": "web_search_call"}}
    result = message(
        ev.ToolInputStart(**search, tool_name="web_search", provider_metadata=extras),
        ev.ToolInputAvailable(**search, tool_name="web_search", input={"query": "a"}, provider_metadata=extras),
        ev.ToolOutputAvailable(**search, output={"status": "completed"}),
        FINISH,
    )
    call, result = result["content"]
    assert (call["type"], call["name"], call["input"]) == ("server_tool_use", "web_search", {"query": "a"})
    assert (result["type"], result["tool_use_id"], result["content"]) == ("web_search_tool_result", "ws_1", [])


def test_a_failed_tool_of_openai_is_a_failed_result():
    search: Any = {"tool_call_id": "ws_1", "provider_executed": True}
    sent = blocks(
        ev.ToolInputAvailable(**search, tool_name="web_search", input={}), ev.ToolOutputError(**search, error_text="no")
    )
    assert sent[-2]["content_block"] == {
        "type": "web_search_tool_result",
        "tool_use_id": "ws_1",
        "content": {"type": "web_search_tool_result_error", "error_code": "unavailable", "message": "no"},
    }


def test_a_call_over_mcp_is_one_here_too():
    call: Any = {"tool_call_id": "m", "provider_executed": True}
    extras = {"openai": {"itemType": "mcp_call", "server_label": "docs"}}
    sent = blocks(
        ev.ToolInputStart(**call, tool_name="ask", provider_metadata=extras),
        ev.ToolInputAvailable(**call, tool_name="ask", input={"q": 1}, provider_metadata=extras),
        ev.ToolOutputAvailable(**call, output={"status": "completed", "output": "42"}),
    )
    assert sent[0]["content_block"] == {
        "type": "mcp_tool_use",
        "id": "m",
        "name": "ask",
        "input": {},
        "server_name": "docs",
    }
    assert sent[-2]["content_block"] == {
        "type": "mcp_tool_result",
        "tool_use_id": "m",
        "is_error": False,
        "content": [{"type": "text", "text": "42"}],
    }


@pytest.mark.parametrize(
    "annotation",
    [
        {"type": "url_citation", "url": "https://example.org/a", "title": "A", "start_index": 0, "end_index": 1},
        {"type": "url_citation", "url_citation": {"url": "https://example.org/a", "title": "A"}},
    ],
)
@pytest.mark.parametrize("at", ["delta", "end"])
def test_a_page_that_openai_cites_is_a_citation(annotation: Json, at: str):
    one, all_of_it = {"openai": {"annotation": annotation}}, {"openai": {"annotations": [annotation]}}
    result = message(
        ev.TextDelta(id="0", delta="It is."),
        *([ev.TextDelta(id="0", delta="", provider_metadata=one)] if at == "delta" else []),
        ev.TextEnd(id="0", provider_metadata=all_of_it),
        FINISH,
    )
    (cited,) = result["content"][0]["citations"]
    assert (cited["type"], cited["url"], cited["title"]) == (
        "web_search_result_location",
        "https://example.org/a",
        "A",
    )


def test_reasoning_without_a_signature_is_thinking_without_one():
    result = message(ev.ReasoningDelta(id="0", delta="hm"), ev.ReasoningEnd(id="0"), FINISH)
    assert result["content"] == [{"type": "thinking", "thinking": "hm", "signature": ""}]


def test_an_event_that_the_wire_has_no_place_for_is_left_out():
    assert (
        wire_events(
            ev.SourceUrl(source_id="s", url="https://example.org"),
            ev.File(url="data:,", media_type="text/plain"),
            ev.DataEvent(type="data-mood", data=1),
            ev.UnknownEvent(type="of-a-newer-version"),
            ev.ToolOutputAvailable(tool_call_id="a", output="of an unknown call"),
        )
        == []
    )


@pytest.mark.parametrize("data", [wire.message_stop(), wire.error(), {"type": "a\nb"}, {"type": 3}, None, [], "ping"])
def test_nothing_that_is_passed_on_can_end_the_message_or_forge_a_frame(data: Any):
    assert wire_events(ev.DataEvent(type="data-anthropic", data=data)) == []


# -------------------------------------------------------------------------------------------- attempts and the notices


def test_an_attempt_that_sent_nothing_is_followed_without_an_error():
    torn = ev.Start(message_id="msg_torn"), ev.StartStep(), ev.Attempt(attempt=2)
    whole = ev.Start(message_id="msg_2"), ev.TextDelta(id="0", delta="a"), FINISH
    assert wire_events(*torn, *whole) == wire_events(*whole)


def test_a_torn_attempt_ends_its_clients_with_an_error_and_no_later_one():
    transcript = AnthropicDialect().open("gen_1")
    events = [ev.TextDelta(id="0", delta="torn"), ev.Attempt(attempt=2), ev.TextDelta(id="0", delta="whole")]
    sent = read(transcript.encode(entries_of(events)))
    assert (sent[3]["type"], sent[3]["error"]["type"]) == ("error", "overloaded_error")
    assert "the worker that wrote this answer was lost" in sent[3]["error"]["message"]
    assert "may be sent again" in sent[3]["error"]["message"]
    assert b"torn" not in transcript.snapshot()
    assert b"whole" in transcript.snapshot()


@pytest.mark.parametrize(("reconnect", "type"), [(True, "overloaded_error"), (False, "api_error")])
def test_a_response_that_ends_early_ends_with_an_error(reconnect: bool, type: str):
    (sent,) = read(AnthropicDialect().open("gen_1").bye("drain", reconnect=reconnect, retry_ms=1000))
    assert sent["error"]["type"] == type
    assert ("may be sent again" in sent["error"]["message"]) is reconnect


def test_notices_have_no_place_and_a_gap_ends_the_message():
    transcript = AnthropicDialect().open("gen_1")
    assert transcript.hello(status="running", retry_ms=100) == b""
    assert transcript.stalled(StallReason.WORKER_LOST) == b""
    assert transcript.gap(Gap(GapReason.TRIMMED, Cursor(1, 3), 1, 3)) is None


def test_the_heartbeat_is_a_ping():
    assert AnthropicDialect().heartbeat == b'event: ping\ndata: {"type":"ping"}\n\n'


def test_dialects_of_equal_options_are_equal():
    assert AnthropicDialect() == AnthropicDialect(stop="cancelled")
    assert hash(AnthropicDialect()) == hash(AnthropicDialect(stop="cancelled"))
    assert AnthropicDialect(stop="error") != AnthropicDialect()
