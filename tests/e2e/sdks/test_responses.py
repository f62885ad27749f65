"""The Responses API through the OpenAI SDK, in front of real processes: two front-ends, workers, a Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import openai
import pytest

from broadcaster.testing import ScriptedProvider
from tests.support.servers.processes import Stack

DEADLINE_S = 20.0
WIRES = {"claude-scripted": "anthropic", "gpt-chat": "openai", "gpt-responses": "openai-responses"}
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@asynccontextmanager
async def sdk(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    http_client = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=DEADLINE_S, http_client=http_client
    ) as client:
        yield client


@pytest.fixture
async def urls(stack: Stack, scripted: ScriptedProvider) -> tuple[str, str]:
    """Two front-ends with one worker behind them, which calls the scripted provider on all wires."""
    variables = {"OPENAI_BASE_URL": scripted.openai_base_url, "OPENAI_API_KEY": "openai-test-key"}
    known = replace(stack, environment={**stack.environment, **variables})
    routes = json.dumps(WIRES)
    await known.worker(routes=routes)
    return (await known.front_end(routes=routes)).url, (await known.front_end(routes=routes)).url


@pytest.mark.parametrize("model", WIRES)
async def test_any_model_answers_as_a_response_and_its_call_is_answered(
    urls: tuple[str, str], scripted: ScriptedProvider, model: str
) -> None:
    conversation = scripted.conversation(model)
    async with sdk(urls[0]) as client, asyncio.TaskGroup() as tasks:
        resuming = tasks.create_task(
            client.responses.create(model=model, input="Weather?", tools=[WEATHER], tool_choice="required")
        )
        await conversation.send_text("I look.")
        await conversation.send_tool("get_weather", '{"city":', '"Paris"}')
        await conversation.finish()
        first = await resuming
    text, call = first.output
    assert (text.type, call.type, first.output_text) == ("message", "function_call", "I look.")
    assert call.type == "function_call"
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    async with sdk(urls[1]) as client:
        second = await client.responses.create(
            model=model, input=[output], previous_response_id=first.id, tools=[WEATHER]
        )
    assert (second.status, second.output_text) == ("completed", "Hello world.")
    assert "sunny" in json.dumps(scripted.requests[-1].body)


async def test_a_stream_goes_on_at_another_front_end_by_its_number(
    urls: tuple[str, str], scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation("claude-scripted")
    async with sdk(urls[0]) as one, sdk(urls[1]) as other:
        response = await one.responses.create(model="claude-scripted", input="Hi", background=True)
        await conversation.send_text("Hello ")
        received: list[Any] = []
        async with await one.responses.retrieve(response.id, stream=True) as stream:
            async for event in stream:
                received.append(event)
                if event.type == "response.output_text.delta":
                    break
        rest = await other.responses.retrieve(response.id, stream=True, starting_after=received[-1].sequence_number)
        await conversation.send_text("again")
        await conversation.finish()
        received += [event async for event in rest]
        everything = [
            event async for event in await one.responses.retrieve(response.id, stream=True, starting_after=-1)
        ]
    assert [event.to_dict() for event in received] == [event.to_dict() for event in everything]
    assert received[-1].response.output_text == "Hello again"


async def test_a_background_response_is_cancelled_in_a_tool_call_from_another_front_end(
    urls: tuple[str, str], scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation("claude-scripted")
    async with sdk(urls[0]) as one, sdk(urls[1]) as other:
        response = await one.responses.create(model="claude-scripted", input="Hi", background=True, tools=[WEATHER])
        await conversation.send_text("Let me ")
        async with await one.responses.retrieve(response.id, stream=True) as stream:
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break
            cancelled = await other.responses.cancel(response.id)
            ended = [event async for event in stream][-1]
        assert (cancelled.status, ended.type) == ("cancelled", "response.incomplete")
        assert (await one.responses.cancel(response.id)).status == "cancelled"


async def test_a_response_whose_worker_is_killed_is_restarted_by_another_and_not_doubled(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    torn, whole = (scripted.conversation("claude-scripted") for _ in range(2))
    worker = await stack.worker(lease_ttl_s=1)
    url = (await stack.front_end(lease_ttl_s=1)).url
    async with sdk(url) as client:
        response = await client.responses.create(model="claude-scripted", input="Hi", background=True)
        await torn.send_text("Hello ")
        async with client.responses.stream(response_id=response.id) as stream:
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break
            await worker.kill()
            await stack.worker(lease_ttl_s=1)
            await whole.send_text("Hello again.")
            await whole.finish()
            final = await stream.get_final_response()
    assert (final.status, final.output_text) == ("completed", "Hello again.")


async def test_a_response_whose_worker_is_killed_for_good_has_failed(stack: Stack, scripted: ScriptedProvider) -> None:
    conversation = scripted.conversation("claude-scripted")
    settings = {"lease_ttl_s": 1, "stall_timeout_s": 1.5}
    worker = await stack.worker(**settings)
    url = (await stack.front_end(**settings)).url
    async with sdk(url) as client:
        beginning = asyncio.create_task(conversation.send_text("Hello "))
        stream = await client.responses.create(model="claude-scripted", input="Hi", stream=True)
        await beginning
        received: list[Any] = []
        with pytest.raises(openai.APIError) as failed:
            async for event in stream:
                received.append(event)
                if event.type == "response.output_text.delta":
                    await worker.kill()
        assert failed.value.code == "worker_lost"
        kept = await client.responses.retrieve(received[0].response.id)
    assert (kept.status, kept.error and kept.error.code) == ("failed", "worker_lost")
