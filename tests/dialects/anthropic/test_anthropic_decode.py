"""Anthropic decode: what each thing on the wire becomes."""

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.errors import ProviderFailed
from broadcaster.testing import wire
from broadcaster.testing.wire import frame
from tests.dialects.anthropic.anthropic_streams import STREAMS, TEXT, WEB_RESULT, stream
from tests.dialects.decoding import WireDecoding, the

_WIRE = WireDecoding(AnthropicDecoder)
decode, content, failure_of = _WIRE.decode, _WIRE.content, _WIRE.failure_of


def test_an_answer_opens_with_its_id_its_model_and_the_request_id():
    start, step, *_ = decode(stream(*wire.message(model="claude-x")), request_id="req_7")
    assert start == ev.Start(
        message_id="msg_scripted",
        message_metadata={"model": "claude-x"},
        provider_metadata={"anthropic": {"usage": {"input_tokens": 25, "output_tokens": 1}, "requestId": "req_7"}},
    )
    assert step == ev.StartStep()


def test_text_comes_as_one_part_numbered_by_its_block():
    assert content(TEXT) == [
        ev.TextStart(id="0"),
        ev.TextDelta(id="0", delta="Hello "),
        ev.TextDelta(id="0", delta="world"),
        ev.TextEnd(id="0"),
    ]


def test_text_that_stands_in_a_block_start_is_a_delta():
    raw = stream(*wire.message(wire.Block({"type": "text", "text": "early "}, wire.text("late").deltas)))
    assert [event.delta for event in content(raw) if isinstance(event, ev.TextDelta)] == ["early ", "late"]


def test_thinking_carries_its_signature_as_an_empty_delta():
    assert content(stream(*wire.message(wire.thinking("hm", signature="c2ln")))) == [
        ev.ReasoningStart(id="0"),
        ev.ReasoningDelta(id="0", delta="hm"),
        ev.ReasoningDelta(id="0", delta="", provider_metadata={"anthropic": {"signature": "c2ln"}}),
        ev.ReasoningEnd(id="0"),
    ]


def test_a_signature_that_stands_in_a_block_start_is_kept():
    block = wire.Block({"type": "thinking", "thinking": "all of it", "signature": "c2ln"})
    assert content(stream(*wire.message(block))) == content(
        stream(*wire.message(wire.thinking("all of it", signature="c2ln")))
    )


def test_redacted_thinking_is_a_reasoning_part_with_its_data_and_no_deltas():
    assert content(stream(*wire.message(wire.redacted_thinking("b3A=")))) == [
        ev.ReasoningStart(id="0", provider_metadata={"anthropic": {"redactedData": "b3A="}}),
        ev.ReasoningEnd(id="0"),
    ]


def test_tool_arguments_stream_as_text_and_are_parsed_when_whole():
    assert content(STREAMS["tool with an empty first fragment"]) == [
        ev.ToolInputStart(tool_call_id="toolu_01", tool_name="get_weather"),
        *(
            ev.ToolInputDelta(tool_call_id="toolu_01", input_text_delta=fragment)
            for fragment in ("", '{"city": ', '"Pa', 'ris"}')
        ),
        ev.ToolInputAvailable(tool_call_id="toolu_01", tool_name="get_weather", input={"city": "Paris"}),
    ]


@pytest.mark.parametrize("fragments", [(), ("",), ("", " ")])
def test_a_tool_without_arguments_gets_the_empty_object(fragments: tuple[str, ...]):
    events = content(stream(*wire.message(wire.tool_use("now", *fragments))))
    assert the(ev.ToolInputAvailable, events).input == {}


def test_tool_arguments_that_stand_in_the_block_start_are_kept():
    block = wire.Block({"type": "tool_use", "id": "toolu_01", "name": "f", "input": {"x": 1}})
    assert the(ev.ToolInputAvailable, content(stream(*wire.message(block)))).input == {"x": 1}


@pytest.mark.parametrize("text", ['{"text": "half', "{} {}", '{"x": \\ud800}', "[" * 5000])
def test_tool_arguments_that_are_no_json_are_sent_with_their_text(text: str):
    error = the(ev.ToolInputError, content(stream(*wire.message(wire.tool_use("write", text)))))
    assert error.input == text
    assert "not valid JSON" in error.error_text


def test_a_server_tool_and_its_result_are_executed_by_the_provider():
    start, _, available, output, *_ = content(STREAMS["server tool, result, citations"])
    caller = {"type": "direct"}
    assert start == ev.ToolInputStart(
        tool_call_id="srvtoolu_01",
        tool_name="web_search",
        provider_executed=True,
        provider_metadata={"anthropic": {"caller": caller, "blockType": "server_tool_use"}},
    )
    assert isinstance(available, ev.ToolInputAvailable)
    assert available.provider_executed is True
    assert output == ev.ToolOutputAvailable(
        tool_call_id="srvtoolu_01",
        output=[WEB_RESULT],
        provider_executed=True,
        provider_metadata={"anthropic": {"toolResult": {"type": "web_search_tool_result", "caller": caller}}},
    )


