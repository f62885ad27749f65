"""Any object that a tool or a graph gives its SDK is published as JSON, and does not end the answer beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from broadcaster.core.requests.publishing import encode_published
from broadcaster.library.sources.plain_json import plain_json
from tests.library.sources.test_frameworks import AIMessageChunk, events_of


@dataclass
class Place:
    name: str


class Opaque:
    def __str__(self) -> str:
        return "opaque"


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": (1, {2})}, {"a": [1, [2]]}),
        (Place("Paris"), {"name": "Paris"}),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (Opaque(), "opaque"),
        (b"text", "text"),
        ({"image": b"\xff\x00"}, {"image": "_wA="}),
        ([math.nan, math.inf, 1.5], [None, None, 1.5]),
        (CYCLE, "(a list that JSON cannot hold: ValueError)"),
        ("\ud800", "(a str that JSON cannot hold: UnicodeEncodeError)"),
        ([10**400], [10**400]),
        (DEEP, "(a list that is nested too deeply)"),
    ],
)
def test_any_object_becomes_a_value_that_an_event_can_hold(value: Any, shown: Any) -> None:
    assert plain_json(value) == shown
    encode_published({"type": "data-shown", "data": plain_json(value)})


async def test_a_value_that_is_no_json_does_not_end_the_answer_beside_it() -> None:
    answer: Any = ("messages", (AIMessageChunk("It is warm.", chunk_position="last"), {}))
    events = await events_of([answer, ("custom", {"image": b"\xff"})])
    assert events[-1]["type"] == "finish"
    assert [each["data"]["data"] for each in events if "data" in each] == [{"image": "_w=="}]
