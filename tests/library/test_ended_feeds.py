"""A feed that was ended elsewhere, as the renewals of its writer find it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.errors import StreamClosed
from broadcaster.library.writer import FeedWriter
from tests.library.test_writer import note, opened
from tests.support.log.log_world import until
from tests.support.memory.memory_feeds import MemoryFeeds


@asynccontextmanager
async def ended_elsewhere(feeds: MemoryFeeds, end: bytes = b"{}") -> AsyncIterator[FeedWriter]:
    """The writer of a feed that ended so; a renewal has found that."""
    async with opened(feeds, lease_s=0.03) as writer:
        feeds.end, seen = end, feeds.renewals
        await until(lambda: feeds.renewals > seen)
        yield writer


async def test_a_feed_that_a_renewal_has_found_ended_takes_nothing_more() -> None:
    feeds = MemoryFeeds()
    async with ended_elsewhere(feeds) as writer:
        with pytest.raises(StreamClosed):
            writer.append_nowait(note(1))
        with pytest.raises(StreamClosed):
            await writer.append(note(1))
    assert feeds.calls == 0


async def test_a_feed_that_a_renewal_has_found_ended_is_not_created_anew_once_it_is_forgotten() -> None:
    feeds = MemoryFeeds()
    async with ended_elsewhere(feeds) as writer:
        feeds.config = None
        with pytest.raises(StreamClosed):
            await writer.close()
    assert feeds.creations == 1


async def test_a_repeated_end_changes_nothing_although_a_renewal_has_found_the_first_one() -> None:
    """The reply to the first one was lost, or another writer of the feed was faster."""
    async with ended_elsewhere(MemoryFeeds(), b'{"type":"finish"}') as writer:
        assert await writer.close() == Cursor(1, 1)
