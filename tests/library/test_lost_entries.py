"""Redis comes back empty, or older: a published answer is written again, and no feed looks whole that is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Final

import pytest
from redis import Redis

from broadcaster import Broadcaster, sync
from broadcaster.client.stream import EntryReceived, GapReceived
from broadcaster.core.batching import MAX_RESENDS
from broadcaster.core.events import DataEvent, TextDelta, encode_event
from broadcaster.library.delivery import Delivery
from broadcaster.library.results import StreamResult
from broadcaster.log.feeds import kept_events
from broadcaster.log.feeds.feeds import FeedConfig
from tests.support.log.valkey import ValkeyServer, start_valkey
from tests.support.memory.memory_feeds import MemoryFeeds

DEADLINE_S: Final = 30.0
WORDS: Final = [f"w{number} " for number in range(40)]
TEXT: Final = "".join(WORDS)
STATES: Final = ["empty", "older"]
TORN: Final = {"code": "log_lost", "message": "Redis lost a part of this stream"}

Step = Callable[[int], Coroutine[None, None, None]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with start_valkey(tmp_path, port=0) as running:
        yield running


@pytest.fixture
async def broadcaster(server: ValkeyServer) -> AsyncIterator[Broadcaster]:
    async with Broadcaster.from_url(server.url, redis_timeout_s=0.5, drain_s=0) as opened:
        yield opened


@pytest.fixture(params=STATES)
def lose(request: pytest.FixtureRequest, server: ValkeyServer, broadcaster: Broadcaster) -> Step:
    """Call it with each word's number: Redis loses entries behind that of the 20th."""

    async def lose(number: int) -> None:
        if number == 8 and request.param == "older":
            await until_stored(broadcaster, 9)
            with Redis.from_url(server.url) as redis:
                await asyncio.to_thread(redis.save)
        if number == 20:
            await until_stored(broadcaster, 21)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

    return lose


async def until_stored(broadcaster: Broadcaster, words: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        async for event in broadcaster.events("answer", wait_s=DEADLINE_S):
            words -= isinstance(event, EntryReceived) and event.type in ("text-delta", "data-word")
            if not words:
                return


async def text_seen(broadcaster: Broadcaster) -> tuple[str, str]:
    """What a viewer has at the end that starts over where the documents ask for it, and how the stream ended."""
    text = end = ""
    async for event in broadcaster.events("answer", wait_s=DEADLINE_S):
        if isinstance(event, GapReceived):
            text = text if event.reason == "trimmed" else ""
        elif event.type == "attempt":
            text = ""
        else:
            text += event.event.delta if isinstance(event.event, TextDelta) else ""
            end = event.type
    return text, end


async def source(lose: Step) -> AsyncIterator[str]:
    for number, word in enumerate(WORDS):
        yield word
        await lose(number)


async def published(
    broadcaster: Broadcaster, lose: Step, **options: int
) -> tuple[StreamResult, StreamResult, str, str]:
    """The result, what a late reader gets, and the text and the end of a live viewer."""
    viewer = asyncio.create_task(text_seen(broadcaster))
    async with asyncio.timeout(DEADLINE_S):
        result = await broadcaster.publish(source(lose), id="answer")
        return result, await broadcaster.read("answer"), *(await viewer)


@pytest.mark.second_engine
async def test_a_published_answer_that_redis_lost_a_part_of_is_written_a_second_time(
    broadcaster: Broadcaster, lose: Step
) -> None:
    result, late, seen, end = await published(broadcaster, lose)
    assert (seen, end) == (TEXT, "finish")
    for each in (result, late):
        assert (each.status, each.text, each.is_whole) == ("finished", TEXT, True)


async def test_a_published_answer_of_which_too_much_was_kept_ends_with_an_error(
    broadcaster: Broadcaster, lose: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_events, "MOST_BYTES", 50)
    result, late, seen, end = await published(broadcaster, lose)
    assert end == "error"
    assert result.error == late.error == TORN
    assert (result.status, result.text, late.status) == ("failed", TEXT, "failed")
    assert seen != TEXT


async def test_a_published_answer_that_has_no_room_a_second_time_ends_with_an_error(
    broadcaster: Broadcaster, server: ValkeyServer
) -> None:
    async def numbers() -> AsyncIterator[dict[str, object]]:
        for number in range(30):
            yield {"type": "data-word", "data": number}
            if number == 20:
                await until_stored(broadcaster, 21)
                with Redis.from_url(server.url) as redis:
                    await asyncio.to_thread(redis.save)
            if number == 25:
                await until_stored(broadcaster, 26)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)

    async with asyncio.timeout(DEADLINE_S):
        result = await broadcaster.publish(numbers(), id="answer", max_events=40)
    assert result.error == (await broadcaster.read("answer")).error == TORN


