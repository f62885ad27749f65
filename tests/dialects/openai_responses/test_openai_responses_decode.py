"""Responses decode: what each thing on the wire becomes."""

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.errors import ProviderFailed
from tests.dialects.decoding import OPENING, WireDecoding, the
from tests.dialects.openai_responses import responses_wire as wire
from tests.dialects.openai_responses.responses_streams import CAPTURED, HELLO, STREAMS, TEXT, with_inserted
from tests.dialects.openai_responses.responses_wire import Json, answer, created, frame, message, stream, text

_WIRE = WireDecoding(OpenAIResponsesDecoder)
decode, content, failure_of = _WIRE.decode, _WIRE.content, _WIRE.failure_of


def passed(event: Json, number: int) -> ev.DataEvent:
    return ev.DataEvent(type="data-openai", data={**event, "sequence_number": number})


# -------------------------------------------------------------------------------------------------------- the response


def test_an_answer_opens_with_its_id_its_model_and_the_request_id():
    start, step, *_ = decode(TEXT, request_id="req_7")
    assert start == ev.Start(
        message_id="resp_1",
        message_metadata={"model": "gpt-scripted"},
        provider_metadata={"openai": {"created_at": 1700000000, "parallel_tool_calls": True, "requestId": "req_7"}},
    )
    assert step == ev.StartStep()


def test_the_request_of_an_answer_is_never_in_its_events():
    strange = {"type": "response.mood", "response": wire.response()}
    expected = b"".join(ev.encode_event(event) for event in decode(with_inserted(strange)))
    assert b"response.mood" in expected
    assert b"secret" not in expected


@pytest.mark.parametrize("kind", ["response.queued", "response.in_progress"])
def test_an_answer_may_open_with_any_event_of_its_beginning(kind: str):
    events = [{"type": kind, "response": wire.response()}, *answer(HELLO)[1:]]
    assert decode(stream(*events)) == decode(TEXT)


def test_a_beginning_without_a_response_is_a_keepalive_of_a_gateway():
    assert decode(b'data: {"type":"response.in_progress"}\n\n' + TEXT) == decode(TEXT)


def test_a_model_that_only_the_end_knows_is_sent_there():
    start, *_, finish = decode(CAPTURED)
    assert isinstance(start, ev.Start)
    assert start.message_metadata is None
    assert isinstance(finish, ev.Finish)
    assert finish.message_metadata == {"model": "local"}


def test_the_end_has_what_the_start_did_not():
    end = wire.completed(completed_at=1700000009, service_tier="flex")
    _, finish = decode(stream(*answer(end=end)))[-2:]
    assert finish == ev.Finish(
        finish_reason="stop",
        provider_metadata={"openai": {"status": "completed", "completed_at": 1700000009, "service_tier": "flex"}},
    )


# ------------------------------------------------------------------------------------------------------ what is written


def test_text_comes_as_one_part_with_the_id_of_its_item():
    assert content(TEXT) == [
        ev.TextStart(id="0", provider_metadata={"openai": {"itemId": "msg_1"}}),
        ev.TextDelta(id="0", delta="Hello "),
        ev.TextDelta(id="0", delta="world"),
        ev.TextEnd(id="0"),
    ]


def test_a_real_answer_of_llama_cpp_is_read():
    events = decode(CAPTURED)
    texts = "".join(event.delta for event in events if isinstance(event, ev.TextDelta))
    assert texts.startswith("The majestic and awe-inspiring beauty of the ocean")
    usage = the(ev.Usage, events)
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (38, 34, False)
    assert the(ev.Finish, events).finish_reason == "stop"


def test_the_phase_of_a_message_is_kept():
    first, second = (event for event in content(STREAMS["two messages"]) if isinstance(event, ev.TextStart))
    assert first.provider_metadata == {"openai": {"itemId": "msg_a", "phase": "commentary"}}
    assert second.provider_metadata == {"openai": {"itemId": "msg_b"}}


def test_log_probabilities_ride_on_their_delta():
    logprobs = [{"token": "x", "logprob": -0.1}]
    raw = with_inserted(wire.text_delta("", logprobs=logprobs))
    carried = [event for event in content(raw) if isinstance(event, ev.TextDelta) and event.provider_metadata]
    assert carried == [ev.TextDelta(id="0", delta="", provider_metadata={"openai": {"logprobs": logprobs}})]


def test_padding_is_dropped():
    padded = [{**event, "obfuscation": "x7d"} if "delta" in event else event for event in answer(HELLO)]
    assert decode(stream(*padded)) == decode(TEXT)


def test_a_refusal_is_a_text_part_that_is_marked_and_filters_the_content():
    *events, _, _, finish = decode(STREAMS["refusal"])[OPENING:]
    assert events == [
        ev.TextStart(id="0", provider_metadata={"openai": {"itemId": "msg_1", "refusal": True}}),
        ev.TextDelta(id="0", delta="I "),
        ev.TextDelta(id="0", delta="cannot."),
        ev.TextEnd(id="0", provider_metadata={"openai": {"refusal": True}}),
    ]
    assert isinstance(finish, ev.Finish)
    assert finish.finish_reason == "content-filter"


