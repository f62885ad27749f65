"""What an iterator yields becomes a stream that ends as honestly as the iterator did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broadcaster import Broadcaster
from broadcaster.core.events import Abort, Finish
from broadcaster.errors import InvalidEvent, InvalidInput, StreamExists, StreamFull
from broadcaster.log.redis.connect import LogConnection
from tests.library.support import DEADLINE_S, raw_events, renumbered, until_in_the_log
from tests.support.log.log_world import until


class Source:
    """An iterator that shows how far it was read, and whether it was closed."""

    def __init__(self, *pieces: Any, fault: BaseException | None = None, waits: bool = False) -> None:
        self.requested = 0
        self.closed = 0
        self._pieces = list(pieces)
        self._fault = fault
        self._waits = waits

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> Any:
        self.requested += 1
        if self._pieces:
            return self._pieces.pop(0)
        if self._waits:
            await asyncio.Event().wait()
        raise self._fault or StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


async def test_an_iterator_of_texts_and_events_becomes_an_answer(broadcaster: Broadcaster, connection: LogConnection):
    source = Source("Hello", " you", {"type": "data-cost", "data": 3}, "!")
    end = await broadcaster.publish(source, id="answer", metadata={"chat": 1})
    assert renumbered(await raw_events(connection, "answer")) == [
        b'{"type":"text-start","id":"0"}',
        b'{"type":"text-delta","id":"0","delta":"Hello"}',
        b'{"type":"text-delta","id":"0","delta":" you"}',
        b'{"type":"text-end","id":"0"}',
        b'{"type":"data-cost","data":3}',
        b'{"type":"text-start","id":"1"}',
        b'{"type":"text-delta","id":"1","delta":"!"}',
        b'{"type":"text-end","id":"1"}',
        b'{"type":"finish"}',
    ]
    assert end.cursor is not None
    assert end.cursor.seq == 9
    assert (end.id, end.status, end.text, end.is_whole) == ("answer", "finished", "Hello you!", True)
    assert source.closed


@pytest.mark.parametrize(
    ("end", "stored"),
    [
        (Finish(finish_reason="length"), b'{"type":"finish","finishReason":"length"}'),
        ({"type": "error", "errorText": "overloaded", "code": "x"}, None),
        (Abort(reason="stopped"), b'{"type":"abort","reason":"stopped"}'),
    ],
)
async def test_a_terminal_event_of_the_iterator_is_the_end(
    broadcaster: Broadcaster, connection: LogConnection, end: Any, stored: bytes | None
):
    source = Source("a", end, "never asked for")
    await broadcaster.publish(source, id="answer")
    events = renumbered(await raw_events(connection, "answer"))
    assert events[-2] == b'{"type":"text-end","id":"0"}'
    assert events[-1] == (stored or b'{"type":"error","errorText":"overloaded","code":"x"}')
    assert (source.requested, source.closed > 0) == (2, True)


async def test_a_failing_iterator_is_an_error_in_the_log_and_its_exception_is_raised(
    broadcaster: Broadcaster, connection: LogConnection
):
    source = Source("half an", fault=ValueError("secret"))
    with pytest.raises(ValueError, match="secret"):
        await broadcaster.publish(source, id="answer")
    events = renumbered(await raw_events(connection, "answer"))
    assert events[1] == b'{"type":"text-delta","id":"0","delta":"half an"}'
    assert b'"code":"publisher_failed"' in events[-1]
    assert b"secret" not in events[-1]
    assert source.closed


async def test_an_event_that_cannot_be_published_ends_the_answer_with_an_error(
    broadcaster: Broadcaster, connection: LogConnection
):
    source = Source("a", {"type": "hub.bye"}, "b")
    with pytest.raises(InvalidEvent):
        await broadcaster.publish(source, id="answer")
    assert b'"code":"publisher_failed"' in (await raw_events(connection, "answer"))[-1]
    assert source.closed


async def test_a_full_stream_stops_its_iterator(broadcaster: Broadcaster, connection: LogConnection):
    produced = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal produced
        while True:
            produced += 1
            yield "word "
            await asyncio.sleep(0)

    with pytest.raises(StreamFull):
        async with asyncio.timeout(DEADLINE_S):
            await broadcaster.publish(endless(), id="answer", max_events=10)
    assert b'"code":"stream_full"' in (await raw_events(connection, "answer"))[-1]
    requested = produced
    await asyncio.sleep(0)
    assert produced == requested


async def test_an_id_that_is_taken_closes_the_iterator_unasked(broadcaster: Broadcaster):
    await broadcaster.publish(Source("a"), id="answer")
    source = Source("b")
    with pytest.raises(StreamExists, match="if_exists"):
        await broadcaster.publish(source, id="answer", max_events=5)
    assert (source.requested, source.closed > 0) == (0, True)


async def test_options_that_are_refused_close_the_iterator_unasked(broadcaster: Broadcaster):
    source = Source("a")
    with pytest.raises(InvalidInput):
        await broadcaster.publish(source, id="answer", max_events=-1)
    assert (source.requested, source.closed > 0) == (0, True)


async def test_a_fast_iterator_waits_for_the_log(broadcaster: Broadcaster, connection: LogConnection):
    count = 12_000  # more than a writer's buffer holds

    async def fast() -> AsyncIterator[Any]:
        for number in range(count):
            yield {"type": "data-n", "data": number}

    async with asyncio.timeout(60):
        end = await broadcaster.publish(fast(), id="answer")
    assert end.cursor is not None
    assert end.cursor.seq == count + 1
    events = await raw_events(connection, "answer")
    assert events[:-1] == [b'{"type":"data-n","data":%d}' % number for number in range(count)]


async def test_a_task_continues_without_a_reference_to_it(broadcaster: Broadcaster, connection: LogConnection):
    broadcaster.publish_nowait(Source("a"), id="answer")
    assert (await until_in_the_log(connection, "answer", 4))[-1] == b'{"type":"finish"}'
    await until(lambda: broadcaster.statistics().publishing == 0)


async def test_a_failure_of_a_task_is_seen_on_it_and_ends_the_stream(
    broadcaster: Broadcaster, connection: LogConnection
):
    task = broadcaster.publish_nowait(Source("a", fault=ValueError("mine")), id="answer")
    with pytest.raises(ValueError, match="mine"):
        await task.result()
    assert b'"code":"publisher_failed"' in (await raw_events(connection, "answer"))[-1]


async def test_a_cancelled_caller_lets_its_iterator_go_and_aborts(broadcaster: Broadcaster, connection: LogConnection):
    source = Source("a", waits=True)
    task = asyncio.create_task(broadcaster.publish(source, id="answer"))
    await until_in_the_log(connection, "answer", 2)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert (await raw_events(connection, "answer"))[-1] == b'{"type":"abort","reason":"cancelled"}'
    assert source.closed


async def test_closing_waits_for_what_ends_by_itself_and_aborts_the_rest(connection: LogConnection):
    broadcaster = Broadcaster.from_url(connection.url)
    slow, endless = asyncio.Event(), Source("a", waits=True)

    async def ends() -> AsyncIterator[str]:
        yield "a"
        await slow.wait()
        yield "b"

    broadcaster.publish_nowait(ends(), id="ends")
    broadcaster.publish_nowait(endless, id="endless")
    await until_in_the_log(connection, "ends", 2)
    await until_in_the_log(connection, "endless", 2)
    closing = asyncio.create_task(broadcaster.aclose(drain_s=0.3))
    slow.set()
    await closing
    assert (await raw_events(connection, "ends"))[-1] == b'{"type":"finish"}'
    assert (await raw_events(connection, "endless"))[-1] == b'{"type":"abort","reason":"cancelled"}'
    assert broadcaster.statistics() == (0, 0, 0)


async def test_a_viewer_that_watches_and_leaves_changes_nothing(broadcaster: Broadcaster, connection: LogConnection):
    more = asyncio.Event()

    async def answer() -> AsyncIterator[str]:
        yield "a"
        await more.wait()
        yield "b"

    task = broadcaster.publish_nowait(answer(), id="answer")
    async for event in broadcaster.events("answer", wait_s=DEADLINE_S):
        if event.type == "text-delta":  # type: ignore[union-attr]
            break
    more.set()
    assert (await task.result()).text == "ab"
