"""The end of an answer: what is whole stays whole whatever happens after its last content, and nothing else is."""

import asyncio
from typing import cast

import pytest

from broadcaster.core import events as ev
from broadcaster.testing import Cut, Gate, Hang, Reset, Script, Send, SendRaw, Step, Wait, chat_wire, responses_wire
from tests.support.log.log_world import until
from tests.worker.providers.provider_support import (
    CHAT,
    RESPONSES,
    Wire,
    collect,
    failing,
    on_every_wire,
    request_for,
    scripted,
    text_of,
)
from worker.providers import wire_stream
from worker.providers.base import ProviderStream
from worker.providers.wire_stream import WireStream

CHUNKS = chat_wire.answer(chat_wire.text("the whole ", "answer"), usage=chat_wire.counts(completion_tokens=7))
WITHOUT_COUNTS = Send(*CHUNKS[:-2])
WITH_COUNTS = Send(*CHUNKS[:-1])


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_stream, "WHOLE_TIMEOUT_S", 0.05)


async def answer(*steps: Step, read_timeout_s: float = 60.0) -> tuple[str, ev.Usage, ev.Event]:
    """Text, counts and end of a chat by this script."""
    async with scripted(CHAT, read_timeout_s=read_timeout_s) as (server, provider):
        server.script("m", Script(*steps))
        async with asyncio.timeout(20):
            events = await collect(provider, request_for("m"))
        if isinstance(steps[-1], Hang):  # a test that leaves a server before its end must release it
            await server.requests[0].wait_disconnected()
    (usage,) = [event for event in events if isinstance(event, ev.Usage)]
    return text_of(events), usage, events[-1]


@pytest.mark.parametrize("steps", [(), (Cut(),), (Reset(),)], ids=["end", "cut", "reset"])
async def test_a_cut_after_the_last_content_costs_the_counts_and_not_the_answer(steps: tuple[Step, ...]):
    text, usage, last = await answer(WITHOUT_COUNTS, *steps)
    assert text == "the whole answer"
    assert usage.estimated
    assert isinstance(last, ev.Finish)
    assert last.finish_reason == "stop"


async def test_silence_after_the_last_content_is_no_timeout():
    text, usage, last = await answer(WITHOUT_COUNTS, Hang(), read_timeout_s=1)
    assert (text, usage.estimated) == ("the whole answer", True)
    assert isinstance(last, ev.Finish)


@pytest.mark.parametrize("step", [Cut(), Reset()])
async def test_a_cut_before_the_done_line_costs_nothing(step: Step):
    text, usage, last = await answer(WITH_COUNTS, step)
    assert (text, usage.output_tokens, usage.estimated) == ("the whole answer", 7, False)
    assert isinstance(last, ev.Finish)


@pytest.mark.usefixtures("short_wait")
async def test_an_end_that_dawdles_is_not_waited_for():
    text, usage, last = await answer(WITHOUT_COUNTS, Hang())
    assert (text, usage.estimated) == ("the whole answer", True)
    assert isinstance(last, ev.Finish)


@pytest.mark.usefixtures("short_wait")
async def test_a_server_that_only_talks_on_does_not_prolong_the_wait():
    text, _, _ = await answer(WITHOUT_COUNTS, *[SendRaw(b": still here\n\n")] * 3, Hang())
    assert text == "the whole answer"


async def test_content_after_an_early_finish_reason_begins_the_wait_anew(monkeypatch: pytest.MonkeyPatch):
    """The first wait would last for a minute, the new one is short."""
    monkeypatch.setattr(wire_stream, "WHOLE_TIMEOUT_S", 60.0)
    gate, reason = Gate(), chat_wire.chunk({}, finish_reason="stop")
    early = Send(chat_wire.role_chunk(), chat_wire.text_delta("the "), reason)
    async with scripted(CHAT, read_timeout_s=90) as (server, provider):
        server.script("m", Script(early, Wait(gate), Send(chat_wire.text_delta("whole answer")), Hang()))
        async with asyncio.timeout(20), provider.stream(request_for("m")) as stream:
            reading = asyncio.create_task(_read(stream))
            await until(lambda: cast("WireStream", stream)._whole_until is not None)
            monkeypatch.setattr(wire_stream, "WHOLE_TIMEOUT_S", 0.05)
            gate.open()
            events = await reading
        await server.requests[0].wait_disconnected()
    assert text_of(events) == "the whole answer"
    assert isinstance(events[-1], ev.Finish)


async def _read(stream: ProviderStream) -> list[ev.Event]:
    return [event async for events in stream for event in events]


async def test_a_late_end_that_comes_in_time_brings_its_counts():
    gate = Gate()
    async with scripted(CHAT) as (server, provider):
        server.script("m", Script(WITHOUT_COUNTS, Wait(gate), Send(*CHUNKS[-2:])))
        reading = asyncio.create_task(collect(provider, request_for("m")))
        await gate.wait_reached()
        gate.open()
        (usage,) = [event for event in await reading if isinstance(event, ev.Usage)]
    assert (usage.output_tokens, usage.estimated) == (7, False)


async def test_a_stop_while_the_end_is_waited_for_closes_the_socket():
    gate = Gate()
    async with scripted(CHAT) as (server, provider):
        server.script("m", Script(WITHOUT_COUNTS, Wait(gate)))
        reading = asyncio.create_task(collect(provider, request_for("m")))
        await gate.wait_reached()
        reading.cancel()
        await asyncio.wait([reading])
        await server.requests[0].wait_disconnected()


async def test_a_response_is_whole_with_its_terminal_event_alone():
    events = responses_wire.answer(responses_wire.text("the whole ", "answer"))
    for steps, reason in (((), "provider_truncated"), ((Cut(),), "provider_disconnected")):
        async with scripted(RESPONSES) as (server, provider):
            server.script("m", Script(Send(*events[:-1]), *steps))
            failure, seen = await failing(provider, request_for("m"))
        assert failure.reason == reason
        assert text_of(seen) == "the whole answer"


@on_every_wire
async def test_an_answer_is_over_at_its_terminal_event_even_if_the_body_never_ends(on: Wire):
    gate = Gate()
    async with scripted(on, read_timeout_s=60) as (server, provider):
        server.script("m", Script(SendRaw(on.frames("all")), Wait(gate)))
        async with asyncio.timeout(20):
            assert text_of(await collect(provider, request_for("m"))) == "all"
        assert await server.requests[0].wait_disconnected()
