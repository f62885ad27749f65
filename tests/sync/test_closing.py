"""The end of a BlockingBroadcaster, while threads of the program still publish."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from broadcaster.client.errors import GaveUp
from broadcaster.library import publications
from broadcaster.library.results import StreamResult
from broadcaster.sync import BlockingBroadcaster
from broadcaster.sync import broadcaster as blocking_broadcaster
from tests.support.log.held_log import until_so

DEADLINE_S = 20.0


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("SOURCE_CLOSES_S", "CANCELLED_S", "ON_END_S"):
        monkeypatch.setattr(publications, limit, 0.3)


def test_a_publish_that_joined_gives_up_when_its_broadcaster_is_closed(redis_url: str, stream_id: str) -> None:
    release = threading.Event()

    def held() -> Iterator[str]:
        yield "a"
        release.wait(DEADLINE_S)

    with BlockingBroadcaster.from_url(redis_url) as writer, ThreadPoolExecutor() as threads:
        joiner = BlockingBroadcaster.from_url(redis_url)
        writing = threads.submit(writer.publish, held(), id=stream_id)
        next(writer.events(stream_id, wait_s=DEADLINE_S))
        joined = threads.submit(joiner.publish, iter("b"), id=stream_id, if_exists="join")
        until_so(lambda: _has_joined(joiner))
        joiner.close(drain_s=0.1)
        with pytest.raises(GaveUp):
            joined.result(DEADLINE_S)
        release.set()
        assert writing.result(DEADLINE_S).text == "a"


def test_a_close_waits_for_as_long_as_on_end_may_take(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_broadcaster, "CLOSE_MARGIN_S", 0.1)
    is_called, release = threading.Event(), threading.Event()

    def hang(_: StreamResult) -> None:
        is_called.set()
        release.wait(DEADLINE_S)

    with ThreadPoolExecutor() as threads:
        opened = BlockingBroadcaster.from_url(redis_url)
        publishing = threads.submit(opened.publish, iter("a"), on_end=hang)
        assert is_called.wait(DEADLINE_S)
        try:
            opened.close(drain_s=0)
            assert publishing.result(DEADLINE_S).status == "finished"
        finally:
            release.set()


def _has_joined(opened: BlockingBroadcaster) -> bool:
    made = opened._async.made
    return made is not None and any(each.is_joined for each in made._writing.publications._running)
