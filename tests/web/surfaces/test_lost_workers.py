"""A worker is lost in mid-answer: a surface that cannot take text back ends the response, and nothing comes twice."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import anthropic
import httpx2
import openai
import pytest

from broadcaster.core import events as ev
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S

REQUEST: Final[list[Any]] = [{"role": "user", "content": "why?"}]
CALLS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "chat": ("/v1/chat/completions", {"model": "local", "messages": REQUEST}),
    "messages": ("/v1/messages", {"model": "local", "max_tokens": 9, "messages": REQUEST}),
    "responses": ("/v1/responses", {"model": "local", "input": "Hi"}),
}
TORN: Final = ev.TextDelta(id="0", delta="torn")
WHOLE: Final = ev.TextDelta(id="0", delta="whole")
END: Final = ev.Finish(finish_reason="stop")


async def lose_a_worker(services: Services, world: MemoryWorld, *written: ev.KnownEvent) -> None:
    """Once a viewer is here: the first attempt writes this and dies, and the second one gives the whole answer."""
    while not services.hub.viewers():
        await asyncio.sleep(0)
    world.append("gen_0001", *written)
    await asyncio.sleep(0)
    world.take_over("gen_0001", 2)
    world.append("gen_0001", WHOLE, END)


async def streamed(client: httpx2.AsyncClient, name: str, losing: Any, **fields: Any) -> str:
    """The whole body of a streamed call over a loss."""
    path, body = CALLS[name]
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        group.create_task(losing)
        response = await client.post(path, json={**body, "stream": True, **fields}, headers={"idempotency-key": "k"})
    return response.text


@pytest.mark.parametrize("name", CALLS)
async def test_the_response_ends_with_its_error_and_every_later_reader_gets_the_whole_new_attempt(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, name: str
) -> None:
    body = await streamed(live_client, name, lose_a_worker(services, world, TORN))
    last = body.strip().split("\n\n")[-1]
    assert ("torn" in body, "whole" in body, "[DONE]" in body) == (True, False, False)
    assert "the worker that wrote this answer was lost" in last
    assert "the same request may be sent again" in last
    path, response = CALLS[name]
    for fields in ({}, {"stream": True}):
        if name == "responses" and fields:
            repeated = await live_client.get("/v1/responses/gen_0001", params={"stream": True})
        else:
            repeated = await live_client.post(path, json={**response, **fields}, headers={"idempotency-key": "k"})
        assert repeated.status_code == 200
        assert ("torn" in repeated.text, "whole" in repeated.text, "was lost" in repeated.text) == (False, True, False)


@pytest.mark.parametrize("name", CALLS)
async def test_an_attempt_that_died_before_its_text_is_followed_by_the_new_one_without_an_error(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, name: str
) -> None:
    losing = lose_a_worker(services, world, ev.Start(), ev.StartStep())
    body = await streamed(live_client, name, losing)
    assert "was lost" not in body
    assert "whole" in body
    assert any(end in body for end in ("[DONE]", "message_stop", "response.completed"))


async def test_a_response_in_the_background_restarts_on_the_same_stream(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld
) -> None:
    losing = lose_a_worker(services, world, TORN)
    body = await streamed(live_client, "responses", losing, background=True)
    before, after = body.split("torn", 1)
    assert before.count("event: response.in_progress") == after.count("event: response.in_progress") == 1
    assert "response.failed" not in body
    assert "event: response.completed" in after


OPTIONS: Final[dict[str, Any]] = {"api_key": "none", "max_retries": 0, "timeout": 6 * DEADLINE_S}


async def test_the_openai_sdk_raises_for_a_lost_worker_and_then_reads_the_whole_response(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld
) -> None:
    base = str(live_client.base_url).rstrip("/") + "/v1"
    async with asyncio.timeout(6 * DEADLINE_S), openai.AsyncOpenAI(base_url=base, **OPTIONS) as sdk:
        losing = asyncio.create_task(lose_a_worker(services, world, TORN))
        events = await sdk.responses.create(model="local", input="Hi", stream=True)
        read = []
        with pytest.raises(openai.APIError, match="was lost"):
            async for event in events:
                read.append(event)  # noqa: PERF401 - an extension would lose them at the error
        await losing
        assert [event.delta for event in read if event.type == "response.output_text.delta"] == ["torn"]
        assert read[0].type == "response.created"
        assert (await sdk.responses.retrieve(read[0].response.id)).output_text == "whole"


async def test_the_anthropic_sdk_raises_for_a_lost_worker(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld
) -> None:
    base = str(live_client.base_url)
    async with asyncio.timeout(6 * DEADLINE_S), anthropic.AsyncAnthropic(base_url=base, **OPTIONS) as claude:
        losing = asyncio.create_task(lose_a_worker(services, world, TORN))
        with pytest.raises(anthropic.APIStatusError, match="was lost"):
            async with claude.messages.stream(model="local", max_tokens=9, messages=REQUEST) as stream:
                received = [text async for text in stream.text_stream if text != "torn"]
                pytest.fail(f"read on: {received}")
        await losing