def test_annotations_come_where_they_belong_and_together_on_the_text_end():
    web = wire.url_citation("https://example.org/a")
    events = content(stream(*answer(message(text("So.", annotations=[wire.FILE_CITATION, web])))))
    carried = [event.provider_metadata for event in events if isinstance(event, ev.TextDelta) and not event.delta]
    assert carried == [{"openai": {"annotation": wire.FILE_CITATION}}, {"openai": {"annotation": web}}]
    assert the(ev.TextEnd, events).provider_metadata == {"openai": {"annotations": [wire.FILE_CITATION, web]}}


def test_annotations_that_only_the_finished_part_has_are_kept():
    events = answer(message(text("So.", annotations=[wire.url_citation("https://example.org/a")])))
    rest = [event for event in events if not event["type"].endswith("annotation.added")]
    assert content(stream(*rest)) == content(stream(*events))


def test_a_cited_web_page_is_a_source_once_however_often_it_is_cited():
    web, other = wire.url_citation("https://example.org/a", "A"), wire.url_citation("https://example.org/b", "B")
    raw = stream(*answer(message(text("1", annotations=[web, web]), text("2", annotations=[web, other]))))
    assert [event for event in content(raw) if isinstance(event, ev.SourceUrl)] == [
        ev.SourceUrl(source_id="source-0", url="https://example.org/a", title="A"),
        ev.SourceUrl(source_id="source-1", url="https://example.org/b", title="B"),
    ]


def test_each_part_of_a_summary_is_a_reasoning_part_and_the_last_carries_what_is_encrypted():
    events = content(STREAMS["reasoning with summaries, then text"])
    assert events[:7] == [
        ev.ReasoningStart(id="0", provider_metadata={"openai": {"itemId": "rs_1", "summaryIndex": 0}}),
        ev.ReasoningDelta(id="0", delta="**One** "),
        ev.ReasoningDelta(id="0", delta="a"),
        ev.ReasoningEnd(id="0"),
        ev.ReasoningStart(id="1", provider_metadata={"openai": {"itemId": "rs_1", "summaryIndex": 1}}),
        ev.ReasoningDelta(id="1", delta="**Two** b"),
        ev.ReasoningEnd(id="1", provider_metadata={"openai": {"encryptedContent": "ZW5j"}}),
    ]


def test_reasoning_that_is_not_a_summary_is_reasoning_too():
    assert content(STREAMS["reasoning text"])[:4] == [
        ev.ReasoningStart(id="0", provider_metadata={"openai": {"itemId": "rs_1"}}),
        ev.ReasoningDelta(id="0", delta="Let me "),
        ev.ReasoningDelta(id="0", delta="see."),
        ev.ReasoningEnd(id="0"),
    ]


def test_reasoning_without_text_is_an_empty_part_that_keeps_what_is_encrypted():
    assert content(STREAMS["reasoning without text"])[:2] == [
        ev.ReasoningStart(id="0", provider_metadata={"openai": {"itemId": "rs_1"}}),
        ev.ReasoningEnd(id="0", provider_metadata={"openai": {"encryptedContent": "ZW5j"}}),
    ]


# -------------------------------------------------------------------------------------- what no event of ours can hold


def test_an_unknown_event_is_passed_on_in_its_place():
    assert content(STREAMS["unknown event"])[1:4] == [
        ev.TextDelta(id="0", delta="Hello "),
        passed({"type": "response.mood", "mood": "calm"}, 5),
        ev.TextDelta(id="0", delta="world"),
    ]


def test_an_unknown_item_is_passed_on_from_its_start_to_its_end():
    opening, closing = content(STREAMS["unknown item"])
    assert opening == passed(wire.added(wire.COMPACTION), 1)
    assert closing == passed(wire.done(wire.COMPACTION), 2)


@pytest.mark.parametrize("item", [{"type": "function_call", "name": "f"}, {"type": "function_call", "call_id": "a"}])
def test_a_call_without_what_names_it_is_passed_on(item: Json):
    events = content(stream(created(), wire.added(item), wire.done(item), wire.completed(item)))
    assert [type(event) for event in events] == [ev.DataEvent, ev.DataEvent]


def test_an_unknown_part_is_passed_on_and_its_message_goes_on():
    opening, closing, *rest = content(STREAMS["unknown part"])
    assert isinstance(opening, ev.DataEvent)
    assert isinstance(closing, ev.DataEvent)
    assert closing.data["part"] == {"type": "hologram", "size": 3}
    assert [event.delta for event in rest if isinstance(event, ev.TextDelta)] == ["after"]


def test_an_unknown_part_that_only_its_item_has_is_passed_on_with_it():
    item = message(wire.HOLOGRAM, text("after")).item
    first, *_, last = content(stream(created(), wire.done(item), wire.completed(item)))
    assert isinstance(first, ev.TextStart)
    assert last == passed(wire.done(item), 1)


def test_an_item_that_only_the_end_has_and_we_cannot_express_is_passed_on():
    (event,) = content(stream(created(), wire.completed(wire.COMPACTION)))
    assert isinstance(event, ev.DataEvent)
    assert event.data["item"] == wire.COMPACTION


