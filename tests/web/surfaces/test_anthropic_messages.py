"""``POST /v1/messages`` on a real socket, with the Anthropic SDK as the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.errors import Busy, LogUnavailable, QueueFull, RateLimited
from broadcaster.settings import Settings
from broadcaster.testing import wire
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S, own_app, served

REQUEST: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "why?"}],
}
ANSWER = wire.message(
    wire.thinking("Let me ", "see.", signature="c2ln"),
    wire.text("It ", "is.", citations=[wire.web_citation("https://example.org/a")]),
    wire.tool_use("get_weather", "", '{"city": ', '"Paris"}'),
    stop_reason="tool_use",
    cache_read_input_tokens=7,
)
EVENTS = AnthropicDecoder().decode(b"".join(map(wire.frame, ANSWER)))

KEY = "team-key-0123456789"


@pytest.fixture
async def sdk(live_client: httpx2.AsyncClient) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with open_sdk(live_client) as opened:
        yield opened


@asynccontextmanager
async def open_sdk(live: httpx2.AsyncClient, **options: Any) -> AsyncIterator[anthropic.AsyncAnthropic]:
    given = {"api_key": "none", "max_retries": 0, "timeout": DEADLINE_S, **options}
    async with anthropic.AsyncAnthropic(base_url=str(live.base_url), **given) as opened:
        yield opened


def answer_with(world: MemoryWorld, *events: Any) -> None:
    """A worker that has answered before any viewer reads."""
    world.on_create = lambda generation_id: world.append(generation_id, *events)


# ---------------------------------------------------------------------------------------------------------- the answer


async def test_a_streamed_answer_is_the_providers_own_message(sdk: Any, world: MemoryWorld) -> None:
    answer_with(world, *EVENTS)
    async with sdk.messages.stream(**REQUEST) as stream:
        message = await stream.get_final_message()
        assert stream.response.headers["broadcaster-generation-id"] == "gen_0001"
        assert stream.request_id == stream.response.headers["request-id"]
    thinking, text, call = message.content
    assert (thinking.type, text.type, call.type) == ("thinking", "text", "tool_use")
    assert (thinking.thinking, thinking.signature) == ("Let me see.", "c2ln")
    assert (text.text, [cited.url for cited in text.citations or ()]) == ("It is.", ["https://example.org/a"])
    assert (call.name, call.input) == ("get_weather", {"city": "Paris"})
    assert (message.id, message.model, message.stop_reason) == ("msg_scripted", "claude-scripted", "tool_use")
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens) == (25, 12, 7)


async def test_a_message_waited_for_equals_the_streamed_one(sdk: Any, world: MemoryWorld) -> None:
    answer_with(world, *EVENTS)
    whole = await sdk.messages.create(**REQUEST)
    async with sdk.messages.stream(**REQUEST) as stream:
        streamed = await stream.get_final_message()
    assert isinstance(whole, anthropic.types.Message)
    result = [each.model_dump(exclude={"content": {"__all__": {"parsed_output"}}}) for each in (whole, streamed)]
    assert result[0] == result[1]
    assert whole._request_id is not None


async def test_the_answer_streams_as_it_comes(sdk: Any, world: MemoryWorld, services: Services) -> None:
    async with asyncio.timeout(DEADLINE_S), sdk.messages.stream(**REQUEST) as stream:
        texts = stream.text_stream
        world.append("gen_0001", ev.Start(message_id="msg_1"), ev.TextDelta(id="0", delta="Hello"))
        assert await anext(texts) == "Hello"
        world.append("gen_0001", ev.TextDelta(id="0", delta=" world"))
        assert await anext(texts) == " world"
        world.append("gen_0001", ev.TextEnd(id="0"), ev.Finish(finish_reason="stop"))
        assert (await stream.get_final_message()).stop_reason == "end_turn"


async def test_the_same_key_gives_the_same_answer_in_short(sdk: Any, world: MemoryWorld) -> None:
    once = {"extra_headers": {"idempotency-key": "once"}}
    async with asyncio.timeout(DEADLINE_S), sdk.messages.stream(**REQUEST, **once) as first:
        world.append("gen_0001", ev.Start(message_id="msg_1"), ev.TextDelta(id="0", delta="a"))
        world.append("gen_0001", ev.TextDelta(id="0", delta="b"))
        async with sdk.messages.stream(**REQUEST, **once) as repeated:
            async for event in repeated:
                if event.type == "text":
                    assert event.text == "ab"
                    break
            world.append("gen_0001", ev.TextDelta(id="0", delta="c"), ev.TextEnd(id="0"), ev.Finish())
            assert (await repeated.get_final_message()).content == (await first.get_final_message()).content
    assert len(world.requests) == 1


async def test_a_stopped_generation_is_reported_as_cancelled(sdk: Any, world: MemoryWorld) -> None:
    answer_with(world, ev.TextStart(id="0"), ev.TextDelta(id="0", delta="half"), ev.Abort(reason="stopped"))
    async with sdk.messages.stream(**REQUEST) as stream:
        message = await stream.get_final_message()
    whole = await sdk.messages.create(**REQUEST)
    for each in (message, whole):
        assert ([block.text for block in each.content], each.stop_reason) == (["half"], "cancelled")


async def test_a_stop_is_an_error_for_clients_that_know_only_the_apis_reasons(sdk: Any, world: MemoryWorld) -> None:
    answer_with(world, ev.TextStart(id="0"), ev.TextDelta(id="0", delta="half"), ev.Abort(reason="stopped"))
    headers = {"extra_headers": {"broadcaster-cancelled-as": "error"}}
    with pytest.raises(anthropic.APIStatusError, match="stopped"):
        async with sdk.messages.stream(**REQUEST, **headers) as stream:
            await stream.get_final_message()
    with pytest.raises(anthropic.InternalServerError, match="stopped"):
        await sdk.messages.create(**REQUEST, **headers)


# --------------------------------------------------------------------------------------------------------- the request


async def test_the_whole_request_reaches_the_log(sdk: Any, world: MemoryWorld) -> None:
    answer_with(world, *EVENTS)
    request_body: dict[str, Any] = {
        "max_tokens": 7,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "look", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sunny"}]},
        ],
        "system": [{"type": "text", "text": "be brief"}],
        "tools": [
            {"name": "f", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
        ],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop_sequences": ["###"],
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
    }
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 4}
    await sdk.messages.create(model="claude-x", **request_body, extra_body=sampling)
    (response,) = world.requests
    version = {
        "surface": {"name": "messages", "headers": {"anthropic-version": sdk.default_headers["anthropic-version"]}}
    }
    assert (response.model, dict(response.request)) == ("claude-x", request_body | sampling | version)
    assert response.on_abandon == "cancel"


async def test_betas_and_an_unusual_version_are_stored_and_no_other_header(sdk: Any, world: MemoryWorld) -> None:
    answer_with(world, *EVENTS)
    result = {"anthropic-version": "2024-01-01", "anthropic-dangerous": "x", "x-other": "y"}
    await sdk.beta.messages.create(**REQUEST, betas=["a-2025-01-01", "b"], extra_headers=result)
    headers = {"anthropic-version": "2024-01-01", "anthropic-beta": "a-2025-01-01,b"}
    assert world.requests[0].request["surface"] == {"name": "messages", "headers": headers}
    body = {name: value for name, value in REQUEST.items() if name != "model"}
    assert world.requests[0].digest() == replace(world.requests[0], request=body).digest()
    for name, value in (("anthropic-beta", "x" * 4097), ("anthropic-beta", "a\tb"), ("anthropic-version", "1" * 65)):
        with pytest.raises(anthropic.BadRequestError, match=name):
            await sdk.messages.create(**REQUEST, extra_headers={name: value})


async def test_any_model_that_has_a_route_can_be_used(sdk: Any, world: MemoryWorld) -> None:
    answer_with(
        world,
        ev.Start(message_id="chatcmpl-1", message_metadata={"model": "m"}),
        ev.TextDelta(id="0", delta="Hi"),
        ev.Finish(finish_reason="length"),
    )
    message = await sdk.messages.create(**REQUEST | {"model": "local"})
    assert (message.id, message.model, message.stop_reason) == ("msg_gen_0001", "m", "max_tokens")


# ---------------------------------------------------------------------------------------------------------- the errors


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "critic", "content": "?"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"text": "?"}]}]}, "messages.0.content.0"),
        ({"top_q": 1}, "top_q: Extra inputs are not permitted"),
        ({"temperature": 3}, "temperature"),
    ],
    ids=str,
)
async def test_a_fault_in_a_request_is_named(sdk: Any, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        await sdk.messages.create(**REQUEST, extra_body=changes)
    assert caught.value.type == "invalid_request_error"
    assert named in caught.value.message
    assert caught.value.request_id is not None


async def test_an_unknown_model_is_not_found(sdk: Any) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        await sdk.messages.create(**REQUEST | {"model": "nobody"})
    assert caught.value.type == "not_found_error"
    assert caught.value.response.headers["x-should-retry"] == "false"


async def test_a_body_that_is_too_large_is_refused_in_the_apis_format(sdk: Any) -> None:
    with pytest.raises(anthropic.RequestTooLargeError) as caught:
        await sdk.messages.create(**REQUEST | {"system": "x" * 10_000})
    assert str(caught.value.type) == "request_too_large"


async def test_the_same_key_with_another_body_is_refused_for_good(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answer_with(world, *EVENTS)
    async with open_sdk(live_client, max_retries=2, default_headers={"idempotency-key": "once"}) as sdk:
        await sdk.messages.create(**REQUEST)
        with pytest.raises(anthropic.UnprocessableEntityError):
            await sdk.messages.create(**REQUEST | {"max_tokens": 3})


@pytest.mark.parametrize(
    ("refusal", "kind", "type"),
    [
        (QueueFull("full"), anthropic.OverloadedError, "overloaded_error"),
        (Busy("draining"), anthropic.OverloadedError, "overloaded_error"),
        (LogUnavailable("away"), anthropic.ServiceUnavailableError, "api_error"),
        (RateLimited("slowly"), anthropic.RateLimitError, "rate_limit_error"),
    ],
    ids=str,
)
async def test_a_passing_failure_is_an_error_that_the_sdk_retries(
    live_client: httpx2.AsyncClient,
    world: MemoryWorld,
    refusal: Exception,
    kind: type[anthropic.APIStatusError],
    type: str,
) -> None:
    world.refusal = refusal
    async with open_sdk(live_client) as sdk:
        for pending in (sdk.messages.create(**REQUEST), sdk.messages.create(**REQUEST, stream=True)):
            with pytest.raises(kind) as caught:
                await pending
            assert caught.value.type == type
            assert "x-should-retry" not in caught.value.response.headers
            assert caught.value.response.headers["retry-after"] == "1"


async def test_a_missing_key_is_an_authentication_error(services: Services, world: MemoryWorld) -> None:
    app = own_app(services, Settings.model_validate({"auth": "keys", "api_keys": f'{{"team": ["{KEY}"]}}'}))
    answer_with(world, *EVENTS)
    async with served(app, services) as live:
        async with open_sdk(live, api_key="nobody-has-this-key") as sdk:
            with pytest.raises(anthropic.AuthenticationError) as caught:
                await sdk.messages.create(**REQUEST)
        assert caught.value.type == "authentication_error"
        async with open_sdk(live, api_key=KEY) as sdk:
            await sdk.messages.create(**REQUEST)


@pytest.mark.parametrize(
    ("code", "kind", "type"),
    [
        ("provider_overloaded", anthropic.OverloadedError, "overloaded_error"),
        ("provider_rate_limited", anthropic.RateLimitError, "rate_limit_error"),
        ("provider_timeout", anthropic.DeadlineExceededError, "timeout_error"),
        ("provider_bad_request", anthropic.BadRequestError, "invalid_request_error"),
        ("worker_lost", anthropic.InternalServerError, "api_error"),
        ("unknown_tool", anthropic.BadRequestError, "invalid_request_error"),
        ("provider_auth", anthropic.InternalServerError, "api_error"),
        ("tool_outcome_unknown", anthropic.InternalServerError, "api_error"),
    ],
)
async def test_a_generation_that_failed_is_the_error_of_its_kind(
    sdk: Any, world: MemoryWorld, code: str, kind: type[anthropic.APIStatusError], type: str
) -> None:
    answer_with(world, ev.TextDelta(id="0", delta="half"), ev.Error(error_text="it broke", code=code))
    with pytest.raises(kind) as caught:
        await sdk.messages.create(**REQUEST)
    assert caught.value.type == type
    is_final = code in ("provider_bad_request", "unknown_tool", "provider_auth", "tool_outcome_unknown")
    assert caught.value.response.headers.get("x-should-retry") == ("false" if is_final else None)
    async with sdk.messages.stream(**REQUEST) as stream:
        with pytest.raises(anthropic.APIStatusError) as in_stream:
            await stream.get_final_message()
    assert in_stream.value.type == type
    assert "it broke" in str(in_stream.value)


async def test_an_answer_that_restarts_is_an_error_for_clients_that_received_a_part_of_it(
    sdk: Any, world: MemoryWorld
) -> None:
    once = {"extra_headers": {"idempotency-key": "once"}}
    async with asyncio.timeout(DEADLINE_S), sdk.messages.stream(**REQUEST, **once) as stream:
        world.append("gen_0001", ev.TextDelta(id="0", delta="torn"))
        assert await anext(stream.text_stream) == "torn"
        world.take_over("gen_0001", 2)
        with pytest.raises(anthropic.APIStatusError) as caught:
            await stream.get_final_message()
    assert caught.value.type == "overloaded_error"
    world.append("gen_0001", ev.TextDelta(id="0", delta="whole"), ev.TextEnd(id="0"), ev.Finish(finish_reason="stop"))
    async with sdk.messages.stream(**REQUEST, **once) as stream:
        assert await stream.get_final_text() == "whole"


async def test_a_path_below_that_is_not_served_answers_in_the_shape_too(sdk: Any) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        await sdk.messages.batches.list()
    assert caught.value.type == "not_found_error"
