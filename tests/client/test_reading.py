"""The pure part of reading a stream: which message is new, which is a double, which proves that something is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.client.errors import BadAnswer
from broadcaster.client.stream import EntryReceived, GapReceived, Notice, StreamPosition, StreamTorn
from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Finish, TextDelta, UnknownEvent
from broadcaster.core.sse import SseMessage

DELTA = '{"type":"text-delta","id":"0","delta":"x"}'
FINISH = '{"type":"finish"}'


def entry(id: str, data: str = DELTA) -> SseMessage:
    return SseMessage("message", data, id, None)


def gap(id: str, data: str) -> SseMessage:
    return SseMessage("hub.gap", data, id, None)


def test_an_entry_is_given_with_its_cursor_its_event_and_its_bytes():
    reading = StreamPosition(None)
    assert reading.take(entry("7-1")) == EntryReceived(Cursor(7, 1), TextDelta(id="0", delta="x"), DELTA.encode())
    assert reading.cursor == Cursor(7, 1)
    assert not reading.is_over


def test_the_terminal_entry_is_the_end():
    reading = StreamPosition(Cursor(7, 1))
    assert reading.take(entry("7-2", FINISH)) == EntryReceived(Cursor(7, 2), Finish(), FINISH.encode())
    assert reading.is_over


def test_an_event_of_a_newer_version_is_given_by_its_name():
    received = StreamPosition(None).take(entry("7-1", '{"type":"newer","x":1}'))
    assert isinstance(received, EntryReceived)
    assert (received.event, received.raw) == (UnknownEvent(type="newer"), b'{"type":"newer","x":1}')


def test_an_entry_has_the_type_of_its_event_and_the_data_of_a_data_event():
    reading = StreamPosition(None)
    given = [
        ("7-1", DELTA),
        ("7-2", '{"type":"newer","x":1}'),
        ("7-3", '{"type":"data-progress","data":{"done":1}}'),
        ("7-4", FINISH),
    ]
    entries = [reading.take(entry(*each)) for each in given]
    received_events = [(each.type, each.data) for each in entries if isinstance(each, EntryReceived)]
    assert received_events == [("text-delta", None), ("newer", None), ("data-progress", {"done": 1}), ("finish", None)]


def test_a_double_is_dropped():
    reading = StreamPosition(Cursor(7, 2))
    assert reading.take(entry("7-1")) is None
    assert reading.take(entry("7-2")) is None
    assert reading.take(entry("6-3")) is None
    assert reading.cursor == Cursor(7, 2)


@pytest.mark.parametrize("id", ["7-4", "8-2", "8-1", "8-4"], ids=["hole", "fork", "older fork", "hole over epochs"])
def test_an_entry_that_cannot_follow_proves_the_stream_torn_and_moves_nothing(id):
    reading = StreamPosition(Cursor(7, 2))
    with pytest.raises(StreamTorn):
        reading.take(entry(id))
    assert reading.cursor == Cursor(7, 2)


def test_a_newer_epoch_continues_at_the_next_seq():
    assert isinstance(StreamPosition(Cursor(7, 2)).take(entry("9-3")), EntryReceived)


def test_without_a_cursor_the_first_entry_has_seq_one():
    with pytest.raises(StreamTorn):
        StreamPosition(None).take(entry("7-2"))


def test_a_gap_is_returned_and_delivery_continues_behind_it():
    reading = StreamPosition(None)
    assert reading.take(gap("7-4", '{"reason":"trimmed","from":1,"to":4}')) == GapReceived(
        "trimmed", Cursor(7, 4), 1, 4
    )
    assert isinstance(reading.take(entry("7-5")), EntryReceived)
    with pytest.raises(StreamTorn):
        reading.take(entry("7-7"))


def test_a_rewound_gap_moves_the_reader_back():
    reading = StreamPosition(Cursor(7, 5))
    reading.take(gap("7-2", '{"reason":"rewound","from":3,"to":5}'))
    assert isinstance(reading.take(entry("8-3")), EntryReceived)


def test_a_gap_of_unknown_range_may_be_followed_by_any_higher_seq():
    reading = StreamPosition(Cursor(7, 5))
    assert reading.take(gap("0-0", '{"reason":"reset"}')) == GapReceived("reset", Cursor(0, 0), 0, 0)
    assert isinstance(reading.take(entry("9-40", FINISH)), EntryReceived)


def test_notices_are_given_and_move_nothing():
    reading = StreamPosition(Cursor(7, 1))
    notice = SseMessage("hub.stalled", '{"reason":"worker_lost"}', "7-1", None)
    assert reading.take(notice) == Notice("hub.stalled", {"reason": "worker_lost"})
    assert reading.cursor == Cursor(7, 1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"reason": "drain", "reconnect": True}, None),
        ({"reason": "deleted", "reconnect": False}, "deleted"),
        ({}, None),
    ],
)
def test_only_a_bye_without_reconnect_is_a_refusal(data, code):
    refusal = StreamPosition(Cursor(7, 1)).refusal(Notice("hub.bye", data))
    assert (refusal.code if refusal else None) == code
    assert StreamPosition(None).refusal(Notice("hub.live", data)) is None


@pytest.mark.parametrize(
    "message",
    [
        entry("", DELTA),
        entry("x"),
        entry("7-1", "[DONE]"),
        entry("7-1", '{"delta":"x"}'),
        gap("", '{"reason":"trimmed","from":1,"to":4}'),
        gap("7-1", "no json"),
        SseMessage("hub.live", "no json", "", None),
    ],
)
def test_a_message_that_no_front_end_sends_is_refused(message):
    with pytest.raises(BadAnswer):
        StreamPosition(None).take(message)


def test_a_bye_of_another_shape_is_refused():
    with pytest.raises(BadAnswer):
        StreamPosition(None).refusal(Notice("hub.bye", {"reason": 1}))


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6))))
def test_whatever_comes_in_the_given_entries_rise_densely(ids):
    reading = StreamPosition(None)
    given_seqs, given_cursors = [], []
    for epoch, seq in ids:
        try:
            received = reading.take(entry(f"{epoch}-{seq}"))
        except StreamTorn:
            continue
        if isinstance(received, EntryReceived):
            given_seqs.append(received.cursor.seq)
            given_cursors.append(received.cursor)
    assert given_seqs == list(range(1, len(given_seqs) + 1))
    assert given_cursors == sorted(given_cursors)
