"""The courier of one feed, stopped at the steps between which the program's threads may come."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from broadcaster.errors import Busy, LogUnavailable, RateLimited, StreamClosed
from broadcaster.library.delivery import Delivery
from broadcaster.log.feeds.feeds import FeedConfig
from broadcaster.sync.buffer import Buffer, Ending, Given
from broadcaster.sync.session import Courier
from tests.support.log.log_world import until
from tests.support.memory.memory_feeds import MemoryFeeds

LAST = b'{"type":"data-n","data":1}'


class LeftAfterATake(Buffer):
    """Given its last event, and left, as soon as a take has found nothing."""

    def take(self, **most: Any) -> list[Given]:
        batch = super().take(**most)
        if not batch and self.ending is None:
            self.put([LAST], drops=False)
            self.finish(Ending({}))
        return batch


async def test_a_creation_that_finds_no_room_is_repeated_and_its_events_come() -> None:
    feeds, wake = MemoryFeeds(), asyncio.Event()
    feeds.creation_faults = [Busy("too many webhooks"), LogUnavailable("away"), RateLimited("full", retry_after_s=0.01)]
    buffer = Buffer(max_events=10, max_bytes=1000, wake=wake.set)
    buffer.put([LAST], drops=False)
    buffer.finish(Ending({}))
    delivery = Delivery(feeds, "job-1", tenant="local")

    async def check() -> None: ...

    async with asyncio.timeout(20.0):
        await Courier(buffer, delivery, wake=wake, config=FeedConfig(), check=check).run()
    assert (feeds.events, feeds.creations, buffer.has_error, delivery.trouble) == ([LAST], 1, False, None)


async def test_an_event_given_just_before_the_end_is_taken_before_it() -> None:
    feeds, wake = MemoryFeeds(), asyncio.Event()
    buffer = LeftAfterATake(max_events=10, max_bytes=1000, wake=wake.set)
    delivery = Delivery(feeds, "job-1", tenant="local")

    async def check() -> None: ...

    async with asyncio.timeout(20.0):
        await Courier(buffer, delivery, wake=wake, config=FeedConfig(), check=check).run()
    assert [json.loads(event) for event in feeds.events] == [json.loads(LAST)]
    assert buffer.waiting == (0, 0)


async def test_a_feed_that_a_renewal_has_found_ended_is_not_created_anew_once_it_is_forgotten() -> None:
    feeds, wake = MemoryFeeds(), asyncio.Event()
    buffer = Buffer(max_events=10, max_bytes=1000, wake=wake.set)
    delivery = Delivery(feeds, "job-1", tenant="local")

    async def check() -> None: ...

    courier = Courier(buffer, delivery, wake=wake, config=FeedConfig(lease_s=0.03), check=check)
    running = asyncio.create_task(courier.run())
    await until(lambda: feeds.renewals > 0)
    feeds.end, seen = b"{}", feeds.renewals
    await until(lambda: feeds.renewals > seen)
    feeds.config = None
    buffer.put([LAST], drops=False)
    async with asyncio.timeout(20.0):
        await running
    with pytest.raises(StreamClosed):
        buffer.raise_error()
    assert (feeds.creations, feeds.events) == (1, [])
