"""A tee gives the program its chunks unchanged, and publishes them; leaving it ends the stream as the program chose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broadcaster import Broadcaster
from broadcaster.errors import InvalidInput, ProviderFailed, StreamExists
from broadcaster.library.sources.tee import BUFFER_ITEMS
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Conversation, Script, ScriptedProvider, Send, chat_wire
from tests.library.sources.sdk_streams import CALLS
from tests.library.support import DEADLINE_S, raw_events, until_in_the_log
from tests.support.log.log_world import until

CHAT = CALLS[0]


class Words:
    """A source that waits for its gate after two words, and notes its close."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.is_closed = False

    async def words(self) -> AsyncIterator[str]:
        try:
            yield "a"
            yield "b"
            await self.gate.wait()
            yield "c"
        finally:
            self.is_closed = True


async def test_the_chunks_of_an_sdk_are_yielded_unchanged_while_they_are_published(
    broadcaster: Broadcaster, connection: LogConnection
):
    script = Script(Send(*chat_wire.answer(chat_wire.text("It is ", "warm."))))
    async with ScriptedProvider(default=script) as server, CHAT.opened(server.base_url) as stream:
        tee = broadcaster.tee(stream, metadata={"chat": 1})
        chunks = [chunk async for chunk in tee]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "It is warm."
    assert chunks[-1].usage.completion_tokens == 12
    result = await tee.result()
    assert (result.text, result.finish_reason) == ("It is warm.", "stop")
    assert (await raw_events(connection, tee.id))[-1].startswith(b'{"type":"finish","finishReason":"stop"')
    assert tee.id in tee.events_url


@pytest.mark.parametrize("way", ["break", "exception", "cancellation", "block"])
async def test_leaving_early_closes_the_source_and_aborts_the_stream(
    broadcaster: Broadcaster, connection: LogConnection, way: str
):
    source = Words()
    tee = broadcaster.tee(source.words(), id="answer")
    if way == "block":
        async with tee:
            pass
    elif way == "cancellation":
        task = asyncio.create_task(_read(tee))
        await until_in_the_log(connection, "answer", 3)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    else:
        await _leave(tee, way)
    await until(lambda: broadcaster.statistics().publishing == 0)
    if way != "block":  # where nothing may have been written yet
        events = await raw_events(connection, "answer")
        assert events[-1] == b'{"type":"abort","reason":"stopped"}'
        assert source.is_closed


async def _read(tee: Any) -> None:
    async for _ in tee:
        pass


async def _leave(tee: Any, way: str) -> None:
    try:
        async for word in tee:
            if word == "b":
                if way == "break":
                    break
                raise ValueError("mine")
    except ValueError:
        pass


async def test_a_left_loop_that_continues_publishes_the_rest(broadcaster: Broadcaster, connection: LogConnection):
    source = Words()
    tee = broadcaster.tee(source.words(), id="answer", on_leave="continue")
    await _leave(tee, "break")
    source.gate.set()
    assert (await tee.result()).text == "abc"
    assert (await raw_events(connection, "answer"))[-1] == b'{"type":"finish"}'


async def test_the_loop_raises_what_the_source_raises_after_all_its_chunks(
    broadcaster: Broadcaster, connection: LogConnection
):
    composer = chat_wire.ChatComposer()
    script = Script(Send(*composer.start(), *composer.text("half")))
    seen = 0
    async with ScriptedProvider(default=script) as server, CHAT.opened(server.base_url) as stream:
        with pytest.raises(ProviderFailed, match="terminal event"):
            async for chunk in broadcaster.tee(stream, id="answer"):
                seen += len(chunk.choices)
    assert seen == 2
    assert b'"code":"provider_truncated"' in (await raw_events(connection, "answer"))[-1]


async def test_the_loop_raises_that_the_id_is_taken(broadcaster: Broadcaster):
    await broadcaster.publish(["a"], id="answer")
    with pytest.raises(StreamExists):
        async with asyncio.timeout(DEADLINE_S):
            await _read(broadcaster.tee(["b"], id="answer"))


async def test_a_tee_may_replace_the_stream_of_its_id(broadcaster: Broadcaster, connection: LogConnection):
    await broadcaster.publish(["a"], id="answer")
    words = [word async for word in broadcaster.tee(["b"], id="answer", if_exists="replace")]
    assert words == ["b"]
    assert (await broadcaster.read("answer")).text == "b"


@pytest.mark.parametrize(("choice", "reason"), [("join", "use publish_nowait"), ("keep", '"fail" or "replace"')])
async def test_a_choice_that_a_tee_cannot_keep_is_refused_before_anything_is_read(
    broadcaster: Broadcaster, choice: Any, reason: str
):
    with pytest.raises(InvalidInput, match=reason):
        broadcaster.tee(["a"], id="answer", if_exists=choice)
    assert broadcaster.statistics().publishing == 0


async def test_a_loop_that_is_slow_slows_the_source(broadcaster: Broadcaster):
    produced = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal produced
        while True:
            produced += 1
            yield "word "

    tee = broadcaster.tee(endless())
    await until(lambda: produced > BUFFER_ITEMS)
    for _ in range(100):
        await asyncio.sleep(0)
    assert produced == BUFFER_ITEMS + 1
    await tee.aclose()


async def test_another_word_for_leaving_is_refused(broadcaster: Broadcaster):
    with pytest.raises(ValueError, match='"abort" or "continue", not "stop"'.replace('"stop"', "'stop'")):
        broadcaster.tee(["a"], on_leave="stop")  # type: ignore[arg-type]


async def test_a_live_sdk_stream_that_is_left_is_closed_at_the_provider(broadcaster: Broadcaster):
    conversation = Conversation()
    async with ScriptedProvider(default=Script(conversation.as_step())) as server:
        sending = asyncio.create_task(conversation.send_text("half "))
        async with CHAT.opened(server.base_url) as stream:
            await sending
            async for chunk in broadcaster.tee(stream):
                if chunk.choices and chunk.choices[0].delta.content:
                    break
            await (await conversation.request()).wait_disconnected(DEADLINE_S)
