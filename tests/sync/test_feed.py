"""Feeds without an event loop: order, batches, threads, ends, and what a caller receives."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from broadcaster.core.events import TextDelta
from broadcaster.errors import (
    EventTooLarge,
    InvalidEvent,
    InvalidInput,
    SetupError,
    StreamClosed,
    StreamExists,
    StreamFull,
)
from broadcaster.sync import BlockingBroadcaster, Publisher
from tests.support.log.held_log import calls_of_scripts, held, metadata_of, numbers, until_so
from tests.support.log.valkey import ValkeyServer

FAILED = {"type": "error", "errorText": "the publisher of this stream failed", "code": "publisher_failed"}


def test_a_block_gives_its_events_in_order_and_then_the_end(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    with publisher.feed(stream_id, metadata={"of": "tests"}) as feed:
        feed.progress(1, 3, "rendering")
        feed.progress(2)
        feed.data("note", {"a": [1]})
        feed.append({"type": "text-delta", "id": "0", "delta": "x"}, TextDelta(id="0", delta="y"))
    assert held(redis_url, stream_id) == [
        {"type": "data-progress", "data": {"done": 1, "total": 3, "message": "rendering"}},
        {"type": "data-progress", "data": {"done": 2}},
        {"type": "data-note", "data": {"a": [1]}},
        {"type": "text-delta", "id": "0", "delta": "x"},
        {"type": "text-delta", "id": "0", "delta": "y"},
        {"type": "finish"},
    ]


def test_text_and_reasoning_open_and_close_their_parts_themselves(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    with publisher.feed(stream_id) as feed:
        feed.reasoning("Let me see.")
        feed.text("It ")
        feed.text("is")
        feed.text("")
        feed.progress(1)
        feed.text(" blue.")
    events = held(redis_url, stream_id)
    assert [(event["type"], event.get("delta")) for event in events] == [
        *(("reasoning-start", None), ("reasoning-delta", "Let me see."), ("reasoning-end", None)),
        *(("text-start", None), ("text-delta", "It "), ("text-delta", "is"), ("text-end", None)),
        ("data-progress", None),
        *(("text-start", None), ("text-delta", " blue."), ("text-end", None)),
        ("finish", None),
    ]
    assert len({event["id"] for event in events if "id" in event}) == 3


def test_a_job_that_fails_leaves_its_text_incomplete(publisher: Publisher, redis_url: str, stream_id: str) -> None:
    with pytest.raises(ValueError, match="mine"), publisher.feed(stream_id) as feed:
        feed.text("half an")
        raise ValueError("mine")
    assert [event["type"] for event in held(redis_url, stream_id)] == ["text-start", "text-delta", "error"]


def test_threads_that_share_a_feed_share_its_open_part(publisher: Publisher, redis_url: str, stream_id: str) -> None:
    with publisher.feed(stream_id) as feed:
        threads = [threading.Thread(target=lambda: [*map(feed.text, "x" * 100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    types = [event["type"] for event in held(redis_url, stream_id)]
    assert types == ["text-start", *["text-delta"] * 400, "text-end", "finish"]


def test_only_str_is_text(publisher: Publisher, stream_id: str) -> None:
    with publisher.feed(stream_id) as feed, pytest.raises(TypeError, match="text is a str, not bytes: decode it"):
        feed.text(b"token")  # type: ignore[arg-type]


def test_many_events_go_in_few_appends(server: ValkeyServer) -> None:
    with Publisher.from_url(server.url, timeout_s=30.0) as publisher:
        with publisher.feed("job-1") as feed:
            for number in range(5000):
                feed.data("n", number)
            feed.flush()
            assert feed.statistics() == (0, 0, 0)
    assert numbers(held(server.url, "job-1")) == list(range(5000))
    # One append in 5 ms, and each up to 999 events: even a machine that takes seconds for the loop stays far below.
    assert calls_of_scripts(server.url) < 1000


def test_many_threads_on_one_publisher_lose_and_double_nothing(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    with publisher.feed(stream_id) as feed:

        def write(name: int) -> None:
            for number in range(200):
                feed.data("n", [name, number])

        threads = [threading.Thread(target=write, args=(name,)) for name in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sent = numbers(held(redis_url, stream_id))
    assert len(sent) == 16 * 200
    for name in range(16):
        assert [number for of, number in sent if of == name] == list(range(200))


def test_all_publishers_of_a_process_share_one_thread(redis_url: str, stream_id: str) -> None:
    for number in range(3):
        with Publisher.from_url(redis_url, timeout_s=20.0) as publisher:
            with publisher.feed(f"{stream_id}-{number}") as feed:
                feed.data("n", number)
    assert sum(thread.name == "broadcaster-sync" for thread in threading.enumerate()) == 1


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (ValueError("a secret"), FAILED),
        (KeyboardInterrupt(), {"type": "abort", "reason": "cancelled"}),
        (SystemExit(1), {"type": "abort", "reason": "cancelled"}),
    ],
)
def test_a_block_left_by_an_exception_ends_its_feed_accordingly(
    publisher: Publisher, redis_url: str, stream_id: str, error: BaseException, end: dict[str, Any]
) -> None:
    with pytest.raises(type(error)):
        with publisher.feed(stream_id) as feed:
            feed.data("n", 1)
            raise error
    assert held(redis_url, stream_id) == [{"type": "data-n", "data": 1}, end]


def test_a_feed_is_ended_as_requested_and_only_once(publisher: Publisher, redis_url: str, stream_id: str) -> None:
    with publisher.feed(stream_id) as feed:
        with pytest.raises(InvalidEvent):
            feed.close({"type": "data-n", "data": 1})
        feed.close({"type": "error", "errorText": "the disk is full", "code": "disk_full"})
        feed.close()
        with pytest.raises(StreamClosed):
            feed.data("n", 1)
    assert held(redis_url, stream_id) == [{"type": "error", "errorText": "the disk is full", "code": "disk_full"}]


def test_one_of_several_writers_leaves_the_feed_open(publisher: Publisher, redis_url: str, stream_id: str) -> None:
    for number in range(2):
        with publisher.feed(stream_id, close=False) as feed:
            feed.data("n", number)
    assert held(redis_url, stream_id) == [{"type": "data-n", "data": 0}, {"type": "data-n", "data": 1}]
    publisher.feed(stream_id).close()
    assert held(redis_url, stream_id)[-1] == {"type": "finish"}


def test_a_feed_without_a_block_is_flushed_and_ends_with_abort_when_its_publisher_closes(
    redis_url: str, stream_id: str
) -> None:
    with Publisher.from_url(redis_url, timeout_s=20.0) as publisher:
        publisher.feed(stream_id).data("n", 1)
        publisher.feed(f"{stream_id}-open", close=False).data("n", 1)
    assert held(redis_url, stream_id) == [
        {"type": "data-n", "data": 1},
        {"type": "abort", "reason": "publisher_closed"},
    ]
    assert held(redis_url, f"{stream_id}-open") == [{"type": "data-n", "data": 1}]
    publisher.close()
    with pytest.raises(StreamClosed):
        publisher.feed(stream_id)


# -- what a caller receives


@pytest.mark.parametrize("event", [{"type": "hub.gap"}, {"type": "finish"}, {"type": "nonsense"}, {}, "text"])
def test_an_event_that_no_feed_takes_is_refused_at_its_caller(
    publisher: Publisher, redis_url: str, stream_id: str, event: Any
) -> None:
    with publisher.feed(stream_id) as feed:
        with pytest.raises(InvalidEvent):
            feed.append({"type": "data-n", "data": 1}, event)
        with pytest.raises(InvalidEvent):
            feed.data("n", float("nan"))
    assert held(redis_url, stream_id) == [{"type": "finish"}]


def test_an_event_or_an_append_over_its_bound_is_refused_at_its_caller(redis_url: str, stream_id: str) -> None:
    with Publisher.from_url(redis_url, timeout_s=20.0, max_event_bytes=1024) as publisher:
        with publisher.feed(stream_id) as feed:
            with pytest.raises(EventTooLarge):
                feed.data("n", "x" * 1024)
            with pytest.raises(InvalidInput):
                feed.append(*[{"type": "data-n", "data": 1}] * 1000)
            feed.append()


def test_a_full_feed_keeps_what_fits_raises_in_the_caller_and_does_not_end_as_finished(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    feed = publisher.feed(stream_id, max_events=100)
    for number in range(150):
        feed.data("n", number)
    with pytest.raises(StreamFull):
        feed.close()
    events = held(redis_url, stream_id)
    assert numbers(events) == list(range(100))
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "publisher_failed")
    assert feed.statistics().dropped == 50


def test_the_refusal_of_an_earlier_event_is_raised_by_the_next_call_and_ends_the_block(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    with pytest.raises(StreamFull):
        with publisher.feed(stream_id, max_events=10) as feed:
            feed.append(*[{"type": "data-n", "data": number} for number in range(11)])
            feed.flush()
    assert held(redis_url, stream_id)[-1] == FAILED
    assert len(held(redis_url, stream_id)) == 11


def test_a_feed_that_another_writer_has_ended_refuses_every_call_and_raises_once_at_its_end(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    publisher.feed(stream_id).close()
    with publisher.feed(stream_id) as feed:
        feed.data("n", 1)
        with pytest.raises(StreamClosed):
            feed.flush()
        with pytest.raises(StreamClosed):
            feed.data("n", 2)
    with pytest.raises(StreamClosed):
        with publisher.feed(stream_id) as feed:
            feed.data("n", 1)
    assert held(redis_url, stream_id) == [{"type": "finish"}]


def test_an_id_that_is_taken_raises_and_the_jobs_own_exception_wins(
    publisher: Publisher, stream_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    publisher.feed(stream_id, max_events=5).close()
    with pytest.raises(StreamExists):
        publisher.feed(stream_id, max_events=6).close()
    with pytest.raises(ZeroDivisionError):
        with publisher.feed(stream_id, max_events=7):
            raise ZeroDivisionError
    assert "feed_failed_too" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        *({"lease_s": 0}, {"lease_s": "30"}),
        *({"retention_s": -1}, {"retention_s": "60"}, {"retention_s": float("inf")}, {"retention_s": 31 * 86_400}),
        *({"max_events": 0}, {"max_events": 1.5}, {"max_bytes": True}, {"on_full": "drop"}, {"on_full": "Trim"}),
        *({"metadata": "x"}, {"metadata": {"a": float("inf")}}),
    ],
)
def test_a_configuration_that_no_feed_can_have_is_refused_at_once(
    publisher: Publisher, stream_id: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        publisher.feed(stream_id, **options)


def test_an_option_that_is_none_counts_as_left_out(publisher: Publisher, redis_url: str, stream_id: str) -> None:
    names = ("retention_s", "max_events", "max_bytes", "on_full", "metadata", "lease_s", "webhook")
    options: dict[str, Any] = dict.fromkeys(names)
    with publisher.feed(stream_id, **options) as feed:
        feed.data("n", 1)
    assert held(redis_url, stream_id) == [{"type": "data-n", "data": 1}, {"type": "finish"}]


def test_texts_and_numbers_of_subclasses_are_sent_as_plain_ones(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    class Text(str):
        __slots__ = ()

    class Half(float):
        pass

    with publisher.feed(stream_id, metadata={"by": Text("a"), "score": Half(0.5)}) as feed:
        feed.progress(Half(0.5), message=Text("half"))
        feed.text(Text("hi"))
    progress, _, delta, *_ = held(redis_url, stream_id)
    assert (progress["data"], delta["delta"]) == ({"done": 0.5, "message": "half"}, "hi")
    assert metadata_of(redis_url, stream_id) == {"by": "a", "score": 0.5}


def test_metadata_that_the_job_changes_later_is_that_of_the_call(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    metadata: dict[str, Any] = {"job": {"steps": ["load"]}}
    feed = publisher.feed(stream_id, metadata=metadata)
    metadata["job"]["steps"].append("render")
    feed.close()
    assert metadata_of(redis_url, stream_id) == {"job": {"steps": ["load"]}}


def test_settings_come_by_keyword_and_no_error_shows_the_password() -> None:
    for url in ("http://user:hunter2@x", "redis://:hunter2@"):
        with pytest.raises(SetupError) as caught:
            Publisher.from_url(url)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(TypeError, match="retention"):
        Publisher.from_url("redis://localhost", retention=1)  # type: ignore[call-arg]


def test_the_error_of_a_redis_that_refuses_us_has_no_password(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Publisher.from_url(server.url.replace("redis://", "redis://nobody:hunter2@"), timeout_s=20.0) as publisher:
        with pytest.raises(SetupError) as caught:
            with publisher.feed("job-1") as feed:
                feed.data("n", 1)
    assert "hunter2" not in str(caught.value) + caplog.text


def test_a_writer_whose_feed_was_replaced_writes_nothing_more(
    publisher: Publisher, redis_url: str, stream_id: str
) -> None:
    with BlockingBroadcaster.from_url(redis_url) as broadcaster:
        with pytest.raises(StreamClosed, match="replaced"), publisher.feed(stream_id) as feed:
            feed.text("old")
            until_so(lambda: len(held(redis_url, stream_id)) == 2)
            broadcaster.publish(["new"], id=stream_id, if_exists="replace")
            feed.text(" and older")
        assert broadcaster.read(stream_id).text == "new"
