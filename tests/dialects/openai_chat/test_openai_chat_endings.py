"""Chat completions endings: what makes an answer whole, and all the ways it may break off."""

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_chat.encode import ChatDialect
from broadcaster.dialects.openai_responses.encode import ResponsesDialect
from broadcaster.errors import ProviderFailed
from tests.dialects.anthropic.anthropic_reading import entries_of
from tests.dialects.decoding import the
from tests.dialects.openai_chat.chat_streams import (
    DONE,
    STREAMS,
    TEXT,
    Json,
    answer,
    choice,
    chunk,
    delta,
    first,
    last,
    stream,
    wrote,
)
from tests.dialects.openai_chat.test_openai_chat_decode import content, decode, failure_of, metadata


@pytest.mark.parametrize(
    ("raw", "finish_reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool-calls"),
        ("function_call", "tool-calls"),
        ("content_filter", "content-filter"),
        ("eos", "stop"),
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool-calls"),
        ("max_tokens", "length"),
        ("a_newer_reason", "other"),
        (7, "other"),
    ],
)
def test_every_finish_reason_is_mapped_and_kept(raw: Any, finish_reason: ev.FinishReason):
    step, finish = decode(stream(first(), last(raw), DONE))[-2:]
    assert step == ev.FinishStep(finish_reason=finish_reason, provider_metadata=metadata(finishReason=raw))
    assert finish == ev.Finish(finish_reason=finish_reason, provider_metadata=metadata(finishReason=raw))


def test_a_servers_own_reason_makes_a_whole_answer_and_no_client_is_sent_it():
    entries = entries_of(decode(answer(wrote("Hi"), finish_reason="eos")))
    assert b'"type":"response.completed"' in ResponsesDialect().open("gen_1").encode(entries)
    assert b'"finish_reason":"stop"' in ChatDialect().open("gen_1").encode(entries)


@pytest.mark.parametrize("name", ["no end after the reason", "no end after the counts", "torn after the reason"])
def test_a_cut_after_the_reason_costs_the_counts_and_not_the_answer(name: str):
    decoder = OpenAIChatDecoder()
    events = decoder.decode(STREAMS[name])
    assert (decoder.is_whole, decoder.terminal_seen) == (True, False)
    assert not any(isinstance(event, ev.Finish | ev.TextEnd) for event in events)
    *parts, usage, step, finish = decoder.flush()
    assert decoder.terminal_seen
    assert parts == [ev.TextEnd(id="0")]
    assert usage == decoder.usage_so_far()
    assert (type(step), finish) == (
        ev.FinishStep,
        ev.Finish(finish_reason="stop", provider_metadata=metadata(finishReason="stop")),
    )
    assert decoder.flush() == []


def test_text_after_an_early_reason_belongs_to_the_same_part():
    raw = stream(first(), chunk(choice({"content": "a"}, finish_reason="stop")), wrote("b"), last("length"), DONE)
    assert [event.delta for event in content(raw) if isinstance(event, ev.TextDelta)] == ["a", "b"]
    assert the(ev.TextEnd, content(raw)).id == "0"
    assert the(ev.Finish, decode(raw)).finish_reason == "length"


@pytest.mark.parametrize("reason", ["", None])
def test_an_empty_reason_is_none(reason: str | None):
    decoder = OpenAIChatDecoder()
    decoder.decode(stream(first(), chunk(choice({"content": "a"}, finish_reason=reason))))
    assert not decoder.is_whole


@pytest.mark.parametrize("name", ["truncated", "cut inside an event"])
def test_a_body_that_ends_before_the_reason_is_no_answer(name: str):
    decoder = OpenAIChatDecoder()
    events = decoder.decode(STREAMS[name]) + decoder.flush()
    assert (decoder.is_whole, decoder.terminal_seen) == (False, False)
    assert events[-1] == ev.TextDelta(id="0", delta="Hello ")


