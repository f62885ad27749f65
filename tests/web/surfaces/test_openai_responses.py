"""``/v1/responses`` through the OpenAI SDK, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import openai
import pytest
from fastapi import FastAPI

from broadcaster.core import events as ev
from broadcaster.web.services import Services
from tests.support.memory.memory_world import NOW_MS, MemoryWorld, memory_services
from tests.support.servers.front_end import own_app, until_watched

BEGIN: list[ev.KnownEvent] = [ev.Start(message_metadata={"model": "scripted"}), ev.StartStep(), ev.TextStart(id="0")]
HELLO: list[ev.KnownEvent] = [*BEGIN, ev.TextDelta(id="0", delta="Hello "), ev.TextDelta(id="0", delta="world")]
LONG_NAMESPACE: Any = {"type": "namespace", "name": "n" * 65, "tools": [{"type": "function", "name": "f"}]}
END: list[ev.KnownEvent] = [
    ev.TextEnd(id="0"),
    ev.Usage(input_tokens=3, output_tokens=2),
    ev.FinishStep(finish_reason="stop"),
    ev.Finish(finish_reason="stop"),
]


@pytest.fixture
async def services(world: MemoryWorld) -> AsyncIterator[Services]:
    async with memory_services(world) as opened:
        yield opened


@pytest.fixture
def app(services: Services) -> FastAPI:
    return own_app(services)


def answering(world: MemoryWorld, *events: Any) -> None:
    """Every request is answered with these events at once."""
    world.on_create = lambda generation_id: world.append(generation_id, *events)


async def collect(pending: Awaitable[Any]) -> list[Any]:
    """All events of the stream that is requested."""
    return [event async for event in await pending]


# ------------------------------------------------------------------------------------------------------------- request


async def test_an_answer_is_waited_for_and_given_whole(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answering(world, *HELLO, *END)
    response = await sdk.responses.create(
        model="claude-x", input="Hi", instructions="Be brief.", metadata={"a": "b"}, max_output_tokens=9, temperature=0
    )
    assert (response.status, response.output_text, response.model) == ("completed", "Hello world", "scripted")
    assert (response.instructions, response.metadata, response.created_at) == ("Be brief.", {"a": "b"}, NOW_MS // 1000)
    assert response.usage is not None
    assert response.usage.total_tokens == 5
    (requested,) = world.requests
    assert (requested.model, requested.on_abandon) == ("claude-x", "cancel")
    assert {name: value for name, value in requested.request.items() if name != "surface"} == {
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "Be brief.",
        "max_tokens": 9,
        "temperature": 0,
        "metadata": {"a": "b"},
    }


async def test_the_generation_is_named_in_a_header(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answering(world, *HELLO, *END)
    raw = await sdk.responses.with_raw_response.create(model="local", input="Hi")
    assert raw.headers["broadcaster-generation-id"] == "gen_0001"
    assert raw.parse().id == "resp_gen_0001"


async def test_an_answer_streams_as_it_is_written(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, services: Services
) -> None:
    answering(world, *HELLO)
    async with sdk.responses.stream(model="local", input="Hi") as stream:
        seen: list[str] = []
        async for event in stream:
            seen.append(event.type)
            if event.type == "response.output_text.delta" and event.snapshot == "Hello world":
                world.append("gen_0001", *END)
        final = await stream.get_final_response()
    assert (final.output_text, final.id) == ("Hello world", "resp_gen_0001")
    assert seen[:2] == ["response.created", "response.in_progress"]
    assert seen[-1] == "response.completed"


async def test_a_background_answer_is_queued_and_then_retrieved(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    response = await sdk.responses.create(input="Hi", model="local", background=True)
    assert (response.status, response.output, response.background) == ("queued", [], True)
    assert world.requests[0].on_abandon == "continue"
    world.append("gen_0001", *HELLO)
    response = await sdk.responses.retrieve(response.id)
    assert (response.status, response.output_text) == ("in_progress", "Hello world")
    world.append("gen_0001", *END)
    for id in (response.id, "gen_0001"):
        assert (await sdk.responses.retrieve(id)).status == "completed"


async def test_one_key_starts_one_generation(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answering(world, *HELLO, *END)
    key = {"Idempotency-Key": "once"}
    first = await sdk.responses.create(model="local", input="Hi", extra_headers=key)
    repeated = await sdk.responses.create(model="local", input="Hi", extra_headers=key)
    assert first.id == repeated.id
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        await sdk.responses.create(model="local", input="Other", extra_headers=key)
    assert refused.value.code == "idempotency_mismatch"
    assert refused.value.response.headers["x-should-retry"] == "false"


async def test_a_later_request_builds_on_an_earlier_response(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    call: dict[str, Any] = {"tool_call_id": "call_1", "tool_name": "now"}
    answering(world, *HELLO, ev.TextEnd(id="0"), ev.ToolInputAvailable(**call, input={}), *END[1:])
    first = await sdk.responses.create(model="local", input="What time is it?", instructions="only for this turn")
    answering(world, *HELLO, *END)
    output: Any = {"type": "function_call_output", "call_id": "call_1", "output": "noon"}
    second = await sdk.responses.create(model="local", input=[output], previous_response_id=first.id)
    response = world.requests[1].request
    assert response["messages"] == [
        {"role": "user", "content": "What time is it?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Hello world"},
                {"type": "tool_use", "id": "call_1", "name": "now", "input": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "noon"}]},
    ]
    assert "system" not in response
    assert second.previous_response_id == first.id
    items = [item async for item in sdk.responses.input_items.list(second.id, order="asc")]
    assert [item.type for item in items] == ["message", "message", "function_call", "function_call_output"]


# ------------------------------------------------------------------------------------------------------------- resume


async def test_a_stream_is_resumed_after_every_number(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answering(world, *HELLO, *END)
    events = await collect(sdk.responses.create(model="local", input="Hi", stream=True))
    id = "resp_gen_0001"
    numbers = [event.sequence_number for event in events if event.type != "error"]
    replay = await collect(sdk.responses.retrieve(id, stream=True, starting_after=-1))
    assert replay[0].type == "response.created"
    everything = [event.to_dict() for event in replay]
    for after in numbers:
        rest = [
            event.to_dict() for event in await collect(sdk.responses.retrieve(id, stream=True, starting_after=after))
        ]
        assert rest == everything[after + 1 :]


async def test_a_resumed_stream_goes_on_live(sdk: openai.AsyncOpenAI, world: MemoryWorld, services: Services) -> None:
    response = await sdk.responses.create(input="Hi", model="local", background=True)
    world.append("gen_0001", *HELLO)
    stream = await sdk.responses.retrieve(response.id, stream=True, starting_after=4)
    received: list[Any] = []
    async for event in stream:
        received.append(event)
        if len(received) == 1:
            world.append("gen_0001", *END)
    assert [event.sequence_number for event in received] == [5, 6, 7, 8, 9]
    assert received[-1].type == "response.completed"


async def test_the_helper_reads_a_response_by_its_id_however_late(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, services: Services
) -> None:
    response = await sdk.responses.create(input="Hi", model="local", background=True)
    world.append("gen_0001", *HELLO)

    async def finish() -> None:
        await until_watched(services, "gen_0001")
        world.append("gen_0001", *END)

    async with sdk.responses.stream(response_id=response.id) as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(finish())
        final = await stream.get_final_response()
    assert (final.status, final.output_text) == ("completed", "Hello world")


# --------------------------------------------------------------------------------------------------- cancel and delete


async def test_a_background_response_is_cancelled_once_or_twice(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answering(world, *HELLO)
    response = await sdk.responses.create(input="Hi", model="local", background=True)
    for _ in range(2):
        cancelled = await sdk.responses.cancel(response.id)
        assert (cancelled.status, cancelled.output_text) == ("cancelled", "Hello world")
    events = await collect(sdk.responses.retrieve(response.id, stream=True))
    assert (events[-1].type, events[-1].response.status) == ("response.incomplete", "cancelled")


async def test_a_cancelled_response_can_be_sent_as_the_helper_reads_it(
    sdk: openai.AsyncOpenAI, world: MemoryWorld
) -> None:
    answering(world, *HELLO, ev.Abort(reason="stopped"))
    as_completed = {"Broadcaster-Cancelled-As": "completed"}
    async with sdk.responses.stream(model="local", input="Hi", extra_headers=as_completed) as stream:
        final = await stream.get_final_response()
    assert (final.status, final.output_text) == ("cancelled", "Hello world")


async def test_a_response_that_is_over_stays_as_it_ended_when_it_is_cancelled(
    sdk: openai.AsyncOpenAI, world: MemoryWorld
) -> None:
    answering(world, *HELLO, *END)
    response = await sdk.responses.create(input="Hi", model="local", background=True)
    assert (await sdk.responses.cancel(response.id)).status == "completed"


async def test_only_a_background_response_is_cancelled(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answering(world, *HELLO, *END)
    response = await sdk.responses.create(input="Hi", model="local")
    with pytest.raises(openai.BadRequestError, match="background"):
        await sdk.responses.cancel(response.id)


async def test_a_deleted_response_is_unknown(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answering(world, *HELLO, *END)
    response = await sdk.responses.create(input="Hi", model="local")
    await sdk.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(response.id)


# ------------------------------------------------------------------------------------------------------------ failures


async def test_a_lost_worker_is_a_failed_response(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answering(world, *HELLO, ev.Error(code="worker_lost", error_text="the worker was lost"))
    response = await sdk.responses.create(model="local", input="Hi")
    assert response.status == "failed"
    assert response.error is not None
    assert (response.error.code, response.error.message) == ("worker_lost", "the worker was lost")


@pytest.mark.parametrize(
    ("code", "kind", "retry"),
    [
        ("provider_bad_request", openai.BadRequestError, "false"),
        ("provider_rate_limited", openai.RateLimitError, "true"),
        ("provider_overloaded", openai.InternalServerError, "true"),
        ("provider_auth", openai.InternalServerError, "false"),
        ("unknown_tool", openai.BadRequestError, "false"),
    ],
)
async def test_a_caller_refused_before_the_stream_begins_receives_the_error_that_the_sdk_knows(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, code: str, kind: type[openai.APIStatusError], retry: str
) -> None:
    end = ev.Error(code=code, error_text="no")
    answering(world, ev.Start(), end)
    with pytest.raises(kind) as caught:
        await sdk.responses.create(model="local", input="Hi")
    assert (caught.value.code, caught.value.response.headers["x-should-retry"]) == (code, retry)
    assert caught.value.response.headers["broadcaster-generation-id"] == "gen_0001"
    assert (await sdk.responses.retrieve("resp_gen_0001")).status == "failed"
    answering(world, *HELLO, end)
    assert (await sdk.responses.create(model="local", input="Hi")).status == "failed"


async def test_two_attempts_stream_as_one_response(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    answering(world, *HELLO, ev.Attempt(attempt=2), *HELLO, *END)
    events = await collect(sdk.responses.create(model="local", input="Hi", stream=True))
    final = events[-1].response
    assert final.output_text == "Hello world"
    async with sdk.responses.stream(response_id="resp_gen_0001") as stream:
        assert (await stream.get_final_response()).output_text == "Hello world"


async def test_an_unknown_response_is_not_found(sdk: openai.AsyncOpenAI) -> None:
    for calling in (sdk.responses.retrieve("resp_gen_nobody"), sdk.responses.cancel("resp_gen_nobody")):
        with pytest.raises(openai.NotFoundError) as refused:
            await calling
        assert refused.value.code == "unknown_stream"


async def test_a_model_without_a_route_is_not_found(sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await sdk.responses.create(model="nobody", input="Hi")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
        ({"extra_body": {"mood": "calm"}}, "mood", "unknown_parameter"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"tools": [LONG_NAMESPACE]}, "tools[0].name", "invalid_value"),
        ({"previous_response_id": "resp_gen_gone"}, "previous_response_id", "previous_response_not_found"),
    ],
)
async def test_a_parameter_that_cannot_be_served_is_refused_by_its_name(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, fields: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk.responses.create(**{"model": "local", "input": "Hi", **fields})
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.type == "invalid_request_error"
    assert not world.requests


async def test_a_body_that_is_too_large_is_refused_in_the_same_shape(
    sdk: openai.AsyncOpenAI, services: Services
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await sdk.responses.create(model="local", input="x" * (services.max_body_bytes + 1))
    assert (refused.value.status_code, refused.value.code) == (413, "body_too_large")


async def test_a_log_that_does_not_answer_is_worth_another_try(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    world.away = True
    with pytest.raises(openai.InternalServerError) as refused:
        await sdk.responses.retrieve("resp_gen_0001")
    assert (refused.value.status_code, refused.value.response.headers["x-should-retry"]) == (503, "true")


async def test_a_generation_of_another_surface_is_a_response_too(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    world.add("gen_other", model="claude-x")
    world.append("gen_other", *HELLO, *END)
    response = await sdk.responses.retrieve("gen_other")
    assert (response.id, response.output_text) == ("resp_gen_other", "Hello world")


async def test_a_response_whose_log_has_expired_is_unknown(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    world.add("gen_old")
    world.append("gen_old", *HELLO, *END)
    world.expire("gen_old")
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve("resp_gen_old")
