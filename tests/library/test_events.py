"""Reading inside a process: whole, once, in order; at the caller's own speed; and left without a trace."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from broadcaster import Broadcaster
from broadcaster.client.errors import GaveUp
from broadcaster.client.stream import EntryReceived, GapReceived, Notice, StreamEvent
from broadcaster.errors import BadCursor, UnknownStream
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.log.redis.connect import LogConnection
from tests.library.support import DEADLINE_S, until_in_the_log
from tests.support.log.log_world import until


async def fill(broadcaster: Broadcaster, count: int, *, name: str = "job", close: bool = False) -> None:
    """So many events, numbered from 0."""
    async with broadcaster.feed(name, close=close) as feed:
        await feed.append(*({"type": "data-n", "data": number} for number in range(count)))


def numbers(events: Sequence[StreamEvent]) -> list[int]:
    return [event.data for event in events if isinstance(event, EntryReceived) and event.type == "data-n"]


async def take(events: AsyncGenerator[StreamEvent, None], count: int) -> list[StreamEvent]:
    """The next so many."""
    async with asyncio.timeout(DEADLINE_S):
        return [await anext(events) for _ in range(count)]


async def test_a_stream_is_read_from_its_beginning_to_its_end(broadcaster: Broadcaster):
    await fill(broadcaster, 3, close=True)
    events = [event async for event in broadcaster.events("job")]
    assert [(event.type, event.data) for event in events if isinstance(event, EntryReceived)] == [
        ("data-n", 0),
        ("data-n", 1),
        ("data-n", 2),
        ("finish", None),
    ]


async def test_an_event_appended_during_a_read_arrives_at_once(broadcaster: Broadcaster):
    await fill(broadcaster, 1)
    async with aclosing(broadcaster.events("job")) as events:
        assert numbers(await take(events, 1)) == [0]
        async with broadcaster.feed("job") as feed:
            for number in range(1, 4):
                await feed.append({"type": "data-n", "data": number})
                assert numbers(await take(events, 1)) == [number]
        (end,) = await take(events, 1)
        assert isinstance(end, EntryReceived)
        assert end.is_terminal
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_reading_goes_on_after_any_cursor_given_as_one_or_as_text(broadcaster: Broadcaster):
    await fill(broadcaster, 4, close=True)
    whole = [event async for event in broadcaster.events("job")]
    for seen in range(len(whole)):
        cursor = whole[seen].cursor
        assert [event async for event in broadcaster.events("job", after=cursor)] == whole[seen + 1 :]
        assert [event async for event in broadcaster.events("job", after=str(cursor))] == whole[seen + 1 :]


async def test_a_stream_that_is_not_there_is_unknown_or_waited_for(broadcaster: Broadcaster):
    with pytest.raises(UnknownStream):
        await anext(broadcaster.events("job"))
    with pytest.raises(BadCursor):
        await anext(broadcaster.events("job", after="nonsense"))
    events = broadcaster.events("job", wait_s=DEADLINE_S)
    first = asyncio.create_task(anext(events))
    await until(lambda: broadcaster._services.value is not None)
    assert not first.done()
    await fill(broadcaster, 1)
    assert numbers([await first]) == [0]
    await events.aclose()
    with pytest.raises(UnknownStream):
        await anext(broadcaster.events("other", wait_s=0.05))


async def test_notices_are_returned_on_request(broadcaster: Broadcaster):
    await fill(broadcaster, 1)
    async with aclosing(broadcaster.events("job", notices=True)) as events:
        hello, entry, live = await take(events, 3)
    assert isinstance(hello, Notice)
    assert (hello.name, hello.data["status"]) == ("hub.hello", "running")
    assert isinstance(entry, EntryReceived)
    assert live == Notice("hub.live", {})


async def test_a_reader_that_leaves_in_the_middle_leaves_nothing_behind(broadcaster: Broadcaster):
    await fill(broadcaster, 3)
    async for _ in broadcaster.events("job"):
        break  # and no caller closes the generator: its end does
    gc.collect()
    await until(lambda: broadcaster.statistics().viewers == 0)

    async with aclosing(broadcaster.events("job")) as events:
        *_, last = await take(events, 3)
        assert broadcaster.statistics().viewers == 1
    assert broadcaster.statistics().viewers == 0

    assert isinstance(last, EntryReceived)
    waiting = asyncio.create_task(anext(broadcaster.events("job", after=last.cursor)))
    await until(lambda: broadcaster.statistics().viewers == 1)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert broadcaster.statistics().viewers == 0


async def test_a_reader_slower_than_any_viewer_may_be_loses_nothing(connection: LogConnection):
    async with Broadcaster.from_url(connection.url, slow_viewer_s=0.1) as broadcaster:
        await fill(broadcaster, 1000)
        services = await broadcaster._services.get()
        async with aclosing(broadcaster.events("job")) as slow:
            held = await take(slow, 1)
            stuck = await services.hub.join("job", cursor=None, timeout_s=DEADLINE_S)
            assert isinstance(stuck, Viewer)
            assert stuck.pull(2**16)
            await until(lambda: stuck.stop_reason is StopReason.SLOW)  # so long, and the reader is where it was
            assert broadcaster.statistics().viewers == 1
            assert numbers(held + await take(slow, 999)) == list(range(1000))


async def test_a_reader_that_was_disconnected_returns_unnoticed(broadcaster: Broadcaster):
    await fill(broadcaster, 2)
    async with aclosing(broadcaster.events("job")) as events:
        before = await take(events, 1)
        services = await broadcaster._services.get()
        services.hub.tail_lost()
        await fill(broadcaster, 3, close=True)
        after = [event async for event in events]
    assert numbers(before) + numbers(after) == [0, 1, 0, 1, 2]


async def test_as_many_read_as_the_settings_allow_and_the_next_gives_up(connection: LogConnection):
    async with Broadcaster.from_url(connection.url, max_viewers=1) as broadcaster:
        await fill(broadcaster, 1)
        async with aclosing(broadcaster.events("job")) as first:
            await take(first, 1)
            with pytest.raises(GaveUp, match="as many viewers") as gave_up:
                await anext(broadcaster.events("job", give_up_after_s=0.2))
            assert gave_up.value.cursor is None
        assert len(await take(broadcaster.events("job"), 1)) == 1


async def test_readers_give_up_when_their_broadcaster_closes(connection: LogConnection):
    broadcaster = Broadcaster.from_url(connection.url)
    await fill(broadcaster, 2)
    events = broadcaster.events("job")
    one, two = await take(events, 2)
    waiting = asyncio.create_task(anext(events))
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_S):
        await broadcaster.aclose()
        with pytest.raises(GaveUp) as gave_up:
            await waiting
    assert isinstance(two, EntryReceived)
    assert gave_up.value.cursor == two.cursor
    assert broadcaster.statistics() == (0, 0, 0)
    assert one != two


async def test_a_tenant_reads_its_own_streams_only(broadcaster: Broadcaster, connection: LogConnection):
    async with Broadcaster.from_url(connection.url, tenant="acme") as other:
        await fill(other, 1, name="theirs", close=True)
        assert numbers([event async for event in other.events("theirs")]) == [0]
    with pytest.raises(UnknownStream):
        await anext(broadcaster.events("theirs"))


async def test_trimmed_entries_are_returned_as_a_gap(broadcaster: Broadcaster):
    async with broadcaster.feed("job", max_events=2, on_full="trim") as feed:
        for number in range(5):
            await feed.append({"type": "data-n", "data": number})
    gap, *entries = [event async for event in broadcaster.events("job")]
    assert isinstance(gap, GapReceived)
    assert gap.reason == "trimmed"
    assert gap.last_seq == entries[0].cursor.seq - 1


async def test_a_log_that_has_expired_still_ends_honestly(broadcaster: Broadcaster, connection: LogConnection):
    await fill(broadcaster, 3, close=True)
    await connection.redis.delete(connection.keys.log("job"))
    gap, end = [event async for event in broadcaster.events("job")]
    assert isinstance(gap, GapReceived)
    assert (gap.reason, gap.first_seq, gap.last_seq) == ("expired", 1, 3)
    assert isinstance(end, EntryReceived)
    assert end.type == "finish"
    assert [event async for event in broadcaster.events("job", after=end.cursor)] == []


async def test_many_readers_share_one_history_read(broadcaster: Broadcaster, connection: LogConnection):
    await fill(broadcaster, 100, close=True)
    await connection.redis.config_resetstat()

    async def read() -> list[int]:
        return numbers([event async for event in broadcaster.events("job")])

    assert await asyncio.gather(*(read() for _ in range(50))) == [list(range(100))] * 50
    calls = (await connection.redis.info("commandstats"))["cmdstat_xrange"]["calls"]
    assert calls < 50
    await until_in_the_log(connection, "job", 101)
