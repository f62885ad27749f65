"""The fast path by itself: what it takes, what closes it, and that nothing that it took is lost or out of order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.log.tail.fast_path import StreamFastPath

TEXT = b'{"type":"text-delta","id":"t","delta":"x"}'
WRITER = "writer"


@dataclass
class Stream:
    """Watch and sink in one, which remember what they are called with, in order."""

    last: Cursor | None = field(default_factory=lambda: Cursor(7, 4))
    fault: Exception | None = None
    calls: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path = StreamFastPath(self, self)  # type: ignore[arg-type]

    def open(self) -> bool:
        return self.path.open(WRITER, lambda writer: self.calls.append(("due", writer)))

    def begin_fast(self) -> Cursor | None:
        return self.last

    def took(self, count: int) -> None:
        assert not self.path.is_open
        self.calls.append(("took", count))

    def settle(self, first: Cursor, events: list[bytes]) -> None:
        assert not self.path.is_open
        if self.fault is not None:
            raise self.fault
        self.calls.append(("settle", first, events))

    def crashed(self, error: Exception) -> None:
        self.calls.append(error)

    def push(self, payload: bytes) -> None:
        self.calls.append(payload)

    def subscribed(self) -> None:
        self.calls.append("subscribed")

    def lost(self) -> None:
        self.calls.append("lost")


def test_a_closed_path_hands_everything_to_its_watch() -> None:
    stream = Stream()
    stream.path.push(b"1 7 5 1\n" + TEXT)
    stream.path.subscribed()
    stream.path.lost()
    stream.path.close()
    assert stream.calls == [b"1 7 5 1\n" + TEXT, "subscribed", "lost"]


def test_an_open_path_takes_the_next_events_and_reports_once_in_each_flush_that_there_are_some() -> None:
    stream = Stream()
    assert stream.open()
    stream.path.push(b"1 7 5 1\n" + TEXT)
    stream.path.push(b"1 7 6 2\n{}\n" + TEXT)
    assert stream.calls == [("due", WRITER)]
    stream.path.is_due = False  # a flush
    stream.path.push(b"1 7 8 1\n[]")
    assert stream.calls == [("due", WRITER)] * 2
    assert (stream.path.epoch, stream.path.last_seq, stream.path.events) == (7, 8, [TEXT, b"{}", TEXT, b"[]"])


@pytest.mark.parametrize(
    "payload",
    [
        b"1 7 7 1\n" + TEXT,  # a hole
        b"1 7 5 1\n" + TEXT,  # came already
        b"1 8 6 1\n" + TEXT,
        b"1 7 6 1",
        b"1 7 6 1 6\n" + TEXT,
        b'1 7 6 1\n{"type":"finish"}',
        b'1 7 6 2\n{}\n{"type":"error"}',
        b'1 7 6 1\n{"type":"abort","reason":"stopped"}',
        b'1 7 6 1\n{"type":"attempt","attempt":2}',
        b"not a push",
    ],
)
def test_any_other_push_closes_it_and_comes_after_what_it_took(payload: bytes) -> None:
    stream = Stream()
    stream.open()
    stream.path.push(b"1 7 5 1\n" + TEXT)
    stream.path.push(payload)
    assert stream.calls[1:] == [("took", 1), ("settle", Cursor(7, 5), [TEXT]), payload]
    stream.path.push(b"1 7 6 1\n" + TEXT)
    assert stream.calls[4:] == [b"1 7 6 1\n" + TEXT]


def test_what_the_path_took_reaches_the_sink_once_and_an_empty_path_reports_its_close() -> None:
    stream = Stream()
    stream.open()
    stream.path.push(b"1 7 5 1\n" + TEXT)
    stream.path.close()
    stream.path.close()
    stream.last = Cursor(7, 5)
    stream.open()
    stream.path.close()
    settled = [call for call in stream.calls if call[0] == "settle"]
    assert settled == [("settle", Cursor(7, 5), [TEXT]), ("settle", Cursor(7, 6), [])]


def test_it_opens_only_when_its_watch_allows_that() -> None:
    stream = Stream(last=None)
    assert not stream.open()
    assert not stream.path.is_open


def test_a_sink_that_raises_is_reported_to_the_watch_after_the_watch_has_counted_the_events() -> None:
    stream = Stream(fault=RuntimeError("broken"))
    stream.open()
    stream.path.push(b"1 7 5 1\n" + TEXT)
    stream.path.close()
    assert stream.calls == [("due", WRITER), ("took", 1), stream.fault]
    assert not stream.path.is_open
