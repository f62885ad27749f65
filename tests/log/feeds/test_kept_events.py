"""What the only writer of a feed keeps of its events amounts to the same, in little more memory than the text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from broadcaster.core.events import DataEvent, Event, ReasoningDelta, TextDelta, TextEnd, TextStart, encode_event
from broadcaster.core.fold import Fold
from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND
from broadcaster.log.feeds import kept_events
from broadcaster.log.feeds.kept_events import KeptEvents

ANSWER: list[Event] = [
    TextStart(id="0"),
    *(TextDelta(id="0", delta=f"wörd {number} ") for number in range(500)),
    TextDelta(id="0", delta="x" * 5000),
    TextDelta(id="0", delta="\n" * 400),
    TextDelta(id="0", delta="\n" * 400),
    TextDelta(id="0", delta="signed", provider_metadata={"p": {"signature": "s"}}),
    TextEnd(id="0"),
    ReasoningDelta(id="0", delta="so"),
    TextDelta(id="0", delta="a"),
    TextDelta(id="1", delta="b"),
    DataEvent(type="data-n", data=1),
    TextDelta(id="1", delta="c"),
]


def kept(events: Sequence[Event]) -> KeptEvents:
    found = KeptEvents()
    for event in events:
        found.add([encode_event(event)])
    return found


def state_of(raws: Sequence[bytes]) -> object:
    fold = Fold()
    for raw in raws:
        fold.apply(raw)
    return fold.state


def test_kept_events_amount_to_the_same() -> None:
    for count in range(len(ANSWER) + 1):
        raws = [raw for batch in kept(ANSWER[:count]).batches() for raw in batch]
        assert state_of(raws) == state_of([*map(encode_event, ANSWER[:count])])


def test_consecutive_deltas_of_a_part_are_kept_as_one_that_any_log_accepts() -> None:
    deltas: list[Event] = [TextDelta(id="0", delta=text) for text in ("\n", "é", "wörd ") for _ in range(1000)]
    raws = [raw for batch in kept(deltas).batches() for raw in batch]
    assert len(raws) < len(deltas) / 50
    assert max(map(len, raws)) <= 1024


def test_a_batch_is_what_a_feed_takes_at_once() -> None:
    many = kept([DataEvent(type="data-n", data=number) for number in range(MAX_EVENTS_PER_APPEND + 1)])
    assert [len(batch) for batch in many.batches()] == [MAX_EVENTS_PER_APPEND, 1]
    large = kept([DataEvent(type="data-n", data="x" * 300_000) for _ in range(3)])
    assert [len(batch) for batch in large.batches()] == [1, 1, 1]


def test_what_is_kept_may_be_read_in_between() -> None:
    found = kept([TextDelta(id="0", delta="a")])
    assert list(found.batches()) == [[encode_event(TextDelta(id="0", delta="a"))]]
    found.add([encode_event(TextDelta(id="0", delta="b"))])
    (batch,) = found.batches()
    assert state_of(batch) == state_of([encode_event(TextDelta(id="0", delta="ab"))])


def test_beyond_its_bound_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_events, "MOST_BYTES", 100)
    assert kept([DataEvent(type="data-n", data="x")]).is_whole
    found = kept([DataEvent(type="data-n", data="x" * 200), DataEvent(type="data-n", data="y")])
    assert not found.is_whole
    assert list(found.batches()) == []
