"""``POST /v1/chat/completions`` and ``GET /v1/models`` on a real socket, with the OpenAI SDK as the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.errors import Busy, LogUnavailable, QueueFull, RateLimited
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from tests.dialects.openai_chat.chat_streams import answer, delta, fragment, wrote
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S, own_app, served

REQUEST: dict[str, Any] = {"model": "local", "messages": [{"role": "user", "content": "why?"}]}
ANSWER = answer(
    delta(reasoning_content="Let me see."),
    wrote("It "),
    wrote("is."),
    delta(tool_calls=[fragment("", index=0, id="call_a", type="function", name="get_weather")]),
    delta(tool_calls=[fragment('{"city": "Paris"}', index=0)]),
    finish_reason="tool_calls",
)
EVENTS = OpenAIChatDecoder().decode(ANSWER)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

KEY = "team-key-0123456789"


@pytest.fixture
async def sdk(live_client: httpx2.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    async with open_sdk(live_client) as opened:
        yield opened


@asynccontextmanager
async def open_sdk(live: httpx2.AsyncClient, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    given = {"api_key": "none", "max_retries": 0, "timeout": DEADLINE_S, **options}
    async with openai.AsyncOpenAI(base_url=f"{live.base_url}/v1", **given) as opened:
        yield opened


def answer_with(world: MemoryWorld, *events: Any) -> None:
    """A worker that has answered before any viewer reads."""
    world.on_create = lambda generation_id: world.append(generation_id, *events)


# ---------------------------------------------------------------------------------------------------------- the answer


async def test_a_streamed_answer_is_the_provider_s_own_completion(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answer_with(world, *EVENTS)
    async with sdk.chat.completions.stream(**REQUEST, stream_options={"include_usage": True}) as stream:
        completion = await stream.get_final_completion()
        assert stream._response.headers["broadcaster-generation-id"] == "gen_0001"
    (choice,) = completion.choices
    assert (completion.id, completion.model, completion.created) == ("chatcmpl-1", "gpt-x", 1700000000)
    assert (choice.message.content, choice.finish_reason) == ("It is.", "tool_calls")
    assert choice.message.to_dict()["reasoning_content"] == "Let me see."
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("call_a", "get_weather", '{"city": "Paris"}')
    assert completion.usage is not None
    assert completion.usage.total_tokens == 37


async def test_a_completion_without_streaming_equals_the_streamed_one(
    sdk: openai.AsyncOpenAI, world: MemoryWorld
) -> None:
    answer_with(world, *EVENTS)
    raw = await sdk.chat.completions.with_raw_response.create(**REQUEST)
    whole = raw.parse()
    async with sdk.chat.completions.stream(**REQUEST, stream_options={"include_usage": True}) as stream:
        streamed = await stream.get_final_completion()
    assert raw.headers["broadcaster-generation-id"] == "gen_0001"
    assert whole.object == "chat.completion"
    assert whole.usage == streamed.usage
    for one, other in zip(whole.choices, streamed.choices, strict=True):
        assert (one.finish_reason, one.message.content) == (other.finish_reason, other.message.content)
        assert [call.id for call in one.message.tool_calls or ()] == [
            call.id for call in other.message.tool_calls or ()
        ]
    assert whole._request_id is not None


async def test_the_answer_streams_as_it_comes(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    async with asyncio.timeout(DEADLINE_S), await sdk.chat.completions.create(**REQUEST, stream=True) as stream:
        texts = (chunk.choices[0].delta.content async for chunk in stream if chunk.choices[0].delta.content)
        world.append("gen_0001", ev.Start(), ev.TextDelta(id="0", delta="Hello"))
        assert await anext(texts) == "Hello"
        world.append("gen_0001", ev.TextDelta(id="0", delta=" world"))
        assert await anext(texts) == " world"
        world.append("gen_0001", ev.Finish(finish_reason="stop"))
        assert [text async for text in texts] == []


async def test_usage_comes_only_if_it_is_requested(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answer_with(world, *EVENTS)
    chunks = [chunk async for chunk in await sdk.chat.completions.create(**REQUEST, stream=True)]
    assert all(chunk.choices and "usage" not in chunk.to_dict() for chunk in chunks)


async def test_the_same_key_gives_the_same_answer_in_short(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    once: dict[str, Any] = {**REQUEST, "stream": True, "extra_headers": {"idempotency-key": "once"}}
    async with asyncio.timeout(DEADLINE_S), await sdk.chat.completions.create(**once) as first:
        world.append("gen_0001", ev.Start(), ev.TextDelta(id="0", delta="a"), ev.TextDelta(id="0", delta="b"))
        async with await sdk.chat.completions.create(**once) as repeated:
            late = (chunk.choices[0].delta.content async for chunk in repeated)
            assert [await anext(late), await anext(late)] == ["", "ab"]
            world.append("gen_0001", ev.TextDelta(id="0", delta="c"), ev.Finish(finish_reason="stop"))
            assert "".join([text or "" async for text in late]) == "c"
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in first]) == "abc"
    assert len(world.requests) == 1


async def test_a_stopped_generation_is_reported_as_stopped(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answer_with(world, ev.TextDelta(id="0", delta="half"), ev.Abort(reason="stopped"))
    whole = await sdk.chat.completions.create(**REQUEST)
    last = [chunk async for chunk in await sdk.chat.completions.create(**REQUEST, stream=True)][-1]
    assert whole.choices[0].message.content == "half"
    for each in (whole, last):
        assert each.choices[0].finish_reason == "stop"
        assert each.to_dict()["broadcaster"] == {"status": "aborted", "reason": "stopped"}


# --------------------------------------------------------------------------------------------------------- the request


async def test_the_request_reaches_the_log_in_the_format_of_the_messages_api(
    sdk: openai.AsyncOpenAI, world: MemoryWorld
) -> None:
    answer_with(world, *EVENTS)
    request_body: dict[str, Any] = {
        "model": "local",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}],
        "max_completion_tokens": 7,
        "stop": "###",
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "seed": 3,
    }
    await sdk.chat.completions.create(**request_body)
    (response,) = world.requests
    assert (response.model, response.on_abandon) == ("local", "cancel")
    assert dict(response.request) == {
        "messages": [{"role": "user", "content": "why?"}],
        "system": "be brief",
        "max_tokens": 7,
        "stop_sequences": ["###"],
        "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "openai": {"seed": 3},
    }


async def test_a_claude_generation_can_be_requested(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    start = ev.Start(message_id="msg_1", message_metadata={"model": "claude-x"})
    answer_with(world, start, ev.TextDelta(id="0", delta="Hi"), ev.Finish(finish_reason="length"))
    completion = await sdk.chat.completions.create(**REQUEST | {"model": "claude-x"})
    assert (completion.id, completion.model) == ("chatcmpl-gen_0001", "claude-x")
    assert completion.choices[0].finish_reason == "length"


# ---------------------------------------------------------------------------------------------------------- the errors


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"store": "yes"}, "store", "invalid_type"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio", "unsupported_parameter"),
        ({"top_q": 1}, "top_q", "unknown_parameter"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"messages": [{"role": "critic", "content": "?"}]}, "messages[0].role", "invalid_value"),
        ({"max_tokens": "many"}, "max_tokens", "invalid_type"),
        ({"model": "claude-x", "logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"model": "claude-x", "response_format": {"type": "grammar"}}, "response_format", "unsupported_parameter"),
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_in_a_request_is_named(
    live_client: httpx2.AsyncClient, changes: dict[str, Any], param: str, code: str, *, stream: bool
) -> None:
    async with open_sdk(live_client, max_retries=2) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.chat.completions.create(**REQUEST, stream=stream, extra_body=changes)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.response.headers["x-should-retry"] == "false"


async def test_an_unknown_model_is_not_found(sdk: openai.AsyncOpenAI) -> None:
    for pending in (sdk.chat.completions.create(**REQUEST | {"model": "nobody"}), sdk.models.retrieve("nobody")):
        with pytest.raises(openai.NotFoundError) as caught:
            await pending
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_body_that_is_too_large_is_refused_in_the_apis_format(sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.chat.completions.create(**REQUEST, user="x" * 10_000)
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")


async def test_a_body_that_is_no_json_is_refused_in_the_apis_format(live_client: httpx2.AsyncClient) -> None:
    head = {"content-type": "application/json"}
    answer = await live_client.post("/v1/chat/completions", content=b"{", headers=head)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_the_same_key_with_another_body_is_refused_for_good(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answer_with(world, *EVENTS)
    async with open_sdk(live_client, max_retries=2, default_headers={"idempotency-key": "once"}) as sdk:
        await sdk.chat.completions.create(**REQUEST)
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            await sdk.chat.completions.create(**REQUEST, max_tokens=3)
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        (QueueFull("full"), openai.InternalServerError, "slow_down"),
        (Busy("draining"), openai.InternalServerError, "slow_down"),
        (LogUnavailable("away"), openai.InternalServerError, "log_unavailable"),
        (RateLimited("slowly"), openai.RateLimitError, "rate_limit_exceeded"),
    ],
    ids=str,
)
async def test_a_passing_failure_is_an_error_that_the_sdk_retries(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, refusal: Exception, kind: type[openai.APIStatusError], code: str
) -> None:
    world.refusal = refusal
    for stream in (False, True):
        with pytest.raises(kind) as caught:
            await sdk.chat.completions.create(**REQUEST, stream=stream)
        assert caught.value.code == code
        assert caught.value.response.headers["x-should-retry"] == "true"
        assert caught.value.response.headers["retry-after"] == "1"


async def test_a_missing_key_is_an_authentication_error(services: Services, world: MemoryWorld) -> None:
    settings = Settings.model_validate({"auth": "keys", "api_keys": f'{{"team": ["{KEY}"]}}'})
    app = own_app(services, settings)
    answer_with(world, *EVENTS)
    async with served(app, services) as live:
        async with open_sdk(live, api_key="nobody-has-this-key") as sdk:
            for pending in (sdk.chat.completions.create(**REQUEST), sdk.models.retrieve("local")):
                with pytest.raises(openai.AuthenticationError) as caught:
                    await pending
                assert caught.value.code == "invalid_api_key"
        async with open_sdk(live, api_key=KEY) as sdk:
            await sdk.chat.completions.create(**REQUEST)


@pytest.mark.parametrize(
    ("code", "kind", "retry"),
    [
        ("provider_overloaded", openai.InternalServerError, "true"),
        ("provider_rate_limited", openai.RateLimitError, "true"),
        ("provider_bad_request", openai.BadRequestError, "false"),
        ("provider_auth", openai.InternalServerError, "false"),
        ("worker_lost", openai.InternalServerError, "true"),
        ("unknown_tool", openai.BadRequestError, "false"),
        ("tool_outcome_unknown", openai.InternalServerError, "false"),
    ],
)
async def test_a_generation_that_failed_is_an_error(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, code: str, kind: type[openai.APIStatusError], retry: str
) -> None:
    answer_with(world, ev.TextDelta(id="0", delta="half"), ev.Error(error_text="it broke", code=code))
    with pytest.raises(kind) as caught:
        await sdk.chat.completions.create(**REQUEST)
    assert (caught.value.code, caught.value.response.headers["x-should-retry"]) == (code, retry)
    assert caught.value.response.headers["broadcaster-generation-id"] == "gen_0001"
    with pytest.raises(openai.APIError, match="it broke") as in_stream:
        [chunk async for chunk in await sdk.chat.completions.create(**REQUEST, stream=True)]
    assert in_stream.value.code == code


async def test_an_answer_that_restarts_is_an_error_for_clients_that_received_a_part_of_it(
    sdk: openai.AsyncOpenAI, world: MemoryWorld
) -> None:
    once: dict[str, Any] = {**REQUEST, "stream": True, "extra_headers": {"idempotency-key": "once"}}
    async with asyncio.timeout(DEADLINE_S), await sdk.chat.completions.create(**once) as stream:
        world.append("gen_0001", ev.TextDelta(id="0", delta="torn"))
        assert [(await anext(stream)).choices[0].delta.content for _ in range(2)] == ["", "torn"]
        world.take_over("gen_0001", 2)
        with pytest.raises(openai.APIError) as caught:
            await anext(stream)
    assert caught.value.code == "new_attempt"
    world.append("gen_0001", ev.TextDelta(id="0", delta="whole"), ev.Finish(finish_reason="stop"))
    async with await sdk.chat.completions.create(**once) as stream:
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "whole"


# ---------------------------------------------------------------------------------------------------------- the models


async def test_the_models_with_a_name_are_listed_and_every_routable_one_is_known(sdk: openai.AsyncOpenAI) -> None:
    listed = [model.id async for model in sdk.models.list()]
    assert len(listed) == len(set(listed)) > 0
    for name in (*listed, "claude-sonnet-4-5", "local"):
        model = await sdk.models.retrieve(name)
        assert (model.id, model.object) == (name, "model")


async def test_a_path_below_that_is_not_served_answers_in_the_shape_too(sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.chat.completions.retrieve("chatcmpl-1")
    assert caught.value.code == "not_found"
