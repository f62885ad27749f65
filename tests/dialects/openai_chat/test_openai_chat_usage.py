"""Chat completions usage: counts as reported, and as estimated for what was never counted."""

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from tests.dialects.openai_chat.chat_streams import (
    DONE,
    STREAMS,
    Json,
    choice,
    chunk,
    counted,
    delta,
    first,
    fragment,
    last,
    stream,
    wrote,
)


def usage_after(*chunks: Json) -> ev.Usage:
    decoder = OpenAIChatDecoder()
    decoder.decode(stream(*chunks))
    return decoder.usage_so_far()


def counts(usage: ev.Usage) -> tuple[int | None, int | None, bool]:
    return usage.input_tokens, usage.output_tokens, usage.estimated


def test_the_input_excludes_what_the_cache_gave_or_took():
    details = {"cached_tokens": 7, "cache_write_tokens": 5, "audio_tokens": None}
    reported = {"prompt_tokens": 25, "completion_tokens": 12, "total_tokens": 37, "prompt_tokens_details": details}
    usage = usage_after(first(), last(), counted(**reported, completion_tokens_details={"reasoning_tokens": 9}))
    assert usage == ev.Usage(
        input_tokens=13,
        output_tokens=12,
        reasoning_tokens=9,
        cached_input_tokens=7,
        cache_write_input_tokens=5,
        provider_metadata={"openai": {"usage": {**reported, "completion_tokens_details": {"reasoning_tokens": 9}}}},
    )


def test_a_cache_that_claims_more_than_the_prompt_leaves_no_negative_count():
    usage = usage_after(first(), last(), counted(prompt_tokens=5, prompt_tokens_details={"cached_tokens": 7}))
    assert usage.input_tokens == 0


def test_a_finished_answer_reports_its_usage_once_before_its_end():
    decoder = OpenAIChatDecoder()
    events = decoder.decode(STREAMS["text"])
    assert [event for event in events if isinstance(event, ev.Usage)] == [decoder.usage_so_far()]
    assert isinstance(events[-3], ev.Usage)
    assert counts(events[-3]) == (25, 12, False)


@pytest.mark.parametrize(
    "ending",
    [
        [last(), counted()],
        [last() | {"usage": counted()["usage"]}],
        [chunk(choice({}, finish_reason="stop", usage=counted()["usage"]))],
        [last() | {"usage": None}, {"usage": counted()["usage"]}],
    ],
)
def test_the_counts_may_come_with_the_reason_or_after_it(ending: list[Json]):
    assert counts(usage_after(first(), wrote("Hello"), *ending)) == (25, 12, False)


def test_of_counts_in_every_chunk_the_last_ones_count():
    decoder = OpenAIChatDecoder()
    decoder.decode(STREAMS["usage in every chunk"])
    assert counts(decoder.usage_so_far()) == (25, 2, False)


def test_text_that_no_count_covers_is_estimated_on_top_of_the_last_count():
    usage = usage_after(first(), wrote("Hello", usage={"prompt_tokens": 25, "completion_tokens": 3}), wrote("12345678"))
    assert counts(usage) == (25, 5, True)


def test_the_count_that_comes_with_the_reason_covers_everything():
    early = {"prompt_tokens": 25, "completion_tokens": 12}
    assert counts(usage_after(first(), wrote("Hello", usage=early), wrote("12345678"), last(), counted())) == (
        25,
        12,
        False,
    )


def test_a_count_before_the_reason_may_still_rise():
    assert counts(usage_after(first(), wrote("a", usage={"prompt_tokens": 25, "completion_tokens": 1}))) == (
        25,
        1,
        True,
    )


def test_a_server_that_always_counts_nothing_is_not_believed():
    zero = {"prompt_tokens": 0, "completion_tokens": 0}
    assert counts(usage_after(first(), wrote("12345678", usage=zero), last() | {"usage": zero})) == (0, 2, True)


def test_an_answer_without_counts_is_estimated():
    assert counts(usage_after(first(), wrote("12345678"), last())) == (None, 2, True)


@pytest.mark.parametrize(
    ("chunks", "output_tokens"),
    [
        ([wrote("12345678")], 2),
        ([wrote("1234"), wrote("56789")], 3),
        ([delta(reasoning_content="1234"), wrote("5678")], 2),
        ([delta(refusal="12345678")], 2),
        ([delta(tool_calls=[fragment('{"a": 1}', index=0, id="a", name="f")])], 2),
        ([wrote("日本語")], 3),  # nine bytes
        ([], 0),
    ],
)
def test_a_stopped_answer_has_an_estimated_output(chunks: list[Json], output_tokens: int):
    assert counts(usage_after(first(), *chunks)) == (None, output_tokens, True)


def test_before_the_first_event_nothing_is_known():
    assert OpenAIChatDecoder().usage_so_far() == ev.Usage(output_tokens=0, estimated=True)


@pytest.mark.parametrize("value", ["12", 1.5, True, -1, None, {}])
def test_a_count_that_is_none_is_left_out(value: Any):
    usage = usage_after(first(), last(), counted(prompt_tokens=value, prompt_tokens_details=value))
    assert (usage.input_tokens, usage.cached_input_tokens) == (None, None)


@pytest.mark.parametrize("usage", ["none", [], {}, 3])
def test_a_usage_that_is_no_object_is_none(usage: Any):
    decoder = OpenAIChatDecoder()
    decoder.decode(stream(first(), wrote("1234", usage=usage), last(), DONE))
    assert counts(decoder.usage_so_far()) == (None, 1, True)
