"""Responses usage: counts as reported, and as estimated for an answer that was stopped."""

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.errors import ProviderFailed
from tests.dialects.openai_responses import responses_wire as wire
from tests.dialects.openai_responses.responses_streams import HELLO
from tests.dialects.openai_responses.responses_wire import Json, Output, answer, call, created, message, stream, text


def usage_after(*events: Json) -> ev.Usage:
    decoder = OpenAIResponsesDecoder()
    decoder.decode(stream(*events))
    return decoder.usage_so_far()


def test_cached_tokens_are_counted_apart_from_the_input():
    counts = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 112,
    }
    assert usage_after(*answer(end=wire.completed(usage=counts))) == ev.Usage(
        input_tokens=10,
        output_tokens=12,
        reasoning_tokens=4,
        cached_input_tokens=60,
        cache_write_input_tokens=30,
        provider_metadata={"openai": {"usage": counts}},
    )


def test_a_finished_answer_reports_its_usage_once_before_its_end():
    decoder = OpenAIResponsesDecoder()
    events = decoder.decode(stream(*answer(HELLO)))
    assert [event for event in events if isinstance(event, ev.Usage)] == [decoder.usage_so_far()]
    assert isinstance(events[-3], ev.Usage)
    assert not events[-3].estimated


@pytest.mark.parametrize(
    ("output", "output_tokens"),
    [
        (message(text("12345678")), 2),
        (message(text("1234", "56789")), 3),
        (message(wire.refusal("1234", "5678")), 2),
        (wire.reasoning(["1234"], ["5678"]), 2),
        (call("f", "", '{"a": 1}'), 2),
        (message(text("日本語")), 3),  # nine bytes
    ],
)
def test_a_stopped_answer_has_an_estimated_output(output: Output, output_tokens: int):
    usage = usage_after(created(), *output.events(0))
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (None, output_tokens, True)


def test_counts_at_the_beginning_are_not_believed():
    zeros = {"input_tokens": 0, "output_tokens": 0}
    assert usage_after(created(usage=zeros), *HELLO.events(0)).estimated


def test_a_count_of_nothing_for_an_answer_with_text_is_none():
    usage = usage_after(*answer(HELLO, end=wire.completed(usage={"input_tokens": 0, "output_tokens": 0})))
    assert (usage.output_tokens, usage.estimated) == (3, True)


def test_an_end_without_counts_leaves_the_estimate():
    usage = usage_after(*answer(HELLO, end=wire.completed(usage=None)))
    assert (usage.output_tokens, usage.estimated) == (3, True)


def test_a_failed_answer_keeps_the_counts_that_came_with_the_failure():
    end = wire.failed()
    end["response"]["usage"] = wire.USAGE
    decoder = OpenAIResponsesDecoder()
    decoder.decode(stream(created()))
    with pytest.raises(ProviderFailed):
        decoder.decode(stream(end))
    assert decoder.usage_so_far().output_tokens == 12


def test_before_the_first_event_nothing_is_known():
    assert OpenAIResponsesDecoder().usage_so_far() == ev.Usage(output_tokens=0, estimated=True)


@pytest.mark.parametrize("value", ["12", 1.5, True, -1, None, {}])
def test_a_count_that_is_none_is_left_out(value: Any):
    usage = usage_after(*answer(end=wire.completed(usage={"input_tokens": value, "output_tokens": 1})))
    assert usage.input_tokens is None