def test_a_text_that_is_another_than_its_deltas_is_passed_on_once_and_the_deltas_stay():
    events = answer(HELLO)
    for event in events:
        if event["type"] == "response.output_text.done":
            event["text"] = "Good bye"
    texts = content(stream(*events))
    assert [event.delta for event in texts if isinstance(event, ev.TextDelta)] == ["Hello ", "world"]
    assert the(ev.DataEvent, texts).data["text"] == "Good bye"


# ------------------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("max_output_tokens", "length"),
        ("content_filter", "content-filter"),
        ("max_messages", "other"),
        ("a_newer_reason", "other"),
    ],
)
def test_every_reason_of_an_incomplete_answer_is_mapped_and_kept(reason: str, finish_reason: ev.FinishReason):
    step, finish = decode(stream(*answer(end=wire.incomplete(reason))))[-2:]
    expected = {"finishReason": reason, "status": "incomplete", "incomplete_details": {"reason": reason}}
    assert step == ev.FinishStep(finish_reason=finish_reason, provider_metadata={"openai": expected})
    assert finish == ev.Finish(finish_reason=finish_reason, provider_metadata={"openai": expected})


def test_an_incomplete_answer_without_a_reason_claims_none():
    finish = decode(stream(*answer(end=wire.incomplete(None))))[-1]
    assert finish == ev.Finish(finish_reason="other", provider_metadata={"openai": {"status": "incomplete"}})


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.cancelled"])
def test_an_answer_that_was_cancelled_over_there_is_a_failure_and_not_retried(kind: str):
    failure = failure_of(stream(created(), {"type": kind, "response": wire.response("cancelled")}))
    assert (failure.reason, failure.retryable) == ("provider_error", False)
    assert "cancelled" in failure.detail


def test_a_status_that_is_worse_than_its_event_is_believed():
    body = wire.response("failed", error={"code": "rate_limit_exceeded", "message": "m"})
    assert failure_of(stream(created(), {"type": "response.completed", "response": body})).reason == (
        "provider_rate_limited"
    )


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        ("rate_limit_exceeded", "provider_rate_limited", True),
        ("server_error", "provider_error", True),
        ("vector_store_timeout", "provider_timeout", True),
        ("invalid_prompt", "provider_bad_request", False),
        ("image_too_large", "provider_bad_request", False),
        ("a_newer_code", "provider_error", True),
    ],
)
@pytest.mark.parametrize("build", [wire.failed, wire.error])
def test_a_failure_has_the_reason_of_its_code(build, code: str, reason: str, retryable: bool):
    failure = failure_of(stream(created(), build(code)))
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert "secret words" not in failure.detail


@pytest.mark.parametrize(
    "raw",
    [
        b'event: error\ndata: {"error":{"code":"server_overloaded","message":"m"}}\n\n',
        b'data: {"error":{"code":"server_overloaded","message":"m"}}\n\n',
        b'data: {"type":"error","error":{"code":"server_overloaded"}}\n\n',
        b'event: error\ndata: {"code":"server_overloaded"}\n\n',
    ],
)
def test_an_error_of_any_shape_is_an_error(raw: bytes):
    assert failure_of(stream(created()) + raw).reason == "provider_overloaded"


@pytest.mark.parametrize("data", ["overloaded", "{}", "[]", '{"error":"text"}'])
def test_an_empty_error_is_an_error(data: str):
    assert failure_of(f"event: error\ndata: {data}\n\n".encode()).reason == "provider_error"


def test_events_before_a_failure_in_the_same_chunk_are_not_lost():
    decoder = OpenAIResponsesDecoder()
    events = decoder.decode(STREAMS["failed"])
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
        frame(wire.text_delta("before the start")),
        frame(wire.added(HELLO.item)),
        stream(created(), created(id="resp_2")),
        stream(created(), {"type": "response.output_text.delta", "delta": 3}),
        stream(created(), {"type": "response.content_part.added"}),
        stream(created(), {"type": "response.output_item.added", "item": "text"}),
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_a_stream_that_breaks_the_protocol_is_bad_data(raw: bytes):
    failure = failure_of(raw)
    assert (failure.reason, failure.retryable) == ("provider_bad_data", True)


def test_a_type_that_only_the_name_of_the_event_has_is_known():
    assert decode(TEXT.replace(b'"type":"response.output_text.delta",', b"")) == decode(TEXT)


@pytest.mark.parametrize("name", ["truncated", "cut inside an event", "[DONE] instead of an end"])
def test_only_the_end_of_the_response_makes_an_answer_whole(name: str):
    decoder = OpenAIResponsesDecoder()
    events = decoder.decode(STREAMS[name]) + decoder.flush()
    assert not decoder.terminal_seen
    assert not decoder.is_whole
    assert not any(isinstance(event, ev.Finish) for event in events)


def test_the_end_of_the_response_makes_an_answer_whole():
    decoder = OpenAIResponsesDecoder()
    decoder.decode(TEXT)
    assert decoder.terminal_seen
    assert decoder.is_whole