def test_a_server_tool_that_failed_is_a_tool_error_with_the_whole_block():
    content_of_block = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    block = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01", "content": content_of_block}
    assert the(ev.ToolOutputError, content(STREAMS["server tool that failed"])) == ev.ToolOutputError(
        tool_call_id="srvtoolu_01",
        error_text="max_uses_exceeded",
        provider_executed=True,
        provider_metadata={"anthropic": {"toolResult": block}},
    )


def test_an_mcp_tool_is_dynamic_and_its_error_is_an_error():
    use = wire.Block({"type": "mcp_tool_use", "id": "mcp_1", "name": "f", "input": {}, "server_name": "files"})
    result = wire.tool_result("mcp_tool_result", [], tool_use_id="mcp_1", is_error=True)
    start, available, output = content(stream(*wire.message(use, result)))
    assert isinstance(start, ev.ToolInputStart)
    assert start.dynamic is True
    assert start.provider_metadata == {"anthropic": {"server_name": "files", "blockType": "mcp_tool_use"}}
    assert isinstance(available, ev.ToolInputAvailable)
    assert isinstance(output, ev.ToolOutputError)


def test_citations_come_where_they_belong_and_together_on_the_text_end():
    page = {"type": "page_location", "document_index": 0, "cited_text": "c"}
    web = wire.web_citation("https://example.org/a", title="A")
    events = content(stream(*wire.message(wire.text("So.", citations=[page, web]))))
    carried = [event.provider_metadata for event in events if isinstance(event, ev.TextDelta) and not event.delta]
    assert carried == [{"anthropic": {"citation": page}}, {"anthropic": {"citation": web}}]
    assert the(ev.TextEnd, events).provider_metadata == {"anthropic": {"citations": [page, web]}}


def test_a_cited_web_page_is_a_source_once_however_often_it_is_cited():
    web = wire.web_citation("https://example.org/a", title="A")
    other = wire.web_citation("https://example.org/b", title="B")
    events = content(
        stream(*wire.message(wire.text("1", citations=[web, web]), wire.text("2", citations=[web, other])))
    )
    assert [event for event in events if isinstance(event, ev.SourceUrl)] == [
        ev.SourceUrl(source_id="source-0", url="https://example.org/a", title="A"),
        ev.SourceUrl(source_id="source-1", url="https://example.org/b", title="B"),
    ]


def test_an_unknown_event_is_passed_on_in_its_place():
    assert content(STREAMS["unknown event"])[1:3] == [
        ev.DataEvent(type="data-anthropic", data={"type": "message_mood", "mood": "calm"}),
        ev.TextDelta(id="0", delta="before "),
    ]


def test_an_unknown_delta_is_passed_on_and_its_block_goes_on():
    _, passed, *rest = content(STREAMS["unknown delta"])
    assert passed == ev.DataEvent(type="data-anthropic", data=wire.block_delta(0, {"type": "tone_delta", "tone": 3}))
    assert [event.delta for event in rest if isinstance(event, ev.TextDelta)] == ["before ", "after"]


@pytest.mark.parametrize("kind", ["input_json_delta", None, 3, ["text_delta"], {}])
def test_a_delta_of_another_kind_than_its_block_is_passed_on(kind: object):
    strange = wire.block_delta(0, {"type": kind, "partial_json": "{}"})
    raw = stream(wire.message_start(), *wire.block_events(0, wire.text())[:1], strange)
    assert decode(raw)[-1] == ev.DataEvent(type="data-anthropic", data=strange)


@pytest.mark.parametrize(
    "block",
    [
        wire.Block({"type": "container_upload", "file_id": "file_1"}),
        wire.Block({"type": "hologram"}, [{"type": "text_delta", "text": "x"}, {"type": "new_delta"}]),
        wire.Block({"type": "tool_use", "name": "a tool without id"}),
    ],
)
def test_an_unknown_block_is_passed_on_from_its_start_to_its_stop(block: wire.Block):
    *passed, start, delta, end = content(stream(*wire.message(block, wire.text("after"))))
    assert passed == [ev.DataEvent(type="data-anthropic", data=event) for event in wire.block_events(0, block)]
    assert [start, delta, end] == [ev.TextStart(id="1"), ev.TextDelta(id="1", delta="after"), ev.TextEnd(id="1")]


def test_an_index_used_twice_still_gives_two_parts():
    assert [event.id for event in content(STREAMS["index used twice"]) if isinstance(event, ev.TextEnd)] == ["0", "1"]


