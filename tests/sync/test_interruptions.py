"""Signal handlers inside calls of a feed and a publisher: they raise (a time limit), or call the same feed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from broadcaster.errors import StreamClosed
from broadcaster.sync import Publisher
from broadcaster.sync.buffer import Buffer, Ending, Put
from broadcaster.sync.feed import Feed, FeedLimits
from tests.support.interruptions import at_each_point, interrupted, raise_time_is_up
from tests.support.log.held_log import held, numbers, until_so

CLOSED = {"type": "abort", "reason": "publisher_closed"}
LATE = {"type": "error", "errorText": "the publisher of this stream failed", "code": "publisher_failed"}
FINISH = {"type": "finish"}
EVENT = b'{"type":"data-n","data":1}'
# The first call of a publisher has some thousand points, most of them in Redis's client.
STEP = 41


def check_parts(events: list[dict[str, Any]]) -> None:
    """Each part begins, has pieces and ends, with nothing in between."""
    part: str | None = None
    for event in events:
        kind, _, step = event["type"].rpartition("-")
        if kind == "text":
            assert (step == "start") == (part is None), event
            assert step == "start" or event["id"] == part, event
            part = None if step == "end" else event["id"]
        else:
            assert part is None or event["type"] in ("abort", "error"), event


def pieces(events: list[dict[str, Any]]) -> list[str]:
    return [event["delta"] for event in events if event["type"] == "text-delta"]


class OwnFeed:
    """A feed without a publisher: no loop takes its events. ``wakes``: how often the loop was woken."""

    def __init__(self) -> None:
        self.wakes = 0
        self.buffer = Buffer(max_events=1000, max_bytes=100_000, wake=self._wake)
        limits = FeedLimits(
            timeout_s=1.0, drops=False, buffer_events=1000, buffer_bytes=100_000, max_event_bytes=100_000
        )
        self.feed = Feed("job", carry=lambda: self.buffer, limits=limits, closes=True, left=lambda _: None)

    def take(self) -> list[dict[str, Any]]:
        """What the loop takes now."""
        return [json.loads(given.raw) for given in self.buffer.take(most_events=1000, most_bytes=100_000)]

    def _wake(self) -> None:
        self.wakes += int(True)  # a call: a handler may run after it


def test_events_of_a_handler_come_as_a_whole_before_or_after_the_interrupted_one() -> None:
    own = OwnFeed()
    own.feed.text("begin")
    at_each_point(lambda at: interrupted(lambda: own.feed.text(f"{at}"), lambda: own.feed.data("n", at), at=at))
    own.feed.begin_to_leave({}, closes=True, is_whole=True)
    events = own.take()
    check_parts(events)
    sent = numbers(events)
    assert sent == list(range(1, len(sent) + 1))
    assert pieces(events) == ["begin", *(f"{at}" for at in range(1, len(sent) + 2))]
    assert own.buffer.waiting[0] == len(events)


def test_the_loop_is_woken_for_an_event_whose_call_was_left_by_an_exception() -> None:
    def send(at: int) -> bool:
        own = OwnFeed()
        is_reached = interrupted(lambda: own.feed.data("n", at), raise_time_is_up, at=at)
        wakes, events = own.wakes, own.take()
        assert own.buffer.waiting[0] == len(events)
        assert wakes >= len(events)
        own.take()
        wakes = own.wakes
        own.feed.data("n", -at)
        assert own.wakes > wakes
        return is_reached

    at_each_point(send)


def test_a_feed_is_left_when_its_end_was_given_and_the_loop_woken_and_not_before() -> None:
    def leave(at: int) -> bool:
        own = OwnFeed()
        own.feed.text("begin")
        wakes = own.wakes
        is_reached = interrupted(lambda: own.feed.begin_to_leave(None, closes=True), raise_time_is_up, at=at)
        assert not own.feed.is_left or own.wakes > wakes
        own.feed.begin_to_leave(None, closes=True)
        assert own.buffer.ending == Ending({})
        assert own.feed.is_left
        return is_reached

    at_each_point(leave)


def test_an_event_whose_call_was_left_by_an_exception_is_there_or_not_and_the_feed_goes_on(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    feed = publisher.feed(stream_id)
    feed.data("n", 0)

    def send(at: int) -> bool:
        until_so(lambda: feed.statistics().buffered_events == 0)
        return interrupted(lambda: feed.data("n", at), raise_time_is_up, at=at)

    at_each_point(send)
    feed.data("n", -1)
    # No call that would wake the loop by itself.
    until_so(lambda: feed.statistics().buffered_events == 0)
    feed.close()
    sent = numbers(held(redis_url, stream_id))
    assert sent[0] == 0
    assert sent[-1] == -1
    assert sent[1:-1] == sorted(set(sent[1:-1]))
    assert feed.statistics() == (0, 0, 0)


def test_a_piece_of_text_whose_call_was_left_by_an_exception_is_there_as_a_whole_or_not(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    feed = publisher.feed(stream_id)

    def send(at: int) -> bool:
        feed.data("n", at)
        is_reached = interrupted(lambda: feed.text(f"{at}"), raise_time_is_up, at=at)
        feed.text(f"{at}.")
        return is_reached

    at_each_point(send)
    feed.close()
    events = held(redis_url, stream_id)
    check_parts(events)
    whole = [piece for piece in pieces(events) if piece.endswith(".")]
    assert whole == [f"{number}." for number in numbers(events)]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_full_buffer_counts_what_a_handler_and_the_interrupted_call_drop(taken: int) -> None:
    buffer = Buffer(max_events=1, max_bytes=100, wake=lambda: None)
    buffer.put([EVENT], drops=True)
    reported: list[int] = []
    calls: list[Put] = []

    def drop() -> None:
        calls.append(buffer.put([EVENT], drops=True))

    def drop_and_take() -> None:
        drop()
        # The loop's thread may take meanwhile.
        reported.extend(given.events for given in buffer.take(most_events=taken, most_bytes=100) if not given.own)

    at_each_point(lambda at: interrupted(drop, drop_and_take, at=at))
    reported += [given.events for given in buffer.take(most_events=1000, most_bytes=10_000) if not given.own]
    assert set(calls) == {Put.DROPPED, Put.FIRST_DROPPED}
    assert sum(reported) == buffer.dropped == len(calls)


@pytest.mark.parametrize("end", [Feed.close, lambda feed: feed.__exit__(None, None, None)], ids=["close", "block"])
def test_a_close_inside_another_call_ends_the_feed_and_returns(
    publisher: Publisher, redis_url: str, stream_id: str, end: Callable[[Feed], None]
) -> None:
    feeds: list[Feed] = []

    def send(at: int) -> bool:
        feed = publisher.feed(f"{stream_id}-{at}")
        feeds.append(feed)
        feed.text("begin")
        is_reached = False
        with suppress(StreamClosed):
            is_reached = True
            is_reached = interrupted(lambda: feed.data("n", at), lambda: end(feed), at=at)
        return is_reached

    at_each_point(send)
    feeds.pop().close()
    for feed in feeds:
        events = held(redis_url, feed.id)
        check_parts(events)
        assert events[-1] == FINISH


def test_a_publisher_that_is_closed_inside_its_first_call_ends_the_feed_and_returns(
    redis_url: str, stream_id: str
) -> None:
    def send(at: int) -> bool:
        publisher = Publisher.from_url(redis_url, timeout_s=20.0)
        feed = publisher.feed(f"{stream_id}-{at}")
        is_reached = True
        with suppress(StreamClosed):
            is_reached = interrupted(lambda: feed.data("n", at), publisher.close, at=at)
        publisher.close()
        assert not publisher._carried
        events = held(redis_url, feed.id)
        assert events == [] or events[-1] == CLOSED
        return is_reached

    at_each_point(send, step=STEP)


def test_a_feed_that_is_first_used_inside_its_first_call_has_one_buffer(redis_url: str, stream_id: str) -> None:
    def send(at: int) -> bool:
        with Publisher.from_url(redis_url, timeout_s=20.0) as publisher:
            feed = publisher.feed(f"{stream_id}-{at}")
            is_reached = interrupted(lambda: feed.data("n", 1), lambda: feed.data("n", 2), at=at)
            feed.close()
        events = held(redis_url, feed.id)
        assert sorted(numbers(events)) == ([1, 2] if is_reached else [1])
        assert events[-1] == FINISH
        return is_reached

    at_each_point(send, step=STEP)


def test_a_feed_that_is_opened_inside_its_own_opening_has_one_buffer(publisher: Publisher, stream_id: str) -> None:
    publisher._opened_session()

    def open_twice(at: int) -> bool:
        feed = publisher.feed(f"{stream_id}-{at}")
        made: list[Buffer] = []
        is_reached = interrupted(lambda: made.append(feed._open()), lambda: made.append(feed._open()), at=at)
        assert {*made} == {publisher._carried[feed]}
        return is_reached

    at_each_point(open_twice)


def test_a_feed_whose_publisher_is_closed_inside_its_opening_is_ended_or_was_never_there(
    redis_url: str, stream_id: str
) -> None:
    def open_late(at: int) -> bool:
        with Publisher.from_url(redis_url, timeout_s=20.0) as publisher:
            publisher._opened_session()
            feed = publisher.feed(f"{stream_id}-{at}")
            is_reached = True
            with suppress(StreamClosed):
                is_reached = interrupted(feed._open, publisher.begin_to_end, at=at)
            assert feed.is_left or feed._buffer is None or not is_reached
        return is_reached

    at_each_point(open_late)


def test_a_close_that_was_left_by_an_exception_is_completed_by_the_next_one(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    def close(at: int) -> bool:
        feed = publisher.feed(f"{stream_id}-{at}")
        feed.text("begin")
        is_reached = interrupted(feed.close, raise_time_is_up, at=at)
        feed.close()
        events = held(redis_url, feed.id)
        check_parts(events)
        assert events[-1] == FINISH
        return is_reached

    at_each_point(close)


def test_a_block_whose_end_was_left_by_an_exception_has_ended_its_feed(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    def leave(at: int) -> bool:
        feed = publisher.feed(f"{stream_id}-{at}")
        feed.data("n", at)
        # The first points are before the block's end has begun.
        is_reached = interrupted(lambda: feed.__exit__(None, None, None), raise_time_is_up, at=at + 2)
        until_so(lambda: held(redis_url, feed.id)[-1:] in ([FINISH], [LATE]))
        return is_reached

    at_each_point(leave)


def test_a_close_of_a_publisher_that_was_left_by_an_exception_is_completed_by_the_next_one(
    redis_url: str, stream_id: str
) -> None:
    def close(at: int) -> bool:
        publisher = Publisher.from_url(redis_url, timeout_s=20.0)
        feed = publisher.feed(f"{stream_id}-{at}")
        feed.data("n", at)
        session = publisher._session
        is_reached = interrupted(publisher.close, raise_time_is_up, at=at)
        publisher.close()
        assert held(redis_url, feed.id)[-1] == CLOSED
        assert session is not None
        assert session._closed.is_set()
        return is_reached

    at_each_point(close)
