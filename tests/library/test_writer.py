"""A feed's writer: joining, repeating, bounds, refusals, its lease and its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Finish, TextDelta
from broadcaster.errors import (
    Busy,
    EventTooLarge,
    InvalidEvent,
    InvalidInput,
    LogUnavailable,
    RateLimited,
    StreamClosed,
    StreamFull,
    UnknownStream,
)
from broadcaster.library.writer import FeedWriter, WriterLimits
from broadcaster.log.feeds.feeds import FeedConfig
from tests.support.log.log_world import until
from tests.support.memory.memory_feeds import MemoryFeeds

ID = "job-1"
AWAY = LogUnavailable("the log does not answer now; try again")


def note(number: int) -> dict[str, Any]:
    return {"type": "data-note", "data": number}


def sent_numbers(feeds: MemoryFeeds) -> list[int]:
    return [json.loads(event)["data"] for event in feeds.events]


@asynccontextmanager
async def opened(feeds: MemoryFeeds, *, lease_s: float | None = None, **limits: Any) -> AsyncIterator[FeedWriter]:
    writer = FeedWriter(feeds, ID, tenant="local", limits=WriterLimits(**{"timeout_s": 5.0, **limits}))
    await writer.open(FeedConfig(lease_s=lease_s))
    try:
        yield writer
    finally:
        await writer.aclose()


async def test_an_append_is_in_the_log_when_it_returns() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        assert await writer.append(note(1), TextDelta(id="0", delta="two")) == [Cursor(1, 1), Cursor(1, 2)]
        assert await writer.append(note(3)) == [Cursor(1, 3)]
        assert await writer.append() == []
    assert [json.loads(event)["type"] for event in feeds.events] == ["data-note", "text-delta", "data-note"]


async def test_a_creation_that_finds_no_room_is_repeated_until_there_is_some() -> None:
    feeds = MemoryFeeds()
    feeds.creation_faults = [Busy("too many webhooks"), RateLimited("full", retry_after_s=0.01), AWAY]
    async with opened(feeds):
        assert (feeds.creations, feeds.creation_faults) == (1, [])


async def test_a_creation_that_never_finds_room_raises_why_within_its_time() -> None:
    feeds, refusal = MemoryFeeds(), Busy("too many webhooks")
    feeds.is_away = refusal
    with pytest.raises(Busy) as raised:
        async with opened(feeds, timeout_s=0.2):
            pass
    assert raised.value is refusal


async def test_events_that_come_while_an_append_is_under_way_are_joined_in_order() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        feeds.go_on.clear()
        first = asyncio.create_task(writer.append(note(0)))
        await until(lambda: feeds.calls == 1)
        rest = [asyncio.create_task(writer.append(note(number))) for number in range(1, 500)]
        await asyncio.sleep(0)
        feeds.go_on.set()
        assert await first == [Cursor(1, 1)]
        assert [await each for each in rest] == [[Cursor(1, seq)] for seq in range(2, 501)]
        assert sent_numbers(feeds) == list(range(500))
        assert len(feeds.appends) == 2
        assert writer.statistics().appends == 2


async def test_one_append_stays_within_its_bounds() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds, batch_events=10, batch_bytes=200, pace_s=0) as writer:
        for number in range(40):
            writer.append_nowait(note(number))
        writer.append_nowait({"type": "data-note", "data": "x" * 1000})
        await writer.flush()
        with pytest.raises(InvalidInput):
            await writer.append(*map(note, range(11)))
    assert max(map(len, feeds.appends)) <= 10
    assert all(len(append) == 1 or sum(map(len, append)) <= 200 for append in feeds.appends)
    assert len(feeds.events) == 41


@pytest.mark.parametrize(
    "event", [{"type": "hub.gap"}, {"type": "finish"}, {"type": "nonsense"}, Finish(), "text", None]
)
async def test_an_event_that_no_feed_takes_is_refused_at_its_caller(event: Any) -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        with pytest.raises(InvalidEvent):
            writer.append_nowait(note(1), event)
        with pytest.raises(InvalidEvent):
            await writer.append(event)
        with pytest.raises(InvalidEvent):
            await writer.close(note(1))
        await writer.append(note(2))
    assert sent_numbers(feeds) == [2]


async def test_an_append_whose_answer_was_lost_is_taken_once() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        feeds.lost_answers = [AWAY]
        feeds.faults = [AWAY]
        assert await writer.append(note(1)) == [Cursor(1, 1)]
        assert writer.statistics().retries == 2
    assert sent_numbers(feeds) == [1]


async def test_too_many_appends_a_second_are_waited_out() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        feeds.faults = [RateLimited("later", retry_after_s=0.01)] * 3
        await writer.append(note(1))
    assert sent_numbers(feeds) == [1]


async def test_an_append_raises_in_time_during_an_outage_and_one_never_sent_is_withdrawn() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds, timeout_s=0.2) as writer:
        feeds.go_on.clear()
        both = await asyncio.gather(
            writer.append(note(1)), _later(feeds, writer.append(note(2))), return_exceptions=True
        )
        assert [type(each) for each in both] == [LogUnavailable, LogUnavailable]
        assert "nothing was appended" not in str(both[0])
        assert "nothing was appended" in str(both[1])
        feeds.go_on.set()
        await writer.append(note(3))
        assert sent_numbers(feeds) == [1, 3]
        assert writer.statistics().buffered_events == 0


async def _later(feeds: MemoryFeeds, append: Any) -> Any:
    await until(lambda: feeds.calls == 1)
    return await append


async def test_events_without_a_waiting_caller_are_sent_when_the_log_is_back() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds, timeout_s=0.1) as writer:
        feeds.is_away = AWAY
        writer.append_nowait(note(1))
        writer.append_nowait(note(2))
        with pytest.raises(LogUnavailable):
            await writer.flush()
        with pytest.raises(LogUnavailable):
            await writer.flush(timeout_s=0.01)
        feeds.is_away = None
        await writer.flush(timeout_s=5)
        assert sent_numbers(feeds) == [1, 2]


async def test_after_one_was_given_up_nothing_is_sent_before_the_log_has_answered() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds, timeout_s=0.1) as writer:
        feeds.is_away = AWAY
        with pytest.raises(LogUnavailable):
            await writer.append(note(1))
        writer.append_nowait(note(2))
        calls = feeds.calls
        with pytest.raises(LogUnavailable):
            await writer.flush()
        assert feeds.calls == calls
        feeds.is_away = None
        await writer.flush(timeout_s=5)
        assert sent_numbers(feeds) == [2]
        assert feeds.renewals == 1


async def test_a_full_buffer_raises_at_once() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds, buffer_events=3) as writer:
        feeds.go_on.clear()
        for number in range(3):
            writer.append_nowait(note(number))
        with pytest.raises(Busy):
            writer.append_nowait(note(3))
        with pytest.raises(Busy):
            await writer.append(note(3))
        assert writer.statistics().buffered_events == 3
        feeds.go_on.set()
        await writer.flush()
        writer.append_nowait(note(4))
        await writer.flush()
    assert sent_numbers(feeds) == [0, 1, 2, 4]


async def test_joined_appends_that_do_not_all_fit_get_each_its_own_answer() -> None:
    feeds = MemoryFeeds(max_events=3)
    async with opened(feeds) as writer:
        feeds.go_on.clear()
        first = asyncio.create_task(writer.append(note(0)))
        await until(lambda: feeds.calls == 1)
        calls = [writer.append(note(1)), writer.append(note(2), note(3), note(4)), writer.append(note(5))]
        rest = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)
        feeds.go_on.set()
        await first
        one, three, last = await asyncio.gather(*rest, return_exceptions=True)
    assert (one, type(three), last) == ([Cursor(1, 2)], StreamFull, [Cursor(1, 3)])
    assert sent_numbers(feeds) == [0, 1, 5]


async def test_after_a_refused_event_nothing_given_without_waiting_follows_until_it_is_raised() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        feeds.faults = [EventTooLarge("too large"), EventTooLarge("too large")]
        writer.append_nowait(note(1))
        writer.append_nowait(note(2))
        with pytest.raises(EventTooLarge):
            await writer.flush()
        assert writer.statistics().dropped == 2
        await writer.flush()
        writer.append_nowait(note(3))
        await writer.close()
    assert sent_numbers(feeds) == [3]


async def test_a_feed_that_another_caller_closed_takes_nothing_more() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        feeds.end = b"{}"
        with pytest.raises(StreamClosed):
            await writer.append(note(1))
        calls = feeds.calls
        for _ in range(2):
            with pytest.raises(StreamClosed):
                writer.append_nowait(note(2))
        assert feeds.calls == calls
        with pytest.raises(StreamClosed):
            await writer.close()


async def test_the_end_comes_after_all_that_was_given_and_nothing_after_it() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        for number in range(5):
            writer.append_nowait(note(number))
        assert await writer.close({"type": "error", "errorText": "no"}) == Cursor(1, 6)
        assert await writer.close({"type": "error", "errorText": "no"}) == Cursor(1, 6)
        assert json.loads(feeds.end or b"") == {"type": "error", "errorText": "no"}
        with pytest.raises(StreamClosed):
            writer.append_nowait(note(5))
    assert sent_numbers(feeds) == list(range(5))


async def test_a_feed_stays_open_until_a_refusal_was_raised() -> None:
    feeds = MemoryFeeds(max_events=1)
    async with opened(feeds) as writer:
        writer.append_nowait(note(1))
        writer.append_nowait(note(2))
        with pytest.raises(StreamFull):
            await writer.close()
        assert feeds.end is None
        await writer.close({"type": "error", "errorText": "full"})
        assert feeds.end is not None


async def test_a_feed_that_is_gone_is_recreated_by_the_writer_that_opened_it() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        feeds.config = None
        await writer.append(note(1))
        assert feeds.creations == 2
        feeds.config = None
        await writer.close()
    stranger = FeedWriter(MemoryFeeds(), ID, tenant="local", limits=WriterLimits())
    with pytest.raises(UnknownStream):
        await stranger.append(note(1))
    await stranger.aclose()


async def test_opening_waits_for_a_log_that_is_away_but_not_for_ever() -> None:
    feeds = MemoryFeeds()
    feeds.is_away = AWAY
    writer = FeedWriter(feeds, ID, tenant="local", limits=WriterLimits(timeout_s=0.05))
    with pytest.raises(LogUnavailable):
        await writer.open(FeedConfig())
    patient = FeedWriter(feeds, ID, tenant="local", limits=WriterLimits(timeout_s=5))
    opening = asyncio.create_task(patient.open(FeedConfig()))
    await asyncio.sleep(0)
    feeds.is_away = None
    assert await opening


async def test_a_caller_that_still_waits_when_the_writer_ends_gets_an_error() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        feeds.go_on.clear()
        sent = asyncio.create_task(writer.append(note(1)))
        await until(lambda: feeds.calls == 1)
        waiting = asyncio.create_task(writer.append(note(2)))
        flushing = asyncio.create_task(writer.flush())
        await asyncio.sleep(0)
        await writer.aclose()
        outcomes = await asyncio.gather(sent, waiting, flushing, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {LogUnavailable}
        assert writer.statistics().buffered_events == 0
        with pytest.raises(StreamClosed):
            writer.append_nowait(note(3))


async def test_a_caller_that_is_cancelled_takes_back_what_was_not_sent() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        feeds.go_on.clear()
        writer.append_nowait(note(1))
        await until(lambda: feeds.calls == 1)
        doomed = asyncio.create_task(writer.append(note(2)))
        await asyncio.sleep(0)
        doomed.cancel()
        await asyncio.wait({doomed})
        assert writer.statistics().buffered_events == 1
        feeds.go_on.set()
        await writer.flush()
    assert sent_numbers(feeds) == [1]


async def test_an_unexpected_error_reaches_the_caller_and_the_writer_goes_on() -> None:
    feeds = MemoryFeeds()
    async with opened(feeds) as writer:
        feeds.faults = [ValueError("a defect")]
        with pytest.raises(ValueError):
            await writer.append(note(1))
        await writer.append(note(2))
    assert sent_numbers(feeds) == [2]


async def test_a_writer_renews_the_lease_of_its_feed_until_it_closes_it() -> None:
    feeds = MemoryFeeds()
    writer = FeedWriter(feeds, ID, tenant="local", limits=WriterLimits(timeout_s=5))
    await writer.open(FeedConfig(lease_s=0.03))
    await until(lambda: feeds.renewals >= 2)
    feeds.config = None
    await until(lambda: feeds.creations == 2)
    seen = feeds.renewals
    await until(lambda: feeds.renewals > seen)
    await writer.close()
    await writer.aclose()
