"""How a connection ends before its Response does, as the SDK of OpenAI reads it."""

from __future__ import annotations

import pytest
from openai import APIError

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.openai_responses.encode import ResponsesDialect
from tests.dialects.openai_responses.responses_reading import CREATED_MS, STREAM, raw_events

HELLO: list[ev.Event] = [ev.Start(), ev.TextStart(id="0"), ev.TextDelta(id="0", delta="First ")]
BEGUN = [Entry(CREATED_MS, seq, ev.encode_event(event)) for seq, event in enumerate(HELLO, start=1)]


def drained(*, restarts: bool) -> bytes:
    transcript = ResponsesDialect(restarts=restarts).open(STREAM)
    return transcript.encode(BEGUN) + transcript.bye("drain", reconnect=True, retry_ms=1000)


def test_a_plain_response_whose_front_end_drains_is_an_error() -> None:
    with pytest.raises(APIError, match="ask for it again with starting_after") as raised:
        raw_events(drained(restarts=False))
    assert raised.value.code == "drain"


def test_a_background_response_whose_front_end_drains_yields_an_event_to_resume_after() -> None:
    *_, last, bye = raw_events(drained(restarts=True))
    assert (bye["type"], bye["code"], bye["sequence_number"]) == ("error", "drain", last["sequence_number"])