def test_a_block_that_the_provider_left_open_is_closed_by_the_end_of_the_message():
    assert content(STREAMS["block never stopped"])[-1] == ev.TextEnd(id="0")


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool-calls"),
        ("refusal", "content-filter"),
        ("pause_turn", "other"),
        ("a_newer_reason", "other"),
    ],
)
def test_every_stop_reason_is_mapped_and_kept(stop_reason: str, finish_reason: ev.FinishReason):
    step, finish = decode(stream(*wire.message(stop_reason=stop_reason)))[-2:]
    metadata = {"anthropic": {"stopReason": stop_reason}}
    assert step == ev.FinishStep(finish_reason=finish_reason, provider_metadata=metadata)
    assert finish == ev.Finish(finish_reason=finish_reason, provider_metadata=metadata)


def test_an_answer_without_a_stop_reason_claims_none():
    assert decode(stream(*wire.message(stop_reason=None)))[-1] == ev.Finish()


def test_the_stop_sequence_and_all_else_of_the_end_ride_in_the_metadata():
    end = wire.message_delta("stop_sequence", stop_sequence="###")
    end["delta"]["container"] = {"id": "c_1"}
    end["context_management"] = {"applied_edits": [1]}
    finish = decode(stream(wire.message_start(), end, wire.message_stop()))[-1]
    assert finish == ev.Finish(
        finish_reason="stop",
        provider_metadata={
            "anthropic": {
                "stopReason": "stop_sequence",
                "stopSequence": "###",
                "context_management": {"applied_edits": [1]},
                "container": {"id": "c_1"},
            }
        },
    )


@pytest.mark.parametrize(
    ("error_type", "reason", "retryable"),
    [
        ("overloaded_error", "provider_overloaded", True),
        ("rate_limit_error", "provider_rate_limited", True),
        ("timeout_error", "provider_timeout", True),
        ("api_error", "provider_error", True),
        ("authentication_error", "provider_auth", False),
        ("permission_error", "provider_auth", False),
        ("invalid_request_error", "provider_bad_request", False),
        ("not_found_error", "provider_bad_request", False),
        ("a_newer_error", "provider_error", True),
    ],
)
def test_an_error_event_fails_with_the_reason_of_its_type(error_type: str, reason: str, retryable: bool):
    failure = failure_of(stream(wire.message_start(), wire.error(error_type, "secret words")))
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert "secret words" not in failure.detail


@pytest.mark.parametrize("data", ["overloaded", "{}", '{"type":"error","error":"text"}', '{"error":{"type":7}}'])
def test_an_error_event_of_any_shape_is_an_error(data: str):
    assert failure_of(f"event: error\ndata: {data}\n\n".encode()).reason == "provider_error"


def test_events_before_an_error_in_the_same_chunk_are_not_lost():
    decoder = AnthropicDecoder()
    events = decoder.decode(STREAMS["error in the middle"])
    assert events[-1] == ev.TextEnd(id="0")
    assert decoder.failure is not None
    for next_call in (lambda: decoder.decode(b""), lambda: decoder.decode(TEXT), decoder.flush):
        with pytest.raises(ProviderFailed):
            next_call()


@pytest.mark.parametrize(
    "raw",
    [
        b"data: {\n\n",
        b"data: [1]\n\n",
        b"data: {}\n\n",
        b'data: {"type": 3}\n\n',
        frame(wire.text_delta(0, "before the start")),
        frame(wire.block_start(0, {"type": "text"})),
        frame(wire.message_stop()),
        stream(wire.message_start(), wire.message_start()),
        stream(wire.message_start(), wire.text_delta(0, "of no block")),
        stream(wire.message_start(), wire.block_delta(0, {"type": "text_delta", "text": 3})),
        stream(wire.message_start(), {"type": "content_block_start", "index": 0}),
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: " + b"x" * (16 * 2**20 + 1) + b"\n\n",
    ],
)
def test_a_stream_that_breaks_the_protocol_is_bad_data(raw: bytes):
    failure = failure_of(raw)
    assert (failure.reason, failure.retryable) == ("provider_bad_data", True)


def test_an_empty_ping_of_a_gateway_is_a_ping():
    assert decode(b"event: ping\ndata: {}\n\n" + TEXT) == decode(TEXT)


def test_half_a_surrogate_pair_costs_one_character_and_not_the_answer():
    deltas = [event.delta for event in content(STREAMS["half a surrogate pair"]) if isinstance(event, ev.TextDelta)]
    assert deltas == ["Hello ", "?"]


def test_only_message_stop_makes_an_answer_whole():
    decoder = AnthropicDecoder()
    events = decoder.decode(STREAMS["truncated"]) + decoder.flush()
    assert (decoder.is_whole, decoder.terminal_seen) == (False, False)
    assert not any(isinstance(event, ev.Finish) for event in events)
    decoder = AnthropicDecoder()
    decoder.decode(TEXT)
    assert (decoder.is_whole, decoder.terminal_seen) == (True, True)
