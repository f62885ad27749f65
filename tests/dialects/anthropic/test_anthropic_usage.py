"""Anthropic usage: counts as reported, and as estimated for an answer that was stopped."""

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.testing import wire
from tests.dialects.anthropic.anthropic_streams import stream


def usage_after(*events: wire.WireEvent) -> ev.Usage:
    decoder = AnthropicDecoder()
    decoder.decode(stream(*events))
    return decoder.usage_so_far()


def test_counts_of_the_end_overwrite_those_of_the_start_and_absent_ones_keep_them():
    usage = usage_after(
        wire.message_start(input_tokens=25, cache_read_input_tokens=7, cache_creation_input_tokens=5, service_tier="x"),
        wire.message_delta(output_tokens=12, input_tokens=30, cache_read_input_tokens=None),
    )
    assert usage == ev.Usage(
        input_tokens=30,
        output_tokens=12,
        cached_input_tokens=7,
        cache_write_input_tokens=5,
        provider_metadata={
            "anthropic": {
                "usage": {
                    "input_tokens": 30,
                    "output_tokens": 12,
                    "cache_read_input_tokens": 7,
                    "cache_creation_input_tokens": 5,
                    "service_tier": "x",
                }
            }
        },
    )


def test_thinking_tokens_are_counted_apart():
    details = {"thinking_tokens": 9}
    usage = usage_after(wire.message_start(), wire.message_delta(output_tokens=12, output_tokens_details=details))
    assert (usage.output_tokens, usage.reasoning_tokens) == (12, 9)


def test_a_finished_answer_reports_its_usage_once_before_its_end():
    decoder = AnthropicDecoder()
    events = decoder.decode(stream(*wire.message(wire.text("a"))))
    assert [event for event in events if isinstance(event, ev.Usage)] == [decoder.usage_so_far()]
    assert isinstance(events[-3], ev.Usage)
    assert not events[-3].estimated


@pytest.mark.parametrize(
    ("block", "output_tokens"),
    [
        (wire.text("12345678"), 2),
        (wire.text("1234", "56789"), 3),
        (wire.thinking("1234", "5678"), 2),
        (wire.tool_use("f", "", '{"a": 1}'), 2),
        (wire.text("日本語"), 3),  # nine bytes
        (wire.text(), 1),  # the usage of message_start
    ],
)
def test_a_stopped_answer_has_its_exact_input_and_an_estimated_output(block: wire.Block, output_tokens: int):
    usage = usage_after(wire.message_start(input_tokens=25), *wire.block_events(0, block))
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (25, output_tokens, True)


def test_an_estimate_is_never_below_what_the_provider_has_reported():
    assert usage_after(wire.message_start(output_tokens=50)).output_tokens == 50


def test_before_the_first_event_nothing_is_known_of_the_input():
    assert AnthropicDecoder().usage_so_far() == ev.Usage(output_tokens=0, estimated=True)


@pytest.mark.parametrize("value", ["12", 1.5, True, -1, None, {}])
def test_a_count_that_is_none_is_left_out(value: Any):
    assert usage_after(wire.message_start(input_tokens=value)).input_tokens is None
