"""Chat completions decode: what each thing on the wire becomes."""

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from tests.dialects.decoding import ENDING, OPENING, WireDecoding, the
from tests.dialects.openai_chat.chat_streams import (
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
    stream,
    wrote,
)

_WIRE = WireDecoding(OpenAIChatDecoder)
decode, content, failure_of = _WIRE.decode, _WIRE.content, _WIRE.failure_of
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-x"}


def passed(*choices: Json) -> ev.DataEvent:
    return ev.DataEvent(type="data-openai", data={**HEAD, "choices": list(choices)})


def metadata(**extras: Any) -> ev.ProviderMetadata:
    return {"openai": extras}


# ----------------------------------------------------------------------------------------------------- start and text


def test_an_answer_opens_with_its_id_its_model_and_what_came_beside_them():
    raw = stream(first() | {"system_fingerprint": "fp_1", "service_tier": "default", "obfuscation": "x7"}, wrote("a"))
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


def test_azures_results_on_the_prompt_are_on_the_start():
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
    assert content(answer(delta(**fields), wrote("Yes."))) == [
        ev.ReasoningStart(id="0"),
        ev.ReasoningDelta(id="0", delta="Hm."),
        ev.ReasoningEnd(id="0"),
        ev.TextStart(id="1"),
        ev.TextDelta(id="1", delta="Yes."),
        ev.TextEnd(id="1"),
    ]


def test_reasoning_and_text_of_one_delta_come_in_this_order():
    raw = answer(delta(content="Yes.", reasoning_content="Hm."))
    assert [event.delta for event in _written(raw)] == ["Hm.", "Yes."]


def test_a_different_value_under_the_second_name_of_reasoning_is_not_lost():
    found = the(ev.ReasoningDelta, content(answer(delta(reasoning_content="Hm.", reasoning={"effort": 3}))))
    assert found.provider_metadata == metadata(reasoning={"effort": 3})


def test_the_details_of_reasoning_ride_on_its_delta():
    details = [{"type": "reasoning.encrypted", "data": "eA=="}]
    found = the(ev.ReasoningDelta, content(answer(delta(reasoning="Hm.", reasoning_details=details))))
    assert found.provider_metadata == metadata(reasoning_details=details)


def test_a_refusal_is_text_that_is_marked_and_the_answer_ends_as_filtered():
    events = decode(STREAMS["refusal"])
    assert events[OPENING:-ENDING] == [
        ev.TextStart(id="0", provider_metadata=metadata(refusal=True)),
        ev.TextDelta(id="0", delta="I "),
        ev.TextDelta(id="0", delta="cannot."),
        ev.TextEnd(id="0", provider_metadata=metadata(refusal=True)),
    ]
    assert events[-1] == ev.Finish(finish_reason="content-filter", provider_metadata=metadata(finishReason="stop"))


def test_content_in_parts_is_sent_part_by_part():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Yes."},
        {"type": "reference", "reference_ids": [1]},
    ]
    reasoning, text = _written(answer(delta(content=parts)))
    assert (reasoning.delta, text.delta) == ("Hm.", "Yes.")
    assert reasoning.provider_metadata == metadata(content=[{"type": "reference", "reference_ids": [1]}])


def _written(raw: bytes) -> list[ev.TextDelta | ev.ReasoningDelta]:
    return [event for event in content(raw) if isinstance(event, ev.TextDelta | ev.ReasoningDelta)]


# -------------------------------------------------------------------------------------- what no event of ours can hold


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


def test_a_field_beside_the_delta_is_sent_once_until_it_changes():
    unsafe = {"hate": {"filtered": False, "severity": "low"}}
    filters = [AZURE_SAFE, AZURE_SAFE, unsafe]
    raw = answer(*(chunk(choice({"content": "a"}, content_filter_results=each)) for each in filters))
    carried = [event.provider_metadata for event in content(raw) if isinstance(event, ev.TextDelta)]
    assert carried == [metadata(content_filter_results=AZURE_SAFE), None, metadata(content_filter_results=unsafe)]


def test_a_field_beside_no_delta_is_passed_on():
    raw = answer(chunk(choice({}, content_filter_offsets={"start": 3})))
    assert content(raw) == [passed({"index": 0, "delta": {}, "content_filter_offsets": {"start": 3}})]


def test_fields_that_come_with_the_reason_or_change_since_the_start_are_on_the_end():
    raw = stream(
        first() | {"system_fingerprint": "fp_1", "provider": "A"},
        wrote("a", system_fingerprint="fp_2", provider="A"),
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
    events = content(answer(wrote("So."), delta(annotations=cited), delta(annotations=cited[:1])))
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
@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"system_fingerprint": "fp_1", "service_tier": None},
        {"system_fingerprint": "fp_2"},
        {"service_tier": "flex"},
    ],
)
def test_a_plain_chunk_means_the_same_the_short_way_and_the_long_one(fields: Json, beside: Json):
    opening = first() | {"system_fingerprint": "fp_1", "service_tier": "default"}
    plain = delta(**fields) | beside | {"obfuscation": "x7"}
    # A field that is not in PlainChunk sends a chunk the long way.
    strange = plain | {"vendor": None}
    assert decode(stream(opening, plain, last(), DONE)) == decode(stream(opening, strange, last(), DONE))
