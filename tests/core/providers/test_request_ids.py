"""The provider's id of a request: what may stand in a header, and which of several is the newest."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.providers.request_ids import MAX_CHARS, request_id_of, showable_id


@pytest.mark.parametrize("id", ["req_011CV", "a" * MAX_CHARS, "5f3c-9e:x/y=", "~!"])
def test_an_id_of_printable_ascii_is_showable(id: str):
    assert showable_id(id) == id


@pytest.mark.parametrize(
    "value", ["", "a" * (MAX_CHARS + 1), "a\r\nset-cookie: b", "a b", "é", "\udce9", "\x7f", 7, None]
)
def test_a_value_that_no_header_can_hold_is_not_an_id(value: object):
    assert showable_id(value) is None


def entries(*events: Any) -> list[Entry]:
    return [Entry(7, seq, ev.encode_event(event)) for seq, event in enumerate(events, start=1)]


def start(id: object) -> ev.Start:
    return ev.Start(provider_metadata={"openai": {"requestId": id}})


DELTA = ev.TextDelta(id="0", delta='{"requestId":"no"}')
STEP = ev.StartStep(provider_metadata={"anthropic": {"requestId": "step"}})
FAILED = ev.Error(error_text="", provider_metadata={"request": {"requestId": "failed"}, "refusal": {"status": 429}})


@pytest.mark.parametrize(
    ("events", "id"),
    [
        ((start("one"), ev.StartStep(), DELTA), "one"),
        ((start("one"), ev.StartStep(), DELTA, STEP), "step"),
        ((ev.Usage(), FAILED), "failed"),
        ((start("one"), DELTA, FAILED), "failed"),
        ((start("one"), ev.Attempt(attempt=2)), None),
        ((start("one"), ev.Attempt(attempt=2), start("two")), "two"),
        ((start("in\njected"),), None),
        ((ev.Start(), DELTA), None),
        ((), None),
    ],
)
def test_the_newest_id_of_the_newest_attempt_counts(events: tuple[Any, ...], id: str | None):
    assert request_id_of(entries(*events)) == id
