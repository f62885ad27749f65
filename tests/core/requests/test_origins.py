"""W3C trace context: what a caller sends is passed on exactly, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.requests.origins import MAX_STATE_CHARS, NO_ORIGIN, Origin, TraceContext

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_context_is_passed_on_as_it_came() -> None:
    context = TraceContext.parse([PARENT], ["a=1", "b=2"])
    assert context == TraceContext(TRACE, SPAN, "01", "a=1,b=2")
    assert context.headers() == {"traceparent": PARENT, "tracestate": "a=1,b=2"}


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [""],
        ["garbage"],
        [PARENT, PARENT],
        [PARENT.upper()],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"{PARENT}-more"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE[1:]}-{SPAN}-01"],
        [f"{PARENT}\n"],
        [f"00-{TRACE}-{SPAN}-1"],
    ],
)
def test_a_context_that_may_not_be_used_is_ignored(parents: list[str]) -> None:
    assert TraceContext.parse(parents, ["a=1"]) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert TraceContext.parse([f"01-{TRACE}-{SPAN}-01-more"]) == TraceContext(TRACE, SPAN, "01")


@pytest.mark.parametrize("state", ["a" * (MAX_STATE_CHARS + 1), "a=\r\nx-forged: 1", "a=\x00", "ä=1"])
def test_a_state_that_cannot_be_passed_on_is_dropped_and_the_trace_is_not(state: str) -> None:
    assert TraceContext.parse([PARENT], [state]) == TraceContext(TRACE, SPAN, "01")


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_header_breaks_the_parser_or_forges_a_line(parent: str, state: str) -> None:
    context = TraceContext.parse([parent], [state])
    assert context is None or not set("\r\n\0") & set("".join(context.headers().values()))


@pytest.mark.parametrize(
    "origin",
    [NO_ORIGIN, Origin("req_1", "messages"), Origin("req_1", None, TraceContext(TRACE, SPAN, "01", "a=1"))],
)
def test_an_origin_is_read_from_meta_as_it_was_written(origin: Origin) -> None:
    stored = {name.encode(): value.encode() for name, value in origin.fields().items()}
    assert Origin.from_hash(stored) == origin
