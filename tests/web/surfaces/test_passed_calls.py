"""Embeddings, legacy completions and counts of tokens: passed to a provider by a worker, or estimated here."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from fastapi import FastAPI

from broadcaster.core.events import Abort, Attempt, DataEvent, Error, Finish, Start, TextDelta
from broadcaster.core.providers.metering import MEDIA_TOKENS
from broadcaster.core.requests.passed_calls import KEPT_S
from broadcaster.core.requests.passed_headers import headers_of
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.dialects.passed.decode import CARRIED_TYPE
from broadcaster.hub.limits import HubLimits
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, in_process, own_app, served
from tests.web.surfaces.test_refusals import refused

EMBEDDING: dict[str, Any] = {"model": "gpt-e", "input": ["a", "b"], "encoding_format": "base64"}
COMPLETION: dict[str, Any] = {"model": "gpt-e", "prompt": "A log is", "stream": True}
MESSAGES = [{"role": "user", "content": "How many tokens have I?"}]
COUNT: dict[str, Any] = {"model": "claude-x", "messages": MESSAGES}
INPUT: dict[str, Any] = {"model": "resp-x", "input": "How many tokens have I?"}
CALLS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": EMBEDDING,
    "/v1/completions": {**COMPLETION, "stream": False},
    "/v1/messages/count_tokens": COUNT,
    "/v1/responses/input_tokens": INPUT,
}
on_every_call = pytest.mark.parametrize("path", CALLS)


def piece(text: str) -> DataEvent:
    return DataEvent(type=CARRIED_TYPE, data=text)


def chunk(text: str, **fields: Any) -> DataEvent:
    """A chunk of a stream as its provider writes it."""
    choice = {"index": 0, "text": text, "finish_reason": None, "logprobs": None}
    result = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], **fields}
    return piece(json.dumps(result))


def answering(world: MemoryWorld, *events: Any) -> None:
    world.on_create = lambda each: world.append(each, *events)


# ------------------------------------------------------------------------------------------------------------ the calls


@on_every_call
async def test_a_call_without_a_viewers_place_creates_nothing(world: MemoryWorld, path: str) -> None:
    async with (
        memory_services(world, limits=HubLimits(max_viewers=1)) as services,
        in_process(own_app(services)) as client,
    ):
        with services.hub.reserve(LOCAL_TENANT):
            assert (await client.post(path, json=CALLS[path])).status_code in (503, 529)
    assert not world.requests


@on_every_call
async def test_a_call_is_a_generation_with_the_body_as_it_came_and_its_response_is_the_providers(
    client: httpx2.AsyncClient, world: MemoryWorld, path: str
) -> None:
    """What an attempt wrote that was lost is no part of the response."""
    raw = '{ "input_tokens" : 1e1, "x":"é" }'
    answering(world, piece('{"lost'), Attempt(attempt=2), piece(raw[:9]), piece(raw[9:]), Finish())
    body = {**CALLS[path], "strange": {"of": "its own"}}
    response = await client.post(path, json=body)
    assert (response.status_code, response.content) == (200, raw.encode())
    assert response.headers["content-type"] == "application/json"
    assert "broadcaster-estimated" not in response.headers
    (requested,) = world.requests
    assert (requested.model, requested.request) == (body["model"], {"call": path.removeprefix("/v1/"), "body": body})
    assert (requested.on_abandon, requested.retention_s) == ("cancel", KEPT_S)


@on_every_call
async def test_a_call_is_deleted_once_it_is_answered(client: httpx2.AsyncClient, world: MemoryWorld, path: str) -> None:
    answering(world, piece("{}"), Finish())
    response = await client.post(path, json=CALLS[path])
    assert world.deleted == {response.headers["broadcaster-generation-id"]}


async def test_a_call_with_a_key_is_kept_for_the_same_key_to_find(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answering(world, piece("{}"), Finish())
    answers = [await client.post("/v1/embeddings", json=EMBEDDING, headers={"idempotency-key": "k"}) for _ in range(2)]
    assert [each.content for each in answers] == [b"{}", b"{}"]
    assert len(world.requests) == 1
    assert not world.deleted


@on_every_call
async def test_a_refusal_of_the_provider_is_the_clients(
    client: httpx2.AsyncClient, world: MemoryWorld, path: str
) -> None:
    answering(world, refused(429, type="rate_limit_error", retry_after_s=3.0))
    response = await client.post(path, json=CALLS[path])
    error = response.json()["error"]
    assert (response.status_code, error["message"]) == (429, "said by the provider")
    assert (error["type"], response.headers["retry-after"]) == ("rate_limit_error", "3")
    assert world.deleted


@on_every_call
@pytest.mark.parametrize(("end", "status"), [(Abort(reason="stopped"), (502, 500)), (Finish(), (502, 500))], ids=str)
async def test_a_call_without_a_response_is_an_error_in_the_shape_of_its_api(
    client: httpx2.AsyncClient, world: MemoryWorld, *, path: str, end: Any, status: tuple[int, int]
) -> None:
    """A worker of an older version answers a call as if it requested an answer."""
    answering(world, Start(), TextDelta(id="0", delta="an answer"), end)
    response = await client.post(path, json=CALLS[path])
    assert response.status_code in status
    result = response.json()["error"]["message"]
    assert "the call was stopped before its end" in result or "upgrade the workers" in result


@pytest.mark.parametrize("body", [{}, {"model": 7}, {"model": "claude-x"}, {**COUNT, "messages": "Hi"}], ids=str)
async def test_a_count_of_messages_without_its_fields_is_refused_in_the_shape_of_its_api(
    client: httpx2.AsyncClient, world: MemoryWorld, body: dict[str, Any]
) -> None:
    response = await client.post("/v1/messages/count_tokens", json=body)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")
    assert response.json()["error"]["message"].startswith(("model: ", "messages: "))
    assert not world.requests


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/completions"])
@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"model": "claude-x"}, 400, "model"),
        ({"model": "nothing"}, 404, "model"),
        ({"model": None}, 400, "model"),
        ({"model": 7}, 400, "model"),
        ({"stream": "yes"}, 400, "stream"),
    ],
    ids=str,
)
async def test_a_request_that_no_provider_can_answer_is_refused_at_once_by_the_parameters_name(
    client: httpx2.AsyncClient, world: MemoryWorld, *, path: str, changes: dict[str, Any], status: int, param: str
) -> None:
    response = await client.post(path, json={**CALLS[path], **changes})
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert not world.requests


async def test_the_local_model_completes_and_does_not_embed(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answering(world, piece("{}"), Finish())
    statuses = [(await client.post(path, json={**CALLS[path], "model": "local"})).status_code for path in CALLS]
    assert statuses == [400, 200, 200, 200]


@pytest.mark.parametrize("path", [*CALLS])
async def test_another_method_is_refused_in_the_shape_of_the_api(client: httpx2.AsyncClient, path: str) -> None:
    responses = [await client.request(method, path) for method in ("HEAD", "PUT")]
    assert [each.status_code for each in responses] == [405, 405]
    assert responses[1].json()["error"]["type"] == "invalid_request_error"


# -------------------------------------------------------------------------------------------------------------- streams


async def test_a_stream_passes_each_chunk_and_the_done_as_they_came(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answering(world, chunk("Hel"), piece('{"choices":[], "usage":{"prompt_tokens":1.0}}'), Finish())
    response = await live_client.post("/v1/completions", json=COMPLETION)
    assert response.headers["content-type"].startswith("text/event-stream")
    frames = [line for line in response.text.split("\n\n") if line.startswith("data")]
    assert frames[:2] == [f"data: {chunk('Hel').data}", 'data: {"choices":[], "usage":{"prompt_tokens":1.0}}']
    assert frames[2:] == ["data: [DONE]"]


async def test_a_streams_ends_are_those_of_the_sdk(sdk: openai.AsyncOpenAI, world: MemoryWorld) -> None:
    """A lost worker is an error that ends the stream; a stop is a completion with its reason; a refusal has one."""

    async def text(*events: Any) -> str:
        answering(world, *events)
        stream = await sdk.completions.create(model="gpt-e", prompt="A log is", stream=True)
        return "".join([each.choices[0].text async for each in stream])

    assert await text(chunk("Hel"), chunk("lo"), Finish()) == "Hello"
    assert await text(chunk("Hel"), Abort(reason="stopped")) == "Hel"
    with pytest.raises(openai.APIError, match="may be sent again"):
        await text(chunk("Hel"), Error(error_text="broke; the request may be sent again", code="provider_truncated"))
    with pytest.raises(openai.RateLimitError, match="said by the provider"):
        await text(refused(429))


async def test_a_lost_worker_ends_the_stream_of_a_client_that_has_its_text(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answering(world, chunk("Hel"))
    async with asyncio.timeout(DEADLINE_S), live_client.stream("POST", "/v1/completions", json=COMPLETION) as response:
        lines = response.aiter_lines()
        assert chunk("Hel").data in await anext(lines)
        world.take_over(response.headers["broadcaster-generation-id"], attempt=2)
        rest = "".join([line async for line in lines])
    assert '"code":"new_attempt"' in rest
    assert "[DONE]" not in rest


async def test_a_client_that_repeats_its_key_gets_the_stream_from_its_beginning(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answering(world, chunk("lost"), Attempt(attempt=2), chunk("Hel"), chunk("lo"), Finish())
    key = {"idempotency-key": "k"}
    texts = [(await live_client.post("/v1/completions", json=COMPLETION, headers=key)).text for _ in range(2)]
    assert texts[0] == texts[1]
    assert [each in texts[0] for each in ("lost", "Hel", "lo", "[DONE]")] == [False, True, True, True]


# --------------------------------------------------------------------------------------------------------------- counts


async def test_a_count_of_messages_takes_version_and_betas_along(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answering(world, piece('{"input_tokens":12}'), Finish())
    url = str(live_client.base_url).rstrip("/")
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as sdk:
        messages: Any = MESSAGES
        counts: list[Any] = [
            await sdk.messages.count_tokens(model="claude-x", messages=messages),
            await sdk.beta.messages.count_tokens(model="claude-x", messages=messages, betas=["one", "two"]),
        ]
    assert [each.input_tokens for each in counts] == [12, 12]
    betas = [headers_of(response.request).get("anthropic-beta", "") for response in world.requests]
    assert betas[0] == ""
    assert betas[1].startswith("one,two")
    assert headers_of(world.requests[0].request)["anthropic-version"]


@pytest.mark.parametrize(
    ("path", "body", "least"),
    [
        ("/v1/messages/count_tokens", {**COUNT, "model": "gpt-e"}, 6),
        ("/v1/messages/count_tokens", {**COUNT, "model": "gpt-e", "system": "x" * 400}, 106),
        ("/v1/messages/count_tokens", {**COUNT, "model": "gpt-e", "tools": [{"name": "t" * 400}]}, 106),
        ("/v1/responses/input_tokens", {**INPUT, "model": "gpt-e"}, 6),
        ("/v1/responses/input_tokens", {**INPUT, "model": "claude-x", "instructions": "é" * 200}, 106),
        ("/v1/responses/input_tokens", {"input": "x" * 400}, 100),
    ],
    ids=str,
)
async def test_a_count_that_the_provider_cannot_give_is_estimated_and_marked_so(
    client: httpx2.AsyncClient, world: MemoryWorld, *, path: str, body: dict[str, Any], least: int
) -> None:
    response = await client.post(path, json=body)
    count = response.json().pop("input_tokens")
    assert least <= count <= least + 10
    assert response.headers["broadcaster-estimated"] == "input_tokens"
    assert response.json().get("object") == ("response.input_tokens" if "responses" in path else None)
    assert not world.requests


async def test_an_image_is_estimated_by_its_kind_and_not_by_its_bytes(client: httpx2.AsyncClient) -> None:
    async def count(content: list[dict[str, Any]]) -> int:
        body = {"model": "gpt-e", "messages": [{"role": "user", "content": content}]}
        result = (await client.post("/v1/messages/count_tokens", json=body)).json()["input_tokens"]
        assert isinstance(result, int)
        return result

    source = {"type": "base64", "media_type": "image/png", "data": "A" * 3000}
    assert abs(await count([{"type": "image", "source": source}]) - MEDIA_TOKENS) < 20
    assert abs(await count([{"type": "image", "source": {"type": "url", "url": "https://a.b/c"}}]) - MEDIA_TOKENS) < 20


async def test_an_input_that_builds_on_an_earlier_response_is_estimated_with_it(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("gen_before", request={"messages": [{"role": "user", "content": "y" * 400}]})
    world.append("gen_before", TextDelta(id="0", delta="x" * 400), Finish())
    body = {**INPUT, "previous_response_id": "resp_gen_before"}
    response = await client.post("/v1/responses/input_tokens", json=body)
    assert 206 <= response.json()["input_tokens"] <= 240
    assert "broadcaster-estimated" in response.headers
    unknown = await client.post("/v1/responses/input_tokens", json={**body, "previous_response_id": "resp_gen_none"})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "previous_response_id")


async def test_a_count_that_no_worker_begins_is_refused_as_overloaded_and_deleted(
    services: Services, world: MemoryWorld
) -> None:
    hurried = replace(services, count_wait_s=0.01)
    async with in_process(own_app(hurried)) as client, asyncio.timeout(DEADLINE_S):
        messages = await client.post("/v1/messages/count_tokens", json=COUNT)
        responses = await client.post("/v1/responses/input_tokens", json=INPUT)
    assert (messages.status_code, messages.json()["error"]["type"]) == (529, "overloaded_error")
    assert (responses.status_code, responses.json()["error"]["code"]) == (503, "slow_down")
    assert "COUNT_WAIT_S" in messages.json()["error"]["message"]
    assert all("broadcaster-generation-id" not in each.headers for each in (messages, responses))
    assert (len(world.requests), len(world.streams)) == (2, 0)


async def test_a_count_that_a_worker_has_begun_is_waited_for(services: Services, world: MemoryWorld) -> None:
    answering(world, Start())
    hurried = replace(services, count_wait_s=0.01)
    app: FastAPI = own_app(hurried)
    async with served(app, hurried) as client, asyncio.timeout(DEADLINE_S):
        counting = asyncio.create_task(client.post("/v1/messages/count_tokens", json=COUNT))
        done, _ = await asyncio.wait([counting], timeout=0.1)
        assert not done
        world.append(next(iter(world.streams)), piece('{"input_tokens":3}'), Finish())
        assert (await counting).json() == {"input_tokens": 3}
