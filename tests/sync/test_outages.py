"""Redis away, slow, empty or silent: no call blocks the job, and what was sent comes once, in order, or is reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from broadcaster.errors import Busy, LogUnavailable, SetupError
from broadcaster.library import delivery
from broadcaster.library.writer import WriterLimits
from broadcaster.sync import Publisher
from tests.support.log.held_log import held, numbers, until_so
from tests.support.log.refusable_user import RefusableUser
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.redis_relay import Moment, open_redis_relay

TIMEOUT_S = 0.4
# A call ends by itself after TIMEOUT_S; the rest is what a busy machine may add.
BOUND_S = TIMEOUT_S + 2.0
FINISH = {"type": "finish"}


def test_the_error_of_a_redis_that_refuses_connections_names_its_address_and_its_cause(server: ValkeyServer) -> None:
    server.kill()
    publisher = Publisher.from_url(server.url, timeout_s=TIMEOUT_S, on_full_buffer="raise")
    feed = publisher.feed("job-1")
    feed.data("n", 0)
    for call in (feed.flush, feed.close, publisher.close):
        with bounded(), pytest.raises(LogUnavailable, match=server.url.removeprefix("redis://")) as caught:
            call()
        assert isinstance(caught.value.__cause__, LogUnavailable)
        assert isinstance(caught.value.__cause__.__cause__, RedisConnectionError)
        assert "127.0.0.1" not in caught.value.detail


@contextmanager
def bounded() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < BOUND_S


def is_finished(server: ValkeyServer, stream_id: str) -> bool:
    return held(server.url, stream_id)[-1:] == [FINISH]


@pytest.mark.second_engine
def test_while_redis_is_killed_the_job_goes_on_and_all_of_it_comes_when_redis_is_back(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    with Publisher.from_url(server.url, timeout_s=TIMEOUT_S) as publisher:
        with publisher.feed("job-1") as feed:
            feed.data("n", 0)
            feed.flush(20.0)
            server.kill()
            for number in range(1, 500):
                with bounded():
                    feed.data("n", number)
            with bounded(), pytest.raises(LogUnavailable):
                feed.flush()
            begun = time.monotonic()
        assert time.monotonic() - begun < BOUND_S
        with bounded():
            with publisher.feed("job-2") as feed:
                feed.data("n", 1)
        server.start()
        until_so(lambda: is_finished(server, "job-1") and is_finished(server, "job-2"))
    assert numbers(held(server.url, "job-1")) == list(range(500))
    assert caplog.text.count("log_is_away") == caplog.text.count("log_is_back") == 1
    assert caplog.text.count("feed_end_waits") == 2


def test_the_batch_under_way_outlasts_what_an_asyncio_writer_waits(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WriterLimits.__init__.__kwdefaults__ or {}, "timeout_s", 0.2)
    with Publisher.from_url(server.url, timeout_s=20.0) as publisher:
        with publisher.feed("job-1") as feed:
            feed.data("n", 0)
            feed.flush()
            server.kill()
            feed.data("n", 1)
            with pytest.raises(LogUnavailable):
                feed.flush(1.0)
            assert feed.statistics().dropped == 0
            server.start()
    assert held(server.url, "job-1") == [{"type": "data-n", "data": 0}, {"type": "data-n", "data": 1}, FINISH]


def test_a_batch_is_given_up_when_the_log_may_have_forgotten_it_and_what_follows_comes(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "UNKNOWN_S", 0.2)
    with Publisher.from_url(server.url, timeout_s=20.0) as publisher:
        with publisher.feed("job-1") as feed:
            feed.data("n", 0)
            feed.flush()
            server.kill()
            feed.data("n", 1)
            until_so(lambda: feed.statistics().dropped == 1)
            feed.data("n", 2)
            server.start()
    dropped = {"type": "data-dropped", "data": {"events": 1}}
    assert held(server.url, "job-1")[1:] == [dropped, {"type": "data-n", "data": 2}, FINISH]


def test_a_redis_that_answers_nothing_holds_no_call(server: ValkeyServer) -> None:
    with Publisher.from_url(server.url, timeout_s=TIMEOUT_S) as publisher:
        feed = publisher.feed("job-1")
        feed.data("n", 0)
        feed.flush(20.0)
        server.pause()
        for number in range(1, 20):
            with bounded():
                feed.data("n", number)
        with bounded():
            feed.close()
        server.resume()
        until_so(lambda: is_finished(server, "job-1"))
    assert numbers(held(server.url, "job-1")) == list(range(20))


def test_a_publisher_raises_instead_of_dropping_when_it_is_set_to(server: ValkeyServer) -> None:
    server.kill()
    publisher = Publisher.from_url(server.url, timeout_s=TIMEOUT_S, on_full_buffer="raise", buffer_events=10)
    feed = publisher.feed("job-1")
    for number in range(10):
        feed.data("n", number)
    with bounded(), pytest.raises(Busy):
        feed.data("n", 10)
    with bounded(), pytest.raises(LogUnavailable):
        feed.close()
    other = publisher.feed("job-2")
    other.data("n", 1)
    with bounded(), pytest.raises(LogUnavailable):
        publisher.close()


def test_the_events_that_a_full_buffer_drops_are_reported_in_their_place(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()
    with Publisher.from_url(server.url, timeout_s=20.0, buffer_events=10) as publisher:
        with publisher.feed("job-1") as feed:
            for number in range(25):
                feed.data("n", number)
            assert feed.statistics().dropped == 15
            server.start()
            feed.flush()
            feed.data("n", 25)
    events = held(server.url, "job-1")
    assert [event["data"] for event in events[:-1]] == [*range(10), {"events": 15}, 25]
    assert (events[10]["type"], events[-1]) == ("data-dropped", FINISH)
    assert caplog.text.count("feed_events_dropped") == 1


def test_a_feed_goes_on_when_redis_came_back_empty_and_reports_what_is_lost(server: ValkeyServer) -> None:
    with Publisher.from_url(server.url, timeout_s=20.0) as publisher:
        with publisher.feed("job-1") as feed:
            feed.data("n", 0)
            feed.flush()
            server.kill()
            for kept in server._folder.glob("appendonlydir/*"):
                kept.unlink()
            server.start()
            feed.data("n", 1)
        assert feed.statistics().dropped == 1
    torn = {"type": "error", "errorText": "Redis lost a part of this stream", "code": "log_lost"}
    dropped = {"type": "data-dropped", "data": {"events": 1}}
    assert held(server.url, "job-1") == [dropped, {"type": "data-n", "data": 1}, torn]


@pytest.mark.parametrize("moment", Moment)
async def test_an_append_that_is_cut_off_comes_once(redis_url: str, stream_id: str, moment: Moment) -> None:
    async with open_redis_relay(redis_url) as relay:

        def work() -> None:
            with Publisher.from_url(relay.url, timeout_s=20.0) as publisher:
                with publisher.feed(stream_id) as feed:
                    for number in range(30):
                        feed.data("n", number)
                        feed.flush()
                        if number in (10, 20):
                            relay.cut_at(b'"data":%d}' % (number + 1), moment)

        await asyncio.to_thread(work)
    assert numbers(await asyncio.to_thread(held, redis_url, stream_id)) == list(range(30))


def test_a_refusal_in_the_midst_of_a_feed_is_raised_with_its_remedy(server: ValkeyServer) -> None:
    user = RefusableUser(server.url)
    user.admit()
    with Publisher.from_url(user.url) as publisher, publisher.feed("job-1") as feed:
        feed.data("n", 0)
        feed.flush(20.0)
        user.refuse()
        feed.data("n", 1)
        with pytest.raises(SetupError, match=r"Redis refuses us: .*; correct the user and password"):
            feed.flush(20.0)
        user.admit()
    assert numbers(held(server.url, "job-1")) == [0]