async def test_a_feed_that_redis_lost_a_part_of_reports_that_and_ends_with_an_error(
    broadcaster: Broadcaster, lose: Step, caplog: pytest.LogCaptureFixture
) -> None:
    viewer = asyncio.create_task(text_seen(broadcaster))
    async with asyncio.timeout(DEADLINE_S):
        async with broadcaster.feed("answer") as feed:
            async for word in source(lose):
                await feed.put(word)
            await feed.flush()
            lost = feed.statistics().lost
        late = await broadcaster.read("answer")
        _, end = await viewer
    (report,) = [part["data"] for part in late.parts if part["type"] == "data-dropped"]
    assert report == {"events": lost}
    assert lost > 0
    assert caplog.text.count("feed_entries_lost") == 1
    assert (end, late.status, late.error) == ("error", "failed", TORN)


async def test_a_feed_whose_last_entries_redis_lost_before_its_end_ends_with_an_error(
    broadcaster: Broadcaster, server: ValkeyServer
) -> None:
    async with broadcaster.feed("answer") as feed:
        await feed.data("word", 1)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    late = await broadcaster.read("answer")
    assert (late.status, late.error) == ("failed", TORN)
    assert [part["data"] for part in late.parts] == [{"events": 1}]


async def test_the_feed_of_a_job_without_a_loop_counts_what_redis_lost_as_dropped(
    broadcaster: Broadcaster, server: ValkeyServer, lose: Step
) -> None:
    loop = asyncio.get_running_loop()

    def work() -> int:
        with sync.Publisher.from_url(server.url, timeout_s=DEADLINE_S) as publisher:
            with publisher.feed("answer") as feed:
                for number in range(40):
                    feed.data("word", number)
                    feed.flush()
                    asyncio.run_coroutine_threadsafe(lose(number), loop).result(DEADLINE_S)
            return feed.statistics().dropped

    dropped = await asyncio.to_thread(work)
    late = await broadcaster.read("answer")
    words = [part["data"] for part in late.parts if part["type"] == "data-word"]
    assert dropped == 40 - len(words) > 0
    assert [part["data"] for part in late.parts if part["type"] == "data-dropped"] == [{"events": dropped}]
    assert (late.status, late.error) == ("failed", TORN)


async def test_an_answer_that_the_log_loses_repeatedly_is_written_three_more_times_and_then_reported_as_lost() -> None:
    feeds = MemoryFeeds()
    delivery = Delivery(feeds, "answer", tenant="local")
    await delivery.create(FeedConfig(owner="this writer"))
    held = []
    for number in range(MAX_RESENDS + 2):
        await delivery.append([encode_event(DataEvent(type="data-word", data=number))])
        held.append([json.loads(event)["type"] for event in feeds.events])
        feeds.events.clear()
    resent = [["attempt", *["data-word"] * (number + 1)] for number in range(1, MAX_RESENDS + 1)]
    assert held == [["data-word"], *resent, ["data-dropped", "data-word"]]
    assert delivery.has_lost
