"""A publication that replaces a stream: the newest content wins, ids go on rising, and viewers learn of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from broadcaster import Broadcaster
from broadcaster.client.stream import EntryReceived, GapReceived
from broadcaster.core.events import TextDelta
from broadcaster.errors import StreamClosed, StreamExists
from broadcaster.log.feeds.feeds import FeedConfig
from broadcaster.log.redis.connect import LogConnection
from tests.library.support import DEADLINE_S, raw_events, renumbered, until_in_the_log
from tests.library.test_publications import HeldSource, pieces

REPLACED = b'{"type":"attempt","attempt":2,"reason":"replaced"}'


def shape(events: list[Any]) -> list[str]:
    """Types of entries, and reasons of gaps."""
    return [event.type if isinstance(event, EntryReceived) else f"gap {event.reason}" for event in events]


async def read(broadcaster: Broadcaster, **options: Any) -> list[Any]:
    return [event async for event in broadcaster.events("answer", **options)]


async def test_a_replaced_stream_holds_the_newest_content_alone(broadcaster: Broadcaster, connection: LogConnection):
    await broadcaster.publish(pieces("old"), id="answer")
    result = await broadcaster.publish(pieces("new"), id="answer", if_exists="replace")
    assert (result.text, result.status) == ("new", "finished")
    assert (await raw_events(connection, "answer"))[0] == REPLACED
    folded = await broadcaster.read("answer")
    assert (folded.text, folded.is_whole) == ("new", True)


async def test_replacing_an_id_that_no_stream_has_creates_it(broadcaster: Broadcaster, connection: LogConnection):
    await broadcaster.publish(pieces("new"), id="answer", if_exists="replace")
    assert renumbered(await raw_events(connection, "answer"))[0] == b'{"type":"text-start","id":"0"}'


async def test_a_viewer_that_watches_is_sent_the_replacement_under_rising_ids(
    broadcaster: Broadcaster, connection: LogConnection
):
    old = broadcaster.publish_nowait(HeldSource("old"), id="answer")
    async with aclosing(broadcaster.events("answer", wait_s=DEADLINE_S)) as events:
        seen = [await anext(events), await anext(events)]
        await broadcaster.publish(pieces("new"), id="answer", if_exists="replace")
        async with asyncio.timeout(DEADLINE_S):
            seen += [event async for event in events]
    assert shape(seen) == ["text-start", "text-delta", "attempt", "text-start", "text-delta", "text-end", "finish"]
    cursors = [event.cursor for event in seen]
    assert cursors == sorted(cursors)
    assert [cursor.seq for cursor in cursors] == list(range(1, 8))
    result = await old.result()
    assert (result.status, result.abort_reason, result.text) == ("aborted", "replaced", "old")


@pytest.mark.parametrize("seen", [1, 2, 4])
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_viewer_that_resumes_across_a_replacement_gets_all_of_the_new_content_and_no_old(
    broadcaster: Broadcaster, connection: LogConnection, seen: int, elsewhere: bool
):
    """Also where the front-end still has the room of the old stream, which had ended."""
    await broadcaster.publish(pieces("old"), id="answer")
    first = [event for event in await read(broadcaster) if isinstance(event, EntryReceived)]
    assert len(first) == 4
    await broadcaster.publish(pieces("new"), id="answer", if_exists="replace")
    async with Broadcaster.from_url(connection.url) as other:
        rest = await read(other if elsewhere else broadcaster, after=first[seen - 1].cursor)
    gap = [] if seen == 4 else ["gap trimmed"]
    assert shape(rest) == [*gap, "attempt", "text-start", "text-delta", "text-end", "finish"]
    assert all(event.cursor > first[seen - 1].cursor for event in rest if isinstance(event, EntryReceived))
    if gap:
        assert isinstance(rest[0], GapReceived)


async def test_a_new_viewer_of_a_replaced_stream_is_shown_the_new_content(broadcaster: Broadcaster):
    await broadcaster.publish(pieces("old"), id="answer")
    await read(broadcaster)
    for text in ("newer", "newest"):
        await broadcaster.publish(pieces(text), id="answer", if_exists="replace")
        found = [event.event for event in await read(broadcaster) if isinstance(event, EntryReceived)]
        assert [event.delta for event in found if isinstance(event, TextDelta)] == [text]


async def test_a_new_viewer_of_a_stream_that_redis_lost_and_the_job_published_anew_is_shown_the_new_content(
    broadcaster: Broadcaster, connection: LogConnection
):
    for text in ("old", "new"):
        await broadcaster.publish(pieces(text), id="answer")
        found = [event.event for event in await read(broadcaster) if isinstance(event, EntryReceived)]
        assert [event.delta for event in found if isinstance(event, TextDelta)] == [text]
        await connection.redis.delete(*(key("answer") for key in (connection.keys.log, connection.keys.meta)))


async def test_a_replaced_source_is_cancelled_and_writes_nothing_more(
    broadcaster: Broadcaster, connection: LogConnection
):
    more = asyncio.Event()

    async def old() -> AsyncIterator[str]:
        yield "old"
        await more.wait()
        yield "late"

    publication = broadcaster.publish_nowait(old(), id="answer")
    await until_in_the_log(connection, "answer", 2)
    newest = broadcaster.publish_nowait(HeldSource("new"), id="answer", if_exists="replace")
    await until_in_the_log(connection, "answer", 3)
    more.set()
    assert (await publication.result()).abort_reason == "replaced"
    assert [b"late" in event for event in await raw_events(connection, "answer")] == [False] * 3
    await newest.stop()
    assert (await newest.result()).text == "new"


async def test_a_block_whose_feed_was_replaced_is_refused(broadcaster: Broadcaster, connection: LogConnection):
    with pytest.raises(StreamClosed, match="replaced"):
        async with broadcaster.feed("answer") as feed:
            await feed.data("x", 1)
            newest = broadcaster.publish_nowait(HeldSource("new"), id="answer", if_exists="replace")
            await newest.created()
            await feed.data("x", 2)
    await newest.stop()
    events = await raw_events(connection, "answer")
    assert (events[0], events[-1]) == (REPLACED, b'{"type":"abort","reason":"stopped"}')
    assert not any(b"data-x" in event for event in events)


async def test_a_deleted_stream_is_replaced_under_newer_ids(broadcaster: Broadcaster, connection: LogConnection):
    await broadcaster.publish(pieces("old"), id="answer")
    (*_, last) = [event for event in await read(broadcaster) if isinstance(event, EntryReceived)]
    services = await broadcaster._services.get()
    await services.feeds.delete("answer", tenant="local")
    with pytest.raises(StreamExists):
        await broadcaster.publish(pieces("new"), id="answer")
    result = await broadcaster.publish(pieces("new"), id="answer", if_exists="replace")
    assert result.cursor is not None
    assert result.cursor > last.cursor
    assert result.cursor.seq > last.cursor.seq, "a viewer with the old content would take the new one for more of it"
    assert (await broadcaster.read("answer")).text == "new"


async def test_a_repeated_replacement_does_not_replace_itself(broadcaster: Broadcaster):
    """A reply that was lost: the writer repeats the creation."""
    feeds = (await broadcaster._log.get()).feeds
    await broadcaster.publish(pieces("old"), id="answer")
    config = FeedConfig(owner="me")
    assert await feeds.create("answer", config, tenant="local", replaces=True)
    assert not await feeds.create("answer", config, tenant="local", replaces=True)
    with pytest.raises(StreamExists):
        await feeds.create("answer", FeedConfig(owner="you"), tenant="local")


async def test_a_replacement_has_bounds_of_its_own(broadcaster: Broadcaster):
    await broadcaster.publish(pieces(*"abcdefgh"), id="answer", max_events=20)
    result = await broadcaster.publish(pieces("new"), id="answer", if_exists="replace", max_events=5)
    assert result.status == "finished"
