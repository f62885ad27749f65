"""Chat completions decode: what each thing on the wire becomes."""

from typing import Any, TypeVar

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_chat import OpenAIChatDecoder
from broadcaster.errors import ProviderFailed
from tests.dialects.chat_streams import (
    AZURE_SAFE,
    DONE,
    STREAMS,
    TEXT,
    Json,
    answer,
    choice,
    chunk,
    counted,
    delta,
    first,
    last,
    said,
    stream,
)

T = TypeVar("T")

OPENING = 2  # start, start-step
ENDING = 3  # usage, finish-step, finish
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-x"}


def decode(raw: bytes, *, request_id: str | None = None) -> list[ev.Event]:
    decoder = OpenAIChatDecoder(request_id=request_id)
    return decoder.decode(raw) + decoder.flush()


def content(raw: bytes) -> list[ev.Event]:
    return decode(raw)[OPENING:-ENDING]


def the(kind: type[T], events: list[ev.Event]) -> T:
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


def failure_of(raw: bytes) -> ProviderFailed:
    decoder = OpenAIChatDecoder()
    with pytest.raises(ProviderFailed) as caught:
        decoder.decode(raw)
        decoder.decode(b"")
    return caught.value


def passed(*choices: Json) -> ev.DataEvent:
    return ev.DataEvent(type="data-openai", data={**HEAD, "choices": list(choices)})


def metadata(**extras: Any) -> ev.ProviderMetadata:
    return {"openai": extras}


# ----------------------------------------------------------------------------------------------------- start and text


def test_an_answer_opens_with_its_id_its_model_and_what_came_beside_them():
    raw = stream(first() | {"system_fingerprint": "fp_1", "service_tier": "default", "obfuscation": "x7"}, said("a"))
    start, step, *_ = decode(raw, request_id="req_7")
    assert start == ev.Start(
        message_id="chatcmpl-1",
        message_metadata={"model": "gpt-x"},
        provider_metadata=metadata(
            created=1700000000, system_fingerprint="fp_1", service_tier="default", requestId="req_7"
        ),
    )
    assert step == ev.StartStep()


def test_text_comes_as_one_part():
    assert content(TEXT) == [
        ev.TextStart(id="0"),
        ev.TextDelta(id="0", delta="Hello "),
        ev.TextDelta(id="0", delta="world"),
        ev.TextEnd(id="0"),
    ]


def test_a_first_chunk_may_hold_the_first_text():
    assert content(stream(delta(role="assistant", content="Hi"), last(), DONE))[1] == ev.TextDelta(id="0", delta="Hi")


def test_an_answer_without_content_has_no_part():
    assert content(STREAMS["no content at all"]) == []


def test_what_azure_says_of_the_prompt_first_rides_on_the_start():
    events = decode(STREAMS["Azure"])
    assert events[0] == ev.Start(
        message_id="chatcmpl-1",
        message_metadata={"model": "gpt-x"},
        provider_metadata=metadata(created=1700000000, prompt_filter_results=[{"prompt_index": 0}]),
    )


def test_a_chunk_with_text_and_the_reason_loses_neither():
    events = decode(STREAMS["text and the reason in one chunk"])
    assert the(ev.TextDelta, events).delta == "Hi"
    assert the(ev.Finish, events).finish_reason == "stop"


def test_a_whole_message_of_a_server_that_cannot_stream_is_read_too():
    message = {"role": "assistant", "content": "Hi", "tool_calls": None}
    events = decode(stream(chunk({"index": 0, "message": message, "finish_reason": "stop"}), DONE))
    assert the(ev.TextDelta, events).delta == "Hi"


def test_a_message_that_repeats_the_whole_text_beside_each_delta_is_left_out():
    raw = stream(first(), chunk(choice({"content": "b"}, message={"content": "ab"})), last(), DONE)
    assert the(ev.TextDelta, content(raw)) == ev.TextDelta(id="0", delta="b")


# -------------------------------------------------------------------------------------------------- reasoning, refusal


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        {"reasoning_content": "Hm.", "reasoning": "Hm."},
        {"reasoning_content": None, "reasoning": "Hm.", "content": ""},
    ],
)
def test_reasoning_is_a_part_of_its_own_and_closes_when_the_text_begins(fields: Json):
    assert content(answer(delta(**fields), said("Yes."))) == [
        ev.ReasoningStart(id="0"),
        ev.ReasoningDelta(id="0", delta="Hm."),
        ev.ReasoningEnd(id="0"),
        ev.TextStart(id="1"),
        ev.TextDelta(id="1", delta="Yes."),
        ev.TextEnd(id="1"),
    ]


def test_reasoning_and_text_of_one_delta_come_in_this_order():
    texts = [
        event.delta for event in content(answer(delta(content="Yes.", reasoning_content="Hm."))) if _has_text(event)
    ]
    assert texts == ["Hm.", "Yes."]


