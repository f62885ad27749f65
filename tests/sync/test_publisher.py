"""The end of a publisher and of its process: what it waits for, and what other threads do meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from broadcaster.errors import InvalidInput
from broadcaster.settings import Settings
from broadcaster.sync import Publisher
from broadcaster.sync.publisher import _ProcessPublishers
from tests.support.log.held_log import held, until_so
from tests.support.log.valkey import ValkeyServer

ABORT = {"type": "abort", "reason": "publisher_closed"}
FINISH = {"type": "finish"}


def test_a_feed_that_was_left_during_an_outage_is_waited_for_and_ends_as_its_block_did(server: ValkeyServer) -> None:
    publisher = Publisher.from_url(server.url, timeout_s=20.0)
    feed = publisher.feed("job-1")
    feed.data("n", 0)
    feed.flush()
    server.kill()
    feed.data("n", 1)
    leaving = threading.Thread(target=feed.close)
    leaving.start()
    until_so(lambda: feed.is_left)
    server.start()
    publisher.close()
    leaving.join()
    assert held(server.url, "job-1") == [{"type": "data-n", "data": 0}, {"type": "data-n", "data": 1}, FINISH]


def test_a_feed_is_forgotten_when_it_is_left_and_has_ended(publisher: Publisher, stream_id: str) -> None:
    with publisher.feed(stream_id) as feed:
        feed.data("n", 0)
        assert list(publisher._carried) == [feed]
    until_so(lambda: not publisher._carried)


class Stopped(Settings):
    """Settings whose reader is stopped in the middle of opening the publisher's first feed."""

    def __getattribute__(self, name: str) -> Any:
        if name == "key_prefix":
            opening.set()
            assert go_on.wait(20.0)
        return super().__getattribute__(name)


opening, go_on = threading.Event(), threading.Event()


def test_a_feed_that_is_opened_while_its_publisher_closes_is_ended_too(redis_url: str, stream_id: str) -> None:
    publisher = Publisher(Stopped(redis_url=redis_url), timeout_s=20.0)
    threads = [threading.Thread(target=publisher.feed(stream_id).__enter__), threading.Thread(target=publisher.close)]
    threads[0].start()
    assert opening.wait(20.0)
    threads[1].start()
    # It cannot end before the feed is opened; how far it comes until then is what counts.
    threads[1].join(0.3)
    go_on.set()
    for thread in threads:
        thread.join()
    assert held(redis_url, stream_id) == [ABORT]


def test_publishers_may_be_closed_while_the_process_ends() -> None:
    process = _ProcessPublishers()
    ended = []

    class ClosedMeanwhile(Publisher):
        def begin_to_end(self) -> Any:
            process.opened.discard(self)
            ended.append(self)
            return super().begin_to_end()

    publishers = [ClosedMeanwhile.from_url("redis://localhost") for _ in range(3)]
    for publisher in publishers:
        process.opened.add(publisher)
    process.end()
    assert set(ended) == set(publishers)


@pytest.mark.parametrize(
    ("webhook", "fault"),
    [
        ({"url": "https://hooks.example.com/"}, "BROADCASTER_WEBHOOK_HOSTS"),
        ({"url": "https://listed.example/", "events": ["never"]}, "never"),
        ({"url": "https://listed.example/", "events": []}, "events"),
        ({"url": "https://listed.example/", "event": ["failed"]}, "'event' is not known"),
        ({"url": 7}, "7"),
        ({"events": ["failed"]}, "url"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_at_its_caller(webhook: Any, fault: str) -> None:
    publisher = Publisher.from_url("redis://127.0.0.1:1", webhook_hosts="listed.example")
    with pytest.raises(InvalidInput, match=fault):
        publisher.feed("job", webhook=webhook)
