"""What can be published, what is refused with which words, and that every source is closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from broadcaster import Broadcaster
from broadcaster.errors import StreamExists
from broadcaster.library.sources.opening import open_source
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import chat_wire
from tests.library.support import DEADLINE_S, raw_events, renumbered, until_in_the_log

TEXT = [
    b'{"type":"text-start","id":"0"}',
    b'{"type":"text-delta","id":"0","delta":"a"}',
    b'{"type":"text-delta","id":"0","delta":"b"}',
    b'{"type":"text-end","id":"0"}',
    b'{"type":"finish"}',
]

WHOLE = ChatCompletion(id="x", created=0, model="m", object="chat.completion", choices=[])


def chunks(*parts: Any, id: str = "one") -> list[ChatCompletionChunk]:
    """The chunks of a whole chat completion, as the SDK gives them: without ``[DONE]``."""
    events = [event for event in chat_wire.answer(*parts, id=id) if event != chat_wire.DONE]
    return [ChatCompletionChunk.model_validate(event) for event in events]


async def _from_async(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


def _from_sync(items: list[Any]) -> Iterator[Any]:
    yield from items


@asynccontextmanager
async def _opening(items: list[Any]) -> AsyncIterator[AsyncIterator[Any]]:
    yield _from_async(items)


@contextmanager
def _opening_blocking(items: list[Any]) -> Iterator[list[Any]]:
    yield items


@pytest.mark.parametrize("create", [_from_async, _from_sync, list, iter, _opening, _opening_blocking])
async def test_texts_are_published_from_any_iterator(broadcaster: Broadcaster, connection: LogConnection, create: Any):
    await broadcaster.publish(create(["a", "b"]), id="answer")
    assert renumbered(await raw_events(connection, "answer")) == TEXT


async def _unawaited() -> AsyncIterator[str]:
    return _from_async(["a"])


@pytest.mark.parametrize(
    ("create", "words"),
    [
        (lambda: "a text", "str cannot be published.*a list with the text"),
        (lambda: b"bytes", "bytes cannot be published"),
        (lambda: {"type": "finish"}, "dict cannot be published"),
        (lambda: 7, "int cannot be published. A source is the stream of an SDK"),
        (_unawaited, "coroutine cannot be published: await it first"),
        (lambda: WHOLE, "ChatCompletion cannot be published"),
    ],
)
async def test_what_is_no_source_is_refused_with_its_type_and_the_remedy(
    broadcaster: Broadcaster, create: Any, words: str
):
    with pytest.raises(TypeError, match=words):
        await broadcaster.publish(create(), id="answer")
    with pytest.raises(TypeError, match=words):
        broadcaster.publish_nowait(create(), id="answer")


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([7], "an item of type int cannot be published. A source is"),
        ([b"a"], "an item of type bytes cannot be published: decode it to text"),
        ([WHOLE], "whole answer.*stream=True"),
        ([*chunks(chat_wire.text("a"))[:2], "b"], "a text among chunks of chat completions"),
    ],
)
async def test_an_item_that_cannot_be_published_is_named(
    broadcaster: Broadcaster, connection: LogConnection, items: list[Any], words: str
):
    with pytest.raises(TypeError, match=words):
        await broadcaster.publish(_from_async(items), id="answer")
    assert b'"code":"publisher_failed"' in (await raw_events(connection, "answer"))[-1]


async def test_a_program_that_calls_a_tool_publishes_both_answers_as_steps_of_one(
    broadcaster: Broadcaster, connection: LogConnection
):
    async def agent() -> AsyncIterator[Any]:
        for chunk in chunks(chat_wire.tool_call("get_weather", "{}", id="call_1"), id="one"):
            yield chunk
        yield {"type": "tool-output-available", "toolCallId": "call_1", "output": "21 degrees"}
        for chunk in chunks(chat_wire.text("It is warm."), id="two"):
            yield chunk

    await broadcaster.publish(agent(), id="answer")
    events = await raw_events(connection, "answer")
    types = [event.split(b'"')[3].decode() for event in events]
    assert types == [
        *("start", "start-step", "tool-input-start", "tool-input-delta", "tool-input-available"),
        *("usage", "finish-step", "tool-output-available"),
        *("start-step", "text-start", "text-delta", "text-end", "usage", "finish-step", "finish"),
    ]
    assert b'"outputTokens":12' in events[5]
    assert b'"outputTokens":24' in events[12]
    assert b'"finishReason":"stop"' in events[-1]


async def test_an_answer_that_is_stopped_has_its_counts_before_its_end(
    broadcaster: Broadcaster, connection: LogConnection
):
    async def answer() -> AsyncIterator[Any]:
        for chunk in chunks(chat_wire.text("half an answer"))[:2]:
            yield chunk
        await asyncio.Event().wait()

    publication = broadcaster.publish_nowait(answer(), id="answer")
    await until_in_the_log(connection, "answer", 4)
    await publication.stop()
    events = await raw_events(connection, "answer")
    assert events[-2] == b'{"type":"usage","outputTokens":4,"estimated":true}'
    assert events[-1] == b'{"type":"abort","reason":"stopped"}'


class Blocking:
    """A blocking stream, which waits for a gate before its second item; it notes the thread that closes it."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.closed_by: list[str] = []

    def __iter__(self) -> Iterator[str]:
        yield "a"
        self.gate.wait(DEADLINE_S)
        yield "b"

    def close(self) -> None:
        self.closed_by.append(threading.current_thread().name)


async def test_a_blocking_iterator_neither_blocks_the_loop_nor_a_stop(
    broadcaster: Broadcaster, connection: LogConnection
):
    source = Blocking()
    publication = broadcaster.publish_nowait(source, id="answer")
    await until_in_the_log(connection, "answer", 2)
    await publication.stop()
    assert (await raw_events(connection, "answer"))[-1] == b'{"type":"abort","reason":"stopped"}'
    assert source.closed_by == []
    source.gate.set()
    async with asyncio.timeout(DEADLINE_S):
        while not source.closed_by:
            await asyncio.sleep(0.01)
    assert source.closed_by == ["published iterator"]


async def test_a_blocking_iterator_that_is_never_read_is_closed(broadcaster: Broadcaster):
    await broadcaster.publish(["a"], id="answer")
    source = Blocking()
    with pytest.raises(StreamExists):
        await broadcaster.publish(source, id="answer", max_events=5)
    assert source.closed_by == ["published iterator"]


async def test_a_failure_of_a_blocking_iterator_is_raised():
    def fails() -> Iterator[str]:
        yield "a"
        raise ValueError("mine")

    source = open_source(fails())
    assert await anext(source) == "a"
    with pytest.raises(ValueError, match="mine"):
        await anext(source)
    await source.aclose()


@pytest.mark.parametrize("error", [SystemExit("no key"), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
async def test_a_blocking_iterator_that_exits_aborts_its_stream_and_leaves_the_loop_to_others(
    broadcaster: Broadcaster, connection: LogConnection, error: BaseException
):
    def exits() -> Iterator[str]:
        yield "a"
        raise error

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(RuntimeError, match=type(error).__name__) as raised:
            await broadcaster.publish(exits(), id="answer")
    assert raised.value.__cause__ is error
    assert (await raw_events(connection, "answer"))[-1] == b'{"type":"abort","reason":"cancelled"}'


async def test_an_iterable_that_raises_stop_iteration_before_it_has_an_iterator_has_failed(broadcaster: Broadcaster):
    class Peeking:
        """Reads its first item when it is iterated; here of an empty answer."""

        def __iter__(self) -> Iterator[str]:
            return iter([next(iter(()))])

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await broadcaster.publish(Peeking())