def test_what_the_second_name_of_reasoning_says_otherwise_is_not_lost():
    told = the(ev.ReasoningDelta, content(answer(delta(reasoning_content="Hm.", reasoning={"effort": 3}))))
    assert told.provider_metadata == metadata(reasoning={"effort": 3})


def test_the_details_of_reasoning_ride_on_its_delta():
    details = [{"type": "reasoning.encrypted", "data": "eA=="}]
    told = the(ev.ReasoningDelta, content(answer(delta(reasoning="Hm.", reasoning_details=details))))
    assert told.provider_metadata == metadata(reasoning_details=details)


def test_a_refusal_is_text_that_says_so_and_the_answer_ends_as_filtered():
    events = decode(STREAMS["refusal"])
    assert events[OPENING:-ENDING] == [
        ev.TextStart(id="0", provider_metadata=metadata(refusal=True)),
        ev.TextDelta(id="0", delta="I "),
        ev.TextDelta(id="0", delta="cannot."),
        ev.TextEnd(id="0", provider_metadata=metadata(refusal=True)),
    ]
    assert events[-1] == ev.Finish(finish_reason="content-filter", provider_metadata=metadata(finishReason="stop"))


def test_content_in_parts_is_told_part_by_part():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Yes."},
        {"type": "reference", "reference_ids": [1]},
    ]
    reasoning, text = [event for event in content(answer(delta(content=parts))) if _has_text(event)]
    assert (reasoning.delta, text.delta) == ("Hm.", "Yes.")
    assert reasoning.provider_metadata == metadata(content=[{"type": "reference", "reference_ids": [1]}])


def _has_text(event: ev.Event) -> bool:
    return isinstance(event, ev.TextDelta | ev.ReasoningDelta)


# ------------------------------------------------------------------------------------------- what we have no word for


def test_another_choice_is_passed_on_in_its_place_without_ours():
    other = choice({"content": "other"}, index=1)
    events = content(stream(first(), chunk(choice({"content": "mine"}), other), last(), DONE))
    assert events == [
        ev.TextStart(id="0"),
        ev.TextDelta(id="0", delta="mine"),
        passed(other),
        ev.TextEnd(id="0"),
    ]


def test_audio_is_passed_on_in_its_place():
    audio = {"id": "audio_1", "transcript": "Hi"}
    assert content(answer(delta(audio=audio))) == [passed({"index": 0, "delta": {"audio": audio}})]


def test_log_probabilities_ride_on_their_delta_even_if_they_repeat():
    logprobs = {"content": [{"token": "a", "logprob": -0.5}], "refusal": None}
    events = content(answer(*[chunk(choice({"content": "a"}, logprobs=logprobs))] * 2))
    carried = [event.provider_metadata for event in events if isinstance(event, ev.TextDelta)]
    assert carried == [metadata(logprobs=logprobs)] * 2


def test_log_probabilities_of_nothing_are_nothing():
    assert content(answer(chunk(choice({"content": ""}, logprobs={"content": [], "refusal": None})))) == []


def test_a_field_beside_the_delta_is_told_once_until_it_changes():
    unsafe = {"hate": {"filtered": False, "severity": "low"}}
    filters = [AZURE_SAFE, AZURE_SAFE, unsafe]
    raw = answer(*(chunk(choice({"content": "a"}, content_filter_results=each)) for each in filters))
    carried = [event.provider_metadata for event in content(raw) if isinstance(event, ev.TextDelta)]
    assert carried == [metadata(content_filter_results=AZURE_SAFE), None, metadata(content_filter_results=unsafe)]


def test_a_field_beside_no_delta_is_passed_on():
    raw = answer(chunk(choice({}, content_filter_offsets={"start": 3})))
    assert content(raw) == [passed({"index": 0, "delta": {}, "content_filter_offsets": {"start": 3}})]


def test_what_comes_with_the_reason_or_changes_since_the_start_rides_on_the_end():
    raw = stream(
        first() | {"system_fingerprint": "fp_1", "provider": "A"},
        said("a", system_fingerprint="fp_2", provider="A"),
        chunk(choice({}, finish_reason="stop", native_finish_reason="STOP")),
        counted() | {"timings": {"ms": 3}, "moderation": {"flagged": False}},
        DONE,
    )
    extras = metadata(
        finishReason="stop",
        system_fingerprint="fp_2",
        native_finish_reason="STOP",
        timings={"ms": 3},
        moderation={"flagged": False},
    )
    step, finish = decode(raw)[-2:]
    assert step == ev.FinishStep(finish_reason="stop", provider_metadata=extras)
    assert finish == ev.Finish(finish_reason="stop", provider_metadata=extras)