def test_an_end_without_a_reason_is_no_end():
    assert failure_of(STREAMS["an end without a reason"]).detail == (
        "the provider sent what is not its protocol ([DONE] without a finish_reason)"
    )
    assert failure_of(DONE).reason == "provider_bad_data"


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        ({"error": {"message": "m", "type": "server_error", "code": None}}, "provider_error", True),
        ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, "provider_rate_limited", True),
        ({"error": {"message": "m", "code": "insufficient_quota"}}, "provider_auth", False),
        ({"error": {"message": "m", "code": 502, "metadata": {}}, "choices": []}, "provider_error", True),
        ({"error": "something broke"}, "provider_error", True),
        ({"error": ["what", "is", "this"]}, "provider_error", True),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, "provider_bad_request", False),
        (stream('[{"error":{"code":429}}]'), "provider_rate_limited", True),
        (b"event: error\n" + stream({"error": {"code": 429}}), "provider_rate_limited", True),
        (b"event: error\n" + stream('[{"error":{"code":429}}]'), "provider_rate_limited", True),
        (b"event: error\n" + stream({"code": "server_overloaded", "message": "m"}), "provider_overloaded", True),
        (b"event: error\n" + stream("upstream connect error"), "provider_error", True),
        (chunk(choice({}, error={"code": 503}, finish_reason="error")), "provider_overloaded", True),
        (chunk(choice({}, finish_reason="error")), "provider_error", True),
        (chunk(choice({}, finish_reason="abort")), "provider_error", True),
        (chunk(choice({}, finish_reason="insufficient_system_resource")), "provider_overloaded", True),
    ],
)
@pytest.mark.parametrize("before", [(), (first(), wrote("a")), (first(), wrote("a"), last())])
def test_an_error_ends_the_stream_wherever_it_stands(
    before: tuple[Json, ...], error: Json | bytes, reason: str, *, retryable: bool
):
    raw = stream(*before, error, last(), DONE)
    failure = failure_of(raw)
    assert (failure.reason, failure.retryable) == (reason, retryable)
    decoder = OpenAIChatDecoder()
    with pytest.raises(ProviderFailed):
        assert not any(isinstance(event, ev.Finish) for event in decoder.decode(raw))
        decoder.flush()
    assert (decoder.is_whole, decoder.terminal_seen) == (False, False)


def test_a_null_error_is_none():
    assert decode(stream(first() | {"error": None}, wrote("a", error=None), last(), DONE))[-1] == ev.Finish(
        finish_reason="stop", provider_metadata=metadata(finishReason="stop")
    )


def test_text_before_an_error_in_the_same_chunk_is_not_lost():
    decoder = OpenAIChatDecoder()
    assert decoder.decode(STREAMS["error in the middle"])[-1] == ev.TextDelta(id="0", delta="a")
    assert decoder.failure is not None
    for close_by in (lambda: decoder.decode(b""), lambda: decoder.decode(TEXT), decoder.flush):
        with pytest.raises(ProviderFailed):
            close_by()


def test_text_of_the_chunk_with_a_failed_reason_is_not_lost():
    decoder = OpenAIChatDecoder()
    events = decoder.decode(stream(first(), chunk(choice({"content": "last words"}, finish_reason="error"))))
    assert events[-1] == ev.TextDelta(id="0", delta="last words")


@pytest.mark.parametrize(
    "raw",
    [
        b"data: {\n\n",
        b"data: [1]\n\n",
        b"data: 3\n\n",
        b"data: DONE\n\n",
        stream({"choices": {}}),
        stream({"choices": ["a"]}),
        stream(chunk(choice({"content": 3}))),
        stream(chunk(choice({"content": {}}))),
        stream(chunk(choice({"refusal": ["a"]}))),
        stream(delta(tool_calls={"index": 0})),
        stream(delta(tool_calls=["a"])),
        stream(delta(tool_calls=[{"index": 0, "function": "f"}])),
        stream(delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": 3}}])),
        stream(delta(function_call="f")),
        stream(delta(annotations=["a"])),
        stream({"choices": [{"index": 0, "delta": "a"}]}),
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: " + b"x" * (16 * 2**20 + 1) + b"\n\n",
    ],
)
def test_a_stream_that_breaks_the_protocol_is_bad_data(raw: bytes):
    failure = failure_of(raw)
    assert (failure.reason, failure.retryable) == ("provider_bad_data", True)
