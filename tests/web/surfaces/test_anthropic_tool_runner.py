"""The tools loop of the Anthropic SDK, which requests a thread first, before ``POST /v1/messages``."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest

from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.testing import wire
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S

REQUEST: dict[str, Any] = {"model": "claude-x", "max_tokens": 64, "messages": [{"role": "user", "content": "Weather?"}]}
TURNS: list[Any] = [
    AnthropicDecoder().decode(b"".join(map(wire.frame, message)))
    for message in (
        wire.message(wire.tool_use("get_weather", "", '{"city": "Paris"}'), stop_reason="tool_use"),
        wire.message(wire.text("Sunny."), stop_reason="end_turn"),
    )
]


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_the_tool_runner_continues_without_a_thread(
    live_client: httpx2.AsyncClient, world: MemoryWorld, *, is_streamed: bool
) -> None:
    @anthropic.beta_async_tool
    async def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    turns = iter(TURNS)
    world.on_create = lambda id: world.append(id, *next(turns))
    options: Any = {"api_key": "any", "max_retries": 0, "timeout": DEADLINE_S}
    async with anthropic.AsyncAnthropic(base_url=str(live_client.base_url), **options) as sdk:
        runner = sdk.beta.messages.tool_runner(**REQUEST, tools=[get_weather], stream=is_streamed)
        message: Any = await runner.until_done()
        with pytest.raises(anthropic.BadRequestError) as caught:
            await sdk.beta.messages.create(**REQUEST, extra_body={"thread": {"type": "create"}})
    assert [block.text for block in message.content] == ["Sunny."]
    result = world.requests[1].request["messages"][2]["content"][0]
    assert (result["type"], result["content"]) == ("tool_result", "sunny in Paris")
    assert len(world.requests) == 2
    details = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    refused: Any = caught.value.body
    assert (refused["error"]["type"], refused["error"]["details"]) == ("invalid_request_error", details)
