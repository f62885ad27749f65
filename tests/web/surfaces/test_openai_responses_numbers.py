"""``GET /v1/responses/{id}?stream=true&starting_after=N`` through the OpenAI SDK, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx2
import openai
import pytest

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.openai_responses.encode import ResponsesTranscript
from broadcaster.web.services import Services
from tests.support.memory.memory_world import NOW_MS, MemoryWorld
from tests.support.servers.front_end import DEADLINE_S, until_watched
from tests.web.surfaces.test_openai_responses import BEGIN, END, HELLO, answering, collect


async def test_fifty_clients_that_resume_after_fifty_numbers_cost_a_few_passes_through_the_log(
    live_client: httpx2.AsyncClient, world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [ev.TextDelta(id="0", delta=f"word {at} ") for at in range(4_000)]
    world.add("gen_0001")
    world.append("gen_0001", *BEGIN, *texts, *END)
    encoded, encode = 0, ResponsesTranscript.encode

    def counting(transcript: ResponsesTranscript, entries: Sequence[Entry]) -> bytes:
        nonlocal encoded
        encoded += len(entries)
        return encode(transcript, entries)

    monkeypatch.setattr(ResponsesTranscript, "encode", counting)

    async def rest(after: int) -> bytes:
        path = f"/v1/responses/resp_gen_0001?stream=true&starting_after={after}"
        return (await live_client.get(path, timeout=DEADLINE_S)).content

    everything = (await rest(-1)).split(b"\n\n")
    encoded = 0
    numbers = range(20, 4_000, 80)
    result = await asyncio.gather(*map(rest, numbers))
    assert [each.split(b"\n\n") for each in result] == [everything[after + 1 :] for after in numbers]
    assert encoded <= 2 * len(world.streams["gen_0001"].entries)


async def test_a_number_that_no_event_of_a_complete_response_has_is_refused(
    sdk: openai.AsyncOpenAI, world: MemoryWorld
) -> None:
    answering(world, *HELLO, *END)
    response = await sdk.responses.create(input="Hi", model="local", background=True)
    newest = (await collect(sdk.responses.retrieve(response.id, stream=True)))[-1].sequence_number
    assert await collect(sdk.responses.retrieve(response.id, stream=True, starting_after=newest)) == []
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk.responses.retrieve(response.id, stream=True, starting_after=newest + 1)
    assert refused.value.param == "starting_after"


async def test_a_number_ahead_of_an_open_response_may_be_retried(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, services: Services
) -> None:
    answering(world, *HELLO)
    response = await sdk.responses.create(input="Hi", model="local", background=True)
    with pytest.raises(openai.InternalServerError) as later:
        await sdk.responses.retrieve(response.id, stream=True, starting_after=6)
    assert later.value.status_code == 503
    assert later.value.code == "log_unavailable"
    headers = later.value.response.headers
    assert (headers["retry-after"], headers["x-should-retry"]) == ("1", "true")
    assert not services.hub.viewers().get("gen_0001")


async def test_a_number_whose_event_redis_lost_is_waited_for(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, services: Services
) -> None:
    """The worker resends the same entries, under the same epoch."""
    answering(world, *HELLO)
    response = await sdk.responses.create(input="Hi", model="local", background=True)
    world.streams["gen_0001"].entries = world.streams["gen_0001"].entries[:2]
    pending = asyncio.create_task(collect(sdk.responses.retrieve(response.id, stream=True, starting_after=5)))
    await until_watched(services, "gen_0001")
    world.append("gen_0001", *HELLO[2:], *END)
    events = await pending
    assert [event.sequence_number for event in events] == [6, 7, 8, 9]
    assert events[-1].response.output_text == "Hello world"


@pytest.mark.parametrize("kept", range(6))
async def test_a_client_that_joins_deltas_ends_with_the_newer_history_wherever_it_was_cut_off(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, kept: int
) -> None:
    world.add("gen_0001").epoch = NOW_MS
    world.append("gen_0001", *HELLO, ev.TextDelta(id="0", delta=", and what was lost"))
    async with await sdk.responses.retrieve("resp_gen_0001", stream=True, starting_after=-1) as stream:
        received = [await anext(stream) for _ in range(7)]
    world.lose_tail("gen_0001", kept)
    world.streams["gen_0001"].epoch = NOW_MS + 2_000
    texts = [ev.TextDelta(id="0", delta=expected_text) for expected_text in ("Good ", "morning ", "to ", "you ", "all")]
    world.append("gen_0001", ev.Attempt(attempt=2), *BEGIN, *texts, *END)
    for at, last in enumerate(received, 1):
        number, text = last.sequence_number, ""
        rest = await collect(sdk.responses.retrieve("resp_gen_0001", stream=True, starting_after=number))
        for event in (*received[:at], *rest):
            if event.type == "response.in_progress":
                text = ""
            elif event.type == "response.output_text.delta":
                text += event.delta
        assert text == event.response.output_text == "Good morning to you all"


@pytest.mark.parametrize("query", [{}, {"stream": True}, {"stream": True, "starting_after": 4}], ids=str)
async def test_a_log_that_may_be_rewritten_is_unavailable_and_not_unknown(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, query: dict[str, Any]
) -> None:
    """By meta the response is over, Redis lost its log a moment ago, and its worker has it still."""
    world.add("gen_0001")
    world.append("gen_0001", *HELLO, *END)
    world.expire("gen_0001")
    world.is_steady = False
    calls = [sdk.responses.retrieve("resp_gen_0001", **query)]
    if not query:
        calls.append(sdk.responses.create(input="Hi", model="local", previous_response_id="resp_gen_0001"))
    for call in calls:
        with pytest.raises(openai.InternalServerError) as later:
            await call
        assert (later.value.status_code, later.value.code) == (503, "log_unavailable")
        headers = later.value.response.headers
        assert (headers["retry-after"], headers["x-should-retry"]) == ("1", "true")
