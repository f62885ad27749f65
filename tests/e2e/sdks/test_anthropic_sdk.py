"""The Anthropic SDK, unchanged, before a front-end, Redis, a worker and a provider: all real but the last."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest

from broadcaster.client import AsyncClient
from broadcaster.testing import Conversation, ScriptedProvider, wire
from tests.support.servers.processes import Stack

MODEL = "claude-scripted"
DEADLINE_S = 20.0
BODY: dict[str, Any] = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "why?"}]}
ONCE = {"idempotency-key": "once"}


@asynccontextmanager
async def open_sdk(url: str, **options: Any) -> AsyncIterator[anthropic.AsyncAnthropic]:
    given = {"api_key": "none", "max_retries": 0, "timeout": DEADLINE_S, **options}
    async with anthropic.AsyncAnthropic(base_url=url, **given) as sdk, asyncio.timeout(2 * DEADLINE_S):
        yield sdk


async def test_the_sdk_reads_the_same_answer_through_us_and_from_the_provider(
    front_end_url: str, scripted: ScriptedProvider
) -> None:
    extended: dict[str, Any] = BODY | {
        "system": [{"type": "text", "text": "be brief"}],
        "tools": [{"name": "get_weather", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop_sequences": ["###"],
    }
    accepted, bodies = [], []
    for url in (front_end_url, scripted.base_url):
        playing = asyncio.create_task(_answer(scripted.conversation(MODEL)))
        async with open_sdk(url) as sdk, sdk.messages.stream(**extended) as stream:
            accepted.append((await stream.get_final_message()).model_dump())
        bodies.append(await playing)
    assert accepted[0] == accepted[1]
    assert accepted[0]["stop_reason"] == "tool_use"
    assert bodies[0] == bodies[1]


async def _answer(conversation: Conversation) -> Any:
    """Stream a bit of everything; the request that was sent."""
    request = await conversation.request()
    await conversation.send_reasoning("Let me ", "see.")
    await conversation.send_text("It ")
    await conversation.send_text("is.")
    await conversation.send_block(wire.server_tool_use("web_search", '{"query":"a"}'))
    await conversation.send_block(wire.tool_result("web_search_tool_result", []))
    await conversation.send_tool("get_weather", "", '{"city": ', '"Paris"}')
    await conversation.finish()
    return request.body


async def test_a_stop_from_anywhere_ends_the_message_with_what_there_is(
    front_end_url: str, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    beginning = asyncio.create_task(conversation.send_text("half an ans"))  # the head of a stream waits for content
    async with open_sdk(front_end_url) as sdk, sdk.messages.stream(**BODY) as stream:
        await beginning
        assert await anext(stream.text_stream) == "half an ans"
        async with AsyncClient(front_end_url) as client:
            await client.stop(stream.response.headers["broadcaster-generation-id"])
        message = await stream.get_final_message()
    assert (message.stop_reason, message.content[0].type) == ("cancelled", "text")


async def test_a_worker_that_is_killed_is_an_error_and_a_retry_returns_the_whole_answer(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    worker = await stack.worker()
    front_end = await stack.front_end()
    torn = scripted.conversation(MODEL)
    beginning = asyncio.create_task(torn.send_text("torn "))
    async with open_sdk(front_end.url) as sdk:
        async with sdk.messages.stream(**BODY, extra_headers=ONCE) as stream:
            await beginning
            assert await anext(stream.text_stream) == "torn "
            worker.signal(signal.SIGKILL)
            whole = scripted.conversation(MODEL)
            await stack.worker()
            with pytest.raises(anthropic.APIStatusError) as caught:
                await stream.get_final_message()
        assert caught.value.type == "overloaded_error"
        async with sdk.messages.stream(**BODY, extra_headers=ONCE) as stream:
            await whole.send_text("whole")
            await whole.finish()
            assert await stream.get_final_text() == "whole"
        assert (await sdk.messages.create(**BODY, extra_headers=ONCE)).content[0].type == "text"