def test_citations_come_where_they_belong_and_together_on_the_text_end():
    cited = [_url_citation("https://example.org/a", "A"), _url_citation("https://example.org/b", None)]
    events = content(answer(said("So."), delta(annotations=cited), delta(annotations=cited[:1])))
    carried = [event.provider_metadata for event in events if isinstance(event, ev.TextDelta) and not event.delta]
    assert carried == [metadata(annotation=each) for each in (*cited, cited[0])]
    assert the(ev.TextEnd, events).provider_metadata == metadata(annotations=[*cited, cited[0]])
    assert [event for event in events if isinstance(event, ev.SourceUrl)] == [
        ev.SourceUrl(source_id="source-0", url="https://example.org/a", title="A"),
        ev.SourceUrl(source_id="source-1", url="https://example.org/b"),
    ]


def test_a_citation_of_no_text_is_passed_on_and_still_a_source():
    cited = _url_citation("https://example.org/a", "A")
    assert content(answer(delta(annotations=[cited]))) == [
        ev.SourceUrl(source_id="source-0", url="https://example.org/a", title="A"),
        passed({"index": 0, "delta": {"annotations": [cited]}}),
    ]


def _url_citation(url: str, title: str | None) -> Json:
    return {"type": "url_citation", "url_citation": {"url": url, "title": title, "start_index": 0, "end_index": 3}}


def test_an_object_that_is_no_chunk_is_passed_on_and_a_ping_is_dropped():
    raw = stream(first(), {"mood": "calm"}, b"event: ping\ndata: {}\n\n", {"type": "ping"}, {}, "", last(), DONE)
    assert content(raw) == [ev.DataEvent(type="data-openai", data={"mood": "calm"})]


# ------------------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("raw", "finish_reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool-calls"),
        ("function_call", "tool-calls"),
        ("content_filter", "content-filter"),
        ("a_newer_reason", "other"),
        (7, "other"),
    ],
)
def test_every_finish_reason_is_mapped_and_kept(raw: Any, finish_reason: ev.FinishReason):
    step, finish = decode(stream(first(), last(raw), DONE))[-2:]
    assert step == ev.FinishStep(finish_reason=finish_reason, provider_metadata=metadata(finishReason=raw))
    assert finish == ev.Finish(finish_reason=finish_reason, provider_metadata=metadata(finishReason=raw))


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
    raw = stream(first(), chunk(choice({"content": "a"}, finish_reason="stop")), said("b"), last("length"), DONE)
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
        (b"event: error\n" + stream({"error": {"code": 429}}), "provider_rate_limited", True),
        (b"event: error\n" + stream({"code": "server_overloaded", "message": "m"}), "provider_overloaded", True),
        (b"event: error\n" + stream("upstream connect error"), "provider_error", True),
        (chunk(choice({}, error={"code": 503}, finish_reason="error")), "provider_overloaded", True),
        (chunk(choice({}, finish_reason="error")), "provider_error", True),
        (chunk(choice({}, finish_reason="abort")), "provider_error", True),
        (chunk(choice({}, finish_reason="insufficient_system_resource")), "provider_overloaded", True),
    ],
)
@pytest.mark.parametrize("before", [(), (first(), said("a")), (first(), said("a"), last())])
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
    assert decode(stream(first() | {"error": None}, said("a", error=None), last(), DONE))[-1] == ev.Finish(
        finish_reason="stop", provider_metadata=metadata(finishReason="stop")
    )


def test_what_came_before_an_error_in_the_same_chunk_is_not_lost():
    decoder = OpenAIChatDecoder()
    assert decoder.decode(STREAMS["error in the middle"])[-1] == ev.TextDelta(id="0", delta="a")
    assert decoder.failure is not None
    for ask in (lambda: decoder.decode(b""), lambda: decoder.decode(TEXT), decoder.flush):
        with pytest.raises(ProviderFailed):
            ask()


def test_text_of_the_chunk_that_tells_a_failed_reason_is_not_lost():
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
def test_what_is_not_the_protocol_is_bad_data(raw: bytes):
    failure = failure_of(raw)
    assert (failure.reason, failure.retryable) == ("provider_bad_data", True)


def test_half_a_surrogate_pair_costs_one_character_and_not_the_answer():
    deltas = [event.delta for event in content(STREAMS["half a surrogate pair"]) if isinstance(event, ev.TextDelta)]
    assert deltas == ["Hello ", "?"]


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "b"},
        {"content": ""},
        {"content": None},
        {"content": "b", "reasoning": "c"},
        {"reasoning_content": "c", "reasoning": "c"},
        {"reasoning_content": "c", "reasoning": "d"},
        {"reasoning_content": "", "reasoning": "d"},
    ],
)
@pytest.mark.parametrize("fingerprint", [None, "fp_1", "fp_2"])
def test_a_plain_chunk_says_the_same_the_short_way_and_the_long_one(fields: Json, fingerprint: str | None):
    opening = first() | {"system_fingerprint": "fp_1", "service_tier": "default"}
    plain = delta(**fields) | {"system_fingerprint": fingerprint, "service_tier": "default", "obfuscation": "x7"}
    # A field that is not in PlainChunk sends a chunk the long way.
    strange = plain | {"vendor": None}
    assert decode(stream(opening, plain, last(), DONE)) == decode(stream(opening, strange, last(), DONE))
